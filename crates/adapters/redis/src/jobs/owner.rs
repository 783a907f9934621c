//! Whose jobs a queue has. A worker of another store would look for them in its own outbox, find nothing, and take them for
//! done.

use std::sync::{Arc, atomic::Ordering};

use deadpool_redis::redis;
use parlance_application::{Error, Result};

use super::{RedisJobs, Server};

impl RedisJobs {
    /// Makes the queue this store's if it is nobody's. Fails if it is another's: then none of its jobs are run, nor shown.
    pub async fn own(&self) -> Result<()> {
        let foreign = owner(&self.server).await? != self.server.options.store;
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

/// Its owner from here on.
async fn owner(server: &Arc<Server>) -> Result<String> {
    let queue = server.queue().await?;
    let key = format!("parlance:jobs:{}:{}:store", server.options.prefix, server.options.queue);
    // A Redis that takes no writes still says whose it is.
    let mut known = redis::pipe();
    known.get(&key);
    if let (Some(owner),) = server.run::<(Option<String>,)>(&queue, known).await? {
        return Ok(owner);
    }
    let mut owner = redis::pipe();
    owner.atomic();
    owner.cmd("SET").arg(&key).arg(&server.options.store).arg("NX").ignore();
    owner.get(&key);
    let (owner,): (String,) = server.run(&queue, owner).await?;
    Ok(owner)
}
