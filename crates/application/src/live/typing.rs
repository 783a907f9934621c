//! Who is typing where, without I/O.
//!
//! 1. Everybody stops by themselves [`TYPING_FOR`] after they last said that they type
//!    (`ends_by_itself_and_later_when_renewed`).
//! 2. What is renewed is told once in [`RENEWED_AFTER`] at most (`what_is_renewed_with_every_key_is_told_every_other_second`).
//! 3. It ends with the connection that said it last, and only once (`ends_with_its_connection_and_only_once`).

use std::{collections::BTreeSet, time::Duration};

use parlance_domain::{ConversationId, UserId};
use rustc_hash::FxHashMap as HashMap;
use tokio::time::Instant;

use crate::ports::ConnectionId;

/// How long a `typing.start` lasts unless it is renewed.
pub(super) const TYPING_FOR: Duration = Duration::from_secs(6);
/// What is renewed sooner than this after it was told is told to nobody: a client may say it with every key.
const RENEWED_AFTER: Duration = Duration::from_secs(2);

type Key = (ConversationId, UserId);

#[derive(Default)]
pub(super) struct Typing {
    by: HashMap<Key, Typist>,
    /// One for each typist.
    deadlines: BTreeSet<(Instant, Key)>,
}

struct Typist {
    connection: ConnectionId,
    until: Instant,
    told: Instant,
}

impl Typing {
    /// Begins or renews, and says whether that is to be told. The connection that did it last is the one whose end stops it.
    pub(super) fn start(
        &mut self,
        conversation: ConversationId,
        user: UserId,
        connection: ConnectionId,
        now: Instant,
    ) -> bool {
        let (key, until) = ((conversation, user), now + TYPING_FOR);
        let before = self.forget(key).map(|typist| typist.told);
        let told = before.filter(|told| now < *told + RENEWED_AFTER);
        self.deadlines.insert((until, key));
        self.by.insert(key, Typist { connection, until, told: told.unwrap_or(now) });
        told.is_none()
    }

    /// Whether there was something to stop.
    pub(super) fn stop(&mut self, conversation: ConversationId, user: UserId) -> bool {
        self.forget((conversation, user)).is_some()
    }

    /// Stops all that a connection began.
    pub(super) fn disconnect(&mut self, connection: ConnectionId) -> Vec<Key> {
        let theirs = self.by.iter().filter(|(_, typist)| typist.connection == connection);
        let ended: Vec<Key> = theirs.map(|(key, _)| *key).collect();
        for key in &ended {
            self.forget(*key);
        }
        ended
    }

    /// Stops all whose time is over.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<Key> {
        let mut ended = Vec::new();
        while let Some((_, key)) = self.deadlines.first().copied().filter(|(at, _)| *at <= now) {
            self.forget(key);
            ended.push(key);
        }
        ended
    }

    /// When to look again.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    fn forget(&mut self, key: Key) -> Option<Typist> {
        let typist = self.by.remove(&key)?;
        self.deadlines.remove(&(typist.until, key));
        Some(typist)
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
    fn what_is_renewed_with_every_key_is_told_every_other_second() {
        let (mut typing, start) = (Typing::default(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        let told: Vec<u64> =
            (0..10_000).step_by(50).filter(|ms| typing.start(HERE, ADA, SOCKET, at(*ms))).collect();
        assert_eq!(told, [0, 2_000, 4_000, 6_000, 8_000]);
        assert_eq!(typing.deadlines.len(), 1);
        assert_eq!(typing.next_deadline(), Some(at(9_950) + TYPING_FOR));
        let other = ConnectionId { number: 2, ..SOCKET };
        assert!(!typing.start(HERE, ADA, other, at(9_990)));
        assert_eq!(typing.disconnect(SOCKET), []);
        assert_eq!(typing.disconnect(other), [(HERE, ADA)], "whoever did it last");
        assert!(typing.start(HERE, ADA, SOCKET, at(9_991)), "it had been stopped");
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
