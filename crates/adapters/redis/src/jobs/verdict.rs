//! How the end of an attempt is recorded in Redis.

use std::{
    sync::{Arc, LazyLock},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bullmq::{Error as BullError, error::error_code};
use deadpool_redis::redis::{self, Script};
use parlance_application::{
    Result,
    ports::{KEPT_DONE, KEPT_ERRORS, MinuteView, Verdict},
};
use parlance_domain::Timestamp;

use super::{
    Server,
    held::HeldJob,
    server::{is_broken, port_error},
};

/// The longest error that is kept, in characters.
const LONGEST: usize = 1000;
/// How long a minute's counts are kept: more than the board shows.
const COUNTS_SECS: u64 = 5 * 3600;
/// How long to wait before a verdict is resent after the connection broke.
const PAUSES: [Duration; 3] =
    [Duration::from_millis(200), Duration::from_millis(800), Duration::from_secs(2)];
/// The answers to a worker that has lost the job.
const LOST: [i64; 4] = [
    error_code::JOB_NOT_EXIST,
    error_code::JOB_LOCK_NOT_EXIST,
    error_code::JOB_LOCK_MISMATCH,
    error_code::JOB_NOT_IN_STATE,
];
/// The most old jobs that are removed at a time.
const TRIM: usize = 100;

/// How long a job that this program does not know is deferred.
const STRANGE: Duration = Duration::from_mins(1);

/// `BullMQ` leaves the history of errors to its clients, so this script is ours. It adds the error, if any, where
/// `BullMQ`'s tools look for it, and changes one of the job's counters. Returns whether the job is still this worker's.
/// Idempotent for each claim: the first answer may have been lost.
static NOTE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
if redis.call('GET', KEYS[1] .. ':lock') ~= ARGV[1] then return 0 end
if redis.call('HGET', KEYS[1], 'noted') == ARGV[1] then return 1 end
redis.call('HSET', KEYS[1], 'noted', ARGV[1])
redis.call('HINCRBY', KEYS[1], ARGV[2], ARGV[3])
if ARGV[5] then
  local errors = {}
  local known, kept = pcall(cjson.decode, redis.call('HGET', KEYS[1], 'stacktrace') or '[]')
  if known and type(kept) == 'table' then errors = kept end
  errors[#errors + 1] = ARGV[5]
  while #errors > tonumber(ARGV[4]) do table.remove(errors, 1) end
  redis.call('HSET', KEYS[1], 'failedReason', ARGV[5], 'stacktrace', cjson.encode(errors))
end
return 1
",
    )
});

/// Removes what is left of an active job, if it is still this worker's.
static FORGET: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
if redis.call('GET', KEYS[1] .. ':lock') ~= ARGV[1] then return end
redis.call('LREM', KEYS[2], 0, ARGV[2])
redis.call('SREM', KEYS[3], ARGV[2])
redis.call('DEL', KEYS[1], KEYS[1] .. ':lock')
",
    )
});

/// A number in the job's hash, and what is added to it: `atm` counts the attempts that are over, `ats` those begun.
type Change = (&'static str, i8);
const ATTEMPTED: Change = ("atm", 1);
/// The move to the failed jobs counts the attempt itself.
const LEFT_TO_THE_MOVE: Change = ("atm", 0);
const NOT_BEGUN: Change = ("ats", -1);

#[derive(Clone, Copy)]
enum End {
    Done,
    Dead,
}

impl Server {
    pub(super) async fn settle(
        &self,
        mut job: HeldJob,
        verdict: &Verdict,
        at: Timestamp,
    ) -> Result<()> {
        let mut pauses = PAUSES.into_iter();
        let outcome = loop {
            let outcome = self.record(&mut job, verdict, at).await;
            // A second try cannot end the job twice: if the first did, the lock is gone.
            match (&outcome, pauses.next()) {
                (Err(error), Some(pause)) if is_broken(error) => tokio::time::sleep(pause).await,
                _ => break outcome,
            }
        };
        match outcome {
            Ok(Some(end)) => {
                if let Err(error) = self.account(end, at).await {
                    // The job has ended nevertheless.
                    tracing::warn!(%error, "the end of a job is not counted");
                }
                Ok(())
            }
            Ok(None) => Ok(()),
            Err(BullError::Script { code, .. }) if LOST.contains(&code) => Ok(()),
            Err(error) => Err(port_error(&error)),
        }
    }

    /// Returns how the job ended; `None` if the claim was lost or the job goes on.
    async fn record(
        &self,
        held: &mut HeldJob,
        verdict: &Verdict,
        at: Timestamp,
    ) -> Result<Option<End>, BullError> {
        let workers = Arc::clone(&held.workers);
        match verdict {
            Verdict::Done => {
                self.try_ask(&workers, held.inner.move_to_completed("done")).await?;
                Ok(Some(End::Done))
            }
            Verdict::Dead { error } => {
                let error = shortened(error);
                if !self.note(held, Some(error), LEFT_TO_THE_MOVE).await? {
                    return Ok(None);
                }
                self.try_ask(&workers, held.inner.move_to_failed(error)).await?;
                Ok(Some(End::Dead))
            }
            Verdict::Retry { error, at: again } => {
                self.delay(held, Some(error), ATTEMPTED, again.since(at)).await?;
                Ok(None)
            }
        }
    }

    /// Defers a job that this program does not know, for one that does. It counts as no attempt and leaves no error:
    /// one a minute would soon push out those of real attempts.
    pub(super) async fn put_off(&self, job: &HeldJob) -> Result<()> {
        match self.delay(job, None, NOT_BEGUN, STRANGE).await {
            Err(BullError::Script { code, .. }) if LOST.contains(&code) => Ok(()),
            outcome => outcome.map_err(|error| port_error(&error)),
        }
    }

    /// Removes a job whose data is gone, so that the outbox can add it again. Its remains would be taken for the job.
    pub(super) async fn let_go(&self, job: &HeldJob) -> Result<()> {
        let id = job.inner.id();
        tracing::warn!(job = id, "Redis has forgotten a job; it is added again within minutes");
        let queue = self.queue().await?;
        let keys = queue.keys();
        let mut connection = queue.connection().connection();
        let mut script = FORGET.key(keys.job_key(id));
        script.key(keys.active()).key(keys.stalled()).arg(job.token()).arg(id);
        let forgotten = async { Ok(script.invoke_async::<()>(&mut connection).await?) };
        self.ask(&queue, forgotten).await
    }

    /// Delays a job. Does nothing if it is no longer this worker's.
    async fn delay(
        &self,
        held: &HeldJob,
        error: Option<&str>,
        change: Change,
        by: Duration,
    ) -> Result<(), BullError> {
        if !self.note(held, error.map(shortened), change).await? {
            return Ok(());
        }
        let due = now().saturating_add(super::millis(by));
        self.try_ask(&held.workers, held.inner.move_to_delayed(due)).await
    }

    async fn note(
        &self,
        held: &HeldJob,
        error: Option<&str>,
        (number, by): Change,
    ) -> Result<bool, BullError> {
        let queue = self.queue().await.map_err(|_| BullError::ConnectionClosed)?;
        let mut connection = queue.connection().connection();
        let mut script = NOTE.key(queue.keys().job_key(held.inner.id()));
        script.arg(held.token()).arg(number).arg(by).arg(KEPT_ERRORS).arg(error);
        let noted = async { Ok(script.invoke_async(&mut connection).await?) };
        self.try_ask(&queue, noted).await
    }

    /// Counts for the board, and keeps done jobs from piling up: `BullMQ` trims them for its own workers only.
    async fn account(&self, end: End, at: Timestamp) -> Result<()> {
        let queue = self.queue().await?;
        let minute = self.key(MinuteView::number(at));
        let field = match end {
            End::Done => "done",
            End::Dead => "failed",
        };
        let mut pipeline = redis::pipe();
        pipeline.hincr(&minute, field, 1).ignore();
        pipeline.cmd("EXPIRE").arg(&minute).arg(COUNTS_SECS).ignore();
        pipeline
            .cmd("ZREVRANGE")
            .arg(queue.keys().completed())
            .arg(KEPT_DONE)
            .arg(KEPT_DONE + TRIM - 1);
        let (old,): (Vec<String>,) = self.run(&queue, pipeline).await?;
        for id in old {
            self.ask(&queue, queue.remove(&id)).await?;
        }
        Ok(())
    }
}

/// The current time in milliseconds.
#[expect(
    clippy::disallowed_methods,
    reason = "`bullmq` decides by this machine's clock what is due"
)]
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, super::millis)
}

fn shortened(error: &str) -> &str {
    error.char_indices().nth(LONGEST).map_or(error, |(end, _)| &error[..end])
}
