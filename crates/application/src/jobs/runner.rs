//! Runs jobs: relays them from the outbox to the queue, claims them, runs them, and records how they ended.

use std::{sync::Arc, time::Duration};

use futures::{Future, FutureExt};

use parlance_domain::{JobId, Timestamp};
use tokio::{
    task::{JoinError, JoinSet},
    time::Instant,
};

use super::{Job, RetryPolicy, Task, mails::Letter};
use crate::{
    Error, Result,
    ports::{
        Ambient, Claim, JobQueue, Mail, MailError, Mailer, Verdict,
        store::{Accounts, Outbox, Workspaces},
    },
};

/// How often an idle runner looks for work.
const IDLE: Duration = Duration::from_millis(250);
/// How long one attempt may take.
const ATTEMPT: Duration = Duration::from_secs(30);
/// The lease of a claim: longer than an attempt, so that only a dead worker's jobs are taken over.
const LEASE: Duration = Duration::from_mins(1);
/// How long after it was relayed an outbox row is relayed again, unless its job has ended.
const RELAY_AGAIN: Duration = Duration::from_mins(5);
/// How long after its claim a job's end may be recorded: less than the lease, after which another worker may have it.
const RECORDED: Duration = Duration::from_secs(50);
/// How long to wait before trying again to record it.
const RECORD_AGAIN: Duration = Duration::from_secs(1);
/// Jobs run concurrently; as many mails may be sent twice if a worker is killed.
const CONCURRENCY: usize = 8;
/// Outbox rows relayed at a time.
const RELAYED: usize = 256;

/// Relays the outbox to the queue and runs what the queue hands out.
pub struct Runner {
    /// Jobs committed with other writes.
    pub outbox: Arc<dyn Outbox>,
    /// Jobs to run.
    pub queue: Arc<dyn JobQueue>,
    /// For people's addresses and names.
    pub accounts: Arc<dyn Accounts>,
    /// For workspaces' names.
    pub workspaces: Arc<dyn Workspaces>,
    /// Delivery.
    pub mailer: Arc<dyn Mailer>,
    /// Clock, ids, randomness.
    pub ambient: Arc<dyn Ambient>,
    /// When to try again.
    pub retry: RetryPolicy,
    /// The base of links in mails.
    pub public_url: String,
}

/// The queue's memory, and since when rows have been relayed to it. Rows relayed before that have to be relayed again.
struct Filled {
    memory: String,
    since: Timestamp,
    /// Whether it may lack dead jobs. If it has lost them, so have operators: then they run once more. Those it still
    /// has stay dead.
    lacks_dead: bool,
}

/// Whether something keeps failing. Logged only when that begins and ends, since it is retried each second.
#[derive(Default)]
struct Trouble(bool);

impl Trouble {
    fn note(&mut self, what: &'static str, error: Option<&Error>) {
        match error {
            Some(error) if !self.0 => tracing::warn!(?error, "{what}"),
            None if self.0 => tracing::info!("over: {what}"),
            _ => {}
        }
        self.0 = error.is_some();
    }
}

impl Runner {
    /// Runs until `stop` completes; then claims no more and finishes what it holds. If dropped before, others take over
    /// what it holds after the lease.
    pub async fn run(self: Arc<Self>, stop: impl Future<Output = ()> + Send) {
        let stop = stop.shared();
        tokio::join!(self.run_relay(stop.clone()), self.run_claims(stop));
    }

    async fn run_relay(&self, stop: impl Future<Output = ()>) {
        let mut stop = std::pin::pin!(stop);
        let (mut filled, mut trouble) = (None, Trouble::default());
        loop {
            let relayed = self.relay(&mut filled).await;
            trouble.note("the outbox cannot be relayed", relayed.as_ref().err());
            let pause = match relayed {
                Ok(true) => Duration::ZERO,
                Ok(false) => IDLE,
                Err(_) => IDLE * 4,
            };
            tokio::select! {
                () = &mut stop => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    async fn run_claims(self: &Arc<Self>, stop: impl Future<Output = ()>) {
        let mut stop = std::pin::pin!(stop);
        // Each in its own task, so that a slow claim holds up no mail.
        let (mut held, mut trouble) = (JoinSet::new(), Trouble::default());
        loop {
            let claimed = self.claim(CONCURRENCY - held.len()).await;
            trouble.note("no jobs can be claimed", claimed.as_ref().err());
            let pause = match claimed {
                Ok(claims) => {
                    for claim in claims {
                        let this = self.clone();
                        held.spawn(async move { this.attempt(claim).await });
                    }
                    IDLE
                }
                Err(_) => IDLE * 4,
            };
            tokio::select! {
                () = &mut stop => break,
                Some(ended) = held.join_next() => Self::note(ended),
                () = tokio::time::sleep(pause) => {}
            }
            // Collect all that have ended, so that one claim takes many.
            while let Some(ended) = held.try_join_next() {
                Self::note(ended);
            }
        }
        while let Some(ended) = held.join_next().await {
            Self::note(ended);
        }
    }

    /// Relays rows of the outbox; true if there may be more right away.
    async fn relay(&self, filled: &mut Option<Filled>) -> Result<bool> {
        let memory = self.queue.memory().await?;
        let now = self.ambient.now();
        let mut round = match filled.take() {
            // Otherwise, after the clock has stepped back, it would not reach `since`, and all rows would be relayed
            // again and again.
            Some(before) if before.memory == memory => {
                Filled { since: before.since.min(now), ..before }
            }
            _ => Filled { memory, since: now, lacks_dead: true },
        };
        let before = (now - RELAY_AGAIN).max(round.since);
        let living = self.outbox.take_unfinished(RELAYED, before, now).await?;
        let mut more = living.len() == RELAYED;
        self.add(living, now).await?;
        if round.lacks_dead {
            let dead = self.outbox.take_buried(RELAYED, round.since, now).await?;
            round.lacks_dead = dead.len() == RELAYED;
            more |= round.lacks_dead;
            self.add(dead, now).await?;
        }
        // Only now: rows that could not be added are marked as relayed nevertheless. Then this stays unset, and the
        // next round relays all of them again.
        *filled = Some(round);
        Ok(more)
    }

    async fn add(&self, jobs: Vec<Job>, now: Timestamp) -> Result<()> {
        if jobs.is_empty() { Ok(()) } else { self.queue.add(jobs, now).await }
    }

    async fn claim(&self, free: usize) -> Result<Vec<Claim>> {
        if free == 0 {
            return Ok(vec![]);
        }
        self.queue.claim(free, self.ambient.now(), LEASE).await
    }

    fn note(ended: Result<Result<()>, JoinError>) {
        // On an error its lease expires, and the job is taken over.
        match ended {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "a job's end could not be recorded"),
            Err(error) => tracing::error!(%error, "an attempt panicked"),
        }
    }

    async fn attempt(&self, claim: Claim) -> Result<()> {
        let Claim { job, attempt } = &claim;
        let until = Instant::now() + RECORDED;
        let unfinished = match self.outbox.is_unfinished(job.id).await {
            Ok(unfinished) => unfinished,
            // Its lease expires, and it is taken over.
            Err(error) => {
                tracing::warn!(?error, job = %job.id, "a job could not be begun");
                return Ok(());
            }
        };
        let verdict = if unfinished {
            match tokio::time::timeout(ATTEMPT, self.perform(job)).await {
                Ok(Ok(())) => Verdict::Done,
                Ok(Err(failure)) => self.verdict(*attempt, failure),
                Err(_) => {
                    self.verdict(*attempt, MailError::Temporary("the attempt took too long".into()))
                }
            }
        } else {
            Verdict::Done
        };
        match &verdict {
            Verdict::Done => {
                tracing::info!(job = %job.id, kind = job.task.name(), attempt, "job done");
            }
            Verdict::Retry { error, at } => {
                tracing::warn!(job = %job.id, kind = job.task.name(), attempt, error, again_at = %at, "job failed");
            }
            Verdict::Dead { error } => {
                tracing::error!(job = %job.id, kind = job.task.name(), attempt, error, "job is dead");
            }
        }
        // The outbox first: if this worker dies in between, whoever takes the job over finds it done.
        self.record(job.id, &verdict, until).await?;
        self.queue.settle(&claim, verdict, self.ambient.now()).await
    }

    /// Records in the outbox how a job has ended. While the store is unavailable, it retries until another worker may
    /// have the job, which would find it unfinished and send its mail again.
    async fn record(&self, job: JobId, verdict: &Verdict, until: Instant) -> Result<()> {
        loop {
            let recorded = match verdict {
                Verdict::Done => self.outbox.finish(job).await,
                Verdict::Dead { .. } => self.outbox.bury(job).await,
                Verdict::Retry { .. } => Ok(()),
            };
            match recorded {
                Err(error) if Instant::now() < until => {
                    tracing::warn!(%error, %job, "a job's end is not recorded yet");
                    tokio::time::sleep(RECORD_AGAIN).await;
                }
                outcome => return outcome,
            }
        }
    }

    fn verdict(&self, attempt: u32, failure: MailError) -> Verdict {
        let [dice, ..] = self.ambient.random();
        match failure {
            MailError::Permanent(error) => Verdict::Dead { error },
            MailError::Temporary(error) => match self.retry.delay_after(attempt, dice) {
                Some(delay) => Verdict::Retry { error, at: self.ambient.now() + delay },
                None => Verdict::Dead { error },
            },
        }
    }

    async fn perform(&self, job: &Job) -> Result<(), MailError> {
        let mail = match self.compose(job).await {
            Ok(mail) => mail,
            // The person or the workspace is gone: there is no reason left to write.
            Err(Error::NotFound(_)) => return Ok(()),
            Err(error) => return Err(MailError::Temporary(error.to_string())),
        };
        self.mailer.send(&mail).await
    }

    async fn compose(&self, job: &Job) -> Result<Mail> {
        let (user_id, workspace_id) = match job.task {
            Task::WelcomeMail { user_id } => (user_id, None),
            Task::AddedToWorkspaceMail { user_id, workspace_id } => (user_id, Some(workspace_id)),
        };
        let account = self.accounts.account(user_id).await?;
        let (name, link) = (account.display_name.as_str(), self.public_url.as_str());
        let letter = match workspace_id {
            None => Letter::welcome(name, link),
            Some(id) => {
                let workspace = self.workspaces.workspace(user_id, id).await?.name;
                Letter::added(name, &workspace, link)
            }
        };
        Ok(letter.mail(job.id, account.email))
    }
}
