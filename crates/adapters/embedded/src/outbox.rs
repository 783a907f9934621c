//! Jobs that were committed with the write they follow.

use async_trait::async_trait;
use parlance_application::{
    Result,
    jobs::Job,
    ports::store::{MOST_UNREADABLE, Outbox},
};
use parlance_domain::{JobId, Timestamp};
use rusqlite::{Connection, params};

use crate::{EmbeddedStore, error::Tx};

/// Rows to be relayed.
const DUE: &str = "SELECT n, id, task FROM outbox WHERE buried = 0 AND (relayed_at IS NULL OR relayed_at < ?1) \
                   ORDER BY n";

/// Dead jobs to be relayed.
const BURIED: &str = "SELECT n, id, task FROM outbox WHERE buried = 1 AND coalesce(relayed_at, 0) < ?1 \
                      ORDER BY coalesce(relayed_at, 0), n";

/// Adds a job to the transaction.
pub(crate) fn put(conn: &Connection, job: &Job) -> Tx<()> {
    conn.prepare_cached("INSERT INTO outbox (id, task) VALUES (?1, ?2)")?
        .execute(params![job.id.0, serde_json::to_string(&job.task)?])?;
    Ok(())
}

/// Takes the rows that a query finds, and marks them as relayed.
fn take(
    conn: &Connection,
    sql: &str,
    limit: usize,
    relayed_before: Timestamp,
    at: Timestamp,
) -> Tx<Vec<Job>> {
    let mut due = conn.prepare_cached(sql)?;
    let mut rows = due.query([relayed_before.as_millis()])?;
    let (mut seen, mut jobs) = (Vec::new(), Vec::new());
    while jobs.len() < limit
        && seen.len() - jobs.len() < MOST_UNREADABLE
        && let Some(row) = rows.next()?
    {
        seen.push(row.get::<_, i64>(0)?);
        jobs.extend(Job::stored(JobId(row.get(1)?), &row.get::<_, String>(2)?));
    }
    drop(rows);
    // Unreadable rows too: they become due again with the others, and block nothing until then.
    let mut mark = conn.prepare_cached("UPDATE outbox SET relayed_at = ?2 WHERE n = ?1")?;
    for n in seen {
        mark.execute(params![n, at.as_millis()])?;
    }
    Ok(jobs)
}

#[async_trait]
impl Outbox for EmbeddedStore {
    async fn take_unfinished(
        &self,
        limit: usize,
        relayed_before: Timestamp,
        at: Timestamp,
    ) -> Result<Vec<Job>> {
        self.write(move |conn| take(conn, DUE, limit, relayed_before, at)).await
    }

    async fn take_buried(
        &self,
        limit: usize,
        relayed_before: Timestamp,
        at: Timestamp,
    ) -> Result<Vec<Job>> {
        self.write(move |conn| take(conn, BURIED, limit, relayed_before, at)).await
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

    async fn revive(&self, jobs: Vec<JobId>) -> Result<Vec<JobId>> {
        self.write(move |conn| {
            let mut revive = conn.prepare_cached("UPDATE outbox SET buried = 0 WHERE id = ?1")?;
            let mut revived = Vec::with_capacity(jobs.len());
            for job in jobs {
                if revive.execute([job.0])? > 0 {
                    revived.push(job);
                }
            }
            Ok(revived)
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{db, migrate};

    #[test]
    fn the_relay_looks_at_nothing_that_has_had_its_turn() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut conn = db::connect(&dir.path().join("test.db")).expect("opens");
        migrate::run(&mut conn, Timestamp::from_millis(1)).expect("migrates");
        assert_eq!(db::plan(&conn, DUE), ["SCAN outbox USING INDEX outbox_due"]);
        assert_eq!(db::plan(&conn, BURIED), ["SEARCH outbox USING INDEX outbox_buried (<expr><?)"]);
    }
}
