//! All writes, with group commit.
//!
//! A write is a job in a queue. A committer takes up to [`GROUP`] queued jobs, runs each in a savepoint of one
//! transaction (a single job needs none), commits once, and only then answers. A failing job rolls back its own
//! savepoint and nothing else; a failing commit fails them all. The queue is bounded: a caller waits for a place at
//! most [`PATIENCE`].
//!
//! Who commits depends on the disk. Where it is quick, handing a small commit to another thread, and its outcome back,
//! is a large part of the cost: there a caller of [`Writer::write_here`] commits on its own thread, for all such
//! callers, like the leader of `LevelDB`'s writer queue. Where commits take longer than [`QUICK`], or a job of
//! [`Writer::write`] is waiting, the writer's own thread does, and holds up nothing else.

use std::{
    mem::take,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, TryLockError,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
    time::Duration,
};

use parlance_application::{Error, Result};
use rusqlite::Connection;
use tokio::{
    sync::{self, mpsc, oneshot},
    time::{Instant, timeout_at},
};

use crate::{
    db::{PATIENCE, exec, guarded},
    error::Tx,
    pace::Pace,
};

/// The most jobs in one commit.
const GROUP: usize = 256;
/// The most queued jobs.
const QUEUE: usize = 1024;
/// The average time of commits below which a caller commits on its own thread, which that blocks. A single one may take
/// longer: every thousand pages or so one checkpoints the log, and a disk may hang.
const QUICK: Duration = Duration::from_millis(2);

/// See the module's description.
pub(crate) struct Writer {
    queue: mpsc::Sender<Box<dyn Job>>,
    /// Held while a job gets its place in the queue. The queue alone would let a newcomer overtake tasks that were
    /// given a place but have not run since.
    turn: sync::Mutex<()>,
    committer: Arc<Mutex<Committer>>,
    state: Arc<State>,
    /// Makes the thread check the queue.
    wake: SyncSender<()>,
}

/// Whoever holds it may commit.
struct Committer {
    conn: Connection,
    jobs: mpsc::Receiver<Box<dyn Job>>,
    state: Arc<State>,
    failing: bool,
}

/// Whether a caller may commit.
struct State {
    /// Commit times.
    pace: Pace,
    /// Jobs of any size whose callers wait.
    any_size: AtomicUsize,
}

/// Counts a job until its caller has an answer, or is gone.
struct AnySize<'a>(&'a State);

/// When dropped, ensures that what is queued by then is committed, even if its caller is gone.
struct Queued<'a>(&'a Writer);

impl Writer {
    /// Writes through `conn`, with a thread of its own.
    pub(crate) fn start(conn: Connection) -> Result<Self> {
        let (queue, jobs) = mpsc::channel(QUEUE);
        // One signal stands for all that were sent before it is received.
        let (wake, woken) = sync_channel(1);
        let state = Arc::new(State { pace: Pace::unknown(QUICK), any_size: AtomicUsize::new(0) });
        let committer = Committer { conn, jobs, state: state.clone(), failing: false };
        let committer = Arc::new(Mutex::new(committer));
        let own = committer.clone();
        thread::Builder::new()
            .name("parlance-writer".to_owned())
            .spawn(move || serve(&own, &woken))
            .map_err(Error::unavailable)?;
        Ok(Self { queue, turn: sync::Mutex::default(), committer, state, wake })
    }

    /// Runs `job` on the writer's thread; answers after the commit. Once it is queued it runs, even if the caller is gone.
    pub(crate) async fn write<T, F>(&self, job: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Tx<T> + Send + 'static,
    {
        let _counted = AnySize::one(&self.state);
        let queued = Queued(self);
        let answer = self.place(job, Instant::now() + PATIENCE).await?;
        drop(queued);
        outcome(answer).await
    }

    /// Like [`Self::write`] for all these jobs together, on the caller's own thread while commits are quick. For small,
    /// frequent jobs.
    pub(crate) async fn write_here<T, F>(&self, jobs: Vec<F>) -> Vec<Result<T>>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Tx<T> + Send + 'static,
    {
        let queued = Queued(self);
        let (deadline, mut answers) = (Instant::now() + PATIENCE, Vec::with_capacity(jobs.len()));
        for job in jobs {
            answers.push(self.place(job, deadline).await);
        }
        // A commit in progress may have picked these jobs up; if not, the thread is woken for them.
        if self.state.lets_callers_commit()
            && let Some(mut committer) = self.try_lock()
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

    /// How many jobs have a place in the queue.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        self.queue.max_capacity() - self.queue.capacity()
    }

    /// Gives a job a place in the queue.
    async fn place<T, F>(&self, job: F, deadline: Instant) -> Result<oneshot::Receiver<Result<T>>>
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
        match timeout_at(deadline, place).await {
            Ok(Ok(())) => Ok(answer),
            _ => Err(Error::unavailable("the writer is overloaded")),
        }
    }

    fn try_lock(&self) -> Option<MutexGuard<'_, Committer>> {
        match self.committer.try_lock() {
            Ok(committer) => Some(committer),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        let Self(Writer { queue, wake, .. }) = self;
        if queue.capacity() < queue.max_capacity() {
            // If it is full, the thread has yet to check the queue.
            let _ = wake.try_send(());
        }
    }
}

impl State {
    fn lets_callers_commit(&self) -> bool {
        self.any_size.load(Ordering::Relaxed) == 0 && self.pace.is_quick()
    }
}

impl<'a> AnySize<'a> {
    fn one(state: &'a State) -> Self {
        state.any_size.fetch_add(1, Ordering::Relaxed);
        Self(state)
    }
}

impl Drop for AnySize<'_> {
    fn drop(&mut self) {
        self.0.any_size.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Committer {
    /// Commits what is queued; false if nothing is.
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
        self.state.pace.took(begun.elapsed());
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

async fn outcome<T>(answer: oneshot::Receiver<Result<T>>) -> Result<T> {
    answer.await.map_err(|_| Error::unavailable("the writer failed"))?
}

/// The thread's main loop: ends when the writer is dropped, after draining the queue.
fn serve(committer: &Mutex<Committer>, woken: &Receiver<()>) {
    let commit_group = || {
        let commit = || committer.lock().unwrap_or_else(PoisonError::into_inner).commit_group();
        // A bug costs its group the answers, but does not stop the writer.
        catch_unwind(AssertUnwindSafe(commit)).unwrap_or(true)
    };
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
        // Fails only if there is nothing to roll back.
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
