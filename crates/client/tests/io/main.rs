//! The client on a WebSocket, against a server that does what the test says. All but one test run in memory under a
//! paused clock: what takes 15 s takes no time, and takes it each time.

#![expect(clippy::expect_used, reason = "a test fails by a panic")]

mod endings;
mod resume;
mod script;
mod sends;
mod tokens;
