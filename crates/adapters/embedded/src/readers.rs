//! The connections for reading.
//!
//! A read starts on the caller's thread, because most take less time than a hop to another thread and back. One that
//! takes longer than [`GLANCE`], or finds the database locked, is interrupted and rerun on a blocking thread, where it
//! holds up nothing else. SQLite checks the clock only between two of its instructions, so a wait for the disk within
//! one is not cut short; but all reads start on such a thread while they have not been [`QUICK`] lately.

use std::{
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parlance_application::{Error, Result};
use rusqlite::Connection;
use tokio::{
    sync::Semaphore,
    task::{spawn_blocking, yield_now},
    time::{Instant, timeout},
};

use crate::{
    db::{LOCKED, PATIENCE, connect, exec, guarded},
    error::{Tx, sql},
    pace::Pace,
};

const READERS: usize = 4;
/// How long a read may take on the caller's thread, which it blocks.
const GLANCE: Duration = Duration::from_millis(1);
/// The average time of a read below which one starts there.
const QUICK: Duration = Duration::from_micros(500);
/// After a read of this length, other tasks on the thread get a turn.
const TURN: Duration = Duration::from_micros(100);
/// SQLite VM instructions between two checks of the clock; a row takes a few.
const INSTRUCTIONS: i32 = 100;

/// See the module's description. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Readers(Arc<Shared>);

struct Shared {
    idle: Mutex<Vec<Connection>>,
    permits: Arc<Semaphore>,
    pace: Pace,
}

impl Readers {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let mut idle = Vec::with_capacity(READERS);
        for _ in 0..READERS {
            let conn = connect(path)?;
            conn.execute_batch("PRAGMA query_only = ON").map_err(|e| sql(&e))?;
            idle.push(conn);
        }
        let permits = Arc::new(Semaphore::new(READERS));
        let shared = Shared { idle: Mutex::new(idle), permits, pace: Pace::unknown(QUICK) };
        Ok(Self(Arc::new(shared)))
    }

    /// Runs `job` on a reader, in a snapshot; once more, in another one, if it was interrupted.
    pub(crate) async fn read<T, F>(&self, job: F) -> Result<T>
    where
        T: Send + 'static,
        F: Fn(&Connection) -> Tx<T> + Send + 'static,
    {
        let permit = timeout(PATIENCE, self.0.permits.clone().acquire_owned())
            .await
            .map_err(|_| Error::unavailable("the readers are overloaded"))?
            .map_err(Error::unavailable)?;
        let glances = self.0.pace.is_quick();
        if glances {
            let begun = Instant::now();
            let answer = self.with_reader(|conn| glance(conn, &job));
            let took = begun.elapsed();
            self.0.pace.took(took);
            if let Some(answer) = answer.transpose() {
                drop(permit);
                if took >= TURN {
                    yield_now().await;
                }
                return answer;
            }
        }
        let readers = self.clone();
        let work = move || {
            let begun = Instant::now();
            let answer =
                readers.with_reader(|conn| in_snapshot(conn, |conn| guarded(|| job(conn))));
            if !glances {
                readers.0.pace.took(begun.elapsed());
            }
            drop(permit);
            answer
        };
        spawn_blocking(work).await.map_err(Error::unavailable)?
    }

    fn with_reader<T>(&self, job: impl FnOnce(&mut Connection) -> Result<T>) -> Result<T> {
        let idle = || self.0.idle.lock().unwrap_or_else(PoisonError::into_inner);
        // As many connections as permits: an empty pool would be a bug.
        let Some(mut conn) = idle().pop() else {
            return Err(Error::internal("no idle reader"));
        };
        let answer = job(&mut conn);
        idle().push(conn);
        answer
    }
}

/// The answer, unless it takes longer than a [`GLANCE`], or would have to wait for a lock.
fn glance<T>(conn: &mut Connection, job: impl Fn(&Connection) -> Tx<T>) -> Result<Option<T>> {
    let (until, late) = (Instant::now() + GLANCE, Arc::new(AtomicBool::new(false)));
    let tell = late.clone();
    let is_late = move || {
        let is_late = Instant::now() >= until;
        tell.store(is_late, Ordering::Relaxed);
        is_late
    };
    let in_a_hurry = |conn: &mut Connection| {
        conn.busy_timeout(Duration::ZERO).map_err(|e| sql(&e))?;
        conn.progress_handler(INSTRUCTIONS, Some(is_late)).map_err(|e| sql(&e))?;
        let answer = guarded(|| job(conn));
        // Before the snapshot ends, which it would interrupt, too.
        conn.progress_handler(0, None::<fn() -> bool>).map_err(|e| sql(&e))?;
        conn.busy_timeout(LOCKED).map_err(|e| sql(&e))?;
        answer
    };
    match in_snapshot(conn, in_a_hurry) {
        Err(Error::Unavailable { .. }) => Ok(None),
        Err(_) if late.load(Ordering::Relaxed) => Ok(None),
        answer => answer.map(Some),
    }
}

fn in_snapshot<T>(
    conn: &mut Connection,
    job: impl FnOnce(&mut Connection) -> Result<T>,
) -> Result<T> {
    exec(conn, "BEGIN DEFERRED").map_err(|e| sql(&e))?;
    let answer = job(conn);
    if !conn.is_autocommit()
        && let Err(error) = exec(conn, "ROLLBACK")
    {
        tracing::error!(%error, "a reader could not end its snapshot");
    }
    answer
}

#[cfg(test)]
mod tests {
    use std::thread::{self, ThreadId};

    use tempfile::TempDir;

    use super::*;

    /// Counts to a number: a few nanoseconds each.
    const COUNT: &str = "WITH RECURSIVE t (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM t WHERE x < ?1) SELECT count(*) FROM t";

    fn readers() -> (Readers, TempDir) {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("test.db");
        let conn = connect(&path).expect("opens");
        conn.execute_batch("CREATE TABLE t (x INTEGER PRIMARY KEY) STRICT").expect("creates");
        (Readers::open(&path).expect("opens"), dir)
    }

    /// Which thread counts to `most`.
    async fn counts(readers: &Readers, most: i64) -> ThreadId {
        let count = move |conn: &Connection| {
            let counted: i64 = conn.prepare_cached(COUNT)?.query_row([most], |row| row.get(0))?;
            assert_eq!(counted, most);
            Ok(thread::current().id())
        };
        readers.read(count).await.expect("reads")
    }

    #[tokio::test]
    async fn a_short_read_changes_threads_only_while_reads_are_slow() {
        let (readers, _dir) = readers();
        let own = thread::current().id();
        readers.0.pace.set(Duration::ZERO);
        assert_eq!(counts(&readers, 1).await, own);
        readers.0.pace.set(QUICK);
        assert_ne!(counts(&readers, 1).await, own);
    }

    #[tokio::test]
    async fn a_long_read_is_done_on_a_thread_of_its_own() {
        let (readers, _dir) = readers();
        let own = thread::current().id();
        readers.0.pace.set(Duration::ZERO);
        assert_ne!(counts(&readers, 5_000_000).await, own);
        // The hundred milliseconds and more that it took there say nothing about the next one.
        assert!(readers.0.pace.average() < Duration::from_millis(10));
    }

    /// SQLite counts a statement's instructions across all its runs, so only one run in many checks the clock.
    #[tokio::test]
    async fn whatever_is_broken_off_ends_its_snapshot() {
        let (readers, _dir) = readers();
        let long = |conn: &Connection| -> Tx<i64> {
            Ok(conn.prepare_cached(COUNT)?.query_row([1_000_000], |row| row.get(0))?)
        };
        for _ in 0..300 {
            let broken_off = readers.with_reader(|conn| {
                let answer = glance(conn, long);
                assert!(conn.is_autocommit());
                answer
            });
            assert!(matches!(broken_off, Ok(None)), "{broken_off:?}");
        }
    }

    #[tokio::test]
    async fn a_reader_cannot_write_and_survives_a_panic() {
        let (readers, _dir) = readers();
        let write = |conn: &Connection| Ok(exec(conn, "INSERT INTO t (x) VALUES (1)")?);
        for pace in [Duration::ZERO, QUICK] {
            readers.0.pace.set(pace);
            assert!(readers.read(write).await.is_err());
            let panics = readers.read(|_| -> Tx<()> { panic!("reader") }).await;
            assert!(matches!(panics, Err(Error::Internal { .. })));
            // No longer in a hurry.
            readers.0.pace.set(QUICK);
            counts(&readers, 1_000_000).await;
        }
        let count: i64 = readers
            .read(|conn| Ok(conn.query_row("SELECT count(*) FROM t", [], |row| row.get(0))?))
            .await
            .expect("reads");
        assert_eq!(count, 0);
    }

    #[tokio::test]
    async fn whoever_shares_the_thread_gets_a_turn() {
        let (readers, _dir) = readers();
        let other = tokio::spawn(async {});
        let rests = |conn: &Connection| {
            let begun = Instant::now();
            while begun.elapsed() < TURN {
                conn.query_row("SELECT 1", [], |_| Ok(()))?;
            }
            Ok(thread::current().id())
        };
        readers.0.pace.set(Duration::ZERO);
        assert_eq!(readers.read(rests).await.expect("reads"), thread::current().id());
        assert!(other.is_finished());
    }

    #[tokio::test]
    async fn a_lock_is_waited_for_on_a_thread_of_its_own() {
        let (readers, _dir) = readers();
        let tries = AtomicBool::new(false);
        let own = thread::current().id();
        let locked = move |_: &Connection| {
            let first = !tries.swap(true, Ordering::Relaxed);
            if first {
                Err(Error::unavailable("locked").into())
            } else {
                Ok(thread::current().id())
            }
        };
        readers.0.pace.set(Duration::ZERO);
        assert_ne!(readers.read(locked).await.expect("reads"), own);
    }

    #[tokio::test(start_paused = true)]
    async fn readers_are_not_waited_for_without_end() {
        let (readers, _dir) = readers();
        let all = u32::try_from(READERS).expect("few");
        let permits = readers.0.permits.clone();
        let busy = permits.acquire_many_owned(all).await.expect("idle readers");
        let late = timeout(PATIENCE * 2, readers.read(|_| Ok(()))).await;
        assert!(matches!(late, Ok(Err(Error::Unavailable { .. }))), "{late:?}");
        drop(busy);
        readers.read(|_| Ok(())).await.expect("reads");
    }
}
