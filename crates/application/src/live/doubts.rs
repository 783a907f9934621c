//! Which people in which conversations the store has to be asked about, without I/O: those who may be in one unknown to
//! this node, and those who may have read on.
//!
//! 1. The store is asked about each once, with one question at a time, about [`ASKED`] at most
//!    (`all_are_asked_about_some_at_a_time`).
//! 2. Those it gave no answer about are asked about again a little later
//!    (`of_whom_nothing_was_said_it_is_asked_again`).
//!
//! Only people connected here are noted, so its size is bounded by them and their conversations.

use std::collections::BTreeSet;

use parlance_domain::{ConversationId, UserId};

/// The most that are asked about at once.
const ASKED: usize = 64;

pub(super) type Doubt = (ConversationId, UserId);

#[derive(Default)]
pub(super) struct Doubts {
    waiting: BTreeSet<Doubt>,
    /// Those the store gave no answer about. They wait a little, and hold up nobody.
    failed: BTreeSet<Doubt>,
    asking: bool,
}

impl Doubts {
    pub(super) fn note(&mut self, conversation: ConversationId, user: UserId) {
        self.waiting.insert((conversation, user));
    }

    /// Those to ask the store about now, if it still concerns them; answer with [`Doubts::answered`].
    pub(super) fn ask(&mut self, concerns: impl Fn(Doubt) -> bool) -> Vec<Doubt> {
        let mut asked = Vec::new();
        while !self.asking && asked.len() < ASKED {
            let Some(next) = self.waiting.pop_first() else { break };
            if concerns(next) {
                asked.push(next);
            }
        }
        self.asking |= !asked.is_empty();
        asked
    }

    /// The store has answered about all but these.
    pub(super) fn answered(&mut self, but: impl IntoIterator<Item = Doubt>) {
        self.asking = false;
        self.failed.extend(but);
    }

    pub(super) fn retry(&mut self) {
        self.waiting.append(&mut self.failed);
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn some(number: usize) -> Doubt {
        (ConversationId(Uuid::from_u128(number as u128)), UserId(Uuid::from_u128(1)))
    }

    fn doubted(numbers: impl IntoIterator<Item = usize>) -> Doubts {
        let mut doubts = Doubts::default();
        for (conversation, user) in numbers.into_iter().map(some) {
            doubts.note(conversation, user);
        }
        doubts
    }

    #[test]
    fn all_are_asked_about_some_at_a_time() {
        let mut doubts = doubted((0..150).chain(0..150));
        let odd = |of: Doubt| of.0.0.as_u128() % 2 == 1;
        let asked = doubts.ask(odd);
        assert_eq!(asked, (0..ASKED).map(|n| some(2 * n + 1)).collect::<Vec<_>>());
        assert_eq!(doubts.ask(odd), [], "an answer is on its way");
        doubts.answered([]);
        assert_eq!(doubts.ask(odd).len(), 75 - ASKED);
        doubts.answered([]);
        assert_eq!(doubts.ask(odd), []);
    }

    #[test]
    fn of_whom_nothing_was_said_it_is_asked_again() {
        let mut doubts = doubted([1, 2]);
        assert_eq!(doubts.ask(|_| true).len(), 2);
        doubts.answered([some(2)]);
        assert_eq!(doubts.ask(|_| true), [], "it is left alone");
        doubts.note(some(3).0, some(3).1);
        assert_eq!(doubts.ask(|_| true), [some(3)], "and holds up nobody");
        doubts.answered([]);
        doubts.retry();
        assert_eq!(doubts.ask(|_| true), [some(2)]);
    }
}
