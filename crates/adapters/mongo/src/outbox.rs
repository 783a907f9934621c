//! Jobs that were committed with the write they follow.

use std::{
    collections::HashSet,
    sync::{Mutex, PoisonError},
};

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

/// The most rows that are remembered; then it begins anew.
const MOST_STRANGE: usize = 1_024;

/// Adds a job to the transaction.
pub(crate) async fn put(tx: &mut Tx, job: &Job) -> Outcome<()> {
    let task = serde_json::to_string(&job.task)?;
    tx.insert(&JobDoc { id: id(job.id.0), task, dead: false, relayed_at: None }).await
}

/// Rows whose task only another version of the program can read, while both are running. They stay as they are, for a node
/// that can. Here are those of which it has been said: they are met again at each look for others.
#[derive(Default)]
pub(crate) struct StrangeRows(Mutex<HashSet<bson::Uuid>>);

impl StrangeRows {
    fn read(&self, row: &JobDoc) -> Option<Job> {
        let job = JobId(uuid(row.id));
        match serde_json::from_str(&row.task) {
            Ok(task) => Some(Job { id: job, task }),
            Err(error) => {
                if self.is_new(row.id) {
                    tracing::warn!(%job, %error, "this program cannot read a job; it is left for one that can");
                }
                None
            }
        }
    }

    fn is_new(&self, row: bson::Uuid) -> bool {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST_STRANGE {
            known.clear();
        }
        known.insert(row)
    }
}

#[async_trait]
impl Outbox for MongoStore {
    async fn take_unfinished(
        &self,
        limit: usize,
        relayed_before: Timestamp,
        at: Timestamp,
    ) -> Result<Vec<Job>> {
        let due = doc! {
            "dead": false,
            "$or": [{ "relayed_at": null }, { "relayed_at": { "$lt": time(relayed_before) } }],
        };
        atomic!(self, |tx| {
            let read = |row| self.strange_rows.read(&row);
            let jobs = tx.first_of(due.clone(), doc! { "_id": 1 }, limit, read).await?;
            if !jobs.is_empty() {
                let ids: Vec<_> = jobs.iter().map(|job| id(job.id.0)).collect();
                let mark = doc! { "$set": { "relayed_at": time(at) } };
                tx.update_all::<JobDoc>(doc! { "_id": { "$in": ids } }, mark).await?;
            }
            Ok(jobs)
        })
    }

    async fn is_unfinished(&self, job: JobId) -> Result<bool> {
        Ok(self.reads().await?.one::<JobDoc>(doc! { "_id": id(job.0) }).await?.is_some())
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
