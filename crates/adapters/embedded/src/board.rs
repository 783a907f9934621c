//! What operators see of the embedded job queue. Its one worker is this process, if it runs jobs.

use std::{sync::atomic::Ordering, time::Duration};

use async_trait::async_trait;
use parlance_application::{
    Error, Result,
    jobs::Job,
    ports::{
        JobBoard, JobCounts, JobState, JobView, KEPT_MINUTES, MinuteView, NOT_DEAD, NOT_DELAYED,
        STILL_ACTIVE, WorkerView,
    },
};
use parlance_domain::{JobId, Timestamp};
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::{
    EmbeddedStore,
    error::Tx,
    rows::{at, maybe_at, num},
};

/// How long the worker may go without asking for jobs.
const SILENT: Duration = Duration::from_mins(1);

/// The `SELECT` that [`view`] reads; `?1` is the current time.
macro_rules! job_sql {
    ($tail:literal) => {
        concat!(
            "SELECT id, task, CASE WHEN state = 'waiting' AND run_at > ?1 THEN 'delayed' ELSE state END, attempt, ",
            "added_at, run_at, started_at, finished_at, coalesce(lease_until <= ?1, 0), errors FROM jobs ",
            $tail
        )
    };
}

#[async_trait]
impl JobBoard for EmbeddedStore {
    async fn counts(&self, at: Timestamp) -> Result<JobCounts> {
        self.read(move |conn| {
            let counts = |row: &Row<'_>| {
                Ok(JobCounts {
                    waiting: num(row, 0)?,
                    delayed: num(row, 1)?,
                    active: num(row, 2)?,
                    stalled: num(row, 3)?,
                    done: num(row, 4)?,
                    dead: num(row, 5)?,
                })
            };
            Ok(conn
                .prepare_cached(
                    "SELECT count(*) FILTER (WHERE state = 'waiting' AND run_at <= ?1), \
                     count(*) FILTER (WHERE state = 'waiting' AND run_at > ?1), \
                     count(*) FILTER (WHERE state = 'active'), \
                     count(*) FILTER (WHERE state = 'active' AND lease_until <= ?1), \
                     (SELECT count(*) FROM jobs WHERE state = 'done'), \
                     (SELECT count(*) FROM jobs WHERE state = 'dead') \
                     FROM jobs WHERE state IN ('waiting', 'active')",
                )?
                .query_row([at.as_millis()], counts)?)
        })
        .await
    }

    async fn workers(&self, at: Timestamp) -> Result<Vec<WorkerView>> {
        let asked_at = Timestamp::from_millis(self.asked_at.load(Ordering::Relaxed));
        if at.since(asked_at) > SILENT {
            return Ok(vec![]);
        }
        self.read(|conn| {
            let holds = conn
                .prepare_cached(
                    "SELECT id FROM jobs WHERE state IN ('waiting', 'active') AND state = 'active' \
                     ORDER BY started_at, n",
                )?
                .query_map([], |row| row.get(0).map(JobId))?
                .collect::<Result<_, _>>()?;
            Ok(vec![WorkerView { name: "this process".to_owned(), holds }])
        })
        .await
    }

    async fn throughput(&self, minutes: usize, at: Timestamp) -> Result<Vec<MinuteView>> {
        self.read(move |conn| {
            let mut look =
                conn.prepare_cached("SELECT done, failed FROM job_minutes WHERE minute = ?1")?;
            let mut view = |minute: i64| -> Tx<MinuteView> {
                let counted =
                    look.query_row([minute], |row| Ok((num(row, 0)?, num(row, 1)?))).optional()?;
                let (done, failed) = counted.unwrap_or_default();
                Ok(MinuteView::of(minute, done, failed))
            };
            MinuteView::last(minutes, at).map(&mut view).collect()
        })
        .await
    }

    async fn jobs(
        &self,
        state: JobState,
        offset: usize,
        limit: usize,
        at: Timestamp,
    ) -> Result<Vec<JobView>> {
        // The first condition of each query selects its index.
        let sql = match state {
            JobState::Waiting => job_sql!(
                "WHERE state IN ('waiting', 'active') AND state = 'waiting' AND run_at <= ?1 \
                 ORDER BY run_at, n LIMIT ?3 OFFSET ?2"
            ),
            JobState::Delayed => job_sql!(
                "WHERE state IN ('waiting', 'active') AND state = 'waiting' AND run_at > ?1 \
                 ORDER BY run_at, n LIMIT ?3 OFFSET ?2"
            ),
            JobState::Active => job_sql!(
                "WHERE state IN ('waiting', 'active') AND state = 'active' \
                 ORDER BY started_at, n LIMIT ?3 OFFSET ?2"
            ),
            JobState::Done => job_sql!(
                "WHERE state = 'done' ORDER BY finished_at DESC, n DESC LIMIT ?3 OFFSET ?2"
            ),
            JobState::Dead => job_sql!(
                "WHERE state = 'dead' ORDER BY finished_at DESC, n DESC LIMIT ?3 OFFSET ?2"
            ),
        };
        let (offset, limit) =
            (i64::try_from(offset).unwrap_or(i64::MAX), i64::try_from(limit).unwrap_or(i64::MAX));
        self.read(move |conn| {
            let mut select = conn.prepare_cached(sql)?;
            let rows = select.query_and_then(params![at.as_millis(), offset, limit], view)?;
            rows.filter_map(Result::transpose).collect()
        })
        .await
    }

    async fn job(&self, id: JobId, at: Timestamp) -> Result<JobView> {
        self.read(move |conn| find(conn, id, at)).await
    }

    async fn retry(&self, id: JobId, at: Timestamp) -> Result<()> {
        self.write(move |conn| {
            if find(conn, id, at)?.state != JobState::Dead {
                return Err(Error::conflict(NOT_DEAD).into());
            }
            run_again(conn, &[id], at).map(drop)
        })
        .await
    }

    async fn retry_all(&self, jobs: Vec<JobId>, at: Timestamp) -> Result<u64> {
        self.write(move |conn| run_again(conn, &jobs, at)).await
    }

    async fn promote(&self, id: JobId, at: Timestamp) -> Result<()> {
        self.write(move |conn| {
            if find(conn, id, at)?.state != JobState::Delayed {
                return Err(Error::conflict(NOT_DELAYED).into());
            }
            conn.prepare_cached("UPDATE jobs SET run_at = ?2 WHERE id = ?1")?
                .execute(params![id.0, at.as_millis()])?;
            Ok(())
        })
        .await
    }

    async fn remove(&self, id: JobId) -> Result<()> {
        self.write(move |conn| {
            let removed = conn
                .prepare_cached("DELETE FROM jobs WHERE id = ?1 AND state <> 'active'")?
                .execute([id.0])?;
            if removed > 0 {
                return Ok(());
            }
            let active = conn.prepare_cached("SELECT 1 FROM jobs WHERE id = ?1")?.exists([id.0])?;
            Err(if active {
                Error::conflict(STILL_ACTIVE).into()
            } else {
                Error::NotFound("job").into()
            })
        })
        .await
    }
}

/// Counts a job that has ended.
pub(crate) fn count(conn: &Connection, done: bool, at: Timestamp) -> Tx<()> {
    let minute = MinuteView::number(at);
    conn.prepare_cached(
        "INSERT INTO job_minutes (minute, done, failed) VALUES (?1, ?2, NOT ?2) \
         ON CONFLICT (minute) DO UPDATE SET done = done + excluded.done, failed = failed + excluded.failed",
    )?
    .execute(params![minute, done])?;
    conn.prepare_cached("DELETE FROM job_minutes WHERE minute <= ?1")?
        .execute([minute - KEPT_MINUTES])?;
    Ok(())
}

/// Requeues those of these jobs that are dead, with all their attempts; returns how many.
fn run_again(conn: &Connection, jobs: &[JobId], at: Timestamp) -> Tx<u64> {
    let mut retry = conn.prepare_cached(
        "UPDATE jobs SET state = 'waiting', attempt = 0, run_at = ?2, started_at = NULL, finished_at = NULL \
         WHERE id = ?1 AND state = 'dead'",
    )?;
    let mut retried = 0;
    for id in jobs {
        retried += retry.execute(params![id.0, at.as_millis()])?;
    }
    Ok(u64::try_from(retried).unwrap_or(u64::MAX))
}

fn find(conn: &Connection, id: JobId, at: Timestamp) -> Tx<JobView> {
    let mut select = conn.prepare_cached(job_sql!("WHERE id = ?2"))?;
    let found = select.query_and_then(params![at.as_millis(), id.0], view)?.next().transpose()?;
    Ok(found.flatten().ok_or(Error::NotFound("job"))?)
}

/// None if this program cannot read the task: the job is counted, but not shown.
fn view(row: &Row<'_>) -> Tx<Option<JobView>> {
    let Ok(task) = serde_json::from_str(&row.get::<_, String>(1)?) else { return Ok(None) };
    let name: String = row.get(2)?;
    let state = JobState::ALL.into_iter().find(|state| state.name() == name);
    let state = state.ok_or_else(|| Error::internal("a job in an unknown state"))?;
    let run_at = at(row, 5)?;
    Ok(Some(JobView {
        job: Job { id: JobId(row.get(0)?), task },
        state,
        attempts: row.get(3)?,
        added_at: at(row, 4)?,
        run_at: (state == JobState::Delayed).then_some(run_at),
        started_at: maybe_at(row, 6)?,
        finished_at: maybe_at(row, 7)?,
        stalled: row.get(8)?,
        errors: serde_json::from_str(&row.get::<_, String>(9)?)?,
    }))
}
