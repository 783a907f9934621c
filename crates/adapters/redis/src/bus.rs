//! The bus between nodes: Redis pub/sub.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use deadpool_redis::{Pool, redis::Client};
use parlance_application::{
    Result,
    live::Event,
    ports::{Bus, Subscription, Topic},
};
use parlance_domain::NodeId;

use crate::{
    connection,
    publisher::Publisher,
    subscription::{Ears, Listener},
    wire::Channels,
};

/// Hands events to the other nodes of a store, through a Redis database.
///
/// While Redis is down, publishing fails at once. Subscriptions report the loss at once and, once it is back, which
/// topics they hear again.
pub struct RedisBus {
    client: Client,
    channels: Channels,
    publisher: Publisher,
    /// The nodes of this process: only tests have more than one.
    nodes: Mutex<HashMap<NodeId, Arc<Ears>>>,
    pool: Pool,
}

impl RedisBus {
    /// Does not hear nodes whose store has another history: a copy of a store has conversations with the same ids.
    /// Needs a Tokio runtime, but no Redis: fails only on a malformed URL.
    pub fn connect(url: &str, history: &str) -> Result<Self> {
        let client = connection::client(url)?;
        let channels = Channels::new(history, client.get_connection_info().redis_settings().db());
        let publisher = Publisher::start(client.clone(), channels.clone());
        let pool = connection::pool(&client)?;
        Ok(Self { client, channels, publisher, nodes: Mutex::default(), pool })
    }

    /// Whether Redis answers now.
    pub async fn ping(&self) -> Result<()> {
        connection::ping(&self.pool).await
    }

    fn nodes(&self) -> MutexGuard<'_, HashMap<NodeId, Arc<Ears>>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for RedisBus {
    fn drop(&mut self) {
        for ears in self.nodes().values() {
            ears.close();
        }
    }
}

#[async_trait]
impl Bus for RedisBus {
    fn is_remote(&self) -> bool {
        true
    }

    async fn publish(&self, from: NodeId, events: Vec<Arc<Event>>) -> Result<()> {
        self.publisher.publish(from, events)
    }

    async fn subscribe(&self, node: NodeId) -> Result<Box<dyn Subscription>> {
        let ears = Arc::new(Ears::default());
        self.nodes().insert(node, Arc::clone(&ears));
        let subscription =
            Listener::start(self.client.clone(), self.channels.clone(), node, ears).await;
        Ok(Box::new(subscription))
    }

    fn listen(&self, node: NodeId, topics: Vec<Topic>) {
        if let Some(ears) = self.nodes().get(&node) {
            ears.listen(topics);
        }
    }

    fn ignore(&self, node: NodeId, topics: Vec<Topic>) {
        if let Some(ears) = self.nodes().get(&node) {
            ears.ignore(&topics);
        }
    }
}
