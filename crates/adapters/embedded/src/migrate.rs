//! The schema, as numbered steps that are never changed once released.
//!
//! To add a step: put `NNNN_name.sql` into `migrations/sqlite/` and its line, number and name, into [`STEPS`]; a test compares the two.

use parlance_application::{Error, Result};
use parlance_domain::Timestamp;
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};
use sha2::{Digest, Sha256};

use crate::error::{Fail, Tx};

struct Step {
    version: i64,
    name: &'static str,
    sql: &'static str,
}

macro_rules! steps {
    ($($version:literal $name:literal)*) => {
        &[$(Step { version: $version, name: $name, sql: include_str!(concat!("../../../../migrations/sqlite/", $name, ".sql")) }),*]
    };
}

const STEPS: &[Step] = steps! {
    1 "0001_schema"
    2 "0002_job_board"
    3 "0003_outbox_due"
    4 "0004_messages_side_by_side"
};

/// Brings the schema up to date, in one transaction. Refuses a database that a newer program has written, or whose steps
/// are not the ones that this program knows.
pub(crate) fn run(conn: &mut Connection, now: Timestamp) -> Result<()> {
    migrate(conn, now).map_err(|fail| {
        let error = Error::from(fail);
        tracing::error!(?error, "the database cannot be used");
        error
    })
}

fn migrate(conn: &mut Connection, now: Timestamp) -> Tx<()> {
    // A step may sort more than there is memory for, and leave a log as long as the database.
    conn.execute_batch("PRAGMA temp_store = FILE")?;
    apply(conn, STEPS, now)?;
    Ok(conn.execute_batch("PRAGMA temp_store = MEMORY; PRAGMA wal_checkpoint(TRUNCATE)")?)
}

fn apply(conn: &mut Connection, steps: &[Step], now: Timestamp) -> Tx<()> {
    let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    tx.execute_batch(
        "CREATE TABLE IF NOT EXISTS schema_migrations (
             version INTEGER PRIMARY KEY, name TEXT NOT NULL, checksum TEXT NOT NULL, applied_at INTEGER NOT NULL
         ) STRICT",
    )?;
    let found: i64 =
        tx.query_row("SELECT coalesce(max(version), 0) FROM schema_migrations", [], |row| {
            row.get(0)
        })?;
    let known = steps.last().map_or(0, |step| step.version);
    if found > known {
        return refuse(format!(
            "the database has schema version {found}, but this program knows versions up to {known} only: run a newer program"
        ));
    }
    for step in steps {
        let checksum = checksum(step.sql);
        let stored: Option<String> = tx
            .query_row(
                "SELECT checksum FROM schema_migrations WHERE version = ?1",
                [step.version],
                |row| row.get(0),
            )
            .optional()?;
        match stored {
            Some(stored) if stored == checksum => {}
            Some(_) => {
                return refuse(format!(
                    "migration {} was applied to the database in another form than this program has",
                    step.name
                ));
            }
            None => {
                tx.execute_batch(step.sql)?;
                tx.execute(
                    "INSERT INTO schema_migrations (version, name, checksum, applied_at) VALUES (?1, ?2, ?3, ?4)",
                    params![step.version, step.name, checksum, now.as_millis()],
                )?;
                tracing::info!(step = step.name, "migrated the database");
            }
        }
    }
    Ok(tx.commit()?)
}

fn refuse<T>(why: String) -> Tx<T> {
    Err(Fail::Refused(Error::internal(why)))
}

fn checksum(sql: &str) -> String {
    hex::encode(Sha256::digest(sql.as_bytes()))
}

/// The schema as it once was.
#[cfg(test)]
pub(crate) fn run_first(conn: &mut Connection, steps: usize) -> Tx<()> {
    apply(conn, &STEPS[..steps], Timestamp::from_millis(1))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use parlance_application::{
        jobs::Task,
        ports::{JobBoard, JobQueue, store::Outbox},
    };
    use parlance_domain::{JobId, UserId};
    use uuid::Uuid;

    use super::*;
    use crate::EmbeddedStore;

    const NOW: Timestamp = Timestamp::from_millis(1);

    #[test]
    fn the_list_is_the_folder() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../migrations/sqlite");
        let mut files: Vec<String> = std::fs::read_dir(folder)
            .expect("a folder")
            .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
            .collect();
        files.sort();
        let listed: Vec<String> = STEPS.iter().map(|step| format!("{}.sql", step.name)).collect();
        assert_eq!(files, listed);
        for (step, version) in STEPS.iter().zip(1..) {
            assert_eq!(step.version, version);
            assert!(step.name.starts_with(&format!("{version:04}_")));
        }
    }

    #[test]
    fn twice_is_once() {
        let mut conn = Connection::open_in_memory().expect("opens");
        run(&mut conn, NOW).expect("migrates");
        run(&mut conn, NOW).expect("has nothing to do");
    }

    #[test]
    fn refuses_what_it_does_not_know() {
        let mut conn = Connection::open_in_memory().expect("opens");
        run(&mut conn, NOW).expect("migrates");
        conn.execute("INSERT INTO schema_migrations VALUES (9999, 'future', '', 0)", [])
            .expect("inserts");
        let newer = run(&mut conn, NOW).expect_err("refused");
        assert!(
            matches!(&newer, Error::Internal { cause } if cause.contains("schema version 9999")),
            "{newer:?}"
        );

        conn.execute("DELETE FROM schema_migrations WHERE version = 9999", []).expect("deletes");
        conn.execute("UPDATE schema_migrations SET checksum = 'x' WHERE version = 1", [])
            .expect("updates");
        let changed = run(&mut conn, NOW).expect_err("refused");
        assert!(
            matches!(&changed, Error::Internal { cause } if cause.contains("another form")),
            "{changed:?}"
        );
    }

    /// What the first schema had lost of dead jobs is made up for.
    #[tokio::test]
    async fn the_dead_of_the_first_schema_can_be_retried() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut conn = Connection::open(dir.path().join("parlance.db")).expect("opens");
        run_first(&mut conn, 1).expect("migrates");
        let id = JobId(Uuid::from_u128(7));
        let task = Task::WelcomeMail { user_id: UserId(Uuid::from_u128(1)) };
        conn.execute(
            "INSERT INTO jobs (id, task, state, attempt, run_at, error, added_at, finished_at) \
             VALUES (?1, ?2, 'dead', 3, 0, 'no such mailbox', 0, 1)",
            params![id.0, serde_json::to_string(&task).expect("encodes")],
        )
        .expect("inserts");
        drop(conn);

        let at = Timestamp::from_millis;
        let store = EmbeddedStore::open(dir.path(), "first".to_owned(), NOW).expect("opens");
        let view = store.job(id, at(2)).await.expect("reads");
        assert_eq!(view.errors, ["no such mailbox"]);
        assert!(store.is_unfinished(id).await.expect("reads"));
        store.retry(id, at(3)).await.expect("retries");
        let claims = store.claim(9, at(3), Duration::from_secs(30)).await.expect("claims");
        assert_eq!(claims.len(), 1);
    }
}
