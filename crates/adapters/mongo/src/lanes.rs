//! Fair queues within this node for what several tasks want to write, so that the server, which is not fair, need not
//! refuse any of them.
//!
//! A transaction makes several round trips, and waits for a connection for each. If all began at once, each would stay
//! open for as long as all take together. So the connections are divided into shares:
//!
//! * A task that holds nobody up waits for a share. A writer waits for its turn, and then for one of the writers'
//!   connections, which comes soon. Nobody waits for a share while holding a share or a turn, or for a turn while
//!   holding a share: otherwise one stuck head would block all reads.
//! * The node's own queries have a share of their own, and so have those that deliveries wait for. Queued behind
//!   people's reads, they would make the node believe that the store is gone, and stop delivering what has been
//!   written.

use std::{
    collections::HashMap,
    sync::{Arc, MutexGuard, PoisonError},
    time::Duration,
};

use parlance_application::{Error, Result};
use tokio::{
    sync::{AcquireError, Mutex, OwnedMutexGuard, Semaphore, SemaphorePermit},
    time::timeout,
};
use uuid::Uuid;

/// How long to wait for a share of the connections, or for a turn.
const PATIENCE: Duration = Duration::from_secs(10);

/// Who waits for a share of the connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asker {
    /// Somebody who waits for an answer.
    Person,
    /// This node, which delivers nothing until it is answered.
    Node,
    /// A person or the node; the query does not say which. It takes one of the people's connections or one of a few
    /// extra ones: so a flood of people's queries does not hold it up, nor a flood of these the node's own.
    Either,
}

/// Something that only one task of this node writes at a time.
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
    /// Lanes that are taken or waited for.
    queues: std::sync::Mutex<HashMap<Lane, Arc<Mutex<()>>>>,
    writers: Semaphore,
    people: Semaphore,
    node: Semaphore,
    either: Semaphore,
}

/// How the connections are divided.
#[derive(Debug, PartialEq, Eq)]
struct Shares {
    writers: usize,
    people: usize,
    node: usize,
    either: usize,
}

/// The right to write in its lanes; released when dropped.
#[derive(Debug)]
pub(crate) struct Turns<'a> {
    of: &'a Lanes,
    lanes: Vec<Lane>,
    guards: Vec<OwnedMutexGuard<()>>,
}

impl Lanes {
    /// Divides this number of connections into shares.
    pub(crate) fn over(connections: usize) -> Self {
        let Shares { writers, people, node, either } = Shares::of(connections);
        Self {
            queues: std::sync::Mutex::default(),
            writers: Semaphore::new(writers),
            people: Semaphore::new(people),
            node: Semaphore::new(node),
            either: Semaphore::new(either),
        }
    }

    /// Waits for a share of the connections.
    pub(crate) async fn share(&self, asker: Asker) -> Result<SemaphorePermit<'_>> {
        let share = async {
            match asker {
                Asker::Person => self.people.acquire().await,
                Asker::Node => self.node.acquire().await,
                Asker::Either => tokio::select! {
                    biased;
                    share = self.people.acquire() => share,
                    share = self.either.acquire() => share,
                },
            }
        };
        granted(share).await
    }

    /// Waits for the turn of a writer of this document.
    pub(crate) async fn turn(&self, id: Uuid) -> Result<Turns<'_>> {
        self.turns(vec![Lane::Head(id)]).await
    }

    /// The same for several, taken in one global order, so that there is no deadlock.
    pub(crate) async fn turns(&self, mut lanes: Vec<Lane>) -> Result<Turns<'_>> {
        lanes.sort_unstable();
        lanes.dedup();
        let mut turns = self.none();
        let all = async {
            for lane in lanes {
                let guard = turns.queue(lane).lock_owned().await;
                turns.guards.push(guard);
            }
        };
        match timeout(PATIENCE, all).await {
            Ok(()) => Ok(turns),
            Err(_) => Err(Error::unavailable("what is to be written is being written by others")),
        }
    }

    /// Waits for a connection for a writer whose turn it is.
    pub(crate) async fn writer(&self) -> Result<SemaphorePermit<'_>> {
        granted(self.writers.acquire()).await
    }

    /// The turn in several lanes, unless one of them is taken. Does not wait.
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

/// Waits for a connection, but not for ever.
async fn granted<'a>(
    share: impl Future<Output = std::result::Result<SemaphorePermit<'a>, AcquireError>>,
) -> Result<SemaphorePermit<'a>> {
    match timeout(PATIENCE, share).await {
        Ok(share) => share.map_err(Error::internal),
        Err(_) => Err(Error::unavailable("all connections to the database are in use")),
    }
}

impl Shares {
    /// Divides this number of connections. Some are left for groups of appends, and whatever else waits for no share.
    /// Even of fewer than four, each share gets one: a connection is used only while a command runs.
    fn of(connections: usize) -> Self {
        let part = |of: usize| (connections / of).max(1);
        let (writers, node, either, left) = (part(4), part(8), part(32), part(10));
        let people = connections.saturating_sub(writers + node + either + left).max(1);
        Self { writers, people, node, either }
    }
}

impl Turns<'_> {
    /// Joins a lane's queue, until the turns are dropped.
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
            // Only the map still holds it: the lane is free, and nobody waits.
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

    #[test]
    fn no_more_is_shared_out_than_there_is() {
        assert_eq!(Shares::of(64), Shares { writers: 16, people: 32, node: 8, either: 2 });
        for connections in 4..1_000 {
            let Shares { writers, people, node, either } = Shares::of(connections);
            let all = writers + people + node + either;
            assert!(all + usize::from(connections > 4) <= connections, "{connections}: {all}");
            assert!(people >= writers.min(node) && writers >= node && node >= either);
            assert!(either > 0);
        }
        assert_eq!(Shares::of(0), Shares { writers: 1, people: 1, node: 1, either: 1 });
    }

    #[tokio::test]
    async fn nobody_has_a_share_of_those_whom_people_must_not_hold_up() {
        let lanes = Lanes::over(64);
        let share = |asker| lanes.share(asker).now_or_never().transpose().expect("is open");
        let all = |asker| std::iter::from_fn(|| share(asker)).collect::<Vec<_>>();
        let people = all(Asker::Person);
        let either = all(Asker::Either);
        assert_eq!((people.len(), either.len()), (32, 2));
        let node = all(Asker::Node);
        assert_eq!(node.len(), 8);

        // Or one of the people's: whichever is free first. The other is not kept.
        let mut waits = Box::pin(lanes.share(Asker::Either));
        assert!((&mut waits).now_or_never().is_none());
        drop((people, either));
        let has = waits.now_or_never().expect("has its share");
        assert_eq!((lanes.people.available_permits(), lanes.either.available_permits()), (31, 2));
        drop(has);
        assert_eq!(all(Asker::Either).len(), 34);
    }

    #[tokio::test]
    async fn one_at_a_time_has_a_turn_and_nothing_stays_behind() {
        let lanes = Lanes::over(64);
        let first = lanes.turn(HERE).await.expect("is free");
        assert!(lanes.free([Lane::Head(THERE)]).is_some());
        assert!(lanes.free([Lane::Head(THERE), Lane::Head(HERE)]).is_none());
        let mut second = Box::pin(lanes.turns(vec![Lane::Head(THERE), Lane::Head(HERE)]));
        assert!((&mut second).now_or_never().is_none(), "waits");
        let gave_up = lanes.turn(HERE).now_or_never();
        assert!(gave_up.is_none());
        drop(first);
        let second = second.now_or_never().transpose().expect("in time").expect("has its turn");
        assert!(lanes.free([Lane::Head(THERE)]).is_none());
        drop(second);
        assert!(lanes.free([Lane::Head(THERE), Lane::Head(HERE), Lane::Head(HERE)]).is_some());
        assert!(lanes.lock().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_ever() {
        let busy = |outcome: Option<Error>| matches!(outcome, Some(Error::Unavailable { .. }));
        let lanes = Lanes::over(4);
        let (held, _writer) = (lanes.turn(HERE).await.expect("is free"), lanes.writer().await);
        assert!(busy(lanes.turns(vec![Lane::Head(THERE), Lane::Head(HERE)]).await.err()));
        assert!(busy(lanes.writer().await.err()));
        assert!(lanes.free([Lane::Head(THERE)]).is_some(), "nothing stays behind");
        drop(held);
        assert!(lanes.lock().is_empty());
    }
}
