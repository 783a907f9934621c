use std::{
    path::Path,
    pin::{Pin, pin},
    task::{Context, Waker},
    thread::{self, ThreadId},
};

use tempfile::TempDir;
use tokio::time::{sleep, timeout};

use super::*;
use crate::db::connect;

/// A database with a table `t`, and its writer.
fn writer() -> (Writer, TempDir) {
    let dir = tempfile::tempdir().expect("a directory");
    let conn = open(dir.path());
    conn.execute_batch("CREATE TABLE t (x INTEGER PRIMARY KEY) STRICT").expect("creates");
    (Writer::start(conn).expect("starts"), dir)
}

fn open(dir: &Path) -> Connection {
    connect(&dir.join("test.db")).expect("opens")
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

/// What is committed.
fn all(dir: &TempDir) -> Vec<i64> {
    let conn = open(dir.path());
    let mut rows = conn.prepare("SELECT x FROM t ORDER BY x").expect("prepares");
    let rows = rows.query_map([], |row| row.get(0)).expect("reads");
    rows.collect::<rusqlite::Result<_>>().expect("numbers")
}

type Job<T> = Box<dyn FnOnce(&Connection) -> Tx<T> + Send>;

/// The thread that runs it.
fn thread(conn: &Connection) -> Tx<ThreadId> {
    conn.query_row("SELECT 1", [], |_| Ok(()))?;
    Ok(thread::current().id())
}

/// Polls once.
fn waits(future: Pin<&mut impl Future>) -> bool {
    future.poll(&mut Context::from_waker(Waker::noop())).is_pending()
}

impl Writer {
    fn be_quick(&self) {
        self.be_paced(Duration::ZERO);
    }

    fn be_slow(&self) {
        self.be_paced(PATIENCE);
    }

    /// Takes effect after the commit in progress.
    fn be_paced(&self, time: Duration) {
        let committer = self.committer.lock().unwrap_or_else(PoisonError::into_inner);
        committer.state.pace.set(time);
    }
}

#[tokio::test]
async fn a_failing_job_leaves_its_neighbours_alone() {
    let (writer, dir) = writer();
    let held = writer.committer.lock().expect("not poisoned");
    let mut all_of_them = pin!(async {
        tokio::join!(
            writer.write(insert(1)),
            writer.write(insert(2)),
            writer.write(insert(3)),
            writer.write(insert(4)),
            writer.write(insert(2)),
            writer.write(insert(5))
        )
    });
    // They queue up, and become one group.
    assert!(waits(all_of_them.as_mut()));
    drop(held);
    let (one, two, three, four, again, five) = all_of_them.await;
    assert!(one.is_ok() && two.is_ok() && five.is_ok());
    assert!(matches!(three, Err(Error::Conflict { .. })), "{three:?}");
    assert!(matches!(four, Err(Error::Internal { .. })), "{four:?}");
    assert!(matches!(again, Err(Error::Internal { .. })), "{again:?}");
    assert_eq!(all(&dir), [1, 2, 5]);
}

/// Alone in its group it has no savepoint.
#[tokio::test]
async fn a_failing_job_leaves_no_trace() {
    let (writer, dir) = writer();
    assert!(matches!(writer.write(insert(3)).await, Err(Error::Conflict { .. })));
    assert!(matches!(writer.write(insert(4)).await, Err(Error::Internal { .. })));
    assert_eq!(writer.write(insert(5)).await.ok(), Some(5));
    assert_eq!(all(&dir), [5]);
}

#[tokio::test]
async fn a_failed_commit_fails_the_whole_group() {
    let (writer, dir) = writer();
    // A job that ends the transaction stands in for an engine that does.
    let broken = writer.write(|conn| {
        exec(conn, "ROLLBACK")?;
        Ok(())
    });
    assert!(matches!(broken.await, Err(Error::Unavailable { .. })));
    assert!(writer.write(insert(1)).await.is_ok());
    assert_eq!(all(&dir), [1]);
}

#[tokio::test]
async fn a_caller_commits_where_it_is_only_while_commits_are_quick() {
    let (writer, _dir) = writer();
    let here = thread::current().id();
    let of_one = async || writer.write_here(vec![thread]).await.remove(0).expect("writes");
    // The thread has not been woken yet, and does not interfere.
    writer.be_quick();
    assert_eq!(of_one().await, here);
    writer.be_slow();
    assert_ne!(of_one().await, here);
    writer.be_quick();
    assert_ne!(writer.write(thread).await.expect("writes"), here, "it was not asked to");
}

#[tokio::test]
async fn a_caller_commits_no_jobs_of_any_size() {
    let (writer, dir) = writer();
    writer.be_quick();
    let held = writer.committer.lock().expect("not poisoned");
    let mut large = pin!(writer.write(insert(1)));
    assert!(waits(large.as_mut()));
    assert!(!writer.state.lets_callers_commit());
    drop(held);
    assert!(large.as_mut().await.is_ok());
    assert!(writer.state.lets_callers_commit());
    assert_eq!(all(&dir), [1]);
}

#[tokio::test]
async fn a_defect_costs_its_group_an_answer_and_not_the_writer() {
    let (writer, dir) = writer();
    let poison = || {
        let _held = writer.committer.lock();
        panic!("a defect");
    };
    assert!(catch_unwind(AssertUnwindSafe(poison)).is_err());
    assert!(writer.write(insert(1)).await.is_ok());
    writer.be_quick();
    assert!(writer.write_here(vec![insert(2)]).await.remove(0).is_ok());
    assert_eq!(all(&dir), [1, 2]);
}

#[tokio::test]
async fn jobs_that_are_given_together_are_committed_together() {
    for quick in [true, false] {
        let (writer, dir) = writer();
        writer.be_paced(if quick { Duration::ZERO } else { PATIENCE });
        let path = dir.path().to_owned();
        let counted = move |conn: &Connection| {
            let all = "SELECT count(*) FROM t";
            let count = |conn: &Connection| conn.query_row(all, [], |row| row.get::<_, i64>(0));
            Ok((count(conn)?, count(&open(&path))?))
        };
        let jobs: Vec<Job<(i64, i64)>> = vec![
            Box::new(|conn| insert(1)(conn).map(|_| (0, 0))),
            Box::new(|conn| insert(3)(conn).map(|_| (0, 0))),
            Box::new(counted),
        ];
        let [first, refused, last] =
            <[_; 3]>::try_from(writer.write_here(jobs).await).expect("three");
        assert!(first.is_ok());
        assert!(matches!(refused, Err(Error::Conflict { .. })), "{refused:?}");
        assert_eq!(last.ok(), Some((1, 0)), "the first has run, and is not committed");
        assert_eq!(all(&dir), [1]);
    }
}

#[tokio::test]
async fn what_is_queued_runs_though_its_caller_is_gone() {
    let (writer, dir) = writer();
    let deadline = Instant::now() + PATIENCE;
    // The thread has not been told of these.
    for x in 10..10 + QUEUE - 1 {
        let x = i64::try_from(x).expect("small");
        let _answer = writer.place(insert(x), deadline).await.expect("there is a place");
    }
    {
        let mut gone = pin!(writer.write_here(vec![insert(1), insert(2)]));
        assert!(waits(gone.as_mut()), "the second one has no place");
    }
    let committed = async {
        while all(&dir).first() != Some(&1) {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE * 4, committed).await.expect("in time");
}

#[tokio::test]
async fn who_finds_another_committing_is_committed_for() {
    let (writer, dir) = writer();
    writer.be_quick();
    let held = writer.committer.lock().expect("not poisoned");
    let mut late = pin!(writer.write_here(vec![insert(1)]));
    // It fails to get the committer, and wakes the thread.
    assert!(waits(late.as_mut()));
    drop(held);
    let written = timeout(PATIENCE, late).await.expect("in time");
    assert!(matches!(written[..], [Ok(1)]), "{written:?}");
    assert_eq!(all(&dir), [1]);
}
