//! The public handle of a client.

use std::sync::Arc;

use serde_json::Value;
use tokio::{
    sync::{broadcast, mpsc, oneshot},
    time::Instant,
};

use crate::{
    cache::Cache,
    config::Config,
    error::{CommandError, SendError, Stopped},
    keeper::Keeper,
    random::{Randomness, client_msg_id},
    shared::{Order, Shared, Stats, Update},
};

/// The most commands queued for writing.
const ORDERS: usize = 64;

/// A client that keeps one connection alive. Cheap to clone; when the last clone is dropped, the connection ends.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
    orders: mpsc::Sender<Order>,
    random: Arc<dyn Randomness>,
}

impl Client {
    /// Starts to connect, and retries until it succeeds or must not come back. Needs a tokio runtime.
    pub fn connect(config: Config) -> Self {
        let shared = Arc::new(Shared::new(config.messages_held, config.sends_waiting));
        let random = config.random.clone();
        let (orders, inbox) = mpsc::channel(ORDERS);
        tokio::spawn(Keeper::new(config, shared.clone()).run(inbox));
        Self { shared, orders, random }
    }

    /// Sends a message; resolves to the committed message, however many connections that takes. It is queued when this
    /// returns, before the future is polled, and continues if the future is dropped.
    pub fn send(
        &self,
        conversation_id: &str,
        text: &str,
    ) -> impl Future<Output = Result<Value, SendError>> + Send + use<> {
        self.send_as(conversation_id, &client_msg_id(&*self.random), text)
    }

    /// The same with the caller's own id, for a send that has to outlive this client.
    pub fn send_as(
        &self,
        conversation_id: &str,
        client_msg_id: &str,
        text: &str,
    ) -> impl Future<Output = Result<Value, SendError>> + Send + use<> {
        let queued = self.shared.push(conversation_id, client_msg_id, text);
        async move { queued?.await.unwrap_or(Err(SendError::Stopped(Stopped::Closed))) }
    }

    /// Sends any other command, once, on the current connection; resolves to the data of the `ok`.
    pub async fn command(&self, kind: &str, data: Value) -> Result<Value, CommandError> {
        let (reply, answer) = oneshot::channel();
        let order = Order::Command { kind: kind.to_owned(), data, reply };
        let stopped = || self.stopped().unwrap_or(Stopped::Closed).into();
        self.orders.send(order).await.map_err(|_| stopped())?;
        answer.await.unwrap_or_else(|_| Err(stopped()))
    }

    /// A stream of updates from now on. At most 1,024 are buffered: a consumer that falls further behind gets `Lagged`
    /// with the number it missed, and should look at the cache, which misses nothing.
    pub fn updates(&self) -> broadcast::Receiver<Update> {
        self.shared.updates.subscribe()
    }

    /// Reads the cache. The connection stalls meanwhile: be quick.
    pub fn with_cache<T>(&self, look: impl FnOnce(&Cache) -> T) -> T {
        look(&self.shared.cache.borrow())
    }

    /// Waits until the cache fulfils a condition.
    pub async fn until(&self, wanted: impl FnMut(&Cache) -> bool) {
        // Fails only without a sender, and that one is held here.
        let _ = self.shared.cache.subscribe().wait_for(wanted).await;
    }

    /// Counters since the start.
    pub fn stats(&self) -> Stats {
        self.shared.stats(Instant::now())
    }

    /// Why it has stopped; `None` while it runs.
    pub fn stopped(&self) -> Option<Stopped> {
        self.shared.stopped()
    }

    /// Ends the connection, for all clones.
    pub async fn close(&self) {
        // If it cannot be told, it has ended.
        let _ = self.orders.send(Order::Close).await;
        self.orders.closed().await;
    }
}
