//! The real binary over real sockets, on the embedded default: nothing but the wire contract is used.

#![expect(clippy::expect_used, clippy::panic, reason = "a test fails by a panic")]

mod accounts;
mod backup;
mod board;
mod conversations;
mod durability;
mod ending;
mod figures;
#[expect(dead_code, reason = "some of it is for the suite on services")]
mod home;
mod logs;
mod readers;
mod reading;
mod refusals;
mod restore;
mod resume;
mod sockets;
#[expect(dead_code, reason = "some of it is for the suite on services")]
mod support;
mod takeover;
mod told;

const ON: home::On = home::On::Embedded;
