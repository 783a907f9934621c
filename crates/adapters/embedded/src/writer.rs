//! All writes, with group commit.
//!
//! A write is a job in a queue. Somebody takes what waits, up to [`GROUP`] jobs, runs each in a savepoint of one
//! transaction (one alone needs none), commits once, and only then answers. A job that fails takes back its own
//! savepoint and nothing else; a commit that fails fails them all. The queue is bounded: a caller waits for a place at
//! most [`PATIENCE`].
//!
//! Who that is depends on the disk. Handing a small commit to another thread, and its outcome back, costs more than the
//! commit does on a disk that syncs in a tenth of a millisecond: there a caller of [`Writer::write_here`] commits on its
//! own thread, for all who wait, as the leader of `LevelDB`'s queue of writers does. Where commits take longer than
//! [`QUICK`], and for all other callers, the writer's own thread does, and holds up nothing else.

use std::{
    mem::take,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
    time::Duration,
};

use parlance_application::{Error, Result};
use rusqlite::Connection;
use tokio::{
    sync::{self, mpsc, oneshot},
    time::{Instant, timeout},
};

use crate::{
    db::{PATIENCE, exec, guarded},
    error::Tx,
};

/// The most jobs in one commit.
const GROUP: usize = 256;
/// The most jobs that wait.
const QUEUE: usize = 1024;
/// How long commits may take, on average, for a caller to commit on its own thread. Whatever else this thread does waits as long.
const QUICK: Duration = Duration::from_millis(2);

/// See the module's description.
pub(crate) struct Writer {
    queue: mpsc::Sender<Box<dyn Job>>,
    /// Held while a job gets its place in the queue. By itself the queue would let a newcomer overtake tasks that have
    /// been given a free place but have not run since.
    turn: sync::Mutex<()>,
    committer: Arc<Mutex<Committer>>,
    pace: Arc<Pace>,
    /// Has the thread look into the queue.
    wake: SyncSender<()>,
}

/// Whoever holds it may commit.
struct Committer {
    conn: Connection,
    jobs: mpsc::Receiver<Box<dyn Job>>,
    pace: Arc<Pace>,
    failing: bool,
}

/// How long commits take, in nanoseconds: a moving average of which the last one is an eighth. A disk that was stalled
/// once for a tenth of a second is quick again after some thirty commits.
struct Pace(AtomicU64);

/// Sees to it, when it is dropped, that what has a place in the queue by then is committed, even if its caller is gone.
struct Queued<'a>(&'a Writer);

impl Writer {
    /// Writes by `conn`, with a thread of its own.
    pub(crate) fn start(conn: Connection) -> Result<Self> {
        let (queue, jobs) = mpsc::channel(QUEUE);
        // One signal stands for all that were given before it was heard.
        let (wake, woken) = sync_channel(1);
        let pace = Arc::new(Pace::unknown());
        let committer = Committer { conn, jobs, pace: pace.clone(), failing: false };
        let committer = Arc::new(Mutex::new(committer));
        let own = committer.clone();
        thread::Builder::new()
            .name("parlance-writer".to_owned())
            .spawn(move || serve(&own, &woken))
            .map_err(Error::unavailable)?;
        Ok(Self { queue, turn: sync::Mutex::default(), committer, pace, wake })
    }

    /// Runs `job` on the writer's thread; answers after the commit. Once it is queued it runs, even if the caller is gone.
    pub(crate) async fn write<T, F>(&self, job: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Tx<T> + Send + 'static,
    {
        let queued = Queued(self);
        let answer = self.queue(job).await?;
        drop(queued);
        outcome(answer).await
    }

    /// As [`Self::write`] for each of the jobs, in one group, on the caller's own thread while commits are quick. For jobs
    /// that are small, and many.
    pub(crate) async fn write_here<T, F>(&self, jobs: Vec<F>) -> Vec<Result<T>>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Tx<T> + Send + 'static,
    {
        let mut answers = Vec::with_capacity(jobs.len());
        let queued = Queued(self);
        for job in jobs {
            answers.push(self.queue(job).await);
        }
        // Whoever commits at present may have taken these jobs along; if not, the thread is woken for them.
        if self.pace.is_quick()
            && let Ok(mut committer) = self.committer.try_lock()
        {
            committer.commit_group();
        }
        drop(queued);
        let mut answered = Vec::with_capacity(answers.len());
        for answer in answers {
            answered.push(match answer {
                Ok(answer) => outcome(answer).await,
                Err(error) => Err(error),
            });
        }
        answered
    }

    async fn queue<T, F>(&self, job: F) -> Result<oneshot::Receiver<Result<T>>>
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
        match timeout(PATIENCE, place).await {
            Ok(Ok(())) => Ok(answer),
            _ => Err(Error::unavailable("the writer is overloaded or gone")),
        }
    }
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        let Self(Writer { queue, wake, .. }) = self;
        if queue.capacity() < queue.max_capacity() {
            // If it is full the thread has yet to look.
            let _ = wake.try_send(());
        }
    }
}

impl Committer {
    /// Commits what waits; false if nothing does.
    fn commit_group(&mut self) -> bool {
        let mut group = Vec::new();
        while group.len() < GROUP
            && let Ok(job) = self.jobs.try_recv()
        {
            group.push(job);
        }
        if group.is_empty() {
            return false;
        }
        let begun = Instant::now();
        let commit = commit(&self.conn, &mut group);
        self.pace.took(begun.elapsed());
        // Logged once, however many jobs fail: the log may be on the same full disk.
        match (&commit, take(&mut self.failing)) {
            (Err(error), false) => tracing::error!(?error, "writes are not committed"),
            (Ok(()), true) => tracing::info!("writes are committed again"),
            _ => {}
        }
        self.failing = commit.is_err();
        for job in group {
            job.answer(&commit);
        }
        true
    }
}

impl Pace {
    /// Nobody waits for a disk that nobody knows.
    fn unknown() -> Self {
        Self(AtomicU64::new(nanos(QUICK) * 2))
    }

    fn is_quick(&self) -> bool {
        self.0.load(Ordering::Relaxed) < nanos(QUICK)
    }

    /// Called by one at a time.
    fn took(&self, time: Duration) {
        let average = self.0.load(Ordering::Relaxed);
        self.0.store(average - average / 8 + nanos(time) / 8, Ordering::Relaxed);
    }
}

async fn outcome<T>(answer: oneshot::Receiver<Result<T>>) -> Result<T> {
    answer.await.map_err(|_| Error::unavailable("the writer is gone"))?
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// The thread's main loop: it ends when the writer is dropped, after what waits.
fn serve(committer: &Mutex<Committer>, woken: &Receiver<()>) {
    let commit_group = || committer.lock().unwrap_or_else(PoisonError::into_inner).commit_group();
    while woken.recv().is_ok() {
        while commit_group() {}
    }
    while commit_group() {}
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

#[cfg(test)]
mod tests;
