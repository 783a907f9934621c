//! The receiving end: a connection that only listens, remade whenever it breaks.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use deadpool_redis::redis::{
    self, Client, PushInfo, PushKind, RedisResult, Value,
    aio::{MultiplexedConnection, SendError},
};
use parlance_application::ports::{Heard, Subscription, Topic};
use parlance_domain::NodeId;
use tokio::{
    sync::{Notify, mpsc, oneshot},
    task::AbortHandle,
};

use crate::{
    connection::{self, Backoff},
    wire::{self, Channels, Own},
};

/// The most events queued for the node. A slower one is told that it has lost some.
const WAITING: usize = 4096;
/// The most channels in one command.
const CHANNELS: usize = 512;
/// How often a silent connection is pinged.
const PING: Duration = Duration::from_secs(3);
/// How long subscribing waits for Redis before it goes on without.
const PATIENCE: Duration = Duration::from_secs(2);

/// What a node wants to hear: only the current topics, however often they have changed.
#[derive(Default)]
pub(crate) struct Ears {
    wanted: Mutex<Wanted>,
    changed: Notify,
    task: Mutex<Option<AbortHandle>>,
}

#[derive(Default)]
struct Wanted {
    topics: HashSet<Topic>,
    /// Those of them whose [`Heard::Listening`] is still to come.
    asked: HashSet<Topic>,
    /// No longer wanted, but perhaps still subscribed.
    dropped: HashSet<Topic>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Ears {
    pub(crate) fn listen(&self, topics: Vec<Topic>) {
        let mut wanted = lock(&self.wanted);
        for topic in topics {
            wanted.topics.insert(topic);
            wanted.asked.insert(topic);
            wanted.dropped.remove(&topic);
        }
        drop(wanted);
        self.changed.notify_one();
    }

    pub(crate) fn ignore(&self, topics: &[Topic]) {
        let mut wanted = lock(&self.wanted);
        for topic in topics {
            wanted.topics.remove(topic);
            wanted.asked.remove(topic);
            // `Everybody` stays subscribed: every node hears it without asking.
            if *topic != Topic::Everybody {
                wanted.dropped.insert(*topic);
            }
        }
        drop(wanted);
        self.changed.notify_one();
    }

    /// Ends the subscription.
    pub(crate) fn close(&self) {
        if let Some(task) = lock(&self.task).take() {
            task.abort();
        }
    }

    /// All topics, for a new connection.
    fn all(&self) -> Vec<Topic> {
        let mut wanted = lock(&self.wanted);
        wanted.asked.clear();
        wanted.dropped.clear();
        wanted.topics.iter().copied().collect()
    }

    /// What has changed since the last call: topics asked for, and topics dropped.
    fn news(&self) -> (Vec<Topic>, Vec<Topic>) {
        let mut wanted = lock(&self.wanted);
        (wanted.asked.drain().collect(), wanted.dropped.drain().collect())
    }
}

/// The task that owns the connection.
pub(crate) struct Listener {
    client: Client,
    channels: Channels,
    node: NodeId,
    ears: Arc<Ears>,
    out: mpsc::Sender<Came>,
    overflow: Arc<AtomicBool>,
}

/// What is queued for the node.
enum Came {
    /// From another node. Decoded at the node's end of the queue: the connection goes on to the next.
    Message(Vec<u8>),
    News(Heard),
}

impl Listener {
    pub(crate) async fn start(
        client: Client,
        channels: Channels,
        node: NodeId,
        ears: Arc<Ears>,
    ) -> Inbox {
        let (out, came) = mpsc::channel(WAITING);
        let overflow = Arc::new(AtomicBool::new(false));
        let (ready, first) = oneshot::channel();
        let listener = Self {
            client,
            channels,
            node,
            ears: Arc::clone(&ears),
            out,
            overflow: Arc::clone(&overflow),
        };
        *lock(&ears.task) = Some(tokio::spawn(listener.run(ready)).abort_handle());
        let line = Inbox { came, overflow, ears };
        let _ = tokio::time::timeout(PATIENCE, first).await;
        line
    }

    async fn run(self, ready: oneshot::Sender<()>) {
        let mut backoff = Backoff::new();
        let mut ready = Some(ready);
        let (mut late, mut lost) = (false, false);
        loop {
            match self.connect().await {
                Ok((connection, gone, topics)) => {
                    backoff.reset();
                    late |= ready.take().is_none_or(|first| first.send(()).is_err());
                    if late {
                        tracing::info!(topics = topics.len(), "the bus is back");
                        self.say_lost(&mut lost).await;
                    }
                    // Even without topics: it tells the node that the bus is back.
                    if late || !topics.is_empty() {
                        self.say(Heard::Listening(topics)).await;
                    }
                    lost = false;
                    if let Err(error) = self.stay(connection, &gone).await {
                        tracing::warn!(%error, "the bus is not heard");
                    } else {
                        tracing::warn!("the bus has hung up");
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "the bus is not heard");
                    // The subscriber waits for the first attempt only.
                    ready = None;
                }
            }
            // At once: the node has to know in case it cannot reach its store either.
            self.say_lost(&mut lost).await;
            late = true;
            backoff.wait().await;
        }
    }

    /// Once per break.
    async fn say_lost(&self, said: &mut bool) {
        if !std::mem::replace(said, true) {
            self.say(Heard::Lost).await;
        }
    }

    /// A connection subscribed to all wanted topics, a signal of its end, and these topics.
    async fn connect(&self) -> RedisResult<(MultiplexedConnection, Arc<Notify>, Vec<Topic>)> {
        let gone = Arc::new(Notify::new());
        let config = connection::config().set_push_sender(self.receiver(Arc::clone(&gone)));
        let mut connection =
            self.client.get_multiplexed_async_connection_with_config(&config).await?;
        connection.subscribe(self.channels.of(Topic::Everybody)).await?;
        let topics = self.ears.all();
        for names in self.names(&topics) {
            connection.subscribe(names).await?;
        }
        Ok((connection, gone, topics))
    }

    /// Serves until the connection breaks.
    async fn stay(&self, mut connection: MultiplexedConnection, gone: &Notify) -> RedisResult<()> {
        let mut ping = tokio::time::interval(PING);
        ping.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = gone.notified() => return Ok(()),
                () = self.ears.changed.notified() => self.catch_up(&mut connection).await?,
                _ = ping.tick() => {
                    redis::cmd("PING").query_async::<()>(&mut connection).await?;
                }
            }
        }
    }

    async fn catch_up(&self, connection: &mut MultiplexedConnection) -> RedisResult<()> {
        let (asked, dropped) = self.ears.news();
        for names in self.names(&dropped) {
            connection.unsubscribe(names).await?;
        }
        for names in self.names(&asked) {
            connection.subscribe(names).await?;
        }
        if !asked.is_empty() {
            self.say(Heard::Listening(asked)).await;
        }
        Ok(())
    }

    fn names(&self, topics: &[Topic]) -> impl Iterator<Item = Vec<String>> {
        topics
            .chunks(CHANNELS)
            .map(|topics| topics.iter().map(|topic| self.channels.of(*topic)).collect())
    }

    /// The callback for each message. It must not block.
    fn receiver(
        &self,
        gone: Arc<Notify>,
    ) -> impl Fn(PushInfo) -> Result<(), SendError> + Send + Sync + 'static {
        let own = Own::of(self.node);
        let (out, overflow) = (self.out.clone(), Arc::clone(&self.overflow));
        move |push| {
            match push.kind {
                PushKind::Disconnection => gone.notify_one(),
                PushKind::Message => {
                    if let Some(payload) = payload(push.data)
                        && !own.has(&payload)
                        && out.try_send(Came::Message(payload)).is_err()
                    {
                        overflow.store(true, Ordering::Relaxed);
                    }
                }
                _ => {}
            }
            Ok(())
        }
    }

    async fn say(&self, news: Heard) {
        // Fails only if nobody listens any more: this task is about to end.
        let _ = self.out.send(Came::News(news)).await;
    }
}

/// A message arrives as its channel and its payload.
fn payload(data: Vec<Value>) -> Option<Vec<u8>> {
    match data.into_iter().nth(1) {
        Some(Value::BulkString(payload)) => Some(payload),
        _ => None,
    }
}

/// Another node's event.
fn read(payload: Vec<u8>) -> Option<Heard> {
    let event = wire::decode(&Bytes::from(payload));
    event
        .map(|event| Heard::Event(Arc::new(event)))
        .inspect_err(|error| tracing::warn!(%error, "passed over what came on the bus"))
        .ok()
}

/// The node's end of the channel. The listener ends when it is dropped.
pub(crate) struct Inbox {
    came: mpsc::Receiver<Came>,
    overflow: Arc<AtomicBool>,
    ears: Arc<Ears>,
}

impl Drop for Inbox {
    fn drop(&mut self) {
        self.ears.close();
    }
}

#[async_trait]
impl Subscription for Inbox {
    async fn next(&mut self) -> Option<Heard> {
        loop {
            // After an overflow the queue is full, so this is called again soon and reports it.
            if self.overflow.swap(false, Ordering::Relaxed) {
                return Some(Heard::Lost);
            }
            match self.came.recv().await? {
                Came::News(news) => return Some(news),
                Came::Message(payload) => {
                    if let Some(event) = read(payload) {
                        return Some(event);
                    }
                }
            }
        }
    }
}
