//! One person at the reference client: repeats each write until it is answered, and watches what arrives.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use parlance_client::{
    Applied, CommandError, Config, Message, Randomness, Refusal, Seeded, SendError, Update,
};
use serde_json::{Value, json};
use tokio::{
    sync::broadcast::{Receiver, error::RecvError},
    time::{Instant, sleep},
};

use crate::{
    ledger::Ledger,
    session::{Session, Tokens},
};

/// Messages held of a conversation: their final state is compared. That all have come is recorded for each.
const HELD: usize = 1_000;
/// Connections of a client that are remembered.
const CONNECTIONS: usize = 16;
/// How long before a command that found no connection, or lost it, is given again.
const AGAIN: Duration = Duration::from_millis(100);

pub(crate) struct Client {
    pub(crate) id: String,
    pub(crate) session: Arc<Session>,
    inner: parlance_client::Client,
    ledger: Arc<Ledger>,
    unanswered: AtomicUsize,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    /// The last connections: since when, until when.
    connections: VecDeque<(Instant, Option<Instant>)>,
    /// The `seq` of each message that was new at its time, by conversation.
    messages: HashMap<String, BTreeSet<u64>>,
}

/// A message as the judge compares it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) id: String,
    pub(crate) rev: u64,
    pub(crate) author: String,
    pub(crate) key: String,
    pub(crate) text: String,
    pub(crate) deleted: bool,
}

/// What a member holds of a conversation.
pub(crate) struct Held {
    pub(crate) seen: BTreeSet<u64>,
    pub(crate) messages: Vec<(u64, Kept)>,
    read_seq: u64,
}

/// The client's jitter grows to many seconds; a test does not have that long.
struct Impatient(Seeded);

impl Randomness for Impatient {
    fn next(&self) -> u64 {
        self.0.next() / 4
    }
}

impl Client {
    pub(crate) fn start(
        session: Arc<Session>,
        nodes: &[SocketAddr],
        ledger: Arc<Ledger>,
        seed: u64,
    ) -> Arc<Self> {
        let urls = nodes.iter().map(|node| format!("ws://{node}"));
        let config = Config {
            random: Arc::new(Impatient(Seeded::new(seed))),
            messages_held: HELD,
            ..Config::new(urls, Tokens(session.clone()))
        };
        let inner = parlance_client::Client::connect(config);
        let updates = inner.updates();
        let (id, unanswered) = (session.user.clone(), AtomicUsize::new(0));
        let this =
            Arc::new(Self { id, session, inner, ledger, unanswered, seen: Mutex::default() });
        tokio::spawn(this.clone().watch(updates));
        this
    }

    /// Writes that have no answer yet.
    pub(crate) fn unanswered(&self) -> usize {
        self.unanswered.load(Ordering::Relaxed)
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.seen().connections.back().is_some_and(|(_, end)| end.is_none())
    }

    pub(crate) fn stats(&self) -> parlance_client::Stats {
        self.inner.stats()
    }

    pub(crate) fn send(self: &Arc<Self>, conversation: &str, key: &str, text: &str) {
        self.ledger.book().begin(&self.id, conversation, key, text);
        let answer = self.inner.send_as(conversation, key, text);
        let key = key.to_owned();
        self.write(async move |this| match answer.await {
            Ok(message) => {
                let (id, seq) = (message["id"].as_str(), message["seq"].as_u64());
                this.ledger.book().acknowledged(
                    &key,
                    id.unwrap_or_default(),
                    seq.unwrap_or_default(),
                );
            }
            Err(SendError::Refused(refusal)) => this.refused(&refusal),
            Err(error) => this.ledger.book().wrong(format!("{key}: {error}")),
        });
    }

    /// Once per message only: a second edit would be indistinguishable from a late first one.
    pub(crate) fn edit(self: &Arc<Self>, key: &str, message_id: &str, text: &str) {
        if let Some(fate) = self.ledger.book().sends.get_mut(key) {
            text.clone_into(&mut fate.text);
        }
        self.command("message.edit", json!({ "message_id": message_id, "text": text }));
    }

    pub(crate) fn delete(self: &Arc<Self>, key: &str, message_id: &str) {
        if let Some(fate) = self.ledger.book().sends.get_mut(key) {
            fate.deleted = true;
        }
        self.command("message.delete", json!({ "message_id": message_id }));
    }

    /// Marks all that has come as read.
    pub(crate) fn mark_read(self: &Arc<Self>, conversation: &str) {
        let last =
            self.inner.with_cache(|cache| cache.messages(conversation).next_back().map(|m| m.seq));
        if let Some(seq) = last {
            self.command("read.mark", json!({ "conversation_id": conversation, "seq": seq }));
        }
    }

    /// An idempotent command, repeated until it is answered.
    fn command(self: &Arc<Self>, kind: &'static str, data: Value) {
        self.write(async move |this| {
            loop {
                match this.inner.command(kind, data.clone()).await {
                    Ok(_) => return,
                    Err(CommandError::Refused(refusal)) if refusal.passing() => {
                        this.ledger.book().put_off += 1;
                        sleep(refusal.retry_after.unwrap_or(AGAIN)).await;
                    }
                    Err(CommandError::Refused(refusal)) => return this.refused(&refusal),
                    Err(CommandError::NotConnected | CommandError::Lost) => {
                        this.ledger.book().retries += 1;
                        sleep(AGAIN).await;
                    }
                    Err(error) => return this.ledger.book().wrong(format!("{kind}: {error}")),
                }
            }
        });
    }

    fn write<F: Future<Output = ()> + Send + 'static>(
        self: &Arc<Self>,
        writing: impl FnOnce(Arc<Self>) -> F,
    ) {
        self.unanswered.fetch_add(1, Ordering::Relaxed);
        let (this, writing) = (self.clone(), writing(self.clone()));
        tokio::spawn(async move {
            writing.await;
            this.unanswered.fetch_sub(1, Ordering::Relaxed);
        });
    }

    /// Whoever was removed may not write any more; nobody else is refused anything here.
    fn refused(&self, refusal: &Refusal) {
        let mut book = self.ledger.book();
        if !book.is_removed(&self.id) {
            book.wrong(format!("{} was refused: {refusal}", self.id));
        }
    }

    /// One's own messages that could be edited, newest first: key and id.
    pub(crate) fn own(&self, conversation: &str, count: usize) -> Vec<(String, String)> {
        self.inner.with_cache(|cache| {
            let recent = cache.messages(conversation).rev().take(count);
            let own = recent.filter(|m| m.text("author_id") == Some(&self.id) && !m.deleted());
            own.filter_map(|m| Some((m.text("client_msg_id")?.to_owned(), m.id.to_string())))
                .collect()
        })
    }

    /// Whether a message has come.
    pub(crate) fn has(&self, conversation: &str, seq: u64) -> bool {
        self.seen().messages.get(conversation).is_some_and(|places| places.contains(&seq))
    }

    pub(crate) fn cursor(&self, conversation: &str) -> Option<u64> {
        self.inner.with_cache(|cache| cache.cursor(conversation))
    }

    /// All that the member knows of a conversation; `None` if it is not theirs.
    pub(crate) fn held(&self, conversation: &str) -> Option<Held> {
        let (read_seq, messages) = self.inner.with_cache(|cache| {
            let messages =
                cache.messages(conversation).map(|m| (m.seq, Kept::of(&m.body))).collect();
            let held = cache.conversation(conversation)?;
            Some((held.read().read_seq, messages))
        })?;
        let seen = self.seen().messages.get(conversation).cloned().unwrap_or_default();
        Some(Held { seen, messages, read_seq })
    }

    async fn watch(self: Arc<Self>, mut updates: Receiver<Update>) {
        loop {
            match updates.recv().await {
                Ok(Update::Connected { .. }) => {
                    let before = {
                        let mut seen = self.seen();
                        let before = seen.connections.back().copied();
                        seen.connections.push_back((Instant::now(), None));
                        if seen.connections.len() > CONNECTIONS {
                            seen.connections.pop_front();
                        }
                        before
                    };
                    if let Some((_, Some(left))) = before {
                        self.ledger.book().absences.add(left.elapsed(), &self.id);
                    }
                }
                Ok(Update::Disconnected { .. }) => {
                    if let Some((_, end)) = self.seen().connections.back_mut() {
                        *end = Some(Instant::now());
                    }
                }
                Ok(Update::Applied(applied)) => self.applied(&applied),
                Ok(Update::Stopped(why)) => {
                    return self.ledger.book().wrong(format!("{} stopped: {why}", self.id));
                }
                Err(RecvError::Lagged(_)) => self.catch_up(),
                Err(RecvError::Closed) => return,
            }
        }
    }

    fn applied(&self, applied: &Applied) {
        let Some(conversation) = &applied.conversation_id else { return };
        if applied.reset || applied.strays > 0 {
            let what = if applied.reset { "told to drop" } else { "told of" };
            self.ledger.book().wrong(format!("{} was {what} {conversation}", self.id));
        }
        self.arrived(conversation, &applied.created);
    }

    /// Updates were missed; the cache has missed none.
    fn catch_up(&self) {
        let held: Vec<(String, Vec<Message>)> = self.inner.with_cache(|cache| {
            let all = cache.conversations().keys();
            all.map(|id| (id.clone(), cache.messages(id).cloned().collect())).collect()
        });
        for (conversation, messages) in held {
            self.arrived(&conversation, &messages);
        }
    }

    fn arrived(&self, conversation: &str, messages: &[Message]) {
        let (fresh, connections) = {
            let mut seen = self.seen();
            let connections = seen.connections.clone();
            let places = seen.messages.entry(conversation.to_owned()).or_default();
            let fresh: Vec<_> = messages.iter().filter(|m| places.insert(m.seq)).collect();
            (fresh, connections)
        };
        let mut book = self.ledger.book();
        for message in fresh {
            book.arrived(&self.id, message.text("client_msg_id").unwrap_or_default(), &connections);
        }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    pub(crate) fn of(message: &Value) -> Self {
        let text = |name: &str| message[name].as_str().unwrap_or_default().to_owned();
        Self {
            id: text("id"),
            rev: message["rev"].as_u64().unwrap_or_default(),
            author: text("author_id"),
            key: text("client_msg_id"),
            text: text("text"),
            deleted: !message["deleted_at"].is_null(),
        }
    }
}

impl Held {
    /// Messages of others that have not been read and are not deleted, as the contract counts them.
    pub(crate) fn unread(&self, me: &str) -> usize {
        let unread = self
            .messages
            .iter()
            .filter(|(seq, m)| *seq > self.read_seq && m.author != me && !m.deleted);
        unread.count().min(100)
    }
}
