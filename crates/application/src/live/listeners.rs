//! Who listens to a conversation. Conversations with the same listeners share one set, so that a node's memory grows
//! with its connections, not their memberships; and a worker can tell by the set's address that two events go to the
//! same sockets.
//!
//! A shared set is copied on write, and remembers the copy: somebody who joins fifty conversations of the same people
//! causes one copy, not fifty. Equal sets that arose otherwise are merged at their next event ([`Sharing::unify`]).

use std::{
    hash::BuildHasher,
    sync::{Arc, Mutex, OnceLock, PoisonError, Weak},
};

use rustc_hash::{FxBuildHasher, FxHashSet as HashSet};

use super::interned::Interned;
use crate::ports::ConnectionId;

/// A set of connections. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Listeners(Arc<Set>);

#[derive(Default)]
struct Set {
    members: HashSet<ConnectionId>,
    /// The same as a list, made on demand.
    list: OnceLock<Arc<[ConnectionId]>>,
    /// The last copy with one connection more or less, and which connection.
    copy: Mutex<Option<(ConnectionId, Weak<Set>)>>,
}

/// Finds equal sets.
#[derive(Default)]
pub(super) struct Sharing {
    nobody: Listeners,
    sets: Interned<Set>,
}

impl Listeners {
    pub(super) fn contains(&self, connection: ConnectionId) -> bool {
        self.0.members.contains(&connection)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.members.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = ConnectionId> {
        self.0.members.iter().copied()
    }

    /// As a list, the same one until somebody comes or goes. In the order the connections were opened, which is roughly
    /// their order in memory, the kernel's included.
    pub(super) fn list(&self) -> Arc<[ConnectionId]> {
        let list = || {
            let mut list: Vec<_> = self.iter().collect();
            list.sort_unstable();
            list.into()
        };
        self.0.list.get_or_init(list).clone()
    }

    pub(super) fn insert(&mut self, connection: ConnectionId) {
        if !self.contains(connection) {
            self.change(connection, |members| {
                members.insert(connection);
            });
        }
    }

    /// False if it was not there.
    pub(super) fn remove(&mut self, connection: ConnectionId) -> bool {
        let there = self.contains(connection);
        if there {
            self.change(connection, |members| {
                members.remove(&connection);
            });
        }
        there
    }

    /// Adds a connection that is not in the set, or removes one that is: so a remembered copy need not say which.
    fn change(&mut self, connection: ConnectionId, how: impl Fn(&mut HashSet<ConnectionId>)) {
        let copy = self.0.copy.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let known = copy.filter(|(of, _)| *of == connection).and_then(|(_, set)| set.upgrade());
        if let Some(known) = known {
            self.0 = known;
        } else if let Some(own) = Arc::get_mut(&mut self.0) {
            how(&mut own.members);
            own.list = OnceLock::new();
            own.copy = Mutex::default();
        } else {
            let mut members = self.0.members.clone();
            how(&mut members);
            let next = Arc::new(Set { members, ..Set::default() });
            let mut copy = self.0.copy.lock().unwrap_or_else(PoisonError::into_inner);
            *copy = Some((connection, Arc::downgrade(&next)));
            drop(copy);
            self.0 = next;
        }
    }
}

impl Sharing {
    /// The empty set that new feeds begin with.
    pub(super) fn nobody(&self) -> Listeners {
        self.nobody.clone()
    }

    /// Replaces a set not listed since its last change with an equal one, if there is one.
    pub(super) fn unify(&mut self, listeners: &mut Listeners) {
        if listeners.0.list.get().is_some() {
            return;
        }
        let hash = listeners.iter().fold(0_u64, |sum, connection| {
            sum.wrapping_add(mixed(FxBuildHasher.hash_one(connection)))
        });
        match self.sets.find(hash, |known| known.members == listeners.0.members) {
            Some(known) => listeners.0 = known,
            None => self.sets.remember(hash, &listeners.0),
        }
    }
}

/// Makes sums of hashes distinguish sets: the finalizer of `SplitMix64` (Steele, Lea, Flood).
const fn mixed(hash: u64) -> u64 {
    let hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::interned::LEAST, *};

    fn socket(number: u32) -> ConnectionId {
        ConnectionId { worker: number % 2, number }
    }

    fn shared(one: &Listeners, other: &Listeners) -> bool {
        Arc::ptr_eq(&one.0, &other.0)
    }

    #[test]
    fn who_comes_into_many_makes_one_copy_and_so_does_who_goes() {
        let sharing = Sharing::default();
        let mut feeds = vec![sharing.nobody(); 50];
        for number in 0..10 {
            for feed in &mut feeds {
                feed.insert(socket(number));
            }
            assert!(feeds.iter().all(|feed| shared(feed, &feeds[0])), "after {number} came");
        }
        for feed in &mut feeds {
            assert!(feed.remove(socket(4)));
        }
        assert!(feeds.iter().all(|feed| shared(feed, &feeds[0])));
        // A member of only some sets does not get into the others.
        feeds[0].insert(socket(4));
        assert!(feeds[0].contains(socket(4)) && !feeds[1].contains(socket(4)));
        assert!(sharing.nobody().is_empty());
    }

    #[test]
    fn equal_sets_become_one_when_they_are_told_something() {
        let mut sharing = Sharing::default();
        let mut feeds = [(); 3].map(|()| Listeners::default());
        (0..9).for_each(|number| feeds[0].insert(socket(number)));
        (0..9).rev().for_each(|number| feeds[1].insert(socket(number)));
        (1..9).for_each(|number| feeds[2].insert(socket(number)));
        for feed in &mut feeds {
            sharing.unify(feed);
        }
        assert!(shared(&feeds[0], &feeds[1]) && !shared(&feeds[0], &feeds[2]));
        assert!(Arc::ptr_eq(&feeds[0].list(), &feeds[1].list()));
        assert!(feeds[0].list().is_sorted());
    }

    #[test]
    fn sets_that_are_gone_are_forgotten() {
        let mut sharing = Sharing::default();
        for number in 0..1_000 {
            let mut feed = Listeners::default();
            feed.insert(socket(number));
            sharing.unify(&mut feed);
        }
        assert!(sharing.sets.len() <= LEAST, "{}", sharing.sets.len());
    }

    proptest! {
        /// Whatever they share, each is as it would be by itself.
        #[test]
        fn feeds_do_not_change_each_other(
            steps in prop::collection::vec((0..4_usize, 0..6_u32, 0..3_u8), 0..200),
        ) {
            let mut sharing = Sharing::default();
            let mut feeds = vec![sharing.nobody(); 4];
            let mut alone = vec![HashSet::<ConnectionId>::default(); 4];
            for (at, number, what) in steps {
                match what {
                    0 => prop_assert_eq!(feeds[at].remove(socket(number)), alone[at].remove(&socket(number))),
                    1 => { feeds[at].insert(socket(number)); alone[at].insert(socket(number)); }
                    _ => sharing.unify(&mut feeds[at]),
                }
                for (feed, alone) in feeds.iter().zip(&alone) {
                    prop_assert_eq!(&feed.0.members, alone);
                    prop_assert_eq!(feed.list().iter().copied().collect::<HashSet<_>>(), alone.clone());
                }
            }
        }
    }
}
