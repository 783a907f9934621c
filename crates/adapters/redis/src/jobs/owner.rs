//! Which store owns a queue's jobs. A worker of another store would look for them in its own outbox, find nothing, and
//! take them for done.

use std::sync::atomic::Ordering;

use deadpool_redis::redis;
use parlance_application::{Error, Result};

use super::{RedisJobs, Server};

impl RedisJobs {
    /// Claims the queue for this store if nobody owns it. Fails if another store does: then its jobs are neither run
    /// nor shown.
    pub async fn own(&self) -> Result<()> {
        let foreign = self.server.owner().await? != self.server.options.store;
        let before = self.foreign.swap(foreign, Ordering::Relaxed);
        if foreign && !before {
            tracing::error!(
                "THE JOBS IN THIS REDIS DATABASE ARE ANOTHER STORE'S, or of before this one was restored, and no mails are \
                 sent: name a database of its own in PARLANCE_REDIS_URL, or empty this one (FLUSHDB) if nothing else uses it"
            );
        } else if before && !foreign {
            tracing::info!("the job queue is this store's now");
        }
        if foreign { Err(Error::unavailable("the job queue is another store's")) } else { Ok(()) }
    }
}

impl Server {
    /// The store that owns the queue from here on.
    async fn owner(&self) -> Result<String> {
        let (queue, key) = (self.queue().await?, self.key("store"));
        // A Redis that refuses writes still says whose it is.
        let mut known = redis::pipe();
        known.get(&key);
        match self.run(&queue, known).await? {
            (Some(owner),) => Ok(owner),
            (None,) => self.keep(&queue, &key, &self.options.store).await,
        }
    }
}
