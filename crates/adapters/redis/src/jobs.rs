//! The job queue: [`BullMQ`](https://bullmq.io)'s own layout and scripts, so that its tools can watch and steer it.

mod held;
mod options;
mod owner;
mod server;
mod verdict;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bullmq::{
    BulkJob, JobOptions,
    types::{BackoffStrategy, KeepJobs, RemoveOnFinish},
};
use deadpool_redis::redis::{self, InfoDict};
use parlance_application::{
    Error, Result,
    jobs::{Job, RetryPolicy},
    ports::{Claim, JobQueue, KEPT_DONE, Verdict},
};
use parlance_domain::{JobId, Timestamp};
use tokio::time::Instant;

pub use self::options::RedisJobsOptions;
pub(crate) use self::server::{Server, WATCHER};
use self::{
    held::{Held, HeldJob, Keeper},
    server::Workers,
};

/// The most jobs that a process holds at a time.
const MOST_HELD: usize = 1024;
/// The most unrunnable jobs skipped on the way to a runnable one.
const MOST_PASSED_OVER: usize = 16;

/// Runs jobs through Redis, on `BullMQ`'s keys: job name = the task's, data = our [`Job`] as JSON, id = its id.
///
/// Time is real time, by the clocks of Redis and of this machine: a lease of one minute lasts one real minute. An `at`
/// determines only how long a retry waits, by its distance from another `at`, and in which minute an end is counted.
///
/// Locks are short. A live process renews those of its jobs until the lease ends; the jobs of a dead one are taken over
/// soon after their locks have expired.
pub struct RedisJobs {
    pub(crate) server: Arc<Server>,
    held: Arc<Held>,
    keeper: Keeper,
    tokens: AtomicU64,
    /// Whether the server's `maxmemory-policy` has been checked.
    asked: AtomicBool,
    /// Whether the queue has been found to be another store's.
    foreign: AtomicBool,
}

impl RedisJobs {
    /// Needs no Redis: fails only on a malformed URL or option.
    pub fn connect(url: &str, options: RedisJobsOptions) -> Result<Self> {
        let server = Arc::new(Server::new(url, options)?);
        Ok(Self {
            server,
            held: Arc::default(),
            keeper: Keeper::default(),
            tokens: AtomicU64::default(),
            asked: AtomicBool::default(),
            foreign: AtomicBool::default(),
        })
    }

    fn next_token(&self) -> String {
        format!("{}:{}", self.server.options.worker, self.tokens.fetch_add(1, Ordering::Relaxed))
    }

    /// One job, locked with a token of its own.
    async fn fetch(
        &self,
        workers: &Arc<Workers>,
        lease: Duration,
        until: Instant,
    ) -> Result<Option<(Claim, HeldJob)>> {
        for _ in 0..MOST_PASSED_OVER {
            let token = self.next_token();
            let fetched = workers.fetcher.get_next_job_nonblocking(&token);
            let Some(inner) = self.server.ask(workers, fetched).await? else {
                return Ok(None);
            };
            let mut job = HeldJob::new(inner, token, until, Arc::clone(workers));
            let refusal = match (job.inner.deferred_failure(), read(&job.inner)) {
                (Some(reason), _) => reason.to_owned(),
                (None, Ok(ours)) => {
                    if lease < self.server.options.lock {
                        let renewal = job.inner.extend_lock(job.token(), millis(lease));
                        self.server.ask(workers, renewal).await?;
                    }
                    let attempt = job.inner.attempts_started();
                    return Ok(Some((Claim { job: ours, attempt }, job)));
                }
                (None, Err(reason)) if is_ours(&job.inner) => {
                    let id = job.inner.id();
                    tracing::warn!(job = id, reason, "a job of another version is left for it");
                    self.server.put_off(&job).await?;
                    continue;
                }
                (None, Err(_)) if is_gone(&job.inner) => {
                    self.server.let_go(&job).await?;
                    continue;
                }
                (None, Err(reason)) => reason,
            };
            tracing::error!(job = job.inner.id(), reason = refusal, "a job that cannot be run");
            self.server.ask(workers, job.inner.move_to_failed(&refusal)).await?;
        }
        // The next claim looks at the others; meanwhile this one's jobs are waiting to be run.
        Ok(None)
    }
}

/// Our job, from `BullMQ`'s.
pub(crate) fn read(job: &bullmq::Job) -> Result<Job, String> {
    let ours: Job = serde_json::from_value(job.data().clone())
        .map_err(|error| format!("no job that this Parlance knows: {error}"))?;
    if ours.id.to_string() == job.id() { Ok(ours) } else { Err("its id is not its key".to_owned()) }
}

/// Whether Parlance added it, in whatever version.
fn is_ours(job: &bullmq::Job) -> bool {
    let data = job.data();
    data.get("id").and_then(|id| id.as_str()) == Some(job.id()) && data.get("task").is_some()
}

/// Whether Redis has evicted the job's data, so that only its id is left.
fn is_gone(job: &bullmq::Job) -> bool {
    job.name().is_empty() && job.data().is_null() && job.id().parse::<JobId>().is_ok()
}

/// Whether a server with this policy evicts keys when its memory is full.
fn evicts(policy: &str) -> bool {
    !policy.is_empty() && policy != "noeviction"
}

/// A field of the server's `INFO`; empty if it is missing, or hidden from this user.
async fn told(
    connection: &mut (impl redis::aio::ConnectionLike + Send),
    section: &str,
    field: &str,
) -> Result<String, bullmq::Error> {
    match redis::cmd("INFO").arg(section).query_async::<InfoDict>(connection).await {
        Ok(told) => Ok(told.get(field).unwrap_or_default()),
        Err(refused) if refused.code() == Some("NOPERM") => Ok(String::new()),
        Err(error) => Err(error.into()),
    }
}

pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A job's options, for `BullMQ`'s own tools and workers.
fn job_options(id: JobId) -> JobOptions {
    let RetryPolicy { attempts, base } = RetryPolicy::default();
    JobOptions {
        job_id: Some(id.to_string()),
        attempts: Some(attempts),
        backoff: Some(BackoffStrategy::Exponential(millis(base))),
        remove_on_complete: Some(RemoveOnFinish::Options(KeepJobs {
            age: None,
            count: Some(KEPT_DONE),
            limit: None,
        })),
        ..JobOptions::default()
    }
}

#[async_trait]
impl JobQueue for RedisJobs {
    async fn add(&self, jobs: Vec<Job>, _: Timestamp) -> Result<()> {
        let queue = self.server.queue().await?;
        let mut bulk = Vec::with_capacity(jobs.len());
        for job in jobs {
            let data = serde_json::to_value(&job).map_err(Error::internal)?;
            bulk.push(BulkJob::with_options(job.task.name(), data, job_options(job.id)));
        }
        self.server.ask(&queue, queue.add_bulk(bulk)).await?;
        Ok(())
    }

    async fn claim(&self, limit: usize, _: Timestamp, lease: Duration) -> Result<Vec<Claim>> {
        self.own().await?;
        let workers = self.server.workers().await?;
        self.keeper.start(&self.server, &self.held);
        let room = limit.min(MOST_HELD.saturating_sub(self.held.len()));
        let begun = Instant::now();
        let until = begun + lease;
        let mut fetched = Vec::new();
        // The first job's lock is not renewed until all are fetched.
        while fetched.len() < room && begun.elapsed() < self.server.options.lock / 3 {
            match self.fetch(&workers, lease, until).await {
                Ok(Some(job)) => fetched.push(job),
                Ok(None) => break,
                // What has been fetched can still be run.
                Err(_) if !fetched.is_empty() => break,
                Err(error) => return Err(error),
            }
        }
        // Only here, after the last `await`: if this future is dropped before, nobody has the claims, and their locks
        // must not be renewed.
        Ok(fetched.into_iter().map(|(claim, job)| self.held.take(claim, job)).collect())
    }

    async fn settle(&self, claim: &Claim, verdict: Verdict, at: Timestamp) -> Result<()> {
        let Some(job) = self.held.give_back(claim) else {
            return Ok(());
        };
        self.server.settle(job, &verdict, at).await
    }

    /// The server's run id, which differs for each start and each replica; and a name kept in the queue itself,
    /// recreated if missing, because a run's data may be flushed.
    async fn memory(&self) -> Result<String> {
        self.own().await?;
        let queue = self.server.queue().await?;
        let mut connection = queue.connection().connection();
        let run = self.server.ask(&queue, told(&mut connection, "server", "run_id")).await?;
        if !self.asked.load(Ordering::Relaxed) {
            let policy = told(&mut connection, "memory", "maxmemory_policy");
            let policy = self.server.ask(&queue, policy).await?;
            self.asked.store(true, Ordering::Relaxed);
            if evicts(&policy) {
                tracing::warn!(
                    policy,
                    "THIS REDIS FORGETS JOBS when its memory is full, and their mails come late or never: set its \
                     maxmemory-policy to noeviction"
                );
            }
        }
        let name = self.server.keep(&queue, &self.server.key("memory"), &self.next_token()).await?;
        Ok(format!("{run} {name}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_does_not_say_that_it_forgets_is_not_warned_of() {
        assert!(["allkeys-lru", "volatile-ttl"].into_iter().all(evicts));
        assert!(!["noeviction", ""].into_iter().any(evicts));
    }
}
