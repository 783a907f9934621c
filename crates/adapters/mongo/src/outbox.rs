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

/// A row's job, unless only another version of the program knows its kind: then it is left as it is.
fn read(row: &JobDoc) -> Option<Job> {
    let job = JobId(uuid(row.id));
    match serde_json::from_str(&row.task) {
        Ok(task) => Some(Job { id: job, task }),
        Err(error) => {
            tracing::warn!(%job, %error, "this program cannot read a job; it is left for one that can");
            None
        }
    }
}

/// Takes rows of living jobs or of dead ones, and marks them as handed on.
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
        jobs.extend(read(&row));
        jobs.len() >= limit || seen.len() - jobs.len() >= MOST_UNREADABLE
    };
    tx.until(due, doc! { "_id": 1 }, is_last).await?;
    // Unreadable rows too: they come again with the others, and are in nobody's way until then.
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
