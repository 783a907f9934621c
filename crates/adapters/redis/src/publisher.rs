//! The outgoing side: a bounded queue, and a task that sends all that is queued in one round trip.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use deadpool_redis::redis::{self, Client, RedisResult, aio::MultiplexedConnection};
use parlance_application::{Error, Result, live::Event};
use parlance_domain::NodeId;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task::AbortHandle,
};

use crate::{
    connection::{self, Backoff},
    wire::{self, Channels},
};

/// The most events queued for sending.
const WAITING: usize = 4096;
/// This many events are enough for a round trip.
const BATCH: usize = 128;

/// Events that were published together. They go out in one round trip.
struct Outgoing {
    from: NodeId,
    events: Vec<Arc<Event>>,
    _room: OwnedSemaphorePermit,
}

/// The sending end of the queue. Its task ends when this is dropped.
pub(crate) struct Publisher {
    queue: mpsc::UnboundedSender<Outgoing>,
    /// For events that are queued or being sent.
    room: Arc<Semaphore>,
    up: Arc<AtomicBool>,
    task: AbortHandle,
}

impl Publisher {
    pub(crate) fn start(client: Client, channels: Channels) -> Self {
        let (queue, waiting) = mpsc::unbounded_channel();
        // Assumed until it turns out otherwise.
        let up = Arc::new(AtomicBool::new(true));
        let sender = Sender { client, channels, waiting, up: Arc::clone(&up), batch: Vec::new() };
        let task = tokio::spawn(sender.run()).abort_handle();
        Self { queue, room: Arc::new(Semaphore::new(WAITING)), up, task }
    }

    pub(crate) fn publish(&self, from: NodeId, events: Vec<Arc<Event>>) -> Result<()> {
        if !self.up.load(Ordering::Relaxed) {
            return Err(Error::unavailable("the bus is down"));
        }
        let slow = || Error::unavailable("the bus is slow");
        let count = u32::try_from(events.len()).map_err(|_| slow())?;
        let room = self.room.clone().try_acquire_many_owned(count).map_err(|_| slow())?;
        self.queue.send(Outgoing { from, events, _room: room }).map_err(|_| slow())
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Sender {
    client: Client,
    channels: Channels,
    waiting: mpsc::UnboundedReceiver<Outgoing>,
    up: Arc<AtomicBool>,
    /// Taken from the queue, but perhaps not sent yet.
    batch: Vec<Outgoing>,
}

impl Sender {
    async fn run(mut self) {
        let mut backoff = Backoff::new();
        loop {
            let config = connection::config();
            let error =
                match self.client.get_multiplexed_async_connection_with_config(&config).await {
                    Ok(connection) => match self.send_all(connection, &mut backoff).await {
                        // Only now is a broken idle connection noticed: the batch is sent again, over a new one.
                        Err(error) if self.up.load(Ordering::Relaxed) => {
                            tracing::info!(%error, "the bus lost its connection");
                            self.up.store(false, Ordering::Relaxed);
                            continue;
                        }
                        Err(error) => error,
                        Ok(()) => return,
                    },
                    Err(error) => error,
                };
            self.up.store(false, Ordering::Relaxed);
            tracing::warn!(%error, lost = self.forget(), "the bus is down");
            backoff.wait().await;
        }
    }

    /// Returns `Ok` only once the queue has been closed.
    async fn send_all(
        &mut self,
        mut connection: MultiplexedConnection,
        backoff: &mut Backoff,
    ) -> RedisResult<()> {
        if self.batch.is_empty() {
            redis::cmd("PING").query_async::<()>(&mut connection).await?;
            self.up.store(true, Ordering::Relaxed);
        }
        loop {
            if self.batch.is_empty() {
                let Some(first) = self.waiting.recv().await else { return Ok(()) };
                self.fill(first);
            }
            self.pipeline().query_async::<()>(&mut connection).await?;
            self.batch.clear();
            self.up.store(true, Ordering::Relaxed);
            backoff.reset();
        }
    }

    /// Takes what is queued, up to what one round trip should carry.
    fn fill(&mut self, first: Outgoing) {
        let mut events = first.events.len();
        self.batch.push(first);
        while events < BATCH
            && let Ok(next) = self.waiting.try_recv()
        {
            events += next.events.len();
            self.batch.push(next);
        }
    }

    fn pipeline(&self) -> redis::Pipeline {
        let events = self.batch.iter().map(|outgoing| outgoing.events.len()).sum();
        let mut pipeline = redis::Pipeline::with_capacity(events);
        for Outgoing { from, events, .. } in &self.batch {
            for event in events {
                match wire::encode(*from, event) {
                    Ok(payload) => {
                        let channel = self.channels.of(event.topic());
                        pipeline.cmd("PUBLISH").arg(channel).arg(payload).ignore();
                    }
                    Err(error) => tracing::error!(%error, "an event cannot be encoded"),
                }
            }
        }
        pipeline
    }

    /// Drops what is queued; returns how much that was. Old events are of no use when the bus comes back: whoever
    /// missed them reads the store.
    fn forget(&mut self) -> usize {
        let mut lost = self.batch.drain(..).map(|outgoing| outgoing.events.len()).sum();
        while let Ok(outgoing) = self.waiting.try_recv() {
            lost += outgoing.events.len();
        }
        lost
    }
}
