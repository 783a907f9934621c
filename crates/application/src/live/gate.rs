//! State events on their way to the sockets of a node that shares its store, without I/O. No rev orders them, so they
//! are hints: they wait until the store has given the current state, and who may hear it. So nothing outdated is told,
//! even if the bus is late, repeats or reorders. An end of access to a conversation waits for nothing.
//!
//! 1. What goes through came before the store was asked, so whoever may hear it by the answer could when it was
//!    committed, or later (`what_comes_while_the_store_is_asked_waits_for_the_next_answer`).
//! 2. It goes through in order of arrival, and once (`all_goes_through_once_and_in_order`).
//! 3. What the store did not answer is asked again, half as much each time, still in order; what it does not answer
//!    even by itself is given up, and holds nothing else up (`what_was_not_answered_is_asked_again`,
//!    `what_cannot_be_answered_is_given_up`).
//! 4. The end of somebody's access to a conversation removes their waiting joins that precede it
//!    (`an_end_takes_along_the_ways_in_before_it`).
//! 5. At most [`BOUND`] wait, and [`ASKED`] are asked about at once. What exceeds the bound is refused, for the looks
//!    at the store to find again (`more_than_it_holds_is_refused`, `so_many_are_asked_about_at_once`).

use std::{collections::VecDeque, sync::Arc};

use super::Event;
use crate::ports::store::Subject;

/// The most that waits.
const BOUND: usize = 10_000;
/// The most asked about, and let through, together.
const ASKED: usize = 256;
/// How many times one thing is asked about by itself before it is given up.
const TRIES: u32 = 5;

pub(super) struct Gate {
    /// In order of arrival.
    waiting: VecDeque<Waiting>,
    /// How many of them the store is being asked about, if any.
    asked: Option<usize>,
    /// How many to ask about next.
    some: usize,
    /// How many times the first was asked about by itself.
    tries: u32,
    /// Whether the store did not answer, and is left alone for a while.
    silent: bool,
}

#[derive(Debug, Clone)]
pub(super) enum Waiting {
    /// Its state may have changed: told as the store has it.
    Subject(Subject),
    /// Anything else, told as it came: a join of a conversation, a read mark, or an event without its subject from a
    /// node of an earlier version.
    Event(Arc<Event>),
}

impl Default for Gate {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), asked: None, some: ASKED, tries: 0, silent: false }
    }
}

impl Gate {
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Queues it, or returns it if there is no room.
    pub(super) fn wait(&mut self, waiting: Waiting) -> Result<(), Waiting> {
        if self.waiting.len() >= BOUND {
            return Err(waiting);
        }
        self.waiting.push_back(waiting);
        Ok(())
    }

    /// What to ask the store about now: what waits, unless the store is being asked or left alone.
    pub(super) fn ask(&mut self) -> Option<Vec<Waiting>> {
        if self.asked.is_some() || self.silent || self.waiting.is_empty() {
            return None;
        }
        let some = self.some.min(self.waiting.len());
        self.asked = Some(some);
        Some(self.waiting.range(..some).cloned().collect())
    }

    /// The store has said who may hear what it was asked about, which now goes through.
    pub(super) fn answered(&mut self) -> Vec<Waiting> {
        (self.some, self.tries) = (ASKED.min(self.some * 2), 0);
        self.waiting.drain(..self.asked.take().unwrap_or(0)).collect()
    }

    /// The store did not answer; it is asked again after [`Gate::retry`]. Returns what is given up, for a look to find
    /// again.
    pub(super) fn unanswered(&mut self) -> Option<Waiting> {
        self.silent = true;
        let asked = self.asked.take()?;
        self.some = (asked / 2).max(1);
        self.tries += u32::from(asked == 1);
        if self.tries < TRIES {
            return None;
        }
        self.tries = 0;
        self.waiting.pop_front()
    }

    pub(super) fn retry(&mut self) {
        self.silent = false;
    }

    /// Somebody's access to a conversation ends now.
    pub(super) fn end(&mut self, end: &Event) {
        let (mut at, mut gone) = (0, 0);
        self.waiting.retain(|waiting| {
            let keep = !matches!(waiting, Waiting::Event(way_in) if ends(end, way_in));
            gone += usize::from(!keep && self.asked.is_some_and(|asked| at < asked));
            at += 1;
            keep
        });
        self.asked = self.asked.map(|asked| asked - gone);
    }
}

/// Whether `end` ends the access that `way_in` began.
fn ends(end: &Event, way_in: &Event) -> bool {
    match (end, way_in) {
        (
            Event::Left { conversation_id: from, user_id: who, access_rev: at, .. },
            Event::Joined { conversation_id, user_id, access_rev, .. },
        ) => (conversation_id, user_id) == (from, who) && access_rev < at,
        (Event::Deleted { conversation_id: of, .. }, Event::Joined { conversation_id, .. }) => {
            conversation_id == of
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use parlance_domain::{AccessRev, ConversationId, Rev, Seq, UserId};
    use uuid::Uuid;

    use super::*;
    use crate::live::Frame;

    const HERE: ConversationId = ConversationId(Uuid::from_u128(1));
    const ADA: UserId = UserId(Uuid::from_u128(3));
    const BOB: UserId = UserId(Uuid::from_u128(4));

    fn waiting(event: Event) -> Waiting {
        Waiting::Event(event.into())
    }

    fn joined(user_id: UserId, access_rev: u64) -> Event {
        let (conversation_id, frame) = (HERE, Frame::encode(&access_rev));
        Event::Joined {
            conversation_id,
            user_id,
            rev: Rev(1),
            access_rev: AccessRev(access_rev),
            read_seq: Seq::ZERO,
            workspace_id: None,
            frame,
        }
    }

    fn left(user_id: UserId, access_rev: u64) -> Event {
        let (conversation_id, frame) = (HERE, Frame::left(HERE));
        Event::Left { conversation_id, user_id, access_rev: AccessRev(access_rev), frame }
    }

    /// Identifies them by `access_rev`.
    fn counts(waiting: &[Waiting]) -> Vec<u64> {
        let count = |waiting: &Waiting| match waiting {
            Waiting::Event(event) => match &**event {
                Event::Joined { access_rev, .. } => access_rev.0,
                other => panic!("{other:?}"),
            },
            Waiting::Subject(other) => panic!("{other:?}"),
        };
        waiting.iter().map(count).collect()
    }

    fn asked(gate: &mut Gate) -> Option<Vec<u64>> {
        gate.ask().map(|asked| counts(&asked))
    }

    fn through(gate: &mut Gate) -> Vec<u64> {
        counts(&gate.answered())
    }

    fn gate(counts: impl IntoIterator<Item = u64>) -> Gate {
        let mut gate = Gate::default();
        for count in counts {
            assert!(gate.wait(waiting(joined(ADA, count))).is_ok());
        }
        gate
    }

    #[test]
    fn what_comes_while_the_store_is_asked_waits_for_the_next_answer() {
        let mut gate = gate([1]);
        assert_eq!(asked(&mut gate), Some(vec![1]));
        assert!(gate.wait(waiting(joined(ADA, 2))).is_ok());
        assert!(gate.ask().is_none(), "it is being asked");
        assert_eq!(through(&mut gate), [1]);
        assert_eq!(asked(&mut gate), Some(vec![2]));
    }

    #[test]
    fn all_goes_through_once_and_in_order() {
        let mut gate = gate(1..=3);
        gate.ask();
        assert_eq!(through(&mut gate), [1, 2, 3]);
        assert!(gate.is_empty() && gate.ask().is_none());
        assert!(gate.answered().is_empty());
    }

    #[test]
    fn what_was_not_answered_is_asked_again() {
        let mut gate = gate([1, 2]);
        gate.ask();
        assert!(gate.wait(waiting(joined(ADA, 3))).is_ok());
        assert!(gate.unanswered().is_none());
        assert!(gate.ask().is_none(), "it is left alone");
        gate.retry();
        assert_eq!(asked(&mut gate), Some(vec![1]));
        assert_eq!(through(&mut gate), [1]);
        assert_eq!(asked(&mut gate), Some(vec![2, 3]));
        assert_eq!(through(&mut gate), [2, 3]);
    }

    #[test]
    fn what_cannot_be_answered_is_given_up() {
        let mut gate = gate([1, 2, 3]);
        for _ in 0..TRIES {
            assert!(gate.ask().is_some());
            assert!(gate.unanswered().is_none(), "two more were asked about the first time");
            gate.retry();
        }
        assert_eq!(asked(&mut gate), Some(vec![1]));
        let given_up: Vec<_> = gate.unanswered().into_iter().collect();
        assert_eq!(counts(&given_up), [1]);
        gate.retry();
        assert_eq!(asked(&mut gate), Some(vec![2]), "the rest is asked about");
        assert_eq!(through(&mut gate), [2]);
        assert_eq!(asked(&mut gate), Some(vec![3]));
    }

    #[test]
    fn so_many_are_asked_about_at_once() {
        let mut gate = gate(0..300);
        assert_eq!(asked(&mut gate).map(|asked| asked.len()), Some(256));
        assert_eq!(through(&mut gate).len(), 256);
        assert_eq!(asked(&mut gate), Some((256..300).collect()));
    }

    #[test]
    fn an_end_takes_along_the_ways_in_before_it() {
        let deleted = Event::Deleted { conversation_id: HERE, frame: Frame::deleted(HERE) };
        for (end, rest) in [(left(ADA, 4), [5, 3]), (left(BOB, 9), [2, 5])] {
            let mut gate = gate([2, 5]);
            assert!(gate.wait(waiting(joined(BOB, 3))).is_ok());
            gate.end(&end);
            gate.ask();
            assert_eq!(through(&mut gate), rest);
            assert!(gate.wait(waiting(joined(ADA, 6))).is_ok());
            gate.end(&deleted);
            assert!(gate.is_empty());
        }
    }

    #[test]
    fn an_end_during_the_question_leaves_the_rest_as_it_was() {
        let mut gate = gate([1, 5]);
        gate.ask();
        assert!(gate.wait(waiting(joined(ADA, 2))).is_ok());
        assert!(gate.wait(waiting(joined(BOB, 3))).is_ok());
        gate.end(&left(ADA, 4));
        assert_eq!(through(&mut gate), [5], "Bob's came after the question");
        gate.ask();
        assert!(gate.wait(waiting(joined(ADA, 7))).is_ok());
        gate.end(&left(BOB, 4));
        assert!(gate.ask().is_none(), "an answer is on its way");
        assert!(gate.answered().is_empty());
        assert_eq!(asked(&mut gate), Some(vec![7]));
    }

    #[test]
    fn more_than_it_holds_is_refused() {
        let mut gate = gate(0..10_000);
        assert!(gate.wait(waiting(joined(ADA, 10_000))).is_err());
    }
}
