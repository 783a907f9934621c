//! Use cases of the job board, which operators see under `/admin`. Its invariant: a job that should run has an outbox
//! row, so that the queue's memory may be lost. The queue is `ports/board.rs`, the rows are `ports/store/outbox.rs`.

use std::sync::Arc;

use parlance_domain::{Email, JobId, Timestamp};

use crate::{
    Caller, Error, Result, Tasks,
    ports::{
        Ambient, JobBoard, JobCounts, JobState, JobView, MinuteView, WorkerView, store::Outbox,
    },
};

/// Jobs read at a time.
const PAGE: usize = 500;

/// The job queue, for the server's admins.
///
/// Common errors: `Forbidden` unless the caller is one of the admins. `NotFound`: the queue does not have the job.
/// `Unavailable` and `Internal`: the outcome is unknown; the call may be repeated.
pub struct Board {
    /// The queue's jobs, by state.
    pub board: Arc<dyn JobBoard>,
    /// The rows from which lost jobs are added again.
    pub outbox: Arc<dyn Outbox>,
    /// Clock, ids, randomness.
    pub ambient: Arc<dyn Ambient>,
    /// This node's task set.
    pub tasks: Arc<Tasks>,
    /// E-mail addresses of the accounts that may use the board.
    pub admins: Vec<Email>,
}

/// The queue at a glance: three reads, not one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overview {
    /// Jobs by state.
    pub counts: JobCounts,
    /// Processes that run jobs.
    pub workers: Vec<WorkerView>,
    /// Ended jobs of each minute, oldest first.
    pub throughput: Vec<MinuteView>,
}

impl Board {
    /// Whether the account of this address may use the board. Addresses are not verified: operators should name only
    /// accounts that they have created themselves.
    pub fn may(&self, email: &str) -> bool {
        self.admins.iter().any(|admin| admin.as_str() == email)
    }

    /// Refuses anybody who may not use the board.
    pub fn permit(&self, caller: &Caller) -> Result<()> {
        if self.may(&caller.account.email) {
            Ok(())
        } else {
            Err(Error::Forbidden("only the server's admins may use the job board"))
        }
    }

    /// The queue at a glance, with what ended in the last `minutes` minutes, at most [`crate::ports::KEPT_MINUTES`].
    pub async fn overview(&self, caller: &Caller, minutes: usize) -> Result<Overview> {
        self.permit(caller)?;
        let at = self.ambient.now();
        Ok(Overview {
            counts: self.board.counts(at).await?,
            workers: self.board.workers(at).await?,
            throughput: self.board.throughput(minutes, at).await?,
        })
    }

    /// Jobs of one state, at most `limit`: those that run next first; of ended jobs, those that ended last first.
    pub async fn jobs(
        &self,
        caller: &Caller,
        state: JobState,
        offset: usize,
        limit: usize,
    ) -> Result<Vec<JobView>> {
        self.permit(caller)?;
        self.board.jobs(state, offset, limit, self.ambient.now()).await
    }

    /// One job with its history.
    pub async fn job(&self, caller: &Caller, id: JobId) -> Result<JobView> {
        self.permit(caller)?;
        self.board.job(id, self.ambient.now()).await
    }

    /// Runs a dead job again, with all its attempts. `Conflict` unless it is dead and still in the outbox. Goes on if
    /// the caller hangs up.
    pub async fn retry(&self, caller: &Caller, id: JobId) -> Result<()> {
        self.permit(caller)?;
        let (board, outbox, at) = (self.board.clone(), self.outbox.clone(), self.ambient.now());
        self.tasks
            .complete(async move {
                let dead = board.job(id, at).await?.state == JobState::Dead;
                // First, so that the job survives a loss of the queue. Without its outbox row, it would count as done,
                // and not run.
                if dead && outbox.revive(vec![id]).await?.is_empty() {
                    return Err(Error::conflict("the outbox no longer has this job"));
                }
                board.retry(id, at).await
            })
            .await?;
        tracing::info!(job = %id, by = %caller.id(), "a dead job is retried");
        Ok(())
    }

    /// Runs again all dead jobs that [`Board::retry`] would; returns how many. Not atomic: after an error, some may
    /// run. Goes on if the caller hangs up.
    pub async fn retry_all(&self, caller: &Caller) -> Result<u64> {
        self.permit(caller)?;
        let (board, outbox, at) = (self.board.clone(), self.outbox.clone(), self.ambient.now());
        let retried = self
            .tasks
            .complete(async move {
                let jobs = outbox.revive(dead_jobs(&*board, at).await?).await?;
                board.retry_all(jobs, at).await
            })
            .await?;
        tracing::info!(retried, by = %caller.id(), "all dead jobs are retried");
        Ok(retried)
    }

    /// Makes a delayed job due now. `Conflict` unless it is delayed.
    pub async fn promote(&self, caller: &Caller, id: JobId) -> Result<()> {
        self.permit(caller)?;
        self.board.promote(id, self.ambient.now()).await?;
        tracing::info!(job = %id, by = %caller.id(), "a delayed job is promoted");
        Ok(())
    }

    /// Removes a job from the queue, then from the outbox, which would add it again. `Conflict` while it is active.
    /// Goes on if the caller hangs up; a second call finishes what the first left undone.
    pub async fn remove(&self, caller: &Caller, id: JobId) -> Result<()> {
        self.permit(caller)?;
        let (board, outbox) = (self.board.clone(), self.outbox.clone());
        self.tasks
            .complete(async move {
                // In this order, so that an active job, which stays, keeps its row.
                match board.remove(id).await {
                    Err(Error::NotFound(_)) if outbox.is_unfinished(id).await? => {}
                    outcome => outcome?,
                }
                outbox.finish(id).await
            })
            .await?;
        tracing::info!(job = %id, by = %caller.id(), "a job is removed");
        Ok(())
    }
}

async fn dead_jobs(board: &dyn JobBoard, at: Timestamp) -> Result<Vec<JobId>> {
    let mut dead = Vec::new();
    let count = usize::try_from(board.counts(at).await?.dead).unwrap_or(usize::MAX);
    // By the count, not until a page is short: pages omit jobs this program cannot read.
    for offset in (0..count).step_by(PAGE) {
        let page = board.jobs(JobState::Dead, offset, PAGE, at).await?;
        dead.extend(page.into_iter().map(|job| job.job.id));
    }
    Ok(dead)
}
