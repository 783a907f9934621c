//! The way to this node's sockets. Each socket has a bounded queue (`live/backlog.rs`); what happens when it is full is
//! the frame's [`Urgency`]. The transport's hub implements it.

use std::sync::Arc;

use async_trait::async_trait;

use crate::live::Frame;

/// Puts frames into sockets' outbound queues. May wait for a busy worker, never for a receiver.
///
/// Successive calls for the same connection take effect in that order. An unknown or closed connection is skipped, so
/// nothing fails.
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait Fanout: Send + Sync {
    /// Queues one frame for many connections. It is shared, not copied, and framed for the wire once.
    async fn deliver(&self, to: Arc<[ConnectionId]>, frame: Frame, urgency: Urgency);

    /// Queues frames that were committed together, or came from other nodes together, in order, as
    /// [`Urgency::Reliable`]. An implementation may write them together.
    async fn deliver_all(&self, deliveries: Vec<Delivery>) {
        for Delivery { to, frames } in deliveries {
            for frame in frames {
                self.deliver(to.clone(), frame, Urgency::Reliable).await;
            }
        }
    }

    /// Closes a connection after what is already queued for it.
    async fn close(&self, connection: ConnectionId, close: Close);
}

/// Adjacent frames for the same connections.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The connections that get all of the frames.
    pub to: Arc<[ConnectionId]>,
    /// The frames, in order.
    pub frames: Vec<Frame>,
}

/// A socket of this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId {
    /// The worker that owns it.
    pub worker: u32,
    /// Unique among that worker's sockets; reused after 2³² others at the earliest.
    pub number: u32,
}

/// What happens to a frame when its receiver's queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Urgency {
    /// It is dropped.
    Ephemeral,
    /// The connection is closed with [`Close::SlowConsumer`]; the client resumes.
    Reliable,
}

/// Why a socket is closed. On codes from 4000 to 4499 the client reconnects by itself; from 4500 on, something has to
/// change first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum Close {
    /// The node is shutting down.
    Draining = 4000,
    /// The outbound queue was full.
    SlowConsumer = 4001,
    /// The client was silent for too long.
    HeartbeatLost = 4002,
    /// The node is overloaded or cut off from the store.
    Overloaded = 4003,
    /// No `hello` in time.
    NoHello = 4004,
    /// The token is not one of ours.
    BadToken = 4500,
    /// The token has expired.
    TokenExpired = 4501,
    /// The session has ended.
    SessionRevoked = 4502,
    /// A binary or oversized frame, or 5 unreadable ones in a row.
    ProtocolError = 4503,
    /// The user opened too many connections; this was the one silent for longest.
    TooManyConnections = 4504,
}

impl Close {
    /// The close frame's status code.
    pub const fn code(self) -> u16 {
        self as u16
    }

    /// The close frame's reason.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Draining => "draining",
            Self::SlowConsumer => "slow consumer",
            Self::HeartbeatLost => "heartbeat lost",
            Self::Overloaded => "overloaded",
            Self::NoHello => "no hello in time",
            Self::BadToken => "bad token",
            Self::TokenExpired => "token expired",
            Self::SessionRevoked => "session revoked",
            Self::ProtocolError => "protocol error",
            Self::TooManyConnections => "too many connections",
        }
    }
}
