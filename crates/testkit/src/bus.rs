//! A bus for nodes that are alone. Tests of several nodes use the embedded adapter's.

use std::sync::Arc;

use async_trait::async_trait;
use parlance_application::{
    Result,
    live::Event,
    ports::{Bus, Heard, Subscription, Topic},
};
use parlance_domain::NodeId;

/// The bus of a node that is alone: takes everything, brings nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct SilentBus;

#[async_trait]
impl Bus for SilentBus {
    fn is_remote(&self) -> bool {
        false
    }

    async fn publish(&self, _from: NodeId, _events: Vec<Arc<Event>>) -> Result<()> {
        Ok(())
    }

    async fn subscribe(&self, _node: NodeId) -> Result<Box<dyn Subscription>> {
        Ok(Box::new(Self))
    }

    fn listen(&self, _node: NodeId, _topics: Vec<Topic>) {}

    fn ignore(&self, _node: NodeId, _topics: Vec<Topic>) {}
}

#[async_trait]
impl Subscription for SilentBus {
    async fn next(&mut self) -> Option<Heard> {
        std::future::pending().await
    }
}
