//! Work that follows a write: committed with it in the outbox, run at least once, with retries.

mod job;
mod mails;
mod retry;
mod runner;

pub use job::{Job, Task};
pub use retry::RetryPolicy;
pub use runner::Runner;
