//! Which state events this node has told, without I/O. In: what was told, and what looks at the store find. Out: what
//! the store still has to be asked about, and whether its answer is news.
//!
//! 1. A change is asked about once, at the first look that shows it, however many do; and again if it could not be told
//!    (`a_change_is_asked_for_once`, `what_was_not_told_is_asked_for_again`).
//! 2. A state told since the last look but one is no news to those registered when it was told; whoever came since may
//!    have seen another state (`what_was_told_is_no_news`, `another_state_is_news`,
//!    `what_was_told_is_news_to_who_came_since`).
//! 3. What was told before that proves nothing about a change that a look shows only now: somebody may have come since
//!    and seen another state (`what_was_told_long_ago_is_news`).
//! 4. A told state is news again once the bus has named another, even if the store gives the first: whoever made the
//!    change in between has seen that (`a_state_that_is_back_is_news`).
//! 5. It holds at most [`BOUND`] notes of states per generation, and as many stamps; what it forgets is told again,
//!    never left out (`what_is_forgotten_is_told_again`). Marks are those of one look.

use std::{
    hash::{Hash, Hasher},
    time::Duration,
};

use parlance_domain::{ConversationId, Seq, Timestamp, UserId};
use rustc_hash::{FxHashMap as HashMap, FxHasher};

use super::{Frame, connections::Registration};
use crate::ports::store::{Mark, Subject};

/// The most notes per generation, and the most stamps.
const BOUND: usize = 50_000;
/// How long looks may show the same change again; they overlap by less.
const SHOWN: Duration = Duration::from_secs(30);

#[derive(Default)]
pub(super) struct Told {
    /// For each subject, the state told last, as a hash of its frame, and the number of the last connection told. Three
    /// generations: since the last look, and of the two before it. The third is for answers still in flight.
    frames: [HashMap<Subject, (u64, Registration)>; 3],
    /// The stamps that looks have shown.
    shown: HashMap<Subject, Timestamp>,
    marks: HashMap<(UserId, ConversationId), Seq>,
}

impl Told {
    /// Something has been told to the connections up to this number that it concerns.
    pub(super) fn note(&mut self, subject: Subject, frame: &Frame, upto: Registration) {
        let [newest, ..] = &mut self.frames;
        if newest.len() >= BOUND && !newest.contains_key(&subject) {
            // All generations: otherwise an older note would claim that an older state was told last.
            self.frames.iter_mut().for_each(HashMap::clear);
        }
        let [newest, ..] = &mut self.frames;
        newest.insert(subject, (hash(frame), upto));
    }

    /// The subject has had this state. If another was told last, somebody may have seen this one since: that other is
    /// news again.
    pub(super) fn another(&mut self, subject: Subject, frame: &Frame) {
        let last = self.frames.iter().find_map(|notes| notes.get(&subject));
        if last.is_some_and(|(last, _)| *last != hash(frame)) {
            for notes in &mut self.frames {
                notes.remove(&subject);
            }
        }
    }

    /// The last connection lately told this state. Later ones still need it.
    pub(super) fn news_after(&self, subject: Subject, frame: &Frame) -> Registration {
        match self.frames.iter().find_map(|notes| notes.get(&subject)) {
            Some((last, upto)) if *last == hash(frame) => *upto,
            _ => Registration::NONE,
        }
    }

    /// The traces of a look that no look has shown before.
    pub(super) fn unseen(&mut self, traces: &[(Subject, Timestamp)]) -> Vec<Subject> {
        let mut unseen = Vec::new();
        for (subject, stamp) in traces {
            if self.shown.len() >= BOUND {
                self.shown.clear();
            }
            if self.shown.insert(*subject, *stamp) != Some(*stamp) {
                unseen.push(*subject);
            }
        }
        unseen
    }

    /// The same for read marks.
    pub(super) fn unseen_marks(&mut self, marks: Vec<Mark>) -> Vec<Mark> {
        let mut unseen = Vec::new();
        let mut shown = HashMap::default();
        for mark in marks {
            let key = (mark.user_id, mark.conversation_id);
            if self.marks.get(&key) != Some(&mark.read_seq) {
                unseen.push(mark);
            }
            shown.insert(key, mark.read_seq);
        }
        // What one look no longer shows, no later one does, unless there was more than one look can hold.
        self.marks = shown;
        unseen
    }

    /// It could not be told: the next look that shows it counts as the first.
    pub(super) fn untold(&mut self, subject: Subject) {
        self.shown.remove(&subject);
    }

    /// The same for a mark.
    pub(super) fn unmarked(&mut self, mark: &Mark) {
        self.marks.remove(&(mark.user_id, mark.conversation_id));
    }

    /// A look has been handled completely; it ended at this time by the store's clock.
    pub(super) fn looked(&mut self, until: Timestamp) {
        self.frames.rotate_right(1);
        let [newest, ..] = &mut self.frames;
        newest.clear();
        self.shown.retain(|_, stamp| *stamp + SHOWN >= until);
    }
}

fn hash(frame: &Frame) -> u64 {
    let mut hasher = FxHasher::default();
    frame.bytes().hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use parlance_domain::WorkspaceId;
    use uuid::Uuid;

    use super::*;

    const TEAM: Subject = Subject::Workspace(WorkspaceId(Uuid::nil()));

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1_000)
    }

    fn named(name: &str) -> Frame {
        Frame::encode(&name)
    }

    fn mark(read_seq: u64) -> Mark {
        let (conversation_id, user_id) = (ConversationId(Uuid::nil()), UserId(Uuid::nil()));
        Mark { conversation_id, user_id, read_seq: Seq(read_seq) }
    }

    /// Whether it is to a connection that was registered when the others were told.
    fn is_news(told: &Told, subject: Subject, frame: &Frame) -> bool {
        told.news_after(subject, frame) < Registration::nth(7)
    }

    #[test]
    fn a_change_is_asked_for_once() {
        let mut told = Told::default();
        assert_eq!(told.unseen(&[(TEAM, at(1))]), [TEAM]);
        for second in 1..10 {
            told.looked(at(second));
            assert_eq!(told.unseen(&[(TEAM, at(1))]), []);
        }
        assert_eq!(told.unseen(&[(TEAM, at(2))]), [TEAM], "it has changed again");
        assert_eq!(told.unseen_marks(vec![mark(1)]), [mark(1)]);
        assert_eq!(told.unseen_marks(vec![mark(1)]), []);
        assert_eq!(told.unseen_marks(vec![mark(2)]), [mark(2)]);
    }

    #[test]
    fn what_was_not_told_is_asked_for_again() {
        let mut told = Told::default();
        told.unseen(&[(TEAM, at(1))]);
        told.untold(TEAM);
        told.looked(at(1));
        assert_eq!(told.unseen(&[(TEAM, at(1))]), [TEAM]);
        told.unseen_marks(vec![mark(1)]);
        told.unmarked(&mark(1));
        assert_eq!(told.unseen_marks(vec![mark(1)]), [mark(1)]);
    }

    #[test]
    fn what_was_told_is_no_news() {
        let mut told = Told::default();
        assert!(is_news(&told, TEAM, &named("one")));
        told.note(TEAM, &named("one"), Registration::nth(7));
        assert!(!is_news(&told, TEAM, &named("one")));
        told.looked(at(1));
        told.looked(at(2));
        assert!(!is_news(&told, TEAM, &named("one")), "told while the last look but one went on");
    }

    #[test]
    fn what_was_told_is_news_to_who_came_since() {
        let mut told = Told::default();
        assert_eq!(told.news_after(TEAM, &named("one")), Registration::NONE);
        told.note(TEAM, &named("one"), Registration::nth(7));
        assert_eq!(told.news_after(TEAM, &named("one")), Registration::nth(7));
        told.note(TEAM, &named("one"), Registration::nth(9));
        assert_eq!(told.news_after(TEAM, &named("one")), Registration::nth(9));
        assert_eq!(told.news_after(TEAM, &named("two")), Registration::NONE);
    }

    #[test]
    fn another_state_is_news() {
        let mut told = Told::default();
        told.note(TEAM, &named("one"), Registration::nth(7));
        told.looked(at(1));
        told.note(TEAM, &named("two"), Registration::nth(7));
        assert!(is_news(&told, TEAM, &named("one")), "it was told another one since");
    }

    #[test]
    fn a_state_that_is_back_is_news() {
        let mut told = Told::default();
        told.note(TEAM, &named("one"), Registration::nth(7));
        told.another(TEAM, &named("one"));
        assert!(!is_news(&told, TEAM, &named("one")), "it is the same");
        told.looked(at(1));
        told.note(TEAM, &named("two"), Registration::nth(7));
        told.another(TEAM, &named("two"));
        assert!(!is_news(&told, TEAM, &named("two")), "the same as last");
        told.another(TEAM, &named("one"));
        assert!(is_news(&told, TEAM, &named("two")));
    }

    #[test]
    fn what_was_told_long_ago_is_news() {
        let mut told = Told::default();
        told.note(TEAM, &named("one"), Registration::nth(7));
        for second in 1..=3 {
            told.looked(at(second));
        }
        assert!(is_news(&told, TEAM, &named("one")));
    }

    #[test]
    fn a_state_that_is_back_is_news_however_many_were_told() {
        let mut told = Told::default();
        let team = |n: usize| Subject::Workspace(WorkspaceId(Uuid::from_u128(n as u128)));
        told.note(TEAM, &named("one"), Registration::nth(7));
        told.looked(at(1));
        (1..=BOUND).for_each(|n| told.note(team(n), &named("one"), Registration::nth(7)));
        told.note(TEAM, &named("two"), Registration::nth(7));
        assert!(is_news(&told, TEAM, &named("one")));
        assert!(!is_news(&told, TEAM, &named("two")));
    }

    #[test]
    fn what_is_forgotten_is_told_again() {
        let mut told = Told::default();
        let team = |n: usize| Subject::Workspace(WorkspaceId(Uuid::from_u128(n as u128)));
        let traces: Vec<_> = (0..=BOUND).map(|n| (team(n), at(1))).collect();
        for (subject, _) in &traces {
            told.note(*subject, &named("one"), Registration::nth(7));
        }
        let [newest, ..] = &told.frames;
        assert_eq!(newest.len(), 1, "the others have been forgotten");
        assert!(is_news(&told, team(0), &named("one")));
        assert_eq!(told.unseen(&traces).len(), BOUND + 1);
        assert!(told.shown.len() <= BOUND);
        assert_eq!(told.unseen(&traces[..1]), [team(0)]);
        told.looked(at(32));
        assert!(told.shown.is_empty(), "no look shows them any more");
    }
}
