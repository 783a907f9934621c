use async_trait::async_trait;
use parlance_domain::{JobId, Timestamp};
use serde::Serialize;

use crate::{Result, jobs::Job};

/// Minutes whose counts are kept.
pub const KEPT_MINUTES: i64 = 240;
/// Done jobs that are kept, the last ones, for operators and against being added again.
pub const KEPT_DONE: usize = 1_000;
/// Errors that are kept of a job, the last ones.
pub const KEPT_ERRORS: usize = 20;

/// What operators see of the job queue and do to it. `NotFound` for a job that the queue does not have.
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait JobBoard: Send + Sync {
    /// How many jobs are in which state.
    async fn counts(&self, at: Timestamp) -> Result<JobCounts>;

    /// Workers that live, and the jobs that they hold.
    async fn workers(&self, at: Timestamp) -> Result<Vec<WorkerView>>;

    /// What ended in each of the last `minutes` (1 to [`KEPT_MINUTES`]) minutes before `at`, oldest first, without gaps.
    async fn throughput(&self, minutes: usize, at: Timestamp) -> Result<Vec<MinuteView>>;

    /// Jobs of one state: those that run next first, those that ended last first.
    async fn jobs(
        &self,
        state: JobState,
        offset: usize,
        limit: usize,
        at: Timestamp,
    ) -> Result<Vec<JobView>>;

    /// One job with its history.
    async fn job(&self, id: JobId, at: Timestamp) -> Result<JobView>;

    /// Has a dead job run again, with all its attempts. `Conflict` unless it is dead.
    async fn retry(&self, id: JobId, at: Timestamp) -> Result<()>;

    /// Has those of the jobs that are dead run again, with all their attempts; returns how many they were.
    async fn retry_all(&self, jobs: Vec<JobId>, at: Timestamp) -> Result<u64>;

    /// Has a delayed job run now. `Conflict` unless it is delayed.
    async fn promote(&self, id: JobId, at: Timestamp) -> Result<()>;

    /// Forgets a job. `Conflict` while it is active.
    async fn remove(&self, id: JobId) -> Result<()>;
}

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum JobState {
    /// Due.
    Waiting,
    /// To be run at a later time.
    Delayed,
    /// In a worker's hands.
    Active,
    /// Done; the last [`KEPT_DONE`] are kept.
    Done,
    /// Failed for good.
    Dead,
}

impl JobState {
    /// All of them, in a job's order of life.
    pub const ALL: [Self; 5] = [Self::Waiting, Self::Delayed, Self::Active, Self::Done, Self::Dead];

    /// Its name in URLs and JSON.
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
    /// In a worker's hands, the stalled ones too.
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
    /// Its name.
    pub name: String,
    /// What it holds.
    pub holds: Vec<JobId>,
}

/// A minute of the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct MinuteView {
    /// When it began.
    pub at: Timestamp,
    /// Jobs done in it.
    pub done: u64,
    /// Attempts that failed for good in it.
    pub failed: u64,
}

/// A job as operators see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobView {
    /// What it does.
    pub job: Job,
    /// Where it stands.
    pub state: JobState,
    /// Attempts begun.
    pub attempts: u32,
    /// When it came.
    pub added_at: Timestamp,
    /// When it is due, if it waits for a time.
    pub run_at: Option<Timestamp>,
    /// When its last attempt began.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// Whether its worker has gone silent.
    pub stalled: bool,
    /// Why each failed attempt failed, oldest first; the last [`KEPT_ERRORS`].
    pub errors: Vec<String>,
}
