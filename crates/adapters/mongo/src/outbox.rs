//! Jobs that were committed with the write they follow.

use async_trait::async_trait;
use bson::doc;
use parlance_application::{Result, jobs::Job, ports::store::Outbox};
use parlance_domain::{JobId, Timestamp};

use crate::{
    MongoStore,
    documents::{JobDoc, id, time, uuid},
    error::{Outcome, driver},
    tx::{Tx, atomic},
};

/// Adds a job to the transaction.
pub(crate) async fn put(tx: &mut Tx, job: &Job) -> Outcome<()> {
    let task = serde_json::to_string(&job.task)?;
    tx.insert(&JobDoc { id: id(job.id.0), task, dead: false, relayed_at: None }).await
}

#[async_trait]
impl Outbox for MongoStore {
    async fn take_unfinished(
        &self,
        limit: usize,
        relayed_before: Timestamp,
        at: Timestamp,
    ) -> Result<Vec<Job>> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        if limit == 0 {
            return Ok(Vec::new());
        }
        let due = doc! {
            "dead": false,
            "$or": [{ "relayed_at": null }, { "relayed_at": { "$lt": time(relayed_before) } }],
        };
        atomic!(self, |tx| {
            let found: Vec<JobDoc> = tx.first(due.clone(), doc! { "_id": 1 }, limit).await?;
            if !found.is_empty() {
                let ids: Vec<_> = found.iter().map(|job| job.id).collect();
                let mark = doc! { "$set": { "relayed_at": time(at) } };
                tx.update_all::<JobDoc>(doc! { "_id": { "$in": ids } }, mark).await?;
            }
            let mut jobs = Vec::with_capacity(found.len());
            for job in found {
                let task = serde_json::from_str(&job.task)?;
                jobs.push(Job { id: JobId(uuid(job.id)), task });
            }
            Ok(jobs)
        })
    }

    async fn is_unfinished(&self, job: JobId) -> Result<bool> {
        Ok(self.one::<JobDoc>(doc! { "_id": id(job.0) }).await?.is_some())
    }

    async fn finish(&self, job: JobId) -> Result<()> {
        let done = self.of::<JobDoc>().delete_one(doc! { "_id": id(job.0) }).await;
        done.map(drop).map_err(|error| driver(&error))
    }

    async fn bury(&self, job: JobId) -> Result<()> {
        let dead = doc! { "$set": { "dead": true } };
        let done = self.of::<JobDoc>().update_one(doc! { "_id": id(job.0) }, dead).await;
        done.map(drop).map_err(|error| driver(&error))
    }

    async fn revive(&self, jobs: Vec<JobId>) -> Result<()> {
        let ids: Vec<_> = jobs.iter().map(|job| id(job.0)).collect();
        let alive = doc! { "$set": { "dead": false } };
        let done = self.of::<JobDoc>().update_many(doc! { "_id": { "$in": ids } }, alive).await;
        done.map(drop).map_err(|error| driver(&error))
    }
}
