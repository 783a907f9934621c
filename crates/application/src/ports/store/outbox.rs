//! Jobs committed with the write they follow. Invariant: a row lives until its job is done, so a queue that loses its
//! memory loses no job. `jobs/runner.rs` relays rows to the queue (`ports/jobs.rs`).

use async_trait::async_trait;
use parlance_domain::{JobId, Timestamp};

use crate::{Result, jobs::Job};

/// The most jobs one step, of a store or a queue, skips because this program cannot read them: it has to end soon, and
/// the next one goes on.
pub const MOST_UNREADABLE: usize = 256;

/// Jobs committed with the write they follow. Every method but the two `take`s is idempotent. A job without a row is
/// done: that is no error.
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait Outbox: Send + Sync {
    /// Up to `limit` jobs that are neither done nor dead and were last relayed before `relayed_before`, or never;
    /// of those relayed equally long ago, oldest first. Marks them as relayed at `at`, in the same step. Omits what this program cannot read. After an
    /// error, the rows may be marked all the same.
    async fn take_unfinished(
        &self,
        limit: usize,
        relayed_before: Timestamp,
        at: Timestamp,
    ) -> Result<Vec<Job>>;

    /// The same for dead jobs, in any order: their rows may be all that is left of them if a queue has lost its memory.
    async fn take_buried(
        &self,
        limit: usize,
        relayed_before: Timestamp,
        at: Timestamp,
    ) -> Result<Vec<Job>>;

    /// Whether a job has a row, so is not done. An operator can still run a dead one again.
    async fn is_unfinished(&self, job: JobId) -> Result<bool>;

    /// The job is done: removes its row.
    async fn finish(&self, job: JobId) -> Result<()>;

    /// The job is dead: [`Outbox::take_unfinished`] skips it until it is revived.
    async fn bury(&self, job: JobId) -> Result<()>;

    /// Lets dead jobs be relayed like the others again. Returns those that still have a row, in the order given.
    async fn revive(&self, jobs: Vec<JobId>) -> Result<Vec<JobId>>;
}
