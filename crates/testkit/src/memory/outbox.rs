//! Jobs that were committed with the write they follow.

use async_trait::async_trait;
use parlance_application::{Result, jobs::Job, ports::store::Outbox};
use parlance_domain::{JobId, Timestamp};

use super::{MemoryStore, state::State};

#[async_trait]
impl Outbox for MemoryStore {
    async fn take_unfinished(
        &self,
        limit: usize,
        relayed_before: Timestamp,
        at: Timestamp,
    ) -> Result<Vec<Job>> {
        let take = |state: &mut State| Ok(take(state, false, limit, relayed_before, at));
        self.write("take_unfinished", take).await
    }

    async fn take_buried(
        &self,
        limit: usize,
        relayed_before: Timestamp,
        at: Timestamp,
    ) -> Result<Vec<Job>> {
        let take = |state: &mut State| Ok(take(state, true, limit, relayed_before, at));
        self.write("take_buried", take).await
    }

    async fn is_unfinished(&self, job: JobId) -> Result<bool> {
        self.read("is_unfinished", |state| Ok(state.outbox.iter().any(|row| row.job.id == job)))
            .await
    }

    async fn finish(&self, job: JobId) -> Result<()> {
        self.write("finish", |state| {
            state.outbox.retain(|row| row.job.id != job);
            Ok(())
        })
        .await
    }

    async fn bury(&self, job: JobId) -> Result<()> {
        self.write("bury", |state| {
            for row in state.outbox.iter_mut().filter(|row| row.job.id == job) {
                row.buried = true;
            }
            Ok(())
        })
        .await
    }

    async fn revive(&self, mut jobs: Vec<JobId>) -> Result<Vec<JobId>> {
        self.write("revive", |state| {
            for row in state.outbox.iter_mut().filter(|row| jobs.contains(&row.job.id)) {
                row.buried = false;
            }
            jobs.retain(|id| state.outbox.iter().any(|row| row.job.id == *id));
            Ok(jobs)
        })
        .await
    }
}

fn take(
    state: &mut State,
    buried: bool,
    limit: usize,
    relayed_before: Timestamp,
    at: Timestamp,
) -> Vec<Job> {
    let due = state.outbox.iter_mut().filter(|row| {
        row.buried == buried && row.relayed_at.is_none_or(|relayed| relayed < relayed_before)
    });
    let taken = due.take(limit).map(|row| {
        row.relayed_at = Some(at);
        row.job.clone()
    });
    taken.collect()
}
