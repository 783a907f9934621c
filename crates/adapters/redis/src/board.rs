//! What operators see of the queue and do to it.

mod view;

use std::collections::{BTreeMap, HashMap};

use async_trait::async_trait;
use bullmq::{RetryOptions, types::JobState as BullState};
use deadpool_redis::redis;
use parlance_application::{
    Error, Result,
    ports::{
        JobBoard, JobCounts, JobState, JobView, MinuteView, NOT_DEAD, NOT_DELAYED, STILL_ACTIVE,
        WorkerView,
    },
};
use parlance_domain::{JobId, Timestamp};

use crate::{
    RedisJobs,
    jobs::{Server, WATCHER},
};
use view::Raw;

/// The most active jobs that are read one by one.
const ACTIVE: i64 = 1000;

/// A job's hash, whether it is locked, and its score among the delayed ones.
type Parts = (HashMap<String, String>, bool, Option<f64>);

const UNKNOWN: Error = Error::NotFound("job");

#[async_trait]
impl JobBoard for RedisJobs {
    async fn counts(&self, _: Timestamp) -> Result<JobCounts> {
        self.own().await?;
        let server = &self.server;
        let queue = server.queue().await?;
        let counts = server.ask(&queue, queue.get_job_counts()).await?;
        let active = server.ids("active", 0, ACTIVE - 1).await?;
        let stalled = server.raw(&active).await?.iter().filter(|job| job.is_unlocked()).count();
        Ok(JobCounts {
            waiting: counts.waiting + counts.paused + counts.prioritized,
            delayed: counts.delayed,
            active: counts.active,
            stalled: u64::try_from(stalled).unwrap_or(u64::MAX),
            done: counts.completed,
            dead: counts.failed,
        })
    }

    async fn workers(&self, _: Timestamp) -> Result<Vec<WorkerView>> {
        self.own().await?;
        let server = &self.server;
        let queue = server.queue().await?;
        let clients = server.ask(&queue, queue.get_workers()).await?;
        let prefix = queue.keys().client_name(":w:");
        let mut workers: BTreeMap<&str, Vec<JobId>> = clients
            .iter()
            .filter_map(|client| client.get("rawname")?.strip_prefix(&prefix))
            .filter(|name| !name.ends_with(WATCHER))
            .map(|name| (name, Vec::new()))
            .collect();
        let active = server.ids("active", 0, ACTIVE - 1).await?;
        for job in server.raw(&active).await? {
            if let Some(holds) = job.worker().and_then(|name| workers.get_mut(name))
                && let Some(id) = job.id()
            {
                holds.push(id);
            }
        }
        Ok(workers
            .into_iter()
            .map(|(name, holds)| WorkerView { name: name.to_owned(), holds })
            .collect())
    }

    async fn throughput(&self, minutes: usize, at: Timestamp) -> Result<Vec<MinuteView>> {
        self.own().await?;
        let server = &self.server;
        let queue = server.queue().await?;
        let numbers = || MinuteView::last(minutes, at);
        let mut pipeline = redis::pipe();
        for minute in numbers() {
            pipeline.cmd("HMGET").arg(server.key(minute)).arg("done").arg("failed");
        }
        let counts: Vec<(Option<u64>, Option<u64>)> = server.run(&queue, pipeline).await?;
        Ok(numbers()
            .zip(counts)
            .map(|(minute, (done, failed))| {
                MinuteView::of(minute, done.unwrap_or(0), failed.unwrap_or(0))
            })
            .collect())
    }

    async fn jobs(
        &self,
        state: JobState,
        offset: usize,
        limit: usize,
        _: Timestamp,
    ) -> Result<Vec<JobView>> {
        self.own().await?;
        if limit == 0 {
            return Ok(Vec::new());
        }
        let first = i64::try_from(offset).map_err(Error::internal)?;
        let last = first.saturating_add(i64::try_from(limit - 1).unwrap_or(i64::MAX));
        let name = match state {
            JobState::Waiting => "waiting",
            JobState::Delayed => "delayed",
            JobState::Active => "active",
            JobState::Done => "completed",
            JobState::Dead => "failed",
        };
        let ids = self.server.ids(name, first, last).await?;
        // Jobs that another program has put into this queue are not shown.
        Ok(self.server.raw(&ids).await?.iter().filter_map(|job| job.view(state)).collect())
    }

    async fn job(&self, id: JobId, _: Timestamp) -> Result<JobView> {
        self.own().await?;
        let state = match self.server.state(id).await? {
            BullState::Waiting | BullState::Prioritized | BullState::WaitingChildren => {
                JobState::Waiting
            }
            BullState::Delayed => JobState::Delayed,
            BullState::Active => JobState::Active,
            BullState::Completed => JobState::Done,
            BullState::Failed => JobState::Dead,
            BullState::Unknown => return Err(UNKNOWN),
        };
        let found = self.server.raw(&[id.to_string()]).await?;
        found.first().and_then(|job| job.view(state)).ok_or(UNKNOWN)
    }

    async fn retry(&self, id: JobId, _: Timestamp) -> Result<()> {
        self.own().await?;
        match self.server.state(id).await? {
            BullState::Unknown => Err(UNKNOWN),
            BullState::Failed if self.server.revive(&id.to_string()).await? => Ok(()),
            _ => Err(Error::conflict(NOT_DEAD)),
        }
    }

    async fn retry_all(&self, jobs: Vec<JobId>, _: Timestamp) -> Result<u64> {
        self.own().await?;
        let mut revived = 0;
        for id in jobs {
            revived += u64::from(self.server.revive(&id.to_string()).await?);
        }
        Ok(revived)
    }

    async fn promote(&self, id: JobId, _: Timestamp) -> Result<()> {
        self.own().await?;
        let server = &self.server;
        let conflict = Err(Error::conflict(NOT_DELAYED));
        match server.state(id).await? {
            BullState::Unknown => return Err(UNKNOWN),
            BullState::Delayed => {}
            _ => return conflict,
        }
        let queue = server.queue().await?;
        let Some(job) = server.ask(&queue, queue.get_job(&id.to_string())).await? else {
            return Err(UNKNOWN);
        };
        if server.ask(&queue, refusable(job.promote())).await? { Ok(()) } else { conflict }
    }

    async fn remove(&self, id: JobId) -> Result<()> {
        self.own().await?;
        let server = &self.server;
        let conflict = Err(Error::conflict(STILL_ACTIVE));
        match server.state(id).await? {
            BullState::Unknown => return Err(UNKNOWN),
            BullState::Active => return conflict,
            _ => {}
        }
        let queue = server.queue().await?;
        if server.ask(&queue, queue.remove(&id.to_string())).await? { Ok(()) } else { conflict }
    }
}

impl Server {
    async fn state(&self, id: JobId) -> Result<BullState> {
        let queue = self.queue().await?;
        self.ask(&queue, queue.get_job_state(&id.to_string())).await
    }

    /// Ids of the jobs in a state: the next to run first; of ended jobs, the last to end first.
    async fn ids(&self, state: &str, first: i64, last: i64) -> Result<Vec<String>> {
        let queue = self.queue().await?;
        let ended = matches!(state, "completed" | "failed");
        self.ask(&queue, queue.get_ranges(&[state], first, last, !ended)).await
    }

    /// The hashes of these jobs. Omits those that do not exist.
    async fn raw(&self, ids: &[String]) -> Result<Vec<Raw>> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let queue = self.queue().await?;
        let mut pipeline = redis::pipe();
        for id in ids {
            let key = queue.keys().job_key(id);
            pipeline.cmd("HGETALL").arg(&key);
            pipeline.cmd("EXISTS").arg(format!("{key}:lock"));
            pipeline.cmd("ZSCORE").arg(queue.keys().delayed()).arg(id);
        }
        let answers: Vec<redis::Value> = self.run(&queue, pipeline).await?;
        answers
            .chunks_exact(3)
            .zip(ids)
            .map(|(parts, id)| {
                let (fields, locked, score): Parts =
                    redis::from_redis_value(redis::Value::Array(parts.to_vec()))
                        .map_err(Error::internal)?;
                Ok((!fields.is_empty()).then(|| Raw::new(id, fields, locked, score)))
            })
            .filter_map(Result::transpose)
            .collect()
    }

    /// Runs a dead job again, with its attempts reset. False if it was not dead.
    async fn revive(&self, id: &str) -> Result<bool> {
        let queue = self.queue().await?;
        let Some(mut job) = self.ask(&queue, queue.get_job(id)).await? else {
            return Ok(false);
        };
        let afresh = RetryOptions { reset_attempts_made: true, reset_attempts_started: true };
        self.ask(&queue, refusable(job.retry("failed", Some(afresh)))).await
    }
}

/// Whether the action was carried out. A refusal by the script is no error: somebody else was faster.
async fn refusable(
    action: impl Future<Output = Result<(), bullmq::Error>>,
) -> Result<bool, bullmq::Error> {
    match action.await {
        Ok(()) => Ok(true),
        Err(bullmq::Error::Script { .. } | bullmq::Error::InvalidConfig(_)) => Ok(false),
        Err(error) => Err(error),
    }
}
