//! Connections to the queue: made when needed and dropped when they fail, so that the next caller makes new ones.

use std::{fmt::Display, sync::Arc, time::Duration};

use bullmq::{
    Error as BullError, Queue, Worker, WorkerOptions, options::QueueOptions,
    options::RedisConnectionOptions, worker::WorkerEvent,
};
use deadpool_redis::redis;
use parlance_application::{Error, Result};
use tokio::{sync::Mutex, task::AbortHandle, time::Instant};

use super::RedisJobsOptions;
use crate::connection;

/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(3);
/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(5);
/// The shortest time that an option may set.
const SHORTEST: Duration = Duration::from_millis(10);
/// How long after a failed attempt to connect other callers fail without trying.
const REST: Duration = Duration::from_millis(500);
/// How often a job may stall before it is given up: it may itself be killing its workers.
const STALLS: u32 = 50;
/// The suffix of the name of a connection that only looks for stalled jobs.
pub(crate) const WATCHER: &str = "-stalled-check";

/// The queue in Redis.
pub(crate) struct Server {
    pub(crate) options: RedisJobsOptions,
    connection: RedisConnectionOptions,
    queue: Slot<Queue>,
    workers: Slot<Workers>,
}

impl Server {
    pub(super) fn new(url: &str, mut options: RedisJobsOptions) -> Result<Self> {
        connection::client(url)?;
        let nameless = |name: &str| name.is_empty() || name.contains(':');
        if nameless(&options.prefix)
            || nameless(&options.queue)
            || options.lock < SHORTEST
            || options.stalled_check < SHORTEST
        {
            return Err(Error::internal("the options of the job queue are not valid"));
        }
        // Client names in Redis have no spaces; and in a token a colon ends the worker's name.
        options.worker = options.worker.replace(|c: char| !c.is_ascii_graphic() || c == ':', "-");
        Ok(Self {
            options,
            connection: RedisConnectionOptions::default().url(url),
            queue: Slot::default(),
            workers: Slot::default(),
        })
    }

    pub(crate) async fn queue(&self) -> Result<Arc<Queue>> {
        let options = QueueOptions::default()
            .connection(self.connection.clone())
            .prefix(&self.options.prefix);
        self.queue.get(Queue::with_options(&self.options.queue, options)).await
    }

    pub(super) async fn workers(&self) -> Result<Arc<Workers>> {
        self.workers.get(Workers::connect(&self.options, &self.connection)).await
    }

    /// Waits for an answer from the queue or a worker. If none comes, its connections are dropped.
    pub(crate) async fn ask<C: Connected, T>(
        &self,
        over: &Arc<C>,
        question: impl Future<Output = Result<T, BullError>>,
    ) -> Result<T> {
        self.try_ask(over, question).await.map_err(|error| port_error(&error))
    }

    /// The same with `BullMQ`'s own error, for callers who tell errors apart.
    pub(super) async fn try_ask<C: Connected, T>(
        &self,
        over: &Arc<C>,
        question: impl Future<Output = Result<T, BullError>>,
    ) -> Result<T, BullError> {
        let answer = in_time(ANSWER, question).await;
        if let Err(error) = &answer
            && is_broken(error)
        {
            C::slot(self).discard(over).await;
        }
        answer
    }

    /// One of our own keys beside the queue's: none of `BullMQ`'s begins like it. A minute's counts are kept under its
    /// number, counted from 1970.
    pub(crate) fn key(&self, name: impl Display) -> String {
        format!("parlance:jobs:{}:{}:{name}", self.options.prefix, self.options.queue)
    }

    /// The value of one of our own keys: this one from here on, if it had none.
    pub(super) async fn keep(&self, queue: &Arc<Queue>, key: &str, value: &str) -> Result<String> {
        let mut kept = redis::pipe();
        kept.atomic();
        kept.cmd("SET").arg(key).arg(value).arg("NX").ignore();
        kept.get(key);
        let (kept,): (String,) = self.run(queue, kept).await?;
        Ok(kept)
    }

    /// Runs commands of our own in one round trip.
    pub(crate) async fn run<T: redis::FromRedisValue>(
        &self,
        queue: &Arc<Queue>,
        pipeline: redis::Pipeline,
    ) -> Result<T> {
        let mut connection = queue.connection().connection();
        self.ask(queue, async { Ok(pipeline.query_async(&mut connection).await?) }).await
    }
}

async fn in_time<T>(
    limit: Duration,
    question: impl Future<Output = Result<T, BullError>>,
) -> Result<T, BullError> {
    // The crate's connections would wait much longer.
    tokio::time::timeout(limit, question).await.unwrap_or(Err(BullError::ConnectionClosed))
}

pub(super) fn is_broken(error: &BullError) -> bool {
    matches!(error, BullError::Redis(_) | BullError::ConnectionClosed)
}

pub(super) fn port_error(error: &BullError) -> Error {
    if is_broken(error) {
        Error::unavailable(format_args!("the job queue: {error}"))
    } else {
        Error::internal(format_args!("the job queue: {error}"))
    }
}

/// What takes jobs. While it exists, this process is listed as a worker.
pub(crate) struct Workers {
    /// Takes jobs one by one, when it is asked to; its own loop never runs.
    pub(super) fetcher: Arc<Worker>,
    /// Paused for good: only its stalled check runs.
    watcher: Arc<Worker>,
    drains: Vec<AbortHandle>,
}

impl Workers {
    async fn connect(
        options: &RedisJobsOptions,
        connection: &RedisConnectionOptions,
    ) -> Result<Self, BullError> {
        let common = WorkerOptions::default()
            .connection(connection.clone())
            .prefix(&options.prefix)
            .lock_duration(options.lock)
            .stalled_interval(options.stalled_check)
            .max_stalled_count(STALLS)
            .manual_start();
        let make = |name: String| {
            let none = |_, _| async { Err(BullError::WorkerClosed) };
            Worker::with_options(&options.queue, none, common.clone().name(name))
        };
        let fetcher = Arc::new(make(options.worker.clone()).await?);
        let watcher = Arc::new(make(format!("{}{WATCHER}", options.worker)).await?);
        watcher.pause();
        watcher.run().await?;
        let drains = [&fetcher, &watcher]
            .map(|worker| tokio::spawn(drain(Arc::clone(worker))).abort_handle())
            .into();
        Ok(Self { fetcher, watcher, drains })
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        for drain in &self.drains {
            drain.abort();
        }
        tracing::debug!(worker = self.watcher.id(), "let go of the job queue");
    }
}

/// Reads and drops a worker's events: their channel is unbounded, and would grow for ever.
async fn drain(worker: Arc<Worker>) {
    while let Some(event) = worker.next_event().await {
        if let WorkerEvent::Stalled { job_id } = event {
            tracing::warn!(job = job_id, "a job's worker has gone silent; it will be run again");
        }
    }
}

/// A connection that can be asked.
pub(crate) trait Connected: Sized {
    /// Where it is kept while it works.
    fn slot(server: &Server) -> &Slot<Self>;
}

impl Connected for Queue {
    fn slot(server: &Server) -> &Slot<Self> {
        &server.queue
    }
}

impl Connected for Workers {
    fn slot(server: &Server) -> &Slot<Self> {
        &server.workers
    }
}

/// A connection that is made when needed.
pub(crate) struct Slot<T>(Mutex<State<T>>);

enum State<T> {
    Vacant { since: Option<Instant> },
    Made(Arc<T>),
}

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Self(Mutex::new(State::Vacant { since: None }))
    }
}

impl<T> Slot<T> {
    async fn get(&self, connect: impl Future<Output = Result<T, BullError>>) -> Result<Arc<T>> {
        let mut state = self.0.lock().await;
        match &*state {
            State::Made(made) => return Ok(Arc::clone(made)),
            State::Vacant { since: Some(since) } if since.elapsed() < REST => {
                return Err(Error::unavailable("the job queue is down"));
            }
            State::Vacant { .. } => {}
        }
        match in_time(CONNECT, connect).await {
            Ok(made) => {
                let made = Arc::new(made);
                *state = State::Made(Arc::clone(&made));
                Ok(made)
            }
            Err(error) => {
                *state = State::Vacant { since: Some(Instant::now()) };
                Err(port_error(&error))
            }
        }
    }

    async fn discard(&self, broken: &Arc<T>) {
        let mut state = self.0.lock().await;
        if matches!(&*state, State::Made(made) if Arc::ptr_eq(made, broken)) {
            *state = State::Vacant { since: None };
        }
    }
}
