//! The socket: `upgrade` opens it, `connection` and its `commands` speak the contract on it, `hub` routes events to it,
//! `wire` moves its bytes.

mod asyncapi;
mod commands;
mod connection;
mod hub;
mod protocol;
mod upgrade;
mod wire;

pub(crate) use asyncapi::SERVED as ASYNCAPI;
pub use asyncapi::json as asyncapi_json;
pub use hub::Hub;
use hub::{Counted, Worker};
pub(crate) use upgrade::{__path_upgrade, upgrade};
pub(crate) use wire::Takeover;
