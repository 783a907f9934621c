//! This node's connections, by id, user and session.

use std::{
    collections::VecDeque,
    sync::{Arc, atomic::AtomicI64},
    time::Duration,
};

use parlance_domain::{ConversationId, Seq, SessionId, UserId, WorkspaceId};
use rustc_hash::{FxHashMap as HashMap, FxHashSet as HashSet};
use tokio::time::Instant;

use super::{
    attaching::Attaching,
    joined::{Joined, JoinedLists},
};
use crate::ports::{ConnectionId, store::Mark};

/// How long after a snapshot a bus may bring a read mark older than it shows. Buses give up sooner.
const LATE: Duration = Duration::from_mins(1);

/// A connection's number in the order of registration on this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Registration(u64);

impl Registration {
    /// Before the first.
    pub(super) const NONE: Self = Self(0);

    /// For tests.
    #[cfg(test)]
    pub(super) const fn nth(n: u64) -> Self {
        Self(n)
    }

    const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

#[derive(Default)]
pub(super) struct Connections {
    all: HashMap<ConnectionId, Connection>,
    users: HashMap<UserId, Vec<ConnectionId>>,
    sessions: HashMap<SessionId, Vec<ConnectionId>>,
    /// Those between registration and attachment: few, and needed for each state event.
    attaching: HashSet<ConnectionId>,
    /// The read marks that connected users have been told. Concurrent marks may come in any order.
    read: HashMap<UserId, HashMap<ConversationId, Seq>>,
    /// Connections that still know their snapshot's read marks, oldest first.
    fresh: VecDeque<(Instant, ConnectionId)>,
    joined: JoinedLists,
    /// The number of the last one that was registered.
    registered: Registration,
}

pub(super) struct Connection {
    pub(super) number: Registration,
    pub(super) user_id: UserId,
    pub(super) session_id: SessionId,
    pub(super) heard_at: Arc<AtomicI64>,
    /// Conversations it has joined, and those it joins after their replay.
    pub(super) conversations: Joined,
    pub(super) workspaces: HashSet<WorkspaceId>,
    /// Set between registration and attachment.
    pub(super) attaching: Option<Attaching>,
    /// The read marks its snapshot showed, kept for a while.
    pub(super) read: HashMap<ConversationId, Seq>,
}

impl Connection {
    /// Whether it is in the conversation, and the mark goes beyond what its snapshot showed.
    pub(super) fn reads_on(&self, conversation: ConversationId, seq: Seq) -> bool {
        self.conversations.contains(conversation)
            && self.read.get(&conversation).is_none_or(|shown| *shown < seq)
    }
}

impl Connections {
    /// Registers a connection. True if it is its user's first.
    pub(super) fn insert(
        &mut self,
        id: ConnectionId,
        user_id: UserId,
        session_id: SessionId,
        heard_at: Arc<AtomicI64>,
    ) -> bool {
        self.registered = self.registered.next();
        let connection = Connection {
            number: self.registered,
            user_id,
            session_id,
            heard_at,
            conversations: Joined::default(),
            workspaces: HashSet::default(),
            attaching: Some(Attaching::default()),
            read: HashMap::default(),
        };
        self.all.insert(id, connection);
        self.attaching.insert(id);
        self.sessions.entry(session_id).or_default().push(id);
        let of_user = self.users.entry(user_id).or_default();
        of_user.push(id);
        of_user.len() == 1
    }

    /// The number of the last one that was registered.
    pub(super) const fn registered(&self) -> Registration {
        self.registered
    }

    pub(super) fn remove(&mut self, id: ConnectionId) -> Option<Connection> {
        let connection = self.all.remove(&id)?;
        self.attaching.remove(&id);
        forget(&mut self.users, &connection.user_id, id);
        if !self.users.contains_key(&connection.user_id) {
            self.read.remove(&connection.user_id);
        }
        forget(&mut self.sessions, &connection.session_id, id);
        Some(connection)
    }

    pub(super) fn get(&self, id: ConnectionId) -> Option<&Connection> {
        self.all.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        self.all.get_mut(&id)
    }

    /// Sets all the conversations a connection is in.
    pub(super) fn set_joined(
        &mut self,
        id: ConnectionId,
        conversations: impl IntoIterator<Item = ConversationId>,
    ) {
        if let Some(connection) = self.all.get_mut(&id) {
            connection.conversations = self.joined.of(conversations);
        }
    }

    /// Adds a conversation to a connection; false if the connection is unknown.
    pub(super) fn join(&mut self, id: ConnectionId, conversation: ConversationId) -> bool {
        let Some(connection) = self.all.get_mut(&id) else { return false };
        self.joined.insert(&mut connection.conversations, conversation);
        true
    }

    pub(super) fn leave(&mut self, id: ConnectionId, conversation: ConversationId) {
        if let Some(connection) = self.all.get_mut(&id) {
            self.joined.remove(&mut connection.conversations, conversation);
        }
    }

    /// Sets the read marks a connection's snapshot showed, where they go beyond what the user has been told.
    pub(super) fn set_read(&mut self, id: ConnectionId, read: HashMap<ConversationId, Seq>) {
        let Some(connection) = self.all.get_mut(&id) else { return };
        let told = self.read.get(&connection.user_id);
        let further = |(id, seq): &(ConversationId, Seq)| {
            *seq > told.and_then(|told| told.get(id)).copied().unwrap_or(Seq::ZERO)
        };
        connection.read = read.into_iter().filter(further).collect();
        if !connection.read.is_empty() {
            self.fresh.push_back((Instant::now(), id));
        }
    }

    /// Forgets marks shown so long ago that nothing older can still come.
    pub(super) fn forget_shown(&mut self, now: Instant) {
        while let Some((_, id)) = self.fresh.pop_front_if(|(at, _)| *at + LATE <= now) {
            if let Some(connection) = self.all.get_mut(&id) {
                connection.read = HashMap::default();
            }
        }
    }

    pub(super) fn ids(&self) -> Vec<ConnectionId> {
        self.all.keys().copied().collect()
    }

    /// Those that are attached.
    pub(super) fn attached(&self) -> Vec<ConnectionId> {
        let attached = self.all.iter().filter(|(_, connection)| connection.attaching.is_none());
        attached.map(|(id, _)| *id).collect()
    }

    pub(super) fn of_user(&self, user: UserId) -> Vec<ConnectionId> {
        self.users.get(&user).cloned().unwrap_or_default()
    }

    /// Whether somebody has a connection that was registered after this number.
    pub(super) fn any_after(&self, user: UserId, number: Registration) -> bool {
        let after = |id| self.all.get(id).is_some_and(|connection| connection.number > number);
        self.users.get(&user).into_iter().flatten().any(after)
    }

    pub(super) fn of_session(&self, session: SessionId) -> Vec<ConnectionId> {
        self.sessions.get(&session).cloned().unwrap_or_default()
    }

    /// Whether somebody who listens has read further than they have been told; if so, notes it as told.
    pub(super) fn reads_on(
        &mut self,
        user: UserId,
        conversation: ConversationId,
        seq: Seq,
    ) -> bool {
        if !self.listens(user, conversation) {
            return false;
        }
        let told = self.read.entry(user).or_default().entry(conversation).or_default();
        let further = seq > *told;
        *told = seq.max(*told);
        further
    }

    /// Whether a mark's user listens, and it goes beyond what they have been told.
    pub(super) fn would_read_on(&self, mark: &Mark) -> bool {
        let Mark { conversation_id, user_id, read_seq } = *mark;
        let told = self.read.get(&user_id).and_then(|read| read.get(&conversation_id));
        self.listens(user_id, conversation_id) && told.is_none_or(|told| *told < read_seq)
    }

    /// Whether any connection of somebody is in a conversation, or may be once it is attached.
    pub(super) fn listens(&self, user: UserId, conversation: ConversationId) -> bool {
        let hears =
            |c: &Connection| c.attaching.is_some() || c.conversations.contains(conversation);
        self.users.get(&user).into_iter().flatten().filter_map(|id| self.all.get(id)).any(hears)
    }

    /// Their users.
    pub(super) fn users(&self) -> impl Iterator<Item = UserId> {
        self.users.keys().copied()
    }

    /// The sessions of all of them.
    pub(super) fn sessions(&self) -> Vec<SessionId> {
        self.sessions.keys().copied().collect()
    }

    /// Ends the phase between a connection's registration and attachment; returns what was held meanwhile.
    pub(super) fn attach(&mut self, id: ConnectionId) -> Option<Attaching> {
        self.attaching.remove(&id);
        self.all.get_mut(&id)?.attaching.take()
    }

    pub(super) fn is_any_attaching(&self) -> bool {
        !self.attaching.is_empty()
    }

    /// The users of those between registration and attachment.
    pub(super) fn attaching(&self) -> impl Iterator<Item = UserId> {
        self.attaching.iter().filter_map(|id| self.all.get(id)).map(|connection| connection.user_id)
    }

    /// Holds something for those between registration and attachment that may hear it, by user and number.
    pub(super) fn hold(
        &mut self,
        may_hear: impl Fn(UserId, Registration) -> bool,
        hold: impl Fn(&mut Attaching),
    ) {
        for id in &self.attaching {
            if let Some(Connection { number, user_id, attaching: Some(attaching), .. }) =
                self.all.get_mut(id)
                && may_hear(*user_id, *number)
            {
                hold(attaching);
            }
        }
    }
}

fn forget<K: std::hash::Hash + Eq>(
    index: &mut HashMap<K, Vec<ConnectionId>>,
    key: &K,
    id: ConnectionId,
) {
    if let Some(ids) = index.get_mut(key) {
        ids.retain(|other| *other != id);
        if ids.is_empty() {
            index.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    const ADA: UserId = UserId(Uuid::from_u128(1));

    fn socket(number: u32) -> ConnectionId {
        ConnectionId { worker: 0, number }
    }

    #[test]
    fn those_are_known_who_are_being_attached() {
        let mut connections = Connections::default();
        for number in 1..=3 {
            let session = SessionId(Uuid::from_u128(2));
            let first = connections.insert(socket(number), ADA, session, Arc::default());
            assert_eq!(first, number == 1);
        }
        assert!(connections.attach(socket(1)).is_some());
        assert!(connections.attach(socket(1)).is_none(), "once");
        assert_eq!(connections.attaching().collect::<Vec<_>>(), [ADA; 2]);
        connections.remove(socket(2));
        assert!(connections.is_any_attaching());
        let held = std::cell::Cell::new(0);
        for least in [3, 4] {
            connections
                .hold(|_, number| number >= Registration(least), |_| held.set(held.get() + 1));
        }
        assert_eq!(held.get(), 1, "the third");
        connections.remove(socket(3));
        assert!(!connections.is_any_attaching());
    }
}
