//! The embedded job queue: a table with leases.

use std::{collections::VecDeque, sync::atomic::Ordering, time::Duration};

use async_trait::async_trait;
use parlance_application::{
    Result,
    jobs::Job,
    ports::{Claim, JobQueue, KEPT_DONE, KEPT_ERRORS, Verdict, store::MOST_UNREADABLE},
};
use parlance_domain::{JobId, Timestamp};
use rusqlite::{Connection, OptionalExtension, params};

use crate::{EmbeddedStore, board, error::Tx};

/// How long a job that this program cannot read is deferred, for one that can.
const STRANGE: Duration = Duration::from_mins(1);
/// The error noted for an attempt whose lease has expired.
const LOST: &str = "the worker went silent";

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
        self.asked_at.store(at.as_millis(), Ordering::Relaxed);
        self.write(move |conn| {
            let mut due = conn.prepare_cached(
                "SELECT n, id, task, attempt, state = 'active' FROM jobs WHERE state IN ('waiting', 'active') \
                 AND run_at <= ?1 AND (lease_until IS NULL OR lease_until <= ?1) ORDER BY run_at, n",
            )?;
            let mut rows = due.query([at.as_millis()])?;
            let (mut known, mut strange) = (Vec::new(), Vec::new());
            while known.len() < limit
                && strange.len() < MOST_UNREADABLE
                && let Some(row) = rows.next()?
            {
                let n: i64 = row.get(0)?;
                match Job::stored(JobId(row.get(1)?), &row.get::<_, String>(2)?) {
                    Some(job) => known.push((n, job, row.get::<_, u32>(3)?, row.get::<_, bool>(4)?)),
                    None => strange.push(n),
                }
            }
            drop(rows);
            let mut put_off = conn.prepare_cached("UPDATE jobs SET run_at = ?2 WHERE n = ?1")?;
            for n in strange {
                put_off.execute(params![n, (at + STRANGE).as_millis()])?;
            }
            let mut take = conn.prepare_cached(
                "UPDATE jobs SET state = 'active', attempt = ?2, started_at = ?3, lease_until = ?4 WHERE n = ?1",
            )?;
            let mut claims = Vec::with_capacity(known.len());
            for (n, job, before, lost) in known {
                if lost {
                    push_error(conn, n, LOST)?;
                }
                let attempt = before.saturating_add(1);
                take.execute(params![n, attempt, at.as_millis(), (at + lease).as_millis()])?;
                claims.push(Claim { job, attempt });
            }
            Ok(claims)
        })
        .await
    }

    async fn settle(&self, claim: &Claim, verdict: Verdict, at: Timestamp) -> Result<()> {
        let (id, attempt) = (claim.job.id.0, claim.attempt);
        self.write(move |conn| {
            let held: Option<i64> = conn
                .prepare_cached("SELECT n FROM jobs WHERE id = ?1 AND attempt = ?2 AND state = 'active'")?
                .query_row(params![id, attempt], |row| row.get(0))
                .optional()?;
            let Some(n) = held else { return Ok(()) };
            match verdict {
                Verdict::Done => end(conn, n, "done", at),
                Verdict::Dead { error } => {
                    push_error(conn, n, &error)?;
                    end(conn, n, "dead", at)
                }
                Verdict::Retry { error, at } => {
                    push_error(conn, n, &error)?;
                    conn.prepare_cached(
                        "UPDATE jobs SET state = 'waiting', run_at = ?2, lease_until = NULL WHERE n = ?1",
                    )?
                    .execute(params![n, at.as_millis()])?;
                    Ok(())
                }
            }
        })
        .await
    }

    /// Constant: jobs can only be lost before the process starts, and it then relays the whole outbox again, whichever
    /// store that is in.
    async fn memory(&self) -> Result<String> {
        Ok("this store".to_owned())
    }
}

/// Adds to a job's errors.
fn push_error(conn: &Connection, n: i64, error: &str) -> Tx<()> {
    let errors: String = conn
        .prepare_cached("SELECT errors FROM jobs WHERE n = ?1")?
        .query_row([n], |row| row.get(0))?;
    let mut errors: VecDeque<String> = serde_json::from_str(&errors)?;
    errors.push_back(error.to_owned());
    while errors.len() > KEPT_ERRORS {
        errors.pop_front();
    }
    conn.prepare_cached("UPDATE jobs SET errors = ?2 WHERE n = ?1")?
        .execute(params![n, serde_json::to_string(&errors)?])?;
    Ok(())
}

/// Ends a job, counts it, and deletes the oldest ended ones.
fn end(conn: &Connection, n: i64, state: &str, at: Timestamp) -> Tx<()> {
    conn.prepare_cached(
        "UPDATE jobs SET state = ?2, finished_at = ?3, lease_until = NULL WHERE n = ?1",
    )?
    .execute(params![n, state, at.as_millis()])?;
    board::count(conn, state == "done", at)?;
    conn.prepare_cached(
        "DELETE FROM jobs WHERE n IN \
         (SELECT n FROM jobs WHERE state = 'done' ORDER BY finished_at DESC, n DESC LIMIT -1 OFFSET ?1)",
    )?
    .execute([i64::try_from(KEPT_DONE).unwrap_or(i64::MAX)])?;
    Ok(())
}
