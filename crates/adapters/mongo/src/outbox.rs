//! Jobs that were committed with the write they follow.

use std::collections::HashSet;

use async_trait::async_trait;
use bson::doc;
use parlance_application::{
    Result,
    jobs::Job,
    ports::store::{MOST_UNREADABLE, Outbox},
};
use parlance_domain::{JobId, Timestamp};

use crate::{
    MongoStore,
    connect::answered,
    documents::{JobDoc, id, time, uuid},
    error::Outcome,
    tx::{Tx, atomic},
};

/// Adds a job to the transaction.
pub(crate) async fn put(tx: &mut Tx, job: &Job) -> Outcome<()> {
    let task = serde_json::to_string(&job.task)?;
    tx.insert(&JobDoc { id: id(job.id.0), task, dead: false, relayed_at: None }).await
}

/// Takes rows of live jobs or of dead ones, and marks them as relayed.
async fn take(
    tx: &mut Tx,
    dead: bool,
    limit: usize,
    relayed_before: Timestamp,
    at: Timestamp,
) -> Outcome<Vec<Job>> {
    if limit == 0 {
        return Ok(Vec::new());
    }
    let due = doc! {
        "dead": dead,
        "$or": [{ "relayed_at": null }, { "relayed_at": { "$lt": time(relayed_before) } }],
    };
    let (mut seen, mut jobs) = (Vec::new(), Vec::new());
    let is_last = |row: JobDoc| {
        seen.push(row.id);
        jobs.extend(Job::stored(JobId(uuid(row.id)), &row.task));
        jobs.len() >= limit || seen.len() - jobs.len() >= MOST_UNREADABLE
    };
    let most = i64::try_from(limit + MOST_UNREADABLE).unwrap_or(i64::MAX);
    tx.until(due, doc! { "relayed_at": 1, "_id": 1 }, most, is_last).await?;
    // Unreadable rows too: they become due again with the others, and block nothing until then.
    if !seen.is_empty() {
        let mark = doc! { "$set": { "relayed_at": time(at) } };
        tx.update_all::<JobDoc>(doc! { "_id": { "$in": seen } }, mark).await?;
    }
    Ok(jobs)
}

#[async_trait]
impl Outbox for MongoStore {
    async fn take_unfinished(
        &self,
        limit: usize,
        relayed_before: Timestamp,
        at: Timestamp,
    ) -> Result<Vec<Job>> {
        atomic!(self, |tx| take(tx, false, limit, relayed_before, at).await)
    }

    async fn take_buried(
        &self,
        limit: usize,
        relayed_before: Timestamp,
        at: Timestamp,
    ) -> Result<Vec<Job>> {
        atomic!(self, |tx| take(tx, true, limit, relayed_before, at).await)
    }

    async fn is_unfinished(&self, job: JobId) -> Result<bool> {
        Ok(self.reads().await?.one::<JobDoc>(doc! { "_id": id(job.0) }).await?.is_some())
    }

    async fn finish(&self, job: JobId) -> Result<()> {
        answered(self.of::<JobDoc>().delete_one(doc! { "_id": id(job.0) })).await.map(drop)
    }

    async fn bury(&self, job: JobId) -> Result<()> {
        let dead = doc! { "$set": { "dead": true } };
        answered(self.of::<JobDoc>().update_one(doc! { "_id": id(job.0) }, dead)).await.map(drop)
    }

    async fn revive(&self, mut jobs: Vec<JobId>) -> Result<Vec<JobId>> {
        let ids: Vec<_> = jobs.iter().map(|job| id(job.0)).collect();
        let these = doc! { "_id": { "$in": ids } };
        let alive = doc! { "$set": { "dead": false } };
        answered(self.of::<JobDoc>().update_many(these.clone(), alive)).await?;
        // A job that was done meanwhile is not found, and need not run again.
        let found = self.reads().await?.all::<JobDoc>(these).await?;
        let known: HashSet<_> = found.iter().map(|row| row.id).collect();
        jobs.retain(|job| known.contains(&id(job.0)));
        Ok(jobs)
    }
}
