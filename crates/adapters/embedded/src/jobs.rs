//! The embedded job queue: a table with leases.

use std::time::Duration;

use async_trait::async_trait;
use parlance_application::{
    Result,
    jobs::Job,
    ports::{Claim, JobQueue, Verdict},
};
use parlance_domain::{JobId, Timestamp};
use rusqlite::params;
use uuid::Uuid;

use crate::{EmbeddedStore, rows::num};

#[async_trait]
impl JobQueue for EmbeddedStore {
    async fn add(&self, jobs: Vec<Job>, at: Timestamp) -> Result<()> {
        self.write(move |conn| {
            let mut insert = conn.prepare_cached(
                "INSERT INTO jobs (id, task, state, run_at, added_at) VALUES (?1, ?2, 'waiting', ?3, ?3) \
                 ON CONFLICT (id) DO NOTHING",
            )?;
            for job in &jobs {
                insert.execute(params![job.id.0, serde_json::to_string(&job.task)?, at.as_millis()])?;
            }
            Ok(())
        })
        .await
    }

    async fn claim(&self, limit: usize, at: Timestamp, lease: Duration) -> Result<Vec<Claim>> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.write(move |conn| {
            let due: Vec<(i64, Uuid, String, u32)> = conn
                .prepare_cached(
                    "SELECT n, id, task, attempt FROM jobs WHERE state IN ('waiting', 'active') AND run_at <= ?1 \
                     AND (lease_until IS NULL OR lease_until <= ?1) ORDER BY run_at, n LIMIT ?2",
                )?
                .query_map(params![at.as_millis(), limit], |row| {
                    Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
                })?
                .collect::<Result<_, _>>()?;
            let mut take = conn
                .prepare_cached("UPDATE jobs SET state = 'active', attempt = ?2, lease_until = ?3 WHERE n = ?1")?;
            let mut claims = Vec::with_capacity(due.len());
            for (n, id, task, before) in due {
                let attempt = before.saturating_add(1);
                take.execute(params![n, attempt, (at + lease).as_millis()])?;
                claims.push(Claim { job: Job { id: JobId(id), task: serde_json::from_str(&task)? }, attempt });
            }
            Ok(claims)
        })
        .await
    }

    async fn settle(&self, claim: &Claim, verdict: Verdict, at: Timestamp) -> Result<()> {
        let (id, attempt) = (claim.job.id.0, claim.attempt);
        let (state, error, run_at, finished_at) = match verdict {
            Verdict::Done => ("done", None, None, Some(at.as_millis())),
            Verdict::Dead { error } => ("dead", Some(error), None, Some(at.as_millis())),
            Verdict::Retry { error, at } => ("waiting", Some(error), Some(at.as_millis()), None),
        };
        self.write(move |conn| {
            conn.prepare_cached(
                "UPDATE jobs SET state = ?3, error = ?4, run_at = coalesce(?5, run_at), finished_at = ?6, lease_until = NULL \
                 WHERE id = ?1 AND attempt = ?2 AND state = 'active'",
            )?
            .execute(params![id, attempt, state, error, run_at, finished_at])?;
            Ok(())
        })
        .await
    }

    async fn depth(&self) -> Result<(u64, u64)> {
        self.read(|conn| {
            Ok(conn
                .prepare_cached(
                    "SELECT (SELECT count(*) FROM jobs WHERE state IN ('waiting', 'active')), \
                     (SELECT count(*) FROM jobs WHERE state = 'dead')",
                )?
                .query_row([], |row| Ok((num(row, 0)?, num(row, 1)?)))?)
        })
        .await
    }
}
