//! The job queue. It may lose its memory: the outbox (`store/outbox.rs`) is the source of truth, from which every
//! unfinished job is added again. `jobs/runner.rs` is the only caller.

use std::time::Duration;

use async_trait::async_trait;
use parlance_domain::Timestamp;

use crate::{Result, jobs::Job};

/// Runs each job at least once: a claimed job whose worker has died is handed out again when its lease ends.
///
/// `at` is always the current time. A queue on a server may use its own clock and leases, and `at` only for durations.
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait JobQueue: Send + Sync {
    /// Adds jobs that are due at once. Idempotent: a job whose id is known, in any state, is left as it is. After an
    /// error, some may have been added.
    async fn add(&self, jobs: Vec<Job>, at: Timestamp) -> Result<()>;

    /// Takes up to `limit` due jobs, oldest first, and holds them until `at + lease`. Does not wait for jobs, and may
    /// return fewer than are due.
    async fn claim(&self, limit: usize, at: Timestamp, lease: Duration) -> Result<Vec<Claim>>;

    /// Records how an attempt ended. Does nothing if another worker has taken over the lease. After an error, the job
    /// may be handed out again.
    async fn settle(&self, claim: &Claim, verdict: Verdict, at: Timestamp) -> Result<()>;

    /// Identifies the queue's memory. If it has changed, the memory is new or an older copy: added jobs may be gone.
    async fn memory(&self) -> Result<String>;
}

/// A job that a worker holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// What to do.
    pub job: Job,
    /// 1 for the first attempt. Attempts are counted when they begin.
    pub attempt: u32,
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The work is done.
    Done,
    /// It failed, and should be tried again.
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
