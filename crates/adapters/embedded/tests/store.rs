//! The store's behaviour, through its ports, on a real file.
#![expect(clippy::expect_used, clippy::panic, reason = "tests may")]
#![expect(clippy::needless_pass_by_value, reason = "it reads better in an assertion")]

#[path = "store/access.rs"]
mod access;
#[path = "store/board.rs"]
mod board;
#[path = "store/jobs.rs"]
mod jobs;
#[path = "store/messages.rs"]
mod messages;
#[path = "store/world.rs"]
mod world;
