//! The way out: a bounded queue, and a task that sends all that waits in one round trip.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use deadpool_redis::redis::{self, Client, RedisResult, aio::MultiplexedConnection};
use parlance_application::{Error, Result, live::Event};
use parlance_domain::NodeId;
use tokio::{sync::mpsc, task::AbortHandle};

use crate::{
    connection::{self, Backoff},
    wire::{self, Channels},
};

/// The most events that wait to be sent.
const WAITING: usize = 4096;
/// The most events in one round trip.
const BATCH: usize = 128;

type Outgoing = (NodeId, Arc<Event>);

/// The sending end of the queue. Its task ends when this is dropped.
pub(crate) struct Publisher {
    queue: mpsc::Sender<Outgoing>,
    up: Arc<AtomicBool>,
    task: AbortHandle,
}

impl Publisher {
    pub(crate) fn start(client: Client, channels: Channels) -> Self {
        let (queue, waiting) = mpsc::channel(WAITING);
        // Assumed until it turns out otherwise.
        let up = Arc::new(AtomicBool::new(true));
        let sender = Sender { client, channels, waiting, up: Arc::clone(&up), batch: Vec::new() };
        let task = tokio::spawn(sender.run()).abort_handle();
        Self { queue, up, task }
    }

    pub(crate) fn publish(&self, from: NodeId, event: Arc<Event>) -> Result<()> {
        if !self.up.load(Ordering::Relaxed) {
            return Err(Error::unavailable("the bus is down"));
        }
        self.queue.try_send((from, event)).map_err(|_| Error::unavailable("the bus is slow"))
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
    waiting: mpsc::Receiver<Outgoing>,
    up: Arc<AtomicBool>,
    /// Taken from the queue, and maybe not sent yet.
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
                        // Only now is it noticed that an idle connection broke: the batch is sent once more, over a new
                        // one.
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
            if self.batch.is_empty() && self.waiting.recv_many(&mut self.batch, BATCH).await == 0 {
                return Ok(());
            }
            self.pipeline().query_async::<()>(&mut connection).await?;
            self.batch.clear();
            self.up.store(true, Ordering::Relaxed);
            backoff.reset();
        }
    }

    fn pipeline(&self) -> redis::Pipeline {
        let mut pipeline = redis::Pipeline::with_capacity(self.batch.len());
        for (from, event) in &self.batch {
            match wire::encode(*from, event) {
                Ok(payload) => {
                    let channel = self.channels.of(event.topic());
                    pipeline.cmd("PUBLISH").arg(channel).arg(payload).ignore();
                }
                Err(error) => tracing::error!(%error, "an event cannot be encoded"),
            }
        }
        pipeline
    }

    /// Drops what waits; returns how much that was. Old events are of no use when the bus comes back: whoever missed
    /// them reads the store.
    fn forget(&mut self) -> usize {
        let mut lost = self.batch.len();
        self.batch.clear();
        while self.waiting.try_recv().is_ok() {
            lost += 1;
        }
        lost
    }
}
