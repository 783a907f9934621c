//! What the application needs from the outside, each port shaped by the use cases that call it.
//!
//! A store method is one atomic step: it commits wholly or not at all, and any permission it names is decided inside
//! the same transaction, by [`parlance_domain::membership`]. The other ports state what they guarantee. Every method of
//! a store, a bus or a queue has its cases in the contract suites of `parlance-testkit`.
//!
//! Errors common to all but the mailer: `Unavailable`: out of reach or overloaded, for now. `Internal`: a defect. After
//! either, a write may or may not have been committed. Every other error means that nothing has changed.

mod ambient;
mod board;
mod bus;
mod fanout;
mod jobs;
mod mailer;
mod password;
pub mod store;
mod token;

pub use ambient::Ambient;
pub use board::{
    JobBoard, JobCounts, JobState, JobView, KEPT_DONE, KEPT_ERRORS, KEPT_MINUTES, MinuteView,
    NOT_DEAD, NOT_DELAYED, STILL_ACTIVE, WorkerView,
};
pub use bus::{Bus, Heard, Subscription, Topic};
pub use fanout::{Close, ConnectionId, Delivery, Fanout, Urgency};
pub use jobs::{Claim, JobQueue, Verdict};
pub use mailer::{Mail, MailError, Mailer};
pub use password::{PasswordHash, PasswordHasher};
pub use token::{AccessToken, Claims, RefreshDigest, RefreshToken, TokenIssuer};

#[cfg(feature = "mocks")]
pub use self::{
    ambient::MockAmbient, board::MockJobBoard, bus::MockBus, fanout::MockFanout,
    jobs::MockJobQueue, mailer::MockMailer, password::MockPasswordHasher, token::MockTokenIssuer,
};
