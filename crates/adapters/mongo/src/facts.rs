//! What this node has read of the store and need not ask again, as long as a count has not changed that the transaction
//! reads anyway: who may post to a conversation, by its `access_rev`; which sessions live, by the count of those that have
//! ended. Whatever ends either of them moves its count in the same transaction; but for a session whose time is over, which
//! its token says by itself.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use parlance_domain::{ConversationAction, ConversationId, SessionId, Standing, UserId};

use crate::documents::{ConversationDoc, id};

/// The most people of one conversation, and the most conversations, that are remembered; then it begins anew.
const MOST: usize = 1_024;
/// The most sessions.
const MOST_SESSIONS: usize = 65_536;
/// After a send that had been made before, so many batches are looked up first: whoever comes back with unanswered sends does
/// not come alone, and a batch that an index refuses is written twice.
const WARY: u32 = 64;

#[derive(Default)]
pub(crate) struct Facts {
    posters: Mutex<HashMap<bson::Uuid, Posters>>,
    sessions: Mutex<Sessions>,
    wary: AtomicU32,
}

#[derive(Default)]
struct Posters {
    access_rev: i64,
    /// Their role may have changed meanwhile, but not whether they may post.
    standings: HashMap<UserId, Standing>,
}

#[derive(Default)]
struct Sessions {
    session_rev: u64,
    live: HashSet<SessionId>,
}

impl Facts {
    /// What all of these are to a conversation, if all are known to be allowed to post. Good for that question only. The
    /// head is as the transaction has read it.
    pub(crate) fn posters(
        &self,
        head: &ConversationDoc,
        users: &[UserId],
    ) -> Option<HashMap<UserId, Standing>> {
        let posters = lock(&self.posters);
        let known = posters.get(&head.id).filter(|known| known.access_rev == head.access_rev)?;
        users.iter().map(|user| Some((*user, *known.standings.get(user)?))).collect()
    }

    /// Whether [`Facts::posters`] may know somebody, once it has the head.
    pub(crate) fn knows_poster(&self, conversation: ConversationId, user: UserId) -> bool {
        let posters = lock(&self.posters);
        let known = posters.get(&id(conversation.0));
        known.is_some_and(|known| known.standings.contains_key(&user))
    }

    /// Those among them who may post are known from now on.
    pub(crate) fn note_standings(
        &self,
        head: &ConversationDoc,
        standings: &HashMap<UserId, Standing>,
    ) {
        let mut posters = lock(&self.posters);
        if posters.len() >= MOST {
            posters.clear();
        }
        let known = posters.entry(head.id).or_default();
        if known.access_rev != head.access_rev || known.standings.len() >= MOST {
            *known = Posters { access_rev: head.access_rev, ..Posters::default() };
        }
        let may = |standing: &Standing| standing.permits(ConversationAction::Post).is_ok();
        let may = standings.iter().filter(|(_, standing)| may(standing));
        known.standings.extend(may.map(|(user, standing)| (*user, *standing)));
    }

    /// A send had been made before.
    pub(crate) fn note_repeat(&self) {
        self.wary.store(WARY, Ordering::Relaxed);
    }

    /// Whether the next batch is likely to have sends that have been made before. Asked once for each.
    pub(crate) fn expects_repeats(&self) -> bool {
        self.wary.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).is_ok()
    }

    /// Whether all of these are known to live, at this count of ended ones.
    pub(crate) fn all_live(&self, session_rev: u64, wanted: &HashSet<SessionId>) -> bool {
        let sessions = lock(&self.sessions);
        sessions.session_rev == session_rev && wanted.is_subset(&sessions.live)
    }

    pub(crate) fn note_live(&self, session_rev: u64, live: &HashSet<SessionId>) {
        let mut sessions = lock(&self.sessions);
        if sessions.session_rev != session_rev || sessions.live.len() >= MOST_SESSIONS {
            *sessions = Sessions { session_rev, ..Sessions::default() };
        }
        sessions.live.extend(live);
    }
}

fn lock<T>(facts: &Mutex<T>) -> MutexGuard<'_, T> {
    facts.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeat_is_remembered_for_a_while() {
        let facts = Facts::default();
        assert!(!facts.expects_repeats());
        facts.note_repeat();
        assert!((0..WARY).all(|_| facts.expects_repeats()));
        assert!(!facts.expects_repeats());
    }
}
