//! Who waits for whom in this node, before the server has to refuse one of two. The server is not fair; these queues are.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

use tokio::sync::{Mutex, MutexGuard};
use uuid::Uuid;

const LANES: usize = 64;

/// A fixed number of queues; two ids may share one.
#[derive(Debug)]
pub(crate) struct Lanes([Mutex<()>; LANES]);

impl Default for Lanes {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Mutex::new(())))
    }
}

impl Lanes {
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
        for (lane, _) in self.0.iter().zip(wanted).filter(|(_, wanted)| *wanted) {
            turns.push(lane.lock().await);
        }
        turns
    }
}

fn lane(id: Uuid) -> usize {
    let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(id);
    usize::try_from(hash % LANES as u64).unwrap_or_default()
}
