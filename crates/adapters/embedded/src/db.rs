//! The connections: the [`Writer`]'s, and a pool of readers.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use parlance_application::{Error, Result};
use rusqlite::{Connection, config::DbConfig};
use tokio::{sync::Semaphore, time::timeout};

use crate::{
    error::{Tx, sql},
    files::Files,
    writer::Writer,
};

/// How long a caller waits for a reader, or for a place in the writer's queue.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);
/// Connections for reading.
const READERS: usize = 4;
/// Where a connection sorts and keeps its temporary tables.
pub(crate) const TEMP_STORE: &str = "PRAGMA temp_store = MEMORY";

/// Opens a connection with everything set that a connection needs.
pub(crate) fn connect(path: &Path) -> Result<Connection> {
    let open = || {
        let conn = Connection::open(path)?;
        conn.busy_timeout(Duration::from_secs(5))?;
        conn.set_prepared_statement_cache_capacity(256);
        // Without it SQLite plans a statement anew for each value that its plan has looked at.
        conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
        conn.execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; \
             PRAGMA cache_size = -16384;",
        )?;
        conn.execute_batch(TEMP_STORE)?;
        Ok(conn)
    };
    open().map_err(|e: rusqlite::Error| sql(&e))
}

/// The running database.
pub(crate) struct Db {
    writer: Writer,
    idle: Arc<Mutex<Vec<Connection>>>,
    permits: Arc<Semaphore>,
    files: Files,
}

impl Db {
    /// Gives `writer` a thread of its own and opens the readers.
    pub(crate) fn start(writer: Connection, path: &Path) -> Result<Self> {
        let mut idle = Vec::with_capacity(READERS);
        for _ in 0..READERS {
            let conn = connect(path)?;
            conn.execute_batch("PRAGMA query_only = ON").map_err(|e| sql(&e))?;
            idle.push(conn);
        }
        Ok(Self {
            writer: Writer::start(writer)?,
            idle: Arc::new(Mutex::new(idle)),
            permits: Arc::new(Semaphore::new(READERS)),
            files: Files::of(path)?,
        })
    }

    pub(crate) fn writer(&self) -> &Writer {
        &self.writer
    }

    pub(crate) fn files(&self) -> &Files {
        &self.files
    }

    /// Copies the log into the database and empties it. Waits for readers as long as for a lock.
    pub(crate) async fn empty_log(&self) -> Result<()> {
        let files = self.files.clone();
        let empty = move || {
            // Otherwise a missing database would be created anew, and this log written into one put in its place.
            files.check_place()?;
            let conn = connect(files.database())?;
            let busy = conn
                .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, bool>(0))
                .map_err(|error| sql(&error))?;
            if busy { Err(Error::unavailable("the database is in use")) } else { Ok(()) }
        };
        tokio::task::spawn_blocking(empty).await.map_err(Error::unavailable)?
    }

    /// Runs `job` on a reader, in a snapshot.
    pub(crate) async fn read<T, F>(&self, job: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Tx<T> + Send + 'static,
    {
        let permit = timeout(PATIENCE, Arc::clone(&self.permits).acquire_owned())
            .await
            .map_err(|_| Error::unavailable("the readers are overloaded"))?
            .map_err(Error::unavailable)?;
        let idle = Arc::clone(&self.idle);
        let work = move || {
            // As many connections as permits: an empty pool would be a defect.
            let Some(conn) = idle.lock().unwrap_or_else(PoisonError::into_inner).pop() else {
                return Err(Error::internal("no idle reader"));
            };
            let result = exec(&conn, "BEGIN DEFERRED")
                .map_err(|e| sql(&e))
                .and_then(|()| guarded(|| job(&conn)));
            if !conn.is_autocommit()
                && let Err(error) = exec(&conn, "ROLLBACK")
            {
                tracing::error!(%error, "a reader could not end its snapshot");
            }
            idle.lock().unwrap_or_else(PoisonError::into_inner).push(conn);
            drop(permit);
            result
        };
        tokio::task::spawn_blocking(work).await.map_err(Error::unavailable)?
    }
}

/// Turns a panic into an error, so that a defect in one job is that job's only.
pub(crate) fn guarded<T>(job: impl FnOnce() -> Tx<T>) -> Result<T> {
    match catch_unwind(AssertUnwindSafe(job)) {
        Ok(result) => result.map_err(Error::from),
        Err(_) => Err(Error::internal("a store job panicked")),
    }
}

pub(crate) fn exec(conn: &Connection, statement: &str) -> rusqlite::Result<()> {
    conn.prepare_cached(statement)?.execute([]).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn db(dir: &Path) -> Db {
        let path = dir.join("test.db");
        let conn = connect(&path).expect("opens");
        conn.execute_batch("CREATE TABLE t (x INTEGER PRIMARY KEY) STRICT").expect("creates");
        Db::start(conn, &path).expect("starts")
    }

    /// Only with this setting does SQLite sync the log at every commit. Killing the process would not show the
    /// difference; a power cut would.
    #[test]
    fn a_commit_is_synced() {
        let dir = tempfile::tempdir().expect("a directory");
        let conn = connect(&dir.path().join("test.db")).expect("opens");
        let synchronous = conn.query_row("PRAGMA synchronous", [], |row| row.get::<_, i64>(0));
        let journal = conn.query_row("PRAGMA journal_mode", [], |row| row.get::<_, String>(0));
        assert_eq!((synchronous, journal), (Ok(2), Ok("wal".to_owned())));
    }

    #[tokio::test]
    async fn a_reader_cannot_write_and_survives_a_panic() {
        let dir = tempfile::tempdir().expect("a directory");
        let db = db(dir.path());
        let write = |conn: &Connection| Ok(exec(conn, "INSERT INTO t (x) VALUES (1)")?);
        assert!(db.read(write).await.is_err());
        for _ in 0..=READERS {
            assert!(matches!(
                db.read(|_| -> Tx<()> { panic!("reader") }).await,
                Err(Error::Internal { .. })
            ));
        }
        let count: i64 = db
            .read(|conn| Ok(conn.query_row("SELECT count(*) FROM t", [], |row| row.get(0))?))
            .await
            .expect("reads");
        assert_eq!(count, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn readers_are_not_waited_for_without_end() {
        let dir = tempfile::tempdir().expect("a directory");
        let db = db(dir.path());
        let all = u32::try_from(READERS).expect("few");
        let busy = Arc::clone(&db.permits).acquire_many_owned(all).await.expect("idle readers");
        let late = timeout(PATIENCE * 2, db.read(|_| Ok(()))).await;
        assert!(matches!(late, Ok(Err(Error::Unavailable { .. }))), "{late:?}");
        drop(busy);
        db.read(|_| Ok(())).await.expect("reads");
    }
}
