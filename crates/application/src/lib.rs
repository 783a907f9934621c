//! The use cases of Parlance, and the ports through which they reach the outside.
//!
//! No framework, no database, no clock in here: a use case is a method that takes parsed input, calls ports, and
//! returns read models of the domain. To add one: give its port method one atomic step ([`ports`]), write the contract
//! case in `parlance-testkit`, implement it in the adapters, then call it here.

pub mod jobs;
pub mod live;
pub mod ports;

mod accounts;
mod app;
mod attempts;
mod board;
mod channels;
mod error;
mod hello;
mod hello_queue;
mod messages;
mod publisher;
mod rate_limit;
mod tasks;
mod workspaces;

pub use accounts::{ACCESS_FOR, Accounts, Caller, SignedIn, Signup};
pub use app::{App, Ports};
pub use board::{Board, Overview};
pub use channels::{Channels, Made};
pub use error::{Error, FieldError, Result, Unauthenticated};
pub use hello::{Hello, Opened};
pub use messages::{Messages, NewMessage, Sent};
pub use tasks::Tasks;
pub use workspaces::Workspaces;
