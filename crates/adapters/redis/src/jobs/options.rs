//! The settings of `RedisJobs`. Tests use short locks and names of their own; production uses
//! [`RedisJobsOptions::new`].

use std::time::Duration;

/// How a [`RedisJobs`](crate::RedisJobs) behaves.
#[derive(Debug, Clone)]
pub struct RedisJobsOptions {
    /// What all keys begin with. `BullMQ`'s tools expect `bull`.
    pub prefix: String,
    /// The queue's name.
    pub queue: String,
    /// Whose jobs these are: the name of the store's history. The jobs of another are left alone.
    pub store: String,
    /// The process's name, never used by another: it tells locks apart. `BullMQ`'s tools show it.
    pub worker: String,
    /// How long a lock lasts without renewal.
    pub lock: Duration,
    /// How often to look for stalled jobs: active ones without a lock. One found twice in a row is run again.
    pub stalled_check: Duration,
}

impl RedisJobsOptions {
    /// What production uses.
    pub fn new(store: impl Into<String>, worker: impl Into<String>) -> Self {
        Self {
            prefix: "bull".to_owned(),
            queue: "mail".to_owned(),
            store: store.into(),
            worker: worker.into(),
            lock: Duration::from_secs(15),
            stalled_check: Duration::from_secs(5),
        }
    }
}
