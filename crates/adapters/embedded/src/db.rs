//! The connections: one writer thread with group commit, and a pool of readers.
//!
//! The writer takes what waits in its queue, up to [`GROUP`] jobs, runs each in a savepoint of one transaction (one
//! alone needs none), commits once, and only then answers. A job that fails takes back its own savepoint and nothing
//! else; a commit that fails fails them all. The queue is bounded: a caller waits for a place, as for a reader, at most
//! [`PATIENCE`].

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use parlance_application::{Error, Result};
use rusqlite::{Connection, config::DbConfig};
use tokio::{
    sync::{self, Semaphore, mpsc, oneshot},
    time::timeout,
};

use crate::{
    error::{Tx, sql},
    files::Files,
};

/// The most jobs in one commit.
const GROUP: usize = 256;
/// The most jobs that wait for the writer.
const QUEUE: usize = 1024;
/// How long a caller waits for a place in the queue, or for a reader.
const PATIENCE: Duration = Duration::from_secs(5);
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
    queue: mpsc::Sender<Box<dyn Job>>,
    /// Held while a job gets its place in the queue. By itself the queue would let a newcomer overtake tasks that have
    /// been given a free place but have not run since.
    turn: sync::Mutex<()>,
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
        let (queue, jobs) = mpsc::channel(QUEUE);
        thread::Builder::new()
            .name("parlance-writer".to_owned())
            .spawn(move || serve(&writer, jobs))
            .map_err(Error::unavailable)?;
        Ok(Self {
            queue,
            turn: sync::Mutex::default(),
            idle: Arc::new(Mutex::new(idle)),
            permits: Arc::new(Semaphore::new(READERS)),
            files: Files::of(path)?,
        })
    }

    /// Runs `job` on the writer; answers after the commit. Once it is queued it runs, even if the caller is gone.
    pub(crate) async fn write<T, F>(&self, job: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Tx<T> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let job = Box::new(Typed { job: Some(job), result: None, reply });
        let place = async {
            let _turn = self.turn.lock().await;
            self.queue.send(job).await
        };
        let Ok(Ok(())) = timeout(PATIENCE, place).await else {
            return Err(Error::unavailable("the writer is overloaded or gone"));
        };
        answer.await.map_err(|_| Error::unavailable("the writer is gone"))?
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

/// A write; the type of its answer is erased.
trait Job: Send {
    /// Does the work; true to keep it.
    fn run(&mut self, conn: &Connection) -> bool;
    /// Tells the caller, once the group's commit has ended.
    fn answer(self: Box<Self>, commit: &Result<()>);
}

struct Typed<F, T> {
    job: Option<F>,
    result: Option<Result<T>>,
    reply: oneshot::Sender<Result<T>>,
}

impl<F, T> Job for Typed<F, T>
where
    T: Send,
    F: FnOnce(&Connection) -> Tx<T> + Send,
{
    fn run(&mut self, conn: &Connection) -> bool {
        let result = self.job.take().map(|job| guarded(|| job(conn)));
        let keep = matches!(result, Some(Ok(_)));
        self.result = result;
        keep
    }

    fn answer(self: Box<Self>, commit: &Result<()>) {
        let result = match (commit, self.result) {
            (Ok(()), Some(result)) => result,
            (Ok(()), None) => Err(Error::internal("a job was never run")),
            (Err(error), _) => Err(error.clone()),
        };
        // The caller may be gone.
        let _ = self.reply.send(result);
    }
}

/// Turns a panic into an error, so that a defect in one job is that job's only.
pub(crate) fn guarded<T>(job: impl FnOnce() -> Tx<T>) -> Result<T> {
    match catch_unwind(AssertUnwindSafe(job)) {
        Ok(result) => result.map_err(Error::from),
        Err(_) => Err(Error::internal("a store job panicked")),
    }
}

/// The writer thread's main loop.
fn serve(conn: &Connection, mut jobs: mpsc::Receiver<Box<dyn Job>>) {
    let mut group = Vec::with_capacity(GROUP);
    let mut failing = false;
    while let Some(first) = jobs.blocking_recv() {
        group.push(first);
        while group.len() < GROUP
            && let Ok(next) = jobs.try_recv()
        {
            group.push(next);
        }
        let commit = commit(conn, &mut group);
        // Logged once, however many jobs fail: the log may be on the same full disk.
        match &commit {
            Err(error) if !failing => tracing::error!(?error, "writes are not committed"),
            Ok(()) if failing => tracing::info!("writes are committed again"),
            _ => {}
        }
        failing = commit.is_err();
        for job in group.drain(..) {
            job.answer(&commit);
        }
    }
}

/// Runs a group of jobs in one transaction.
fn commit(conn: &Connection, group: &mut [Box<dyn Job>]) -> Result<()> {
    // On errors such as a full disk SQLite rolls back the whole transaction: then the savepoint is gone too, and the
    // next statement fails.
    let outcome = exec(conn, "BEGIN IMMEDIATE").and_then(|()| match group {
        // For a single job the transaction itself is the savepoint.
        [only] => exec(conn, if only.run(conn) { "COMMIT" } else { "ROLLBACK" }),
        several => {
            for job in several {
                exec(conn, "SAVEPOINT job")?;
                if !job.run(conn) {
                    exec(conn, "ROLLBACK TO job")?;
                }
                exec(conn, "RELEASE job")?;
            }
            exec(conn, "COMMIT")
        }
    });
    if outcome.is_err() && !conn.is_autocommit() {
        // It fails only if there is nothing to take back.
        let _ = exec(conn, "ROLLBACK");
    }
    outcome.map_err(Error::unavailable)
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

    fn insert(x: i64) -> impl FnOnce(&Connection) -> Tx<i64> + Send {
        move |conn| {
            conn.prepare_cached("INSERT INTO t (x) VALUES (?1)")?.execute([x])?;
            match x {
                3 => Err(Error::conflict("three").into()),
                4 => panic!("four"),
                _ => Ok(x),
            }
        }
    }

    #[tokio::test]
    async fn a_failing_job_leaves_its_neighbours_alone() {
        let dir = tempfile::tempdir().expect("a directory");
        let db = db(dir.path());
        // Holds the writer, so that the next jobs become one group.
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let (runs, begun) = oneshot::channel();
        let holder = db.write(move |_| {
            let _ = runs.send(());
            let _ = wait.recv();
            Ok(())
        });
        let rest = async {
            begun.await.expect("the holder runs");
            let all = async {
                tokio::join!(
                    db.write(insert(1)),
                    db.write(insert(2)),
                    db.write(insert(3)),
                    db.write(insert(4)),
                    db.write(insert(2)),
                    db.write(insert(5))
                )
            };
            let release = async { go.send(()).expect("held") };
            tokio::join!(all, release).0
        };
        let (held, answers) = tokio::join!(holder, rest);
        let (one, two, three, four, again, five) = answers;
        assert!(held.is_ok() && one.is_ok() && two.is_ok() && five.is_ok());
        assert!(matches!(three, Err(Error::Conflict { .. })), "{three:?}");
        assert!(matches!(four, Err(Error::Internal { .. })), "{four:?}");
        assert!(matches!(again, Err(Error::Internal { .. })), "{again:?}");
        let kept: Vec<i64> = db
            .read(|conn| {
                let mut rows = conn.prepare_cached("SELECT x FROM t ORDER BY x")?;
                let rows = rows.query_map([], |row| row.get(0))?;
                Ok(rows.collect::<Result<_, _>>()?)
            })
            .await
            .expect("reads");
        assert_eq!(kept, [1, 2, 5]);
    }

    /// Alone in its group it has no savepoint.
    #[tokio::test]
    async fn a_failing_job_leaves_no_trace() {
        let dir = tempfile::tempdir().expect("a directory");
        let db = db(dir.path());
        assert!(matches!(db.write(insert(3)).await, Err(Error::Conflict { .. })));
        assert!(matches!(db.write(insert(4)).await, Err(Error::Internal { .. })));
        let written = db.write(insert(5)).await;
        let count = |conn: &Connection| {
            Ok(conn.query_row("SELECT count(*) FROM t", [], |row| row.get::<_, i64>(0))?)
        };
        assert_eq!((written.ok(), db.read(count).await.ok()), (Some(5), Some(1)));
    }

    #[tokio::test]
    async fn a_reader_cannot_write_and_survives_a_panic() {
        let dir = tempfile::tempdir().expect("a directory");
        let db = db(dir.path());
        assert!(db.read(insert(1)).await.is_err());
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

    #[tokio::test]
    async fn a_failed_commit_fails_the_whole_group() {
        let dir = tempfile::tempdir().expect("a directory");
        let db = db(dir.path());
        // A job that ends the transaction stands in for an engine that does.
        let broken = db.write(|conn| {
            exec(conn, "ROLLBACK")?;
            Ok(())
        });
        assert!(matches!(broken.await, Err(Error::Unavailable { .. })));
        assert!(db.write(insert(1)).await.is_ok());
    }
}
