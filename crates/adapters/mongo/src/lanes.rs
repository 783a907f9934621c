//! Who waits for whom in this node, before the server has to refuse one of two. The server is not fair; these queues are.
//!
//! A transaction asks the server several times, and waits for a connection each time. Were all begun at once that are
//! asked for, each would be open for as long as all together take. So those who hold nobody up get their share of the
//! connections, and then wait for a turn if they need one; those who hold a turn find a connection soon. Nobody waits for a
//! share who holds a share or a turn. What the node asks for itself has a share of its own: waiting behind all that people
//! read, it would take the store for away.

use std::{
    collections::HashMap,
    sync::{Arc, MutexGuard, PoisonError},
    time::Duration,
};

use parlance_application::{Error, Result};
use tokio::{
    sync::{Mutex, OwnedMutexGuard, Semaphore, SemaphorePermit},
    time::timeout,
};
use uuid::Uuid;

/// How long a share of the connections is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// What one at a time of this node writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Lane {
    /// The head of a conversation, or a workspace.
    Head(Uuid),
    /// How far somebody has read a conversation.
    Mark(Uuid, Uuid),
}

/// See the module's description.
#[derive(Debug)]
pub(crate) struct Lanes {
    /// Those in which somebody is, or waits.
    queues: std::sync::Mutex<HashMap<Lane, Arc<Mutex<()>>>>,
    writers: Semaphore,
    others: Semaphore,
    own: Semaphore,
}

/// The right to write what its lanes are of.
#[derive(Debug)]
pub(crate) struct Turns<'a> {
    of: &'a Lanes,
    lanes: Vec<Lane>,
    guards: Vec<OwnedMutexGuard<()>>,
}

impl Lanes {
    /// For as many connections. What writers, others and the node itself leave is for groups of appends.
    pub(crate) fn over(connections: usize) -> Self {
        let (writers, others, own) = (connections / 4, connections * 5 / 8, connections / 32);
        Self {
            queues: std::sync::Mutex::default(),
            writers: Semaphore::new(writers.max(1)),
            others: Semaphore::new(others.max(1)),
            own: Semaphore::new(own.max(1)),
        }
    }

    /// Waits for a share of the connections.
    pub(crate) async fn share(&self) -> Result<SemaphorePermit<'_>> {
        share_of(&self.others).await
    }

    /// The same for what the node asks for itself.
    pub(crate) async fn own_share(&self) -> Result<SemaphorePermit<'_>> {
        share_of(&self.own).await
    }

    /// Waits for the turn of a writer of this document.
    pub(crate) async fn turn(&self, id: Uuid) -> Turns<'_> {
        self.turns(vec![Lane::Head(id)]).await
    }

    /// The same for a writer of several. They are waited for in one order, so that nobody waits in a circle.
    pub(crate) async fn turns(&self, mut lanes: Vec<Lane>) -> Turns<'_> {
        lanes.sort_unstable();
        lanes.dedup();
        let mut turns = self.none();
        for lane in lanes {
            let guard = turns.queue(lane).lock_owned().await;
            turns.guards.push(guard);
        }
        turns
    }

    /// Waits for a connection for somebody whose turn it is.
    pub(crate) async fn writer(&self) -> Option<SemaphorePermit<'_>> {
        self.writers.acquire().await.ok()
    }

    /// The turn of a writer of several, if nobody else is there.
    pub(crate) fn free(&self, of: impl IntoIterator<Item = Lane>) -> Option<Turns<'_>> {
        let mut turns = self.none();
        for lane in of {
            if turns.lanes.contains(&lane) {
                continue;
            }
            let guard = turns.queue(lane).try_lock_owned().ok()?;
            turns.guards.push(guard);
        }
        Some(turns)
    }

    fn none(&self) -> Turns<'_> {
        Turns { of: self, lanes: Vec::new(), guards: Vec::new() }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Lane, Arc<Mutex<()>>>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn share_of(connections: &Semaphore) -> Result<SemaphorePermit<'_>> {
    match timeout(PATIENCE, connections.acquire()).await {
        Ok(share) => share.map_err(Error::internal),
        Err(_) => Err(Error::unavailable("all connections to the database are in use")),
    }
}

impl Turns<'_> {
    /// Joins a lane's queue; whoever does leaves it again.
    fn queue(&mut self, lane: Lane) -> Arc<Mutex<()>> {
        self.lanes.push(lane);
        self.of.lock().entry(lane).or_default().clone()
    }
}

impl Drop for Turns<'_> {
    fn drop(&mut self) {
        self.guards.clear();
        let mut queues = self.of.lock();
        for lane in &self.lanes {
            // The map's own is left: nobody is in it, and nobody waits.
            if queues.get(lane).is_some_and(|queue| Arc::strong_count(queue) == 1) {
                queues.remove(lane);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    const HERE: Uuid = Uuid::from_u128(1);
    const THERE: Uuid = Uuid::from_u128(2);

    #[tokio::test]
    async fn one_at_a_time_has_a_turn_and_nothing_stays_behind() {
        let lanes = Lanes::over(64);
        let first = lanes.turn(HERE).await;
        assert!(lanes.free([Lane::Head(THERE)]).is_some());
        assert!(lanes.free([Lane::Head(THERE), Lane::Head(HERE)]).is_none());
        let mut second = Box::pin(lanes.turns(vec![Lane::Head(THERE), Lane::Head(HERE)]));
        assert!((&mut second).now_or_never().is_none(), "waits");
        let gave_up = lanes.turn(HERE).now_or_never();
        assert!(gave_up.is_none());
        drop(first);
        let second = second.now_or_never().expect("has its turn");
        assert!(lanes.free([Lane::Head(THERE)]).is_none());
        drop(second);
        assert!(lanes.free([Lane::Head(THERE), Lane::Head(HERE), Lane::Head(HERE)]).is_some());
        assert!(lanes.lock().is_empty());
    }
}
