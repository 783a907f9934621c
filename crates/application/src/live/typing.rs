//! Who is typing where, without I/O.
//!
//! 1. Typing expires [`TYPING_FOR`] after the last report of it (`ends_by_itself_and_later_when_renewed`).
//! 2. It is told at most once per [`AGAIN_AFTER`], whether renewed or restarted: a client may report it with every
//!    keystroke, or start and stop endlessly (`what_is_renewed_with_every_key_is_told_every_other_second`,
//!    `who_starts_and_stops_without_end_is_told_every_other_second`).
//! 3. What was told last is the state, or the state is told once that interval is over: a restart within it that lasts
//!    is told then, and a stop has been told by then (`who_begins_anew_and_goes_on_is_told_later`,
//!    `whatever_they_do_what_was_told_last_is_how_it_is`).
//! 4. Typing ends with the connection that reported it last, and only once (`ends_with_its_connection_and_only_once`).
//! 5. It holds those who type, and those told as typing within [`AGAIN_AFTER`] (`nobody_is_remembered_for_long`).

use std::{
    collections::{BTreeSet, hash_map::Entry},
    time::Duration,
};

use parlance_domain::{ConversationId, UserId};
use rustc_hash::FxHashMap as HashMap;
use tokio::time::Instant;

use crate::ports::ConnectionId;

/// How long a `typing.start` lasts unless it is renewed.
pub(super) const TYPING_FOR: Duration = Duration::from_secs(6);
/// The least time between two times that somebody's typing is told.
const AGAIN_AFTER: Duration = Duration::from_secs(2);

type Key = (ConversationId, UserId);

#[derive(Default)]
pub(super) struct Typing {
    by: HashMap<Key, Typist>,
    /// One per typist: when something has to be done next.
    deadlines: BTreeSet<(Instant, Key)>,
}

struct Typist {
    /// When their typing expires, and the connection that reported it last; none if they have stopped.
    types: Option<(Instant, ConnectionId)>,
    /// When their typing was last told.
    told: Instant,
    /// Whether that was the last thing told of them.
    shown: bool,
}

/// What to tell of a typist whose deadline has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// They are typing, for this long from now on.
    Types(Duration),
    Stopped,
}

impl Typist {
    /// When to tell what was not told yet, end it, or forget it.
    fn deadline(&self) -> Instant {
        match self.types {
            Some((until, _)) if self.shown => until,
            Some((until, _)) => until.min(self.told + AGAIN_AFTER),
            None => self.told + AGAIN_AFTER,
        }
    }
}

impl Typing {
    /// Starts or renews; true if that should be told now. It stops when the connection that did so last ends.
    pub(super) fn start(
        &mut self,
        conversation: ConversationId,
        user: UserId,
        connection: ConnectionId,
        now: Instant,
    ) -> bool {
        let (key, types) = ((conversation, user), Some((now + TYPING_FOR, connection)));
        let before = self.by.get(&key).filter(|before| now < before.told + AGAIN_AFTER);
        let (told, shown) = before.map_or((now, true), |before| (before.told, before.shown));
        let tells = before.is_none();
        self.put(key, Typist { types, told, shown });
        tells
    }

    /// Stops; true if that should be told.
    pub(super) fn stop(&mut self, conversation: ConversationId, user: UserId) -> bool {
        self.end((conversation, user))
    }

    /// Stops all typing that a connection reported last; returns what should be told.
    pub(super) fn disconnect(&mut self, connection: ConnectionId) -> Vec<Key> {
        let by = |typist: &Typist| typist.types.is_some_and(|(_, by)| by == connection);
        let mut ended: Vec<Key> =
            self.by.iter().filter(|(_, typist)| by(typist)).map(|(key, _)| *key).collect();
        ended.retain(|key| self.end(*key));
        ended
    }

    /// What is due to be told at `now`.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<(Key, Turn)> {
        let mut turns = Vec::new();
        while let Some((_, key)) = self.deadlines.first().copied().filter(|(at, _)| *at <= now) {
            let Some(typist) = self.take(key) else { continue };
            match typist.types {
                Some((until, _)) if now < until => {
                    turns.push((key, Turn::Types(until - now)));
                    self.put(key, Typist { told: now, shown: true, ..typist });
                }
                Some(_) if typist.shown => turns.push((key, Turn::Stopped)),
                _ => {}
            }
        }
        turns
    }

    /// When to look again.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// Ends the typing; true if that should be told, as only the stop of a told start is.
    fn end(&mut self, key: Key) -> bool {
        if self.by.get(&key).is_none_or(|typist| typist.types.is_none()) {
            return false;
        }
        let Some(typist) = self.take(key) else { return false };
        let tells = typist.shown;
        self.put(key, Typist { types: None, shown: false, ..typist });
        tells
    }

    fn put(&mut self, key: Key, typist: Typist) {
        self.take(key);
        self.deadlines.insert((typist.deadline(), key));
        self.by.insert(key, typist);
    }

    fn take(&mut self, key: Key) -> Option<Typist> {
        let Entry::Occupied(typist) = self.by.entry(key) else { return None };
        self.deadlines.remove(&(typist.get().deadline(), key));
        Some(typist.remove())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    const HERE: ConversationId = ConversationId(Uuid::from_u128(1));
    const ADA: UserId = UserId(Uuid::from_u128(2));
    const SOCKET: ConnectionId = ConnectionId { worker: 0, number: 1 };

    fn millis(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn ends_by_itself_and_later_when_renewed() {
        let (mut typing, start) = (Typing::default(), Instant::now());
        typing.start(HERE, ADA, SOCKET, start);
        typing.start(HERE, ADA, SOCKET, start + Duration::from_secs(3));
        assert_eq!(typing.expire(start + Duration::from_secs(8)), []);
        let stopped = ((HERE, ADA), Turn::Stopped);
        assert_eq!(typing.expire(start + Duration::from_secs(9)), [stopped]);
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
    }

    #[test]
    fn who_starts_and_stops_without_end_is_told_every_other_second() {
        let (mut typing, start) = (Typing::default(), Instant::now());
        let (mut starts, mut stops) = (0, 0);
        for ms in (0..20_000).step_by(50) {
            let turns = typing.expire(start + millis(ms));
            starts += turns.len();
            starts += usize::from(typing.start(HERE, ADA, SOCKET, start + millis(ms)));
            stops += usize::from(typing.stop(HERE, ADA));
        }
        assert_eq!((starts, stops), (10, 10));
    }

    #[test]
    fn who_begins_anew_and_goes_on_is_told_later() {
        let (mut typing, start) = (Typing::default(), Instant::now());
        let at = |ms| start + millis(ms);
        assert!(typing.start(HERE, ADA, SOCKET, at(0)) && typing.stop(HERE, ADA));
        assert!(!typing.start(HERE, ADA, SOCKET, at(500)), "it was told a moment ago");
        assert!(!typing.stop(HERE, ADA), "that they have stopped is what was told last");
        assert!(!typing.start(HERE, ADA, SOCKET, at(1_000)));
        assert_eq!(typing.next_deadline(), Some(at(2_000)));
        let types = ((HERE, ADA), Turn::Types(millis(5_000)));
        assert_eq!(typing.expire(at(2_000)), [types]);
        assert!(!typing.start(HERE, ADA, SOCKET, at(3_000)));
        assert!(typing.stop(HERE, ADA));
    }

    #[test]
    fn nobody_is_remembered_for_long() {
        let (mut typing, start) = (Typing::default(), Instant::now());
        typing.start(HERE, ADA, SOCKET, start);
        typing.stop(HERE, ADA);
        assert_eq!(typing.expire(start + AGAIN_AFTER), []);
        assert!(typing.by.is_empty() && typing.deadlines.is_empty());
    }

    proptest! {
        /// What others see is right, or will be within [`AGAIN_AFTER`] if nothing else happens.
        #[test]
        fn whatever_they_do_what_was_told_last_is_how_it_is(
            acts in prop::collection::vec((0..3_000_u64, 0..3_u8), 0..60),
        ) {
            let (mut seen, mut now) = (Seen::default(), Instant::now());
            let mut until = now;
            for (after, act) in acts {
                now += millis(after);
                seen.pass(now);
                match act {
                    0 => {
                        until = now;
                        let told = seen.typing.stop(HERE, ADA);
                        seen.stopped(usize::from(told));
                    }
                    1 => {
                        until = now;
                        let told = seen.typing.disconnect(SOCKET).len();
                        seen.stopped(told);
                    }
                    _ => {
                        until = now + TYPING_FOR;
                        if seen.typing.start(HERE, ADA, SOCKET, now) {
                            seen.types(now);
                        }
                    }
                }
                prop_assert!(!seen.types || until > now, "they do not type");
            }
            let soon = now + AGAIN_AFTER;
            seen.pass(soon);
            prop_assert_eq!(seen.types, until > soon);
            seen.pass(soon + TYPING_FOR);
            prop_assert!(!seen.types && seen.typing.by.is_empty());
            prop_assert!(seen.told_at.windows(2).all(|two| two[0] + AGAIN_AFTER <= two[1]));
        }
    }

    /// What others see of Ada.
    #[derive(Default)]
    struct Seen {
        typing: Typing,
        types: bool,
        told_at: Vec<Instant>,
    }

    impl Seen {
        fn types(&mut self, at: Instant) {
            self.types = true;
            self.told_at.push(at);
        }

        fn stopped(&mut self, times: usize) {
            assert!(times == 0 || (times == 1 && self.types), "a stop of nothing");
            self.types &= times == 0;
        }

        fn pass(&mut self, to: Instant) {
            while let Some(at) = self.typing.next_deadline().filter(|at| *at <= to) {
                for (_, turn) in self.typing.expire(at) {
                    match turn {
                        Turn::Types(_) => self.types(at),
                        Turn::Stopped => self.stopped(1),
                    }
                }
            }
        }
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
