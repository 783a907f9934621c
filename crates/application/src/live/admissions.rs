//! Who may be in a conversation without this node's knowing: a way in that was not heard of, or an end of access that was older than
//! the way back. The store is asked about them, without I/O here.
//!
//! 1. The store is asked about each once, and once at a time about [`ASKED`] at most, however many there are
//!    (`all_are_asked_about_some_at_a_time`).
//! 2. Of whom it did not say it is asked again, a little later (`of_whom_nothing_was_said_it_is_asked_again`).
//!
//! It is told of those alone who are connected here and do not listen: it holds no more than these are, and what they do not
//! listen to.

use std::collections::BTreeSet;

use parlance_domain::{ConversationId, UserId};

/// The most that are asked about at once.
const ASKED: usize = 64;

pub(super) type Admission = (ConversationId, UserId);

#[derive(Default)]
pub(super) struct Admissions {
    doubted: BTreeSet<Admission>,
    /// Of whom the store did not say. They wait a little, in nobody's way.
    failed: BTreeSet<Admission>,
    asking: bool,
}

impl Admissions {
    pub(super) fn doubt(&mut self, conversation: ConversationId, user: UserId) {
        self.doubted.insert((conversation, user));
    }

    /// About whom the store is to be asked now, of those whom it still concerns; answer with [`Admissions::answered`].
    pub(super) fn ask(&mut self, concerns: impl Fn(Admission) -> bool) -> Vec<Admission> {
        let mut asked = Vec::new();
        while !self.asking && asked.len() < ASKED {
            let Some(next) = self.doubted.pop_first() else { break };
            if concerns(next) {
                asked.push(next);
            }
        }
        self.asking |= !asked.is_empty();
        asked
    }

    /// The store has answered, but for these.
    pub(super) fn answered(&mut self, but: impl IntoIterator<Item = Admission>) {
        self.asking = false;
        self.failed.extend(but);
    }

    pub(super) fn retry(&mut self) {
        self.doubted.append(&mut self.failed);
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn some(number: usize) -> Admission {
        (ConversationId(Uuid::from_u128(number as u128)), UserId(Uuid::from_u128(1)))
    }

    fn doubted(numbers: impl IntoIterator<Item = usize>) -> Admissions {
        let mut admissions = Admissions::default();
        for (conversation, user) in numbers.into_iter().map(some) {
            admissions.doubt(conversation, user);
        }
        admissions
    }

    #[test]
    fn all_are_asked_about_some_at_a_time() {
        let mut admissions = doubted((0..150).chain(0..150));
        let odd = |of: Admission| of.0.0.as_u128() % 2 == 1;
        let asked = admissions.ask(odd);
        assert_eq!(asked, (0..ASKED).map(|n| some(2 * n + 1)).collect::<Vec<_>>());
        assert_eq!(admissions.ask(odd), [], "an answer is on its way");
        admissions.answered([]);
        assert_eq!(admissions.ask(odd).len(), 75 - ASKED);
        admissions.answered([]);
        assert_eq!(admissions.ask(odd), []);
    }

    #[test]
    fn of_whom_nothing_was_said_it_is_asked_again() {
        let mut admissions = doubted([1, 2]);
        assert_eq!(admissions.ask(|_| true).len(), 2);
        admissions.answered([some(2)]);
        assert_eq!(admissions.ask(|_| true), [], "it is left alone");
        admissions.doubt(some(3).0, some(3).1);
        assert_eq!(admissions.ask(|_| true), [some(3)], "and holds up nobody");
        admissions.answered([]);
        admissions.retry();
        assert_eq!(admissions.ask(|_| true), [some(2)]);
    }
}
