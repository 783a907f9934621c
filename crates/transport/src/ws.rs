//! The socket: `upgrade` opens it, `session` speaks the contract on it, `hub` finds it for events, `wire` moves its bytes.

mod hub;
mod protocol;
mod session;
mod upgrade;
mod wire;

pub use hub::Hub;
pub(crate) use hub::Worker;
pub(crate) use upgrade::{__path_upgrade, upgrade};
