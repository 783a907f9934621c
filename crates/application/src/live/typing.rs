//! Who is typing where, without I/O. Everybody stops by themselves after [`TYPING_FOR`], so the deadlines form a queue.

use std::{collections::VecDeque, time::Duration};

use parlance_domain::{ConversationId, UserId};
use rustc_hash::FxHashMap as HashMap;
use tokio::time::Instant;

use crate::ports::ConnectionId;

/// How long a `typing.start` lasts unless it is renewed.
pub(super) const TYPING_FOR: Duration = Duration::from_secs(6);

type Key = (ConversationId, UserId);

#[derive(Default)]
pub(super) struct Typing {
    by: HashMap<Key, (ConnectionId, Instant)>,
    /// In order of time; entries that were renewed or stopped in between are passed over.
    deadlines: VecDeque<(Instant, Key)>,
}

impl Typing {
    /// Begins or renews. The connection that did it last is the one whose end stops it.
    pub(super) fn start(
        &mut self,
        conversation: ConversationId,
        user: UserId,
        connection: ConnectionId,
        now: Instant,
    ) {
        let until = now + TYPING_FOR;
        self.by.insert((conversation, user), (connection, until));
        self.deadlines.push_back((until, (conversation, user)));
    }

    /// Whether there was something to stop.
    pub(super) fn stop(&mut self, conversation: ConversationId, user: UserId) -> bool {
        self.by.remove(&(conversation, user)).is_some()
    }

    /// Stops all that a connection began.
    pub(super) fn disconnect(&mut self, connection: ConnectionId) -> Vec<Key> {
        let ended: Vec<Key> =
            self.by.iter().filter(|(_, (by, _))| *by == connection).map(|(key, _)| *key).collect();
        for key in &ended {
            self.by.remove(key);
        }
        ended
    }

    /// Stops all whose time is over.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<Key> {
        let mut ended = Vec::new();
        while let Some((at, key)) = self.deadlines.front().copied().filter(|(at, _)| *at <= now) {
            self.deadlines.pop_front();
            if self.by.get(&key).is_some_and(|(_, until)| *until == at) {
                self.by.remove(&key);
                ended.push(key);
            }
        }
        ended
    }

    /// When to look again.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.front().map(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    const HERE: ConversationId = ConversationId(Uuid::from_u128(1));
    const ADA: UserId = UserId(Uuid::from_u128(2));
    const SOCKET: ConnectionId = ConnectionId { worker: 0, number: 1 };

    #[test]
    fn ends_by_itself_and_later_when_renewed() {
        let (mut typing, start) = (Typing::default(), Instant::now());
        typing.start(HERE, ADA, SOCKET, start);
        typing.start(HERE, ADA, SOCKET, start + Duration::from_secs(3));
        assert_eq!(typing.expire(start + Duration::from_secs(8)), []);
        assert_eq!(typing.expire(start + Duration::from_secs(9)), [(HERE, ADA)]);
        assert_eq!(typing.next_deadline(), None);
    }

    #[test]
    fn ends_with_its_connection_and_only_once() {
        let (mut typing, start) = (Typing::default(), Instant::now());
        typing.start(HERE, ADA, SOCKET, start);
        assert_eq!(typing.disconnect(ConnectionId { number: 2, ..SOCKET }), []);
        assert_eq!(typing.disconnect(SOCKET), [(HERE, ADA)]);
        assert!(!typing.stop(HERE, ADA));
        assert_eq!(typing.expire(start + TYPING_FOR), []);
    }
}
