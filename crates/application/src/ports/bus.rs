use std::sync::Arc;

use async_trait::async_trait;
use parlance_domain::{ConversationId, NodeId, UserId};

use crate::{Result, live::Event};

/// Carries events between nodes. Only an accelerator: it may lose, repeat and reorder; the live node's feeds put order and
/// completeness back by `rev`, with the store as the truth.
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait Bus: Send + Sync {
    /// Whether it reaches nodes of other processes. Only such a bus can be away, and is waited for: it confirms what a node listens
    /// to ([`Heard::Listening`]).
    fn is_remote(&self) -> bool;

    /// Hands an event to every *other* node that listens to its topic. Waits for no network. An error means that others
    /// may not have got it, never that it did not happen.
    async fn publish(&self, from: NodeId, event: Arc<Event>) -> Result<()>;

    /// Begins to receive what other nodes publish from now on to everybody, and to the topics that the node listens to.
    async fn subscribe(&self, node: NodeId) -> Result<Box<dyn Subscription>>;

    /// Has a subscribed node hear some topics more. Calls take effect in order. The subscription of a
    /// remote bus says [`Heard::Listening`] when it is so.
    fn listen(&self, node: NodeId, topics: Vec<Topic>);

    /// Lets a subscribed node miss some topics again. A hint that spares work: it may go on hearing them, and a bus within the
    /// process does nothing.
    fn ignore(&self, node: NodeId, topics: Vec<Topic>);
}

/// One node's receiving end.
#[async_trait]
pub trait Subscription: Send {
    /// What comes next, or `None` when the bus is gone.
    async fn next(&mut self) -> Option<Heard>;
}

/// What comes out of a [`Subscription`].
#[derive(Debug, Clone)]
pub enum Heard {
    /// Another node's event.
    Event(Arc<Event>),
    /// These topics are heard from here on; what was published to them before may have been missed. A bus that was away
    /// names all that the node listens to, even if that is nothing.
    Listening(Vec<Topic>),
    /// Events were lost, of whatever topic: the bus was slow, or has gone away just now.
    Lost,
}

/// What an event is about, as far as nodes choose what they hear.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Topic {
    /// Rare events that every node hears without listening.
    Everybody,
    /// Those of a conversation.
    Conversation(ConversationId),
    /// Those of a person.
    User(UserId),
}
