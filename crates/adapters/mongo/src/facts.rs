//! What this node has read from the store and need not read again until a count changes:
//!
//! * who may post to a conversation: by its `access_rev`, which is read with the head;
//! * which sessions live: by the count of ended ones, which an append reads alongside its first write.
//!
//! Whatever revokes access or ends a session changes the count in the same transaction. Only an expired session changes
//! none, because its token says so itself.
//!
//! So such a fact has to be read together with its count, in one transaction ([`Learnt`]), and holds only once that has
//! committed: until then the server may roll back what it has shown, and reuse the count for something else.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use parlance_domain::{
    AccessRev, ConversationAction, ConversationId, SessionId, SessionRev, Standing, UserId,
};

use crate::documents::{ConversationDoc, id, num};

/// The most people per conversation, and the most conversations, remembered. Beyond that, all are forgotten.
const MOST: usize = 1_024;
/// The most sessions.
const MOST_SESSIONS: usize = 65_536;
/// After a repeated send, this many batches check for repeats first: clients that return with unanswered sends do not
/// come alone, and a batch that the index refuses has to be written twice.
const WARY: u32 = 64;

#[derive(Default)]
pub(crate) struct Facts {
    posters: Mutex<HashMap<bson::Uuid, Posters>>,
    sessions: Mutex<Sessions>,
    wary: AtomicU32,
}

/// What one transaction has read.
#[derive(Default)]
pub(crate) struct Learnt {
    posters: Vec<(bson::Uuid, Posters)>,
    sessions: Option<Sessions>,
}

#[derive(Default)]
struct Posters {
    access_rev: AccessRev,
    /// Their role may have changed meanwhile, but not whether they may post.
    standings: HashMap<UserId, Standing>,
}

#[derive(Default)]
struct Sessions {
    session_rev: SessionRev,
    live: HashSet<SessionId>,
}

impl Learnt {
    /// Notes those who may post. Head and standings must have been read in the transaction.
    pub(crate) fn posters(
        &mut self,
        head: &ConversationDoc,
        standings: &HashMap<UserId, Standing>,
    ) {
        let may = |standing: &Standing| standing.permits(ConversationAction::Post).is_ok();
        let may = standings.iter().filter(|(_, standing)| may(standing));
        let standings = may.map(|(user, standing)| (*user, *standing)).collect();
        self.posters.push((head.id, Posters { access_rev: num(head.access_rev), standings }));
    }

    /// Notes live sessions. They and the count of ended ones must have been read in the transaction.
    pub(crate) fn live(&mut self, session_rev: SessionRev, live: HashSet<SessionId>) {
        self.sessions = Some(Sessions { session_rev, live });
    }
}

impl Facts {
    /// Adopts what a transaction has read, now that it is committed.
    pub(crate) fn note(&self, learnt: Learnt) {
        for (head, new) in learnt.posters {
            let mut posters = lock(&self.posters);
            if posters.len() >= MOST {
                posters.clear();
            }
            let known = posters.entry(head).or_default();
            if known.access_rev != new.access_rev || known.standings.len() >= MOST {
                *known = new;
            } else {
                known.standings.extend(new.standings);
            }
        }
        let Some(new) = learnt.sessions else { return };
        let mut known = lock(&self.sessions);
        if known.session_rev != new.session_rev || known.live.len() >= MOST_SESSIONS {
            *known = new;
        } else {
            known.live.extend(new.live);
        }
    }

    /// All these people's relations to a conversation, if all are known to be allowed to post. Valid for nothing else:
    /// their roles may have changed. `head` is as the transaction has read it.
    pub(crate) fn posters(
        &self,
        head: &ConversationDoc,
        users: &[UserId],
    ) -> Option<HashMap<UserId, Standing>> {
        let posters = lock(&self.posters);
        let known =
            posters.get(&head.id).filter(|known| known.access_rev == num(head.access_rev))?;
        users.iter().map(|user| Some((*user, *known.standings.get(user)?))).collect()
    }

    /// Whether [`Facts::posters`] may know somebody, once it has the head.
    pub(crate) fn knows_poster(&self, conversation: ConversationId, user: UserId) -> bool {
        let posters = lock(&self.posters);
        let known = posters.get(&id(conversation.0));
        known.is_some_and(|known| known.standings.contains_key(&user))
    }

    /// Notes that a send was a repeat.
    pub(crate) fn note_repeat(&self) {
        self.wary.store(WARY, Ordering::Relaxed);
    }

    /// Whether the next batch is likely to have repeated sends. Call it once per batch: it counts them.
    pub(crate) fn expects_repeats(&self) -> bool {
        self.wary.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).is_ok()
    }

    /// Whether all of these are known to be live at this count of ended ones.
    pub(crate) fn all_live(&self, session_rev: SessionRev, wanted: &HashSet<SessionId>) -> bool {
        let sessions = lock(&self.sessions);
        sessions.session_rev == session_rev && wanted.is_subset(&sessions.live)
    }
}

fn lock<T>(facts: &Mutex<T>) -> MutexGuard<'_, T> {
    facts.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Once the count moves, what was read at an earlier one is unknown.
    #[test]
    fn sessions_live_at_the_count_that_they_were_read_with() {
        let session = |n| SessionId(uuid::Uuid::from_u128(n));
        let (one, two) = (SessionRev(1), SessionRev(2));
        let facts = Facts::default();
        let note = |session_rev, n| {
            let mut learnt = Learnt::default();
            learnt.live(session_rev, HashSet::from([session(n)]));
            facts.note(learnt);
        };
        let lives = |session_rev, n| facts.all_live(session_rev, &HashSet::from([session(n)]));
        note(one, 1);
        note(one, 2);
        assert!(lives(one, 1) && lives(one, 2) && !lives(one, 3));
        assert!(!lives(two, 1));
        note(two, 2);
        assert!(lives(two, 2) && !lives(two, 1));
    }

    #[test]
    fn a_repeat_is_remembered_for_a_while() {
        let facts = Facts::default();
        assert!(!facts.expects_repeats());
        facts.note_repeat();
        assert!((0..WARY).all(|_| facts.expects_repeats()));
        assert!(!facts.expects_repeats());
    }
}
