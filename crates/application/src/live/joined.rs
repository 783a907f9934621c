//! Which conversations a connection is in. Connections in the same ones share the list.

use std::{hash::BuildHasher, sync::Arc};

use parlance_domain::ConversationId;
use rustc_hash::FxBuildHasher;

use super::interned::Interned;

/// Conversations, sorted.
#[derive(Clone, Default)]
pub(super) struct Joined(Arc<[ConversationId]>);

/// Finds equal lists.
#[derive(Default)]
pub(super) struct JoinedLists(Interned<[ConversationId]>);

impl Joined {
    pub(super) fn contains(&self, conversation: ConversationId) -> bool {
        self.0.binary_search(&conversation).is_ok()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = ConversationId> {
        self.0.iter().copied()
    }
}

impl JoinedLists {
    /// The list of these, given in any order.
    pub(super) fn of(&mut self, conversations: impl IntoIterator<Item = ConversationId>) -> Joined {
        let mut list: Vec<_> = conversations.into_iter().collect();
        list.sort_unstable();
        list.dedup();
        let hash = FxBuildHasher.hash_one(&list);
        let known = self.0.find(hash, |known| *known == *list);
        Joined(known.unwrap_or_else(|| {
            let list = list.into();
            self.0.remember(hash, &list);
            list
        }))
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

    use super::{super::interned::LEAST, *};

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
        assert!(lists.0.len() <= LEAST, "{}", lists.0.len());
    }
}
