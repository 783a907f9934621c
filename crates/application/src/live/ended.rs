//! Which session ends a node knows of, by the store's count of them, without I/O. Their events may be lost or
//! reordered; anything that carries a later count than the known one waits.
//!
//! 1. A count is known when all ends up to it have been heard, in whatever order, or when the store has said which of
//!    the node's sessions have ended (`ends_are_known_in_whatever_order_they_come`, `what_was_not_heard_is_asked_for`).
//! 2. One question is in flight at a time, and repeated until the store answers (`it_is_asked_once_at_a_time`).
//! 3. It holds at most [`EARLY`] counts that came early; what it forgets is asked for
//!    (`what_is_forgotten_is_asked_for`).

use std::collections::BTreeSet;

use parlance_domain::SessionRev;

/// The most counts held that came ahead of an earlier one.
const EARLY: usize = 1_024;

#[derive(Default)]
pub(super) struct Ended {
    /// All of this node's sessions that ended up to this count are known, and closed.
    known: SessionRev,
    /// A later count that was seen.
    beyond: SessionRev,
    /// Later ends that have been heard of.
    early: BTreeSet<SessionRev>,
    asking: bool,
}

impl Ended {
    /// Whether all ends up to a count that was seen are known.
    pub(super) fn knows(&mut self, count: SessionRev) -> bool {
        self.beyond = self.beyond.max(count);
        count <= self.known
    }

    /// The event of the end with this count has come, and the session is closed here. True if some of what waits may go
    /// on.
    pub(super) fn heard(&mut self, count: SessionRev) -> bool {
        let (before, waited) = (self.known, self.beyond > self.known);
        self.beyond = self.beyond.max(count);
        if count > self.known {
            self.early.insert(count);
        }
        self.advance();
        if self.early.len() > EARLY {
            self.early.pop_last();
        }
        waited && self.known > before
    }

    /// The count at which to ask the store which sessions have ended, if any. Answer with [`Ended::answered`].
    pub(super) fn ask(&mut self) -> Option<SessionRev> {
        let asks = self.beyond > self.known && !self.asking;
        self.asking |= asks;
        asks.then_some(self.beyond)
    }

    /// The sessions that the store found to have ended by this count are closed; none if it did not answer.
    pub(super) fn answered(&mut self, count: Option<SessionRev>) {
        self.asking = false;
        self.known = self.known.max(count.unwrap_or(SessionRev::ZERO));
        self.advance();
    }

    fn advance(&mut self) {
        while let Some(next) = self.early.first().copied().filter(|next| *next <= self.known.next())
        {
            self.early.pop_first();
            self.known = self.known.max(next);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_known_in_whatever_order_they_come() {
        let mut ended = Ended::default();
        assert!(ended.knows(SessionRev(0)) && !ended.knows(SessionRev(4)));
        for count in [2, 4, 2] {
            assert!(!ended.heard(SessionRev(count)));
        }
        assert!(ended.heard(SessionRev(1)));
        assert!(ended.knows(SessionRev(2)) && !ended.knows(SessionRev(4)));
        assert!(ended.heard(SessionRev(3)) && ended.knows(SessionRev(4)));
        assert!(!ended.heard(SessionRev(3)) && ended.early.is_empty());
        assert!(!ended.heard(SessionRev(5)) && ended.knows(SessionRev(5)), "nothing has waited");
        assert_eq!(ended.ask(), None);
    }

    #[test]
    fn what_was_not_heard_is_asked_for() {
        let mut ended = Ended::default();
        assert!(!ended.heard(SessionRev(2)));
        assert_eq!(ended.ask(), Some(SessionRev(2)));
        assert!(!ended.heard(SessionRev(4)));
        ended.answered(Some(SessionRev(2)));
        assert!(ended.knows(SessionRev(2)) && !ended.knows(SessionRev(4)), "the third is unknown");
        assert_eq!(ended.ask(), Some(SessionRev(4)));
        ended.answered(Some(SessionRev(3)));
        assert!(ended.knows(SessionRev(4)), "the fourth was heard");
    }

    #[test]
    fn it_is_asked_once_at_a_time() {
        let mut ended = Ended::default();
        assert_eq!(ended.ask(), None);
        assert!(!ended.knows(SessionRev(3)));
        assert_eq!((ended.ask(), ended.ask()), (Some(SessionRev(3)), None));
        assert!(!ended.knows(SessionRev(4)));
        ended.answered(None);
        assert!(!ended.knows(SessionRev(3)));
        assert_eq!(ended.ask(), Some(SessionRev(4)));
    }

    #[test]
    fn what_is_forgotten_is_asked_for() {
        let mut ended = Ended::default();
        let last = EARLY as u64 + 10;
        (2..=last).for_each(|count| assert!(!ended.heard(SessionRev(count))));
        assert_eq!(ended.early.len(), EARLY);
        assert!(ended.heard(SessionRev(1)));
        assert!(ended.knows(SessionRev(EARLY as u64 + 1)) && !ended.knows(SessionRev(last)));
        assert_eq!(ended.ask(), Some(SessionRev(last)));
    }
}
