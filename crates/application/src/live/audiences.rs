//! Who on this node listens to what, without I/O: the feeds of conversations and those who join one after its replay,
//! what passes where nobody listens, and the listeners of workspaces.
//!
//! 1. A feed lives as long as somebody is in it, and each has its own number
//!    (`a_feed_lives_as_long_as_somebody_is_in_it`).
//! 2. What passed while nobody was there, before somebody joined, is read
//!    (`what_passed_before_somebody_joined_is_read`).
//! 3. Of what nobody listens to any more, only its rev is kept, for a while (`unheard.rs`,
//!    `who_awaits_a_replay_is_a_member_without_a_feed`, `a_workspace_is_listened_to_until_the_last_one_has_left`).

use std::{collections::hash_map::Entry, hash::Hash, sync::Arc};

use parlance_domain::{AccessRev, ConversationId, Rev, WorkspaceId};
use rustc_hash::{FxHashMap as HashMap, FxHashSet as HashSet};
use tokio::time::Instant;

use super::{
    Frame,
    feed::{Feed, FeedNumber, Step},
    listeners::Sharing,
    unheard::Unheard,
};
use crate::ports::{ConnectionId, store::Head};

pub(super) struct Audiences {
    feeds: HashMap<ConversationId, Feed>,
    /// The number of the last feed begun.
    last_feed: FeedNumber,
    sharing: Sharing,
    /// Those in a conversation who join its feed only after their replay.
    pending: HashMap<ConversationId, HashSet<ConnectionId>>,
    unheard: Unheard,
    /// The workspaces of conversations that somebody here listens to.
    homes: HashMap<ConversationId, WorkspaceId>,
    workspaces: HashMap<WorkspaceId, HashSet<ConnectionId>>,
}

impl Audiences {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            feeds: HashMap::default(),
            last_feed: FeedNumber::NONE,
            sharing: Sharing::default(),
            pending: HashMap::default(),
            unheard: Unheard::new(now),
            homes: HashMap::default(),
            workspaces: HashMap::default(),
        }
    }

    pub(super) fn feed(&self, conversation: ConversationId) -> Option<&Feed> {
        self.feeds.get(&conversation)
    }

    pub(super) fn has_feed(&self, conversation: ConversationId) -> bool {
        self.feeds.contains_key(&conversation)
    }

    pub(super) fn feed_mut(&mut self, conversation: ConversationId) -> Option<&mut Feed> {
        self.feeds.get_mut(&conversation)
    }

    pub(super) fn has_feeds(&self) -> bool {
        !self.feeds.is_empty()
    }

    /// The conversations with feeds.
    pub(super) fn conversations(&self) -> impl Iterator<Item = ConversationId> {
        self.feeds.keys().copied()
    }

    /// All feeds.
    pub(super) fn feeds_mut(&mut self) -> impl Iterator<Item = (ConversationId, &mut Feed)> {
        self.feeds.iter_mut().map(|(conversation, feed)| (*conversation, feed))
    }

    /// Whether anybody is in a conversation, or joins it after its replay.
    pub(super) fn is_listened_to(&self, conversation: ConversationId) -> bool {
        self.feeds.contains_key(&conversation) || self.pending.contains_key(&conversation)
    }

    /// All those.
    pub(super) fn members(&self, conversation: ConversationId) -> Vec<ConnectionId> {
        let feed = self.feeds.get(&conversation).into_iter().flat_map(Feed::members);
        feed.chain(self.pending.get(&conversation).into_iter().flatten().copied()).collect()
    }

    /// A connection joins a conversation after its replay.
    pub(super) fn await_replay(&mut self, id: ConnectionId, conversation: ConversationId) {
        self.pending.entry(conversation).or_default().insert(id);
    }

    /// Whether a connection waits for the replay of a conversation.
    pub(super) fn awaits(&self, id: ConnectionId, conversation: ConversationId) -> bool {
        self.pending.get(&conversation).is_some_and(|ids| ids.contains(&id))
    }

    /// A connection joins a conversation of which it has been told everything up to this head. Returns what the feed
    /// asks for, and whether it has just begun.
    pub(super) fn join(&mut self, id: ConnectionId, have: Head) -> (Vec<Step>, bool) {
        let Head { conversation_id, rev, access_rev } = have;
        forget(&mut self.pending, conversation_id, id);
        let mut passed = (Rev::ZERO, AccessRev::ZERO);
        let mut begins = false;
        let feed = self.feeds.entry(conversation_id).or_insert_with(|| {
            begins = true;
            self.last_feed = self.last_feed.next();
            passed = self.unheard.seen(conversation_id);
            Feed::new(rev, access_rev, self.sharing.nobody()).numbered(self.last_feed)
        });
        let mut steps = feed.join(id, rev, access_rev);
        steps.extend(feed.behind(passed.0, passed.1));
        (steps, begins)
    }

    /// A connection leaves a conversation, or no longer waits for its replay. Returns whether that ends its feed.
    pub(super) fn leave(&mut self, id: ConnectionId, conversation: ConversationId) -> bool {
        forget(&mut self.pending, conversation, id);
        let mut ends = false;
        if let Some(feed) = self.feeds.get_mut(&conversation) {
            feed.leave(id);
            ends = feed.is_empty();
            if ends {
                self.unheard.note(conversation, (feed.head(), feed.access_rev()));
                self.feeds.remove(&conversation);
            }
        }
        if !self.is_listened_to(conversation) {
            self.homes.remove(&conversation);
        }
        ends
    }

    /// A durable event has come; `head` is as of its commit.
    pub(super) fn changed(&mut self, head: Head, frame: &Frame) -> Vec<Step> {
        let Head { conversation_id, rev, access_rev } = head;
        let Some(feed) = self.feeds.get_mut(&conversation_id) else { return self.behind(head) };
        feed.share(&mut self.sharing);
        feed.changed(rev, access_rev, frame.clone())
    }

    /// A conversation is known to have got this far, from whatever source.
    pub(super) fn behind(&mut self, head: Head) -> Vec<Step> {
        let Head { conversation_id, rev, access_rev } = head;
        let Some(feed) = self.feeds.get_mut(&conversation_id) else {
            self.unheard.note(conversation_id, (rev, access_rev));
            return Vec::new();
        };
        feed.behind(rev, access_rev)
    }

    /// Those in a conversation who are up to date.
    pub(super) fn audience(&mut self, conversation: ConversationId) -> Arc<[ConnectionId]> {
        let Some(feed) = self.feeds.get_mut(&conversation) else { return Arc::default() };
        feed.share(&mut self.sharing);
        feed.audience()
    }

    /// Notes the workspaces of conversations.
    pub(super) fn set_homes(
        &mut self,
        homes: impl IntoIterator<Item = (ConversationId, WorkspaceId)>,
    ) {
        self.homes.extend(homes);
    }

    /// Whether a conversation is known to be in a workspace.
    pub(super) fn is_of(&self, conversation: ConversationId, workspace: WorkspaceId) -> bool {
        self.homes.get(&conversation) == Some(&workspace)
    }

    pub(super) fn enter_workspace(&mut self, id: ConnectionId, workspace: WorkspaceId) {
        self.workspaces.entry(workspace).or_default().insert(id);
    }

    pub(super) fn leave_workspace(&mut self, id: ConnectionId, workspace: WorkspaceId) {
        forget(&mut self.workspaces, workspace, id);
    }

    /// Forgets who listens to a workspace, and returns them.
    pub(super) fn end_workspace(&mut self, workspace: WorkspaceId) -> Vec<ConnectionId> {
        self.workspaces.remove(&workspace).into_iter().flatten().collect()
    }

    /// The listeners of a workspace.
    pub(super) fn of_workspace(
        &self,
        workspace: WorkspaceId,
    ) -> impl Iterator<Item = ConnectionId> {
        self.workspaces.get(&workspace).into_iter().flatten().copied()
    }

    /// Whether anybody does.
    pub(super) fn is_workspace_listened_to(&self, workspace: WorkspaceId) -> bool {
        self.workspaces.contains_key(&workspace)
    }

    /// Drops what nobody needs any more. Call it once a second.
    pub(super) fn age(&mut self, now: Instant) {
        self.unheard.age(now, |conversation| self.pending.contains_key(&conversation));
        self.feeds.values_mut().for_each(Feed::age);
    }
}

/// Takes a connection out of an index that keeps no empty sets.
fn forget<K: Hash + Eq>(index: &mut HashMap<K, HashSet<ConnectionId>>, key: K, id: ConnectionId) {
    let Entry::Occupied(mut entry) = index.entry(key) else { return };
    entry.get_mut().remove(&id);
    if entry.get().is_empty() {
        entry.remove();
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    const HERE: ConversationId = ConversationId(Uuid::from_u128(1));
    const TEAM: WorkspaceId = WorkspaceId(Uuid::from_u128(2));

    fn socket(number: u32) -> ConnectionId {
        ConnectionId { worker: 0, number }
    }

    fn head(rev: u64) -> Head {
        Head { conversation_id: HERE, rev: Rev(rev), access_rev: AccessRev(1) }
    }

    #[test]
    fn a_feed_lives_as_long_as_somebody_is_in_it() {
        let mut audiences = Audiences::new(Instant::now());
        assert_eq!(audiences.join(socket(1), head(7)), (vec![], true));
        assert!(audiences.has_feed(HERE));
        assert_eq!(audiences.join(socket(2), head(7)), (vec![], false));
        let first = audiences.feed(HERE).expect("has begun").number();
        assert!(!audiences.leave(socket(1), HERE));
        assert_eq!(audiences.members(HERE), [socket(2)]);
        assert!(audiences.leave(socket(2), HERE));
        assert!(!audiences.is_listened_to(HERE) && audiences.feed(HERE).is_none());
        audiences.join(socket(1), head(7));
        assert_ne!(audiences.feed(HERE).expect("has begun").number(), first);
    }

    #[test]
    fn who_awaits_a_replay_is_a_member_without_a_feed() {
        let mut audiences = Audiences::new(Instant::now());
        audiences.await_replay(socket(1), HERE);
        audiences.set_homes([(HERE, TEAM)]);
        assert!(audiences.awaits(socket(1), HERE) && audiences.feed(HERE).is_none());
        assert_eq!(audiences.members(HERE), [socket(1)]);
        assert!(!audiences.leave(socket(1), HERE), "no feed has ended");
        assert!(!audiences.is_listened_to(HERE) && !audiences.is_of(HERE, TEAM));
        audiences.await_replay(socket(1), HERE);
        audiences.join(socket(1), head(7));
        assert!(!audiences.awaits(socket(1), HERE));
        assert_eq!(audiences.members(HERE), [socket(1)], "once");
    }

    #[test]
    fn what_passed_before_somebody_joined_is_read() {
        for is_heard in [true, false] {
            let mut audiences = Audiences::new(Instant::now());
            let passes = if is_heard {
                audiences.changed(head(9), &Frame::encode(&"news"))
            } else {
                audiences.behind(head(9))
            };
            assert_eq!(passes, [], "nobody is here");
            let (steps, _) = audiences.join(socket(1), head(7));
            let reads = |step: &Step| matches!(step, Step::Read { from_rev: Rev(7), .. });
            assert!(steps.iter().any(reads), "{steps:?}");
        }
    }

    #[test]
    fn a_workspace_is_listened_to_until_the_last_one_has_left() {
        let mut audiences = Audiences::new(Instant::now());
        audiences.enter_workspace(socket(1), TEAM);
        audiences.enter_workspace(socket(2), TEAM);
        audiences.leave_workspace(socket(1), TEAM);
        assert!(audiences.of_workspace(TEAM).eq([socket(2)]));
        audiences.leave_workspace(socket(2), TEAM);
        assert!(!audiences.is_workspace_listened_to(TEAM));
        audiences.enter_workspace(socket(1), TEAM);
        assert_eq!(audiences.end_workspace(TEAM), [socket(1)]);
        assert!(!audiences.is_workspace_listened_to(TEAM));
    }
}
