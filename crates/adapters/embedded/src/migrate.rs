//! The schema, as numbered steps that are never changed once released.
//!
//! To add a step: put `NNNN_name.sql` into `migrations/sqlite/` and its line, number and name, into [`STEPS`]; a test
//! compares the two.

use std::path::Path;

use parlance_application::{Error, Result};
use parlance_domain::Timestamp;
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};
use sha2::{Digest, Sha256};

use crate::{
    db::TEMP_STORE,
    error::{Fail, Tx},
};

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
    5 "0005_a_persons_conversations_side_by_side"
    6 "0006_the_buried_in_the_order_of_their_turn"
};

/// Brings the schema up to date, in one transaction. Refuses a database written by a newer program, or whose steps
/// differ from those that this program knows.
pub(crate) fn run(conn: &mut Connection, now: Timestamp) -> Result<()> {
    apply(conn, STEPS, now).map_err(|fail| {
        let error = Error::from(fail);
        tracing::error!(?error, "the database cannot be used");
        error
    })
}

fn apply(conn: &mut Connection, steps: &[Step], now: Timestamp) -> Tx<()> {
    let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    tx.execute_batch(
        "CREATE TABLE IF NOT EXISTS schema_migrations (
             version INTEGER PRIMARY KEY, name TEXT NOT NULL, checksum TEXT NOT NULL, applied_at INTEGER NOT NULL
         ) STRICT",
    )?;
    let pending = pending(&tx, steps)?;
    if pending.is_empty() {
        return Ok(());
    }
    // A step may sort more than fits in memory. Its temporary files go beside the database, which has space; the
    // system's own directory may be read-only.
    if let Some(dir) = tx.path().map(Path::new).and_then(Path::parent).and_then(Path::to_str) {
        tx.pragma_update(None, "temp_store_directory", dir)?;
    }
    tx.execute_batch("PRAGMA temp_store = FILE")?;
    for step in pending {
        tx.execute_batch(step.sql)?;
        tx.execute(
            "INSERT INTO schema_migrations (version, name, checksum, applied_at) VALUES (?1, ?2, ?3, ?4)",
            params![step.version, step.name, checksum(step.sql), now.as_millis()],
        )?;
        tracing::info!(step = step.name, "migrated the database");
    }
    tx.commit()?;
    conn.execute_batch(TEMP_STORE)?;
    // The steps may have made the log as large as the database.
    Ok(conn.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)")?)
}

/// The steps that the database lacks.
fn pending<'a>(conn: &Connection, steps: &'a [Step]) -> Tx<Vec<&'a Step>> {
    let found: i64 =
        conn.query_row("SELECT coalesce(max(version), 0) FROM schema_migrations", [], |row| {
            row.get(0)
        })?;
    let known = steps.last().map_or(0, |step| step.version);
    if found > known {
        return refuse(format!(
            "the database has schema version {found}, but this program knows versions up to {known} only: run a newer program"
        ));
    }
    let mut pending = Vec::new();
    for step in steps {
        let stored: Option<String> = conn
            .query_row(
                "SELECT checksum FROM schema_migrations WHERE version = ?1",
                [step.version],
                |row| row.get(0),
            )
            .optional()?;
        match stored {
            Some(stored) if stored == checksum(step.sql) => {}
            Some(_) => {
                return refuse(format!(
                    "migration {} was applied to the database in another form than this program has",
                    step.name
                ));
            }
            None => pending.push(step),
        }
    }
    Ok(pending)
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
    use crate::{EmbeddedStore, db::connect};

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
    fn only_steps_empty_the_log() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut conn = connect(&dir.path().join("test.db")).expect("opens");
        let log = || std::fs::metadata(dir.path().join("test.db-wal")).expect("a log").len();
        run(&mut conn, NOW).expect("migrates");
        assert_eq!(log(), 0);
        let temp_store = conn.query_row("PRAGMA temp_store", [], |row| row.get::<_, i64>(0));
        assert_eq!(temp_store, Ok(2), "in memory again");
        let place =
            conn.query_row("PRAGMA temp_store_directory", [], |row| row.get::<_, String>(0));
        assert_eq!(place.ok().as_deref(), dir.path().to_str());

        conn.execute("INSERT INTO meta (key, value) VALUES ('x', '1')", []).expect("inserts");
        run(&mut conn, NOW).expect("has nothing to do");
        assert!(log() > 0);
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

    /// What the first schema lost of dead jobs is restored.
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

    #[test]
    fn everybody_stays_in_what_they_were_in() {
        let mut conn = Connection::open_in_memory().expect("opens");
        run_first(&mut conn, 4).expect("migrates");
        let (ada, bob, team, news) = ([1; 16], [2; 16], [3; 16], [4; 16]);
        for id in [ada, bob] {
            conn.execute("INSERT INTO users VALUES (?1, ?1 || '@x.org', 'A', '', 1)", [id])
                .expect("inserts");
        }
        conn.execute("INSERT INTO workspaces VALUES (?1, 'Team', 'code', 1, NULL)", [team])
            .expect("inserts");
        for id in [team, news] {
            conn.execute(
                "INSERT INTO conversations (id, workspace_id, kind, created_by, created_at) VALUES (?1, ?2, 'channel', ?3, 1)",
                [id, team, ada],
            )
            .expect("inserts");
        }
        for (conversation, user, read, at) in
            [(team, bob, 5, 30), (news, bob, 0, 20), (news, ada, 7, 10)]
        {
            conn.execute(
                "INSERT INTO conversation_members (conversation_id, user_id, read_seq, joined_at) VALUES (?1, ?2, ?3, ?4)",
                params![conversation, user, read, at],
            )
            .expect("inserts");
        }
        let members = |conn: &Connection| -> Vec<([u8; 16], [u8; 16], i64, i64)> {
            let mut all = conn
                .prepare(
                    "SELECT conversation_id, user_id, read_seq, joined_at FROM conversation_members ORDER BY joined_at",
                )
                .expect("prepares");
            let row =
                |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?));
            all.query_map([], row).expect("asks").collect::<rusqlite::Result<_>>().expect("reads")
        };
        let before = members(&conn);
        run(&mut conn, NOW).expect("migrates");
        assert_eq!(members(&conn), before);
        assert_eq!(before.len(), 3);
    }
}
