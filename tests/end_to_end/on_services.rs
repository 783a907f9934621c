//! The same on MongoDB, Redis and SMTP, and what only they make possible: several nodes, workers, and their failures.

#![expect(clippy::expect_used, clippy::panic, reason = "a test fails by a panic")]

mod accounts;
mod board;
mod conversations;
mod durability;
mod mail;
mod nodes;
mod reading;
mod restore;
mod security;
mod state_events;
#[expect(dead_code, reason = "some of it is for the suite on the embedded default")]
#[path = "../support/mod.rs"]
mod support;

const ON: support::home::On = support::home::On::Services;
