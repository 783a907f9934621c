use std::{sync::Arc, time::Duration};

use futures::{StreamExt, stream};

use super::{Job, RetryPolicy, Task};
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
/// How long a claim holds: longer than an attempt, so that only a dead worker's jobs are taken over.
const LEASE: Duration = Duration::from_mins(1);
/// How long after an outbox row was handed on it is handed on again, unless its job has ended.
const RELAY_AGAIN: Duration = Duration::from_mins(5);
/// Jobs at a time.
const CONCURRENCY: usize = 8;

/// Relays the outbox to the queue and runs what the queue hands out.
pub struct Runner {
    /// What has been committed with other writes.
    pub outbox: Arc<dyn Outbox>,
    /// What is to be run.
    pub queue: Arc<dyn JobQueue>,
    /// Addresses and names.
    pub accounts: Arc<dyn Accounts>,
    /// Names.
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

enum Failure {
    Temporary(String),
    Permanent(String),
}

impl Runner {
    /// Works until dropped. What it was at then is taken over after its lease.
    pub async fn run(self: Arc<Self>) {
        loop {
            match self.work().await {
                Ok(0) => tokio::time::sleep(IDLE).await,
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(%error, "the job runner has no store or queue");
                    tokio::time::sleep(IDLE * 8).await;
                }
            }
        }
    }

    /// One round: relays, claims, runs. Returns how many jobs it ran.
    pub async fn work(&self) -> Result<usize> {
        let now = self.ambient.now();
        let again = parlance_domain::Timestamp::from_millis(
            now.as_millis() - i64::try_from(RELAY_AGAIN.as_millis()).unwrap_or(i64::MAX),
        );
        let unfinished = self.outbox.take_unfinished(CONCURRENCY * 8, again, now).await?;
        if !unfinished.is_empty() {
            self.queue.add(unfinished, now).await?;
        }
        let claims = self.queue.claim(CONCURRENCY, now, LEASE).await?;
        let count = claims.len();
        let mut ended = stream::iter(claims.into_iter().map(|claim| self.attempt(claim)))
            .buffer_unordered(CONCURRENCY);
        while let Some(outcome) = ended.next().await {
            outcome?;
        }
        Ok(count)
    }

    async fn attempt(&self, claim: Claim) -> Result<()> {
        let Claim { job, attempt } = &claim;
        let verdict = if self.outbox.is_unfinished(job.id).await? {
            match tokio::time::timeout(ATTEMPT, self.perform(job)).await {
                Ok(Ok(())) => Verdict::Done,
                Ok(Err(failure)) => self.verdict(*attempt, failure),
                Err(_) => {
                    self.verdict(*attempt, Failure::Temporary("the attempt took too long".into()))
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
        let over = !matches!(verdict, Verdict::Retry { .. });
        self.queue.settle(&claim, verdict, self.ambient.now()).await?;
        if over {
            self.outbox.finish(claim.job.id).await?;
        }
        Ok(())
    }

    fn verdict(&self, attempt: u32, failure: Failure) -> Verdict {
        let [dice, ..] = self.ambient.random();
        match failure {
            Failure::Permanent(error) => Verdict::Dead { error },
            Failure::Temporary(error) => match self.retry.delay_after(attempt, dice) {
                Some(delay) => Verdict::Retry { error, at: self.ambient.now() + delay },
                None => Verdict::Dead { error },
            },
        }
    }

    async fn perform(&self, job: &Job) -> Result<(), Failure> {
        let mail = match self.compose(job).await {
            Ok(mail) => mail,
            // The person or the workspace is gone, and with it the reason to write.
            Err(Error::NotFound(_)) => return Ok(()),
            Err(error) => return Err(Failure::Temporary(error.to_string())),
        };
        self.mailer.send(&mail).await.map_err(|error| match error {
            MailError::Temporary(why) => Failure::Temporary(why),
            MailError::Permanent(why) => Failure::Permanent(why),
        })
    }

    async fn compose(&self, job: &Job) -> Result<Mail> {
        let (user_id, workspace_id) = match job.task {
            Task::WelcomeMail { user_id } => (user_id, None),
            Task::AddedToWorkspaceMail { user_id, workspace_id } => (user_id, Some(workspace_id)),
        };
        let account = self.accounts.credentials_of(user_id).await?.account;
        let (name, url) = (&account.display_name, &self.public_url);
        let (subject, text) = match workspace_id {
            None => (
                "Welcome to Parlance".to_owned(),
                format!(
                    "Hello {name},\n\nyour account is ready. Create a workspace, or join one with its join code:\n\n{url}\n"
                ),
            ),
            Some(id) => {
                let workspace = self.workspaces.workspace(user_id, id).await?.name;
                (
                    format!("You are now a member of {workspace}"),
                    format!(
                        "Hello {name},\n\nyou have been added to the workspace {workspace}. Sign in to join the conversation:\n\n{url}\n"
                    ),
                )
            }
        };
        Ok(Mail { message_id: format!("<{}@parlance>", job.id), to: account.email, subject, text })
    }
}
