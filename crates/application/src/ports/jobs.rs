use std::time::Duration;

use async_trait::async_trait;
use parlance_domain::Timestamp;

use crate::{Result, jobs::Job};

/// Runs each job at least once: a claimed job whose worker died is handed out again when its lease ends.
///
/// `at` is always the present. A queue on a server may run by clocks of its own: it takes only durations from `at`, and may have
/// a lease of its own.
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait JobQueue: Send + Sync {
    /// Adds jobs that are due at once. One whose id is already known, in whatever state, is left as it is.
    async fn add(&self, jobs: Vec<Job>, at: Timestamp) -> Result<()>;

    /// Takes up to `limit` jobs that are due and can be had at once, oldest first, and holds them until `at + lease`.
    async fn claim(&self, limit: usize, at: Timestamp, lease: Duration) -> Result<Vec<Claim>>;

    /// Says how an attempt ended. A claim whose lease was lost to another worker changes nothing.
    async fn settle(&self, claim: &Claim, verdict: Verdict, at: Timestamp) -> Result<()>;

    /// What the memory that holds the jobs is known by. Once the answer is another than before, jobs that were added may be
    /// gone: the memory is new, or an older copy.
    async fn memory(&self) -> Result<String>;
}

/// A job in a worker's hands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// What to do.
    pub job: Job,
    /// 1 for the first try. An attempt counts when it begins.
    pub attempt: u32,
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The work is done.
    Done,
    /// It failed, and is to be tried again.
    Retry {
        /// Why it failed.
        error: String,
        /// When to try again.
        at: Timestamp,
    },
    /// It failed for good, and is kept with its error.
    Dead {
        /// Why it failed.
        error: String,
    },
}
