use async_trait::async_trait;
use parlance_domain::{JobId, Timestamp};

use crate::{Result, jobs::Job};

/// Jobs that were committed with the write they follow. A row lives until its job has ended, so that a queue that lost its
/// memory loses no job.
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait Outbox: Send + Sync {
    /// Up to `limit` unfinished jobs that were last handed on before `relayed_before` (or never), oldest first; marks them
    /// as handed on at `at`.
    async fn take_unfinished(
        &self,
        limit: usize,
        relayed_before: Timestamp,
        at: Timestamp,
    ) -> Result<Vec<Job>>;

    /// The same of dead jobs, which may be all that is left of them: for a queue that has lost what it kept.
    async fn take_buried(
        &self,
        limit: usize,
        relayed_before: Timestamp,
        at: Timestamp,
    ) -> Result<Vec<Job>>;

    /// Whether a job may have to run: it is not done. A dead one may, when an operator has it run again.
    async fn is_unfinished(&self, job: JobId) -> Result<bool>;

    /// A job is done.
    async fn finish(&self, job: JobId) -> Result<()>;

    /// A job is dead: it is not handed on with the others any more, but may still be run.
    async fn bury(&self, job: JobId) -> Result<()>;

    /// Dead jobs are to be run again: they are handed on like any other. Returns those of them that are unfinished, in the order
    /// given; the others are passed over.
    async fn revive(&self, jobs: Vec<JobId>) -> Result<Vec<JobId>>;
}
