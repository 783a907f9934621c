use std::sync::Arc;

use async_trait::async_trait;
use parlance_application::{
    Result,
    live::Event,
    ports::{Bus, Subscription},
};
use parlance_domain::NodeId;

/// The bus of a node that is alone: takes everything, brings nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct SilentBus;

#[async_trait]
impl Bus for SilentBus {
    async fn publish(&self, _from: NodeId, _event: Arc<Event>) -> Result<()> {
        Ok(())
    }

    async fn subscribe(&self, _node: NodeId) -> Result<Box<dyn Subscription>> {
        Ok(Box::new(Self))
    }
}

#[async_trait]
impl Subscription for SilentBus {
    async fn next(&mut self) -> Option<Result<Arc<Event>>> {
        std::future::pending().await
    }
}
