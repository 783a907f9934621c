//! Jobs in this process's hands, and the task that keeps their locks.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use futures::future::join_all;
use parlance_application::ports::Claim;
use parlance_domain::JobId;
use tokio::{task::AbortHandle, time::Instant};

use super::{Server, millis, server::Workers};

/// How long after its lease a claim may still be settled, unless it has been taken over.
const GRACE: Duration = Duration::from_mins(1);

/// A job and its attempt: a process may take over a job that it has lost itself, and then holds it twice.
type Key = (JobId, u32);

#[derive(Clone)]
pub(super) struct HeldJob {
    pub(super) inner: bullmq::Job,
    token: String,
    until: Instant,
    /// The connection that it was fetched over. It reconnects by itself, even once newer jobs use another one.
    pub(super) workers: Arc<Workers>,
}

impl HeldJob {
    /// A job whose lock was taken with `token`.
    pub(super) fn new(
        inner: bullmq::Job,
        token: String,
        until: Instant,
        workers: Arc<Workers>,
    ) -> Self {
        Self { inner, token, until, workers }
    }

    /// The lock's token.
    pub(super) fn token(&self) -> &str {
        &self.token
    }
}

#[derive(Default)]
pub(super) struct Held(Mutex<HashMap<Key, HeldJob>>);

impl Held {
    fn jobs(&self) -> MutexGuard<'_, HashMap<Key, HeldJob>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn len(&self) -> usize {
        self.jobs().len()
    }

    pub(super) fn take(&self, claim: Claim, job: HeldJob) -> Claim {
        self.jobs().insert((claim.job.id, claim.attempt), job);
        claim
    }

    pub(super) fn give_back(&self, claim: &Claim) -> Option<HeldJob> {
        self.jobs().remove(&(claim.job.id, claim.attempt))
    }

    /// The jobs whose lease still runs. Drops those that nobody will settle any more.
    fn current(&self) -> Vec<(Key, HeldJob)> {
        let now = Instant::now();
        let mut jobs = self.jobs();
        jobs.retain(|_, job| now < job.until + GRACE);
        jobs.iter()
            .filter(|(_, job)| now < job.until)
            .map(|(key, job)| (*key, job.clone()))
            .collect()
    }
}

/// The task that renews locks, from the first claim until this is dropped.
#[derive(Default)]
pub(super) struct Keeper(OnceLock<AbortHandle>);

impl Keeper {
    pub(super) fn start(&self, server: &Arc<Server>, held: &Arc<Held>) {
        self.0.get_or_init(|| {
            tokio::spawn(keep(Arc::clone(server), Arc::clone(held))).abort_handle()
        });
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        if let Some(task) = self.0.get() {
            task.abort();
        }
    }
}

async fn keep(server: Arc<Server>, held: Arc<Held>) {
    let round = (server.options.lock / 3).max(Duration::from_millis(1));
    let mut pace = tokio::time::interval(round);
    pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        pace.tick().await;
        let renewals = held.current().into_iter().map(|(key, job)| renew(&server, &held, key, job));
        // A renewal over a broken connection delays the others by one round at most.
        let _ = tokio::time::timeout(round, join_all(renewals)).await;
    }
}

async fn renew(server: &Server, held: &Held, key: Key, job: HeldJob) {
    // No lock outlasts the lease.
    let lock = server.options.lock.min(job.until.saturating_duration_since(Instant::now()));
    let renewal = job.inner.extend_lock(&job.token, millis(lock).max(1));
    match server.try_ask(&job.workers, renewal).await {
        Ok(()) => {}
        Err(bullmq::Error::JobLocked(_)) => {
            // Lost to another worker, unless it was settled meanwhile.
            if held.jobs().remove(&key).is_some() {
                tracing::warn!(job = %key.0, attempt = key.1, "lost a job to another worker");
            }
        }
        Err(error) => tracing::warn!(%error, job = %key.0, "a job's lock is not renewed"),
    }
}
