//! The real binary over real sockets, on the embedded default: nothing but the wire contract is used.

#![expect(clippy::expect_used, clippy::panic, reason = "a test fails by a panic")]

mod accounts;
mod backup;
mod board;
mod conversations;
mod durability;
mod ending;
mod figures;
mod logs;
mod readers;
mod reading;
mod refusals;
mod restore;
mod resume;
mod sockets;
#[expect(dead_code, reason = "some of it is for the suite on services")]
#[path = "../support/mod.rs"]
mod support;
mod takeover;
mod told;

const ON: support::home::On = support::home::On::Embedded;
