//! Everything that happens while people are connected: feeds, fan-out, typing, and the sequencer that orders changes.
//!
//! [`Live`] is one node's actor. It knows which connection listens to what; the sockets themselves are behind the
//! `Fanout` port. The path of a change: [`Sequencer`] → store → [`Event`] → [`Live`] → `Feed` → `Fanout`.

mod actor;
mod attaching;
mod audiences;
mod backlog;
mod bus_link;
mod connections;
mod deadlines;
mod doubts;
mod ended;
mod event;
mod feed;
mod frame;
mod gate;
mod interned;
mod joined;
mod listeners;
mod look;
mod node;
mod recent;
mod resume;
mod sequencer;
mod told;
mod typing;
mod unheard;

pub use backlog::{BACKLOG_LIMIT, Backlog, HIGH_WATER, Pushed};
pub use deadlines::{Deadlines, Due, HEARTBEAT, SENDS_IN_FLIGHT};
pub use event::Event;
pub use frame::{Frame, replay_frame};
pub use node::{Attachment, Live, LivePorts, Peers};
pub use resume::{Asked, CatchUp, Next, Page, Resume};
pub use sequencer::{Lanes, Sequencer};
