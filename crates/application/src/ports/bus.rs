use std::sync::Arc;

use async_trait::async_trait;
use parlance_domain::NodeId;

use crate::{Result, live::Event};

/// Carries events between nodes. Only an accelerator: it may lose, repeat and reorder; the live node's rooms put order and
/// completeness back by `rev`, with the store as the truth.
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait Bus: Send + Sync {
    /// Hands an event to every *other* node. An error means that others may not have got it, never that it did not happen.
    async fn publish(&self, from: NodeId, event: Arc<Event>) -> Result<()>;

    /// Begins to receive what other nodes publish from now on.
    async fn subscribe(&self, node: NodeId) -> Result<Box<dyn Subscription>>;
}

/// One node's receiving end.
#[async_trait]
pub trait Subscription: Send {
    /// The next event, or `None` when the bus is gone. `Err` says that events were lost on the way.
    async fn next(&mut self) -> Option<Result<Arc<Event>>>;
}
