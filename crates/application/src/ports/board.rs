//! What operators see of the job queue and do to it. The same queue as in `jobs.rs`, behind a port of its own: only the
//! job board (`application/board.rs`) uses it.

use std::ops::RangeInclusive;

use async_trait::async_trait;
use parlance_domain::{JobId, Timestamp};
use serde::Serialize;

use crate::{Result, jobs::Job};

/// Minutes whose counts can be asked for.
pub const KEPT_MINUTES: i64 = 240;
/// In milliseconds.
const MINUTE: i64 = 60_000;
/// How many done jobs are kept, the newest: for operators, and so that none is added again.
pub const KEPT_DONE: usize = 1_000;
/// How many errors are kept per job, the newest.
pub const KEPT_ERRORS: usize = 20;

/// Why a job is not run again.
pub const NOT_DEAD: &str = "only a dead job can be run again";
/// Why a job is not made due.
pub const NOT_DELAYED: &str = "only a delayed job can be promoted";
/// Why a job is not removed.
pub const STILL_ACTIVE: &str = "an active job cannot be removed";

/// The job queue, for operators. Jobs that this program cannot read are counted, but neither listed nor found.
///
/// Every method is atomic for each job that it changes. `NotFound` for a job that the queue does not have.
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait JobBoard: Send + Sync {
    /// Jobs in each state.
    async fn counts(&self, at: Timestamp) -> Result<JobCounts>;

    /// Processes currently running jobs, and the jobs they hold.
    async fn workers(&self, at: Timestamp) -> Result<Vec<WorkerView>>;

    /// What ended in each of `minutes` minutes (1 to [`KEPT_MINUTES`]; others are clamped), oldest first, without gaps.
    /// The last one is that of `at`, so far.
    async fn throughput(&self, minutes: usize, at: Timestamp) -> Result<Vec<MinuteView>>;

    /// The jobs of a state from the `offset`th on, `limit` at most: those that run next first; of ended jobs, those
    /// that ended last first.
    async fn jobs(
        &self,
        state: JobState,
        offset: usize,
        limit: usize,
        at: Timestamp,
    ) -> Result<Vec<JobView>>;

    /// One job with its errors.
    async fn job(&self, id: JobId, at: Timestamp) -> Result<JobView>;

    /// Runs a dead job again, with all its attempts. `Conflict` unless it is dead.
    async fn retry(&self, id: JobId, at: Timestamp) -> Result<()>;

    /// Runs the dead ones among these jobs again, with all their attempts; returns how many. After an error, some of
    /// them may run.
    async fn retry_all(&self, jobs: Vec<JobId>, at: Timestamp) -> Result<u64>;

    /// Makes a delayed job due now. `Conflict` unless it is delayed.
    async fn promote(&self, id: JobId, at: Timestamp) -> Result<()>;

    /// Removes a job. `Conflict` while it is active.
    async fn remove(&self, id: JobId) -> Result<()>;
}

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum JobState {
    /// Due, and claimed by nobody.
    Waiting,
    /// Due at a later time: a retry.
    Delayed,
    /// Claimed by a worker.
    Active,
    /// Done; the last [`KEPT_DONE`] are kept.
    Done,
    /// Failed for good.
    Dead,
}

impl JobState {
    /// All states, in the order a job goes through them.
    pub const ALL: [Self; 5] = [Self::Waiting, Self::Delayed, Self::Active, Self::Done, Self::Dead];

    /// The state's name in URLs and JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Delayed => "delayed",
            Self::Active => "active",
            Self::Done => "done",
            Self::Dead => "dead",
        }
    }
}

/// Jobs by state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct JobCounts {
    /// Due.
    pub waiting: u64,
    /// Due later.
    pub delayed: u64,
    /// Claimed by a worker, stalled ones included.
    pub active: u64,
    /// Of the active ones: those whose worker has gone silent.
    pub stalled: u64,
    /// Done and still kept.
    pub done: u64,
    /// Failed for good.
    pub dead: u64,
}

/// A process that runs jobs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WorkerView {
    /// The process's name.
    pub name: String,
    /// The jobs that it runs.
    pub holds: Vec<JobId>,
}

/// What ended in one minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct MinuteView {
    /// When the minute began.
    pub at: Timestamp,
    /// Jobs done in it.
    pub done: u64,
    /// Jobs that died in it.
    pub failed: u64,
}

impl MinuteView {
    /// What ended in the minute of this number.
    pub const fn of(number: i64, done: u64, failed: u64) -> Self {
        Self { at: Timestamp::from_millis(number * MINUTE), done, failed }
    }

    /// Which minute it is, counted from 1970.
    pub const fn number(at: Timestamp) -> i64 {
        at.as_millis().div_euclid(MINUTE)
    }

    /// The numbers of the last `minutes` minutes, clamped as in [`JobBoard::throughput`], up to that of `at`.
    pub fn last(minutes: usize, at: Timestamp) -> RangeInclusive<i64> {
        let last = Self::number(at);
        let count = i64::try_from(minutes).unwrap_or(KEPT_MINUTES).clamp(1, KEPT_MINUTES);
        (last + 1 - count)..=last
    }
}

/// A job as operators see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobView {
    /// What it does.
    pub job: Job,
    /// Where it stands.
    pub state: JobState,
    /// Attempts begun, the current one included.
    pub attempts: u32,
    /// When it was added to the queue.
    pub added_at: Timestamp,
    /// When it is due, if it waits for a time.
    pub run_at: Option<Timestamp>,
    /// When its last attempt began; none before the first.
    pub started_at: Option<Timestamp>,
    /// When it was done or died; none before.
    pub finished_at: Option<Timestamp>,
    /// Whether its worker has gone silent.
    pub stalled: bool,
    /// Why each failed attempt failed, oldest first; the last [`KEPT_ERRORS`].
    pub errors: Vec<String>,
}
