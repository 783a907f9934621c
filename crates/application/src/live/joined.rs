//! Which conversations a connection is in. Connections that are in the same ones share the list.

use std::{
    collections::hash_map::Entry,
    hash::BuildHasher,
    sync::{Arc, Weak},
};

use parlance_domain::ConversationId;
use rustc_hash::{FxBuildHasher, FxHashMap as HashMap};

/// So many lists are remembered at least before those that are gone are looked for.
const LISTS: usize = 64;

/// Conversations, sorted.
#[derive(Clone, Default)]
pub(super) struct Joined(Arc<[ConversationId]>);

/// What equal lists are found by.
#[derive(Default)]
pub(super) struct JoinedLists {
    lists: HashMap<u64, Weak<[ConversationId]>>,
    /// How many may be remembered before it is looked whether they are still there.
    room: usize,
}

impl Joined {
    pub(super) fn contains(&self, conversation: ConversationId) -> bool {
        self.0.binary_search(&conversation).is_ok()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = ConversationId> {
        self.0.iter().copied()
    }
}

impl JoinedLists {
    /// The list of these, in whatever order.
    pub(super) fn of(&mut self, conversations: impl IntoIterator<Item = ConversationId>) -> Joined {
        let mut list: Vec<_> = conversations.into_iter().collect();
        list.sort_unstable();
        list.dedup();
        if self.lists.len() >= self.room.max(LISTS) {
            self.lists.retain(|_, list| list.strong_count() > 0);
            self.room = self.lists.len() * 2;
        }
        match self.lists.entry(FxBuildHasher.hash_one(&list)) {
            Entry::Occupied(mut place) => {
                if let Some(known) = place.get().upgrade()
                    && *known == *list
                {
                    return Joined(known);
                }
                let list = list.into();
                place.insert(Arc::downgrade(&list));
                Joined(list)
            }
            Entry::Vacant(place) => {
                let list = list.into();
                place.insert(Arc::downgrade(&list));
                Joined(list)
            }
        }
    }

    pub(super) fn insert(&mut self, joined: &mut Joined, conversation: ConversationId) {
        if !joined.contains(conversation) {
            *joined = self.of(joined.iter().chain([conversation]));
        }
    }

    pub(super) fn remove(&mut self, joined: &mut Joined, conversation: ConversationId) {
        if joined.contains(conversation) {
            *joined = self.of(joined.iter().filter(|other| *other != conversation));
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn ids(numbers: impl IntoIterator<Item = u128>) -> Vec<ConversationId> {
        numbers.into_iter().map(|n| ConversationId(Uuid::from_u128(n))).collect()
    }

    #[test]
    fn who_is_in_the_same_conversations_shares_a_list() {
        let mut lists = JoinedLists::default();
        let (mut one, other) = (lists.of(ids([3, 1, 2])), lists.of(ids([1, 2, 3, 2])));
        assert!(Arc::ptr_eq(&one.0, &other.0));
        let four = ids([4])[0];
        lists.insert(&mut one, four);
        assert!(one.contains(four) && !other.contains(four));
        assert!(one.iter().eq(ids([1, 2, 3, 4])));
        lists.remove(&mut one, four);
        assert!(Arc::ptr_eq(&one.0, &other.0));
    }

    #[test]
    fn lists_that_are_gone_are_forgotten() {
        let mut lists = JoinedLists::default();
        for n in 0..1_000 {
            drop(lists.of(ids([n])));
        }
        assert!(lists.lists.len() <= LISTS, "{}", lists.lists.len());
    }
}
