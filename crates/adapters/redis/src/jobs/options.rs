use std::time::Duration;

/// How a [`RedisJobs`](crate::RedisJobs) behaves.
#[derive(Debug, Clone)]
pub struct RedisJobsOptions {
    /// What all keys begin with. `BullMQ`'s tools expect `bull`.
    pub prefix: String,
    /// The queue's name.
    pub queue: String,
    /// A name that no other process has or had: locks are told apart by it. `BullMQ`'s tools show it.
    pub worker: String,
    /// How long a lock lasts that nobody renews.
    pub lock: Duration,
    /// How often active jobs without a lock are looked for. A job that two looks in a row have found is run again.
    pub stalled_check: Duration,
}

impl RedisJobsOptions {
    /// What production uses.
    pub fn new(worker: impl Into<String>) -> Self {
        Self {
            prefix: "bull".to_owned(),
            queue: "mail".to_owned(),
            worker: worker.into(),
            lock: Duration::from_secs(15),
            stalled_check: Duration::from_secs(5),
        }
    }
}
