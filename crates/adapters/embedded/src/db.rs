//! How connections are opened, and who holds them.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    time::Duration,
};

use parlance_application::{Error, Result};
use rusqlite::{Connection, config::DbConfig};

use crate::{
    error::{Tx, sql},
    files::Files,
    readers::Readers,
    writer::Writer,
};

/// How long a caller waits for a reader, or for a place in the writer's queue.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);
/// How long a connection waits for a lock that another process holds.
pub(crate) const LOCKED: Duration = Duration::from_secs(5);
/// Where a connection sorts and keeps its temporary tables.
pub(crate) const TEMP_STORE: &str = "PRAGMA temp_store = MEMORY";

/// Opens a connection with everything set that a connection needs.
pub(crate) fn connect(path: &Path) -> Result<Connection> {
    let open = || {
        let conn = Connection::open(path)?;
        conn.busy_timeout(LOCKED)?;
        conn.set_prepared_statement_cache_capacity(256);
        // Otherwise SQLite replans a statement whenever a bound value that its plan depends on changes.
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
    readers: Readers,
    files: Files,
}

impl Db {
    /// Gives `writer` a thread of its own and opens the readers.
    pub(crate) fn start(writer: Connection, path: &Path) -> Result<Self> {
        Ok(Self {
            writer: Writer::start(writer)?,
            readers: Readers::open(path)?,
            files: Files::of(path)?,
        })
    }

    pub(crate) fn writer(&self) -> &Writer {
        &self.writer
    }

    pub(crate) fn readers(&self) -> &Readers {
        &self.readers
    }

    pub(crate) fn files(&self) -> &Files {
        &self.files
    }

    /// Checkpoints the log and truncates it. Waits for readers up to the busy timeout.
    pub(crate) async fn empty_log(&self) -> Result<()> {
        let files = self.files.clone();
        let empty = move || {
            // Otherwise a missing database would be recreated, and this log written into one put in its place.
            files.check_place()?;
            let conn = connect(files.database())?;
            let busy = conn
                .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, bool>(0))
                .map_err(|error| sql(&error))?;
            if busy { Err(Error::unavailable("the database is in use")) } else { Ok(()) }
        };
        tokio::task::spawn_blocking(empty).await.map_err(Error::unavailable)?
    }
}

/// Turns a panic into an error, so that a bug in one job affects that job only.
pub(crate) fn guarded<T>(job: impl FnOnce() -> Tx<T>) -> Result<T> {
    match catch_unwind(AssertUnwindSafe(job)) {
        Ok(result) => result.map_err(Error::from),
        Err(_) => Err(Error::internal("a store job panicked")),
    }
}

pub(crate) fn exec(conn: &Connection, statement: &str) -> rusqlite::Result<()> {
    conn.prepare_cached(statement)?.execute([]).map(drop)
}

/// SQLite's query plan, step by step.
#[cfg(test)]
pub(crate) fn plan(conn: &Connection, query: &str) -> Vec<String> {
    let mut explain = conn.prepare(&format!("EXPLAIN QUERY PLAN {query}")).expect("plans");
    let steps = explain.raw_query().mapped(|row| row.get(3));
    steps.collect::<rusqlite::Result<_>>().expect("reads")
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
