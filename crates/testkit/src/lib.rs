//! What tests of Parlance are made of: mocks of every port, fakes, fixtures, and the contract suites of the adapters.
//!
//! A use-case test takes ten lines. Say what the store should answer, start a node, call the use case, look at the
//! outcome:
//!
//! ```
//! # use parlance_testkit::{TestNode, caller, mocks::MockStore};
//! # use parlance_domain::{ConversationId, ReadState, Seq};
//! # use parlance_application::ports::store::ReadMark;
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! let node = TestNode::start(MockStore::new());
//! let (ada, here) = (caller(&node.ambient, "ada"), ConversationId(node.ambient.next_uuid()));
//! let mut store = MockStore::new();
//! let read = ReadState { read_seq: Seq(7), unread_count: 0, mention_count: 0 };
//! store.expect_mark_read().return_once(move |_, _, _| Ok(ReadMark { read, advanced: true }));
//! assert_eq!(node.app(store).channels.mark_read(&ada, here, Seq(7)).await.ok(), Some(read));
//! # }
//! ```
//!
//! * [`mocks`]: mockall mocks; [`mocks::MockStore`] is all five store ports in one.
//! * [`TestAmbient`]: the clock, ids and randomness, all set by the test.
//! * [`RecordingFanout`], [`RecordingMailer`], [`PlainHasher`], [`PlainTokens`], [`SilentBus`], [`GatedMessages`]:
//!   fakes.
//! * [`MemoryStore`]: a whole store in memory, for several nodes too, with [`Weather`] (delays, failures) between it
//!   and each of them.
//! * [`TestNode`]: a live node with those fakes around it.
//! * [`contract`]: what every adapter must do, as [`store_contract!`], [`changes_contract!`],
//!   [`state_events_contract!`], [`bus_contract!`], [`job_contract!`] and [`board_contract!`]. A new port method gets
//!   its cases there before its first adapter.
//!
//! No test sleeps and hopes: every wait is on a condition, and ends with a panic after [`PATIENCE`].

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "test support: a panic is its way to fail"
)]

mod ambient;
mod bus;
pub mod contract;
mod crypto;
mod fanout;
mod fixtures;
mod gate;
mod mailer;
mod memory;
pub mod mocks;
mod node;
mod stage;

pub use ambient::TestAmbient;
pub use bus::SilentBus;
pub use crypto::{PlainHasher, PlainTokens};
pub use fanout::{Record, RecordingFanout};
pub use fixtures::{
    account, caller, channel, client_msg_id, email, message, password, socket, summary, text,
};
pub use gate::GatedMessages;
pub use mailer::RecordingMailer;
pub use memory::{Calm, MemoryStore, Weather};
pub use node::{TestNode, head};
pub use stage::{Stage, Team};

/// How long a condition may take to come true.
pub const PATIENCE: std::time::Duration = std::time::Duration::from_secs(20);
