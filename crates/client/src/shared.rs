//! State shared by the handles and the task that keeps the connection.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde_json::Value;
use tokio::{
    sync::{Notify, broadcast, oneshot, watch},
    time::Instant,
};

use crate::{
    cache::{Applied, Cache},
    error::{CommandError, SendError, Stopped},
    outbox::{Outbox, Outcome, Send},
};

/// Updates buffered for a slow consumer.
const UPDATES: usize = 1_024;

/// News for the user of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Update {
    /// The server has welcomed the client: the list of conversations is current.
    Connected {
        /// The node's URL.
        url: String,
    },
    /// The connection has ended.
    Disconnected {
        /// The close code; 1006 without one.
        code: u16,
    },
    /// A frame has changed the cache, or told something that the cache does not keep.
    Applied(Arc<Applied>),
    /// The client does not come back.
    Stopped(Stopped),
}

/// A client's counters since its start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// Connections on which the server welcomed the client.
    pub connections: u64,
    /// All connections but the first.
    pub reconnects: u64,
    /// Attempts that did not get a welcome.
    pub failed_attempts: u64,
    /// Events and replays with nothing beyond the cursor.
    pub duplicates_dropped: u64,
    /// `sync` commands sent.
    pub syncs: u64,
    /// Frames that could not be read, each the end of its connection.
    pub unreadable: u64,
    /// The longest time without a connection since the first, including the current one.
    pub longest_gap: Duration,
    /// How connections and attempts ended; 1006 for those lost without a close frame.
    pub closes: BTreeMap<u16, u64>,
}

/// A caller's request to the task.
pub(crate) enum Order {
    Command { kind: String, data: Value, reply: oneshot::Sender<Result<Value, CommandError>> },
    Close,
}

pub(crate) struct Shared {
    pub(crate) cache: watch::Sender<Cache>,
    pub(crate) updates: broadcast::Sender<Update>,
    /// Something may be due in the outbox.
    pub(crate) sends: Notify,
    sending: Mutex<Sending>,
    book: Mutex<Book>,
}

struct Sending {
    outbox: Outbox,
    waiters: BTreeMap<(String, String), oneshot::Sender<Result<Value, SendError>>>,
    stopped: Option<Stopped>,
}

#[derive(Default)]
struct Book {
    stats: Stats,
    lost_at: Option<Instant>,
}

impl Shared {
    pub(crate) fn new(messages_held: usize, sends_waiting: usize) -> Self {
        Self {
            cache: watch::Sender::new(Cache::with_room(messages_held)),
            updates: broadcast::Sender::new(UPDATES),
            sends: Notify::new(),
            sending: Mutex::new(Sending {
                outbox: Outbox::new(sends_waiting),
                waiters: BTreeMap::new(),
                stopped: None,
            }),
            book: Mutex::default(),
        }
    }

    /// Queues a send at once.
    pub(crate) fn push(
        &self,
        conversation_id: &str,
        client_msg_id: &str,
        text: &str,
    ) -> Result<oneshot::Receiver<Result<Value, SendError>>, SendError> {
        let mut sending = lock(&self.sending);
        if let Some(stopped) = &sending.stopped {
            return Err(stopped.clone().into());
        }
        sending.outbox.push(conversation_id, client_msg_id, text)?;
        let (reply, answer) = oneshot::channel();
        sending.waiters.insert((conversation_id.to_owned(), client_msg_id.to_owned()), reply);
        drop(sending);
        self.sends.notify_one();
        Ok(answer)
    }

    pub(crate) fn due(&self, now: Instant) -> (Vec<Send>, Option<Instant>) {
        let outbox = &mut lock(&self.sending).outbox;
        (outbox.due(now), outbox.next_due())
    }

    /// A send was answered definitively.
    pub(crate) fn settled(&self, send: Send, answer: Result<Value, SendError>, now: Instant) {
        let outcome = if answer.is_ok() { Outcome::Acknowledged } else { Outcome::Refused };
        let mut sending = lock(&self.sending);
        if sending.outbox.answered(&send.conversation_id, &send.client_msg_id, outcome, now)
            && let Some(waiter) =
                sending.waiters.remove(&(send.conversation_id, send.client_msg_id))
        {
            // The caller may be gone.
            let _ = waiter.send(answer);
        }
    }

    /// Defers a send, to be repeated.
    pub(crate) fn put_off(&self, send: &Send, after: Duration, now: Instant) {
        let outcome = Outcome::Retry { after };
        lock(&self.sending).outbox.answered(
            &send.conversation_id,
            &send.client_msg_id,
            outcome,
            now,
        );
    }

    pub(crate) fn stopped(&self) -> Option<Stopped> {
        lock(&self.sending).stopped.clone()
    }

    /// Fails all pending sends, and takes no more.
    pub(crate) fn stop(&self, why: &Stopped) {
        let mut sending = lock(&self.sending);
        sending.stopped = Some(why.clone());
        for waiter in std::mem::take(&mut sending.waiters).into_values() {
            let _ = waiter.send(Err(why.clone().into()));
        }
        drop(sending);
        self.tell(Update::Stopped(why.clone()));
    }

    pub(crate) fn tell(&self, update: Update) {
        // There may be no listener.
        let _ = self.updates.send(update);
    }

    pub(crate) fn connected(&self, url: &str, now: Instant) {
        let mut book = lock(&self.book);
        book.stats.reconnects += u64::from(book.stats.connections > 0);
        book.stats.connections += 1;
        book.stats.longest_gap = book.gap(now);
        book.lost_at = None;
        drop(book);
        self.tell(Update::Connected { url: url.to_owned() });
    }

    /// A connection has ended, or an attempt.
    pub(crate) fn disconnected(&self, code: u16, welcomed: bool, now: Instant) {
        lock(&self.sending).outbox.disconnected();
        let mut book = lock(&self.book);
        *book.stats.closes.entry(code).or_default() += 1;
        if welcomed {
            book.lost_at = Some(now);
            drop(book);
            self.tell(Update::Disconnected { code });
        } else {
            book.stats.failed_attempts += 1;
        }
    }

    pub(crate) fn count(&self, change: impl FnOnce(&mut Stats)) {
        change(&mut lock(&self.book).stats);
    }

    pub(crate) fn stats(&self, now: Instant) -> Stats {
        let book = lock(&self.book);
        Stats { longest_gap: book.gap(now), ..book.stats.clone() }
    }
}

impl Book {
    fn gap(&self, now: Instant) -> Duration {
        let present = self.lost_at.map(|lost_at| now.saturating_duration_since(lost_at));
        self.stats.longest_gap.max(present.unwrap_or_default())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
