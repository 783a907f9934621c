//! The revs of conversations that nobody here listens to, for those about to join with an older view: what is committed
//! between their snapshot and their joining passes through no feed.
//!
//! 1. A rev is kept for at least [`KEPT`], which is longer than joining takes, and while somebody waits for a replay of
//!    its conversation, however slowly they read (`what_passed_is_known_for_a_while`, `what_is_waited_for_is_kept`).
//! 2. Otherwise it is forgotten after at most twice that, so that memory grows with two minutes' writes, not with the
//!    store's conversations (`what_passed_is_known_for_a_while`).

use std::{mem, time::Duration};

use parlance_domain::{AccessRev, ConversationId, Rev};
use rustc_hash::FxHashMap as HashMap;
use tokio::time::Instant;

/// A `hello` that takes half a minute fails (`hello.rs`).
const KEPT: Duration = Duration::from_mins(1);

/// How far a conversation has got: its rev and its `access_rev`.
type Seen = (Rev, AccessRev);

pub(super) struct Unheard {
    young: HashMap<ConversationId, Seen>,
    old: HashMap<ConversationId, Seen>,
    aged_at: Instant,
}

impl Unheard {
    pub(super) fn new(now: Instant) -> Self {
        Self { young: HashMap::default(), old: HashMap::default(), aged_at: now }
    }

    /// A conversation without listeners has got this far.
    pub(super) fn note(&mut self, conversation: ConversationId, (rev, access_rev): Seen) {
        let known = self.young.entry(conversation).or_default();
        *known = (known.0.max(rev), known.1.max(access_rev));
    }

    /// How far it has got, if anybody may still need to know; otherwise zeros.
    pub(super) fn seen(&self, conversation: ConversationId) -> Seen {
        let of = |some: &HashMap<_, Seen>| some.get(&conversation).copied().unwrap_or_default();
        let (young, old) = (of(&self.young), of(&self.old));
        (young.0.max(old.0), young.1.max(old.1))
    }

    /// Forgets what is old, except conversations that somebody waits for.
    pub(super) fn age(&mut self, now: Instant, awaited: impl Fn(ConversationId) -> bool) {
        if now < self.aged_at + KEPT {
            return;
        }
        self.aged_at = now;
        let old = mem::replace(&mut self.old, mem::take(&mut self.young));
        for (conversation, seen) in old.into_iter().filter(|(id, _)| awaited(*id)) {
            self.note(conversation, seen);
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    const HERE: ConversationId = ConversationId(Uuid::from_u128(1));
    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn what_passed_is_known_for_a_while() {
        let mut now = Instant::now();
        let mut unheard = Unheard::new(now);
        now += 59 * SECOND;
        unheard.age(now, |_| false);
        unheard.note(HERE, (Rev(8), AccessRev(2)));
        unheard.note(HERE, (Rev(7), AccessRev(3)));
        for second in 0..60 {
            now += SECOND;
            unheard.age(now, |_| false);
            assert_eq!(unheard.seen(HERE), (Rev(8), AccessRev(3)), "after {second} s");
        }
        unheard.age(now + KEPT, |_| false);
        assert_eq!(unheard.seen(HERE), Seen::default());
    }

    #[test]
    fn what_is_waited_for_is_kept() {
        let mut now = Instant::now();
        let mut unheard = Unheard::new(now);
        unheard.note(HERE, (Rev(8), AccessRev(2)));
        for _ in 0..5 {
            now += KEPT;
            unheard.age(now, |id| id == HERE);
        }
        assert_eq!(unheard.seen(HERE), (Rev(8), AccessRev(2)));
        for _ in 0..2 {
            now += KEPT;
            unheard.age(now, |_| false);
        }
        assert_eq!(unheard.seen(HERE), Seen::default());
    }
}
