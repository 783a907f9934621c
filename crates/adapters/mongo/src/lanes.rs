//! Who waits for whom in this node, before the server has to refuse one of two. The server is not fair; these queues are.

use std::{
    hash::{BuildHasher, BuildHasherDefault, DefaultHasher},
    time::Duration,
};

use parlance_application::{Error, Result};
use tokio::{
    sync::{Mutex, MutexGuard, Semaphore, SemaphorePermit},
    time::timeout,
};
use uuid::Uuid;

const LANES: usize = 64;
/// How long a share of the connections is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// A fixed number of queues of writers, of which two ids may share one, and a queue of all who are in none of these.
///
/// A transaction asks the server several times, and waits for a connection each time. Were all begun at once that are
/// asked for, each would be open for as long as all together take; so those who hold nobody up get no more than their
/// share, and who writes a head finds a connection.
#[derive(Debug)]
pub(crate) struct Lanes {
    writers: [Mutex<()>; LANES],
    others: Semaphore,
}

impl Lanes {
    /// For as many connections.
    pub(crate) fn over(connections: usize) -> Self {
        let others = Semaphore::new((connections * 3 / 4).max(1));
        Self { writers: std::array::from_fn(|_| Mutex::new(())), others }
    }

    /// Waits for a share of the connections. Nobody who has one waits for the turn of a writer.
    pub(crate) async fn share(&self) -> Result<SemaphorePermit<'_>> {
        match timeout(PATIENCE, self.others.acquire()).await {
            Ok(share) => share.map_err(Error::internal),
            Err(_) => Err(Error::unavailable("all connections to the database are in use")),
        }
    }

    /// Waits for the turn of a writer of this document.
    pub(crate) async fn turn(&self, id: Uuid) -> Vec<MutexGuard<'_, ()>> {
        self.turns([id]).await
    }

    /// The same for a writer of several. They are waited for in one order, so that nobody waits in a circle.
    pub(crate) async fn turns(
        &self,
        ids: impl IntoIterator<Item = Uuid> + Send,
    ) -> Vec<MutexGuard<'_, ()>> {
        let mut wanted = [false; LANES];
        for id in ids {
            wanted[lane(id)] = true;
        }
        let mut turns = Vec::new();
        for (lane, _) in self.writers.iter().zip(wanted).filter(|(_, wanted)| *wanted) {
            turns.push(lane.lock().await);
        }
        turns
    }
}

fn lane(id: Uuid) -> usize {
    let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(id);
    usize::try_from(hash % LANES as u64).unwrap_or_default()
}
