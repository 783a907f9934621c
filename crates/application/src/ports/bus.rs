//! Events between nodes. The bus only speeds things up: it may lose, repeat and reorder, and the store remains the
//! source of truth. `live/feed.rs` and `live/gate.rs` repair what it does.

use std::sync::Arc;

use async_trait::async_trait;
use parlance_domain::{ConversationId, NodeId, UserId};

use crate::{Result, live::Event};

/// Carries events between nodes. It may lose, repeat and reorder: the receiving node's feeds restore order and
/// completeness by `rev`, from the store.
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait Bus: Send + Sync {
    /// Whether it reaches nodes in other processes. Only such a bus can be unreachable, and only it confirms what a
    /// node listens to ([`Heard::Listening`]), which the node waits for.
    fn is_remote(&self) -> bool;

    /// Hands at most 256 events, in order, to every *other* node that listens to their topics: all or none of them.
    /// Does not wait for the network. They should arrive together, because what a node hears at once costs each socket
    /// one write. An error means that other nodes may miss them, never that the changes did not happen.
    async fn publish(&self, from: NodeId, events: Vec<Arc<Event>>) -> Result<()>;

    /// Starts receiving what other nodes publish from now on to [`Topic::Everybody`], and to the topics the node
    /// listens to. An unreachable remote bus connects later; until then, nothing is heard.
    async fn subscribe(&self, node: NodeId) -> Result<Box<dyn Subscription>>;

    /// Adds topics to those a subscribed node hears. Calls take effect in order. A remote bus confirms them with
    /// [`Heard::Listening`] in the subscription.
    fn listen(&self, node: NodeId, topics: Vec<Topic>);

    /// Removes topics. Only a hint that saves work: the node may still hear them, and an in-process bus ignores it.
    fn ignore(&self, node: NodeId, topics: Vec<Topic>);
}

/// One node's receiving end. Its queue is bounded (4,096 events in both adapters): a node that falls behind gets
/// [`Heard::Lost`], and nobody waits for it.
#[async_trait]
pub trait Subscription: Send {
    /// Waits for what comes next; `None` for good once the bus is gone. Cancel-safe.
    async fn next(&mut self) -> Option<Heard>;
}

/// What comes out of a [`Subscription`].
#[derive(Debug, Clone)]
pub enum Heard {
    /// Another node's event.
    Event(Arc<Event>),
    /// These topics are heard from here on; what was published to them before may have been missed. After a lost
    /// connection, it names all the node's topics, even if there are none.
    Listening(Vec<Topic>),
    /// Events of any topic were lost: the node was too slow, or the connection to the bus has just been lost.
    Lost,
}

/// What a node can choose to hear.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Topic {
    /// Rare events that every node hears without listening to them.
    Everybody,
    /// Events of a conversation.
    Conversation(ConversationId),
    /// Events for one person.
    User(UserId),
}
