//! Everything that happens while people are connected: rooms, fan-out, typing, and the sequencer that gives changes their order.
//!
//! [`Live`] is one node's actor. It owns which connection listens to what, and nothing of the sockets themselves: those are
//! behind the `Fanout` port. A change's way: [`Sequencer`] → store → [`Event`] → [`Live`] → `Room` → `Fanout`.

mod actor;
mod connections;
mod event;
mod frame;
mod look;
mod node;
mod room;
mod sequencer;
mod typing;

pub use event::Event;
pub use frame::{Frame, ReplayData, replay_frame};
pub use node::{Attachment, Live, LivePorts, Peers};
pub use sequencer::Sequencer;
