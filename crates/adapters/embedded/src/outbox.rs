//! Jobs that were committed with the write they follow.

use async_trait::async_trait;
use parlance_application::{Result, jobs::Job, ports::store::Outbox};
use parlance_domain::{JobId, Timestamp};
use rusqlite::{Connection, params};
use uuid::Uuid;

use crate::{EmbeddedStore, error::Tx};

/// Adds a job to the transaction.
pub(crate) fn put(conn: &Connection, job: &Job) -> Tx<()> {
    conn.prepare_cached("INSERT INTO outbox (id, task) VALUES (?1, ?2)")?
        .execute(params![job.id.0, serde_json::to_string(&job.task)?])?;
    Ok(())
}

#[async_trait]
impl Outbox for EmbeddedStore {
    async fn take_unfinished(
        &self,
        limit: usize,
        relayed_before: Timestamp,
        at: Timestamp,
    ) -> Result<Vec<Job>> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.write(move |conn| {
            let rows: Vec<(i64, Uuid, String)> = conn
                .prepare_cached(
                    "SELECT n, id, task FROM outbox WHERE buried = 0 AND (relayed_at IS NULL OR relayed_at < ?1) \
                     ORDER BY n LIMIT ?2",
                )?
                .query_map(params![relayed_before.as_millis(), limit], |row| {
                    Ok((row.get(0)?, row.get(1)?, row.get(2)?))
                })?
                .collect::<Result<_, _>>()?;
            let mut mark = conn.prepare_cached("UPDATE outbox SET relayed_at = ?2 WHERE n = ?1")?;
            let mut jobs = Vec::with_capacity(rows.len());
            for (n, id, task) in rows {
                mark.execute(params![n, at.as_millis()])?;
                jobs.push(Job { id: JobId(id), task: serde_json::from_str(&task)? });
            }
            Ok(jobs)
        })
        .await
    }

    async fn is_unfinished(&self, job: JobId) -> Result<bool> {
        self.read(move |conn| {
            Ok(conn.prepare_cached("SELECT 1 FROM outbox WHERE id = ?1")?.exists([job.0])?)
        })
        .await
    }

    async fn finish(&self, job: JobId) -> Result<()> {
        self.write(move |conn| {
            conn.prepare_cached("DELETE FROM outbox WHERE id = ?1")?.execute([job.0])?;
            Ok(())
        })
        .await
    }

    async fn bury(&self, job: JobId) -> Result<()> {
        self.write(move |conn| {
            conn.prepare_cached("UPDATE outbox SET buried = 1 WHERE id = ?1")?.execute([job.0])?;
            Ok(())
        })
        .await
    }

    async fn revive(&self, jobs: Vec<JobId>) -> Result<()> {
        self.write(move |conn| {
            let mut revive = conn.prepare_cached("UPDATE outbox SET buried = 0 WHERE id = ?1")?;
            for job in jobs {
                revive.execute([job.0])?;
            }
            Ok(())
        })
        .await
    }
}
