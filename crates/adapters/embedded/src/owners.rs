//! A cache of sessions' owners: nearly every request asks.
//!
//! The process has its database to itself, so every write that can change an answer passes through here. While such a
//! write is in flight, until it is answered, nothing is cached about those it concerns, and what was read alongside it
//! is not kept; so no answer is older than a change that somebody has been told of.

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use parlance_domain::{Account, SessionId, Timestamp, UserId};
use uuid::Uuid;

/// The most cached sessions.
const KNOWN: usize = 16_384;
/// How many ended writes are remembered. What was read while more than these ended is not kept.
const ENDED: usize = 256;

#[derive(Clone, Default)]
pub(crate) struct Owners(Arc<Mutex<Known>>);

/// Whose sessions' owner a write may change or remove.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Concerns {
    /// This one alone.
    Session(SessionId),
    /// All of somebody.
    User(UserId),
}

#[derive(Default)]
struct Known {
    owners: HashMap<SessionId, (Account, Timestamp)>,
    /// The same sessions by their owners.
    of_users: BTreeSet<(UserId, SessionId)>,
    /// Writes on their way.
    writing: HashMap<Concerns, usize>,
    /// Those that ended last.
    ended: VecDeque<Concerns>,
    /// How many have ended.
    writes: u64,
}

/// When the store was asked.
pub(crate) struct Asked(u64);

/// An in-flight write that may change owners.
pub(crate) struct Writing(Owners, Concerns);

impl Owners {
    /// The owner of a live session; or what [`Owners::put`] needs together with the store's answer.
    pub(crate) fn get(&self, session: SessionId, at: Timestamp) -> Result<Account, Asked> {
        let known = self.lock();
        match known.owners.get(&session) {
            Some((account, expires_at)) if *expires_at > at => Ok(account.clone()),
            _ => Err(Asked(known.writes)),
        }
    }

    pub(crate) fn put(
        &self,
        asked: Asked,
        session: SessionId,
        owner: &Account,
        expires_at: Timestamp,
    ) {
        let mut known = self.lock();
        if known.may_have_changed(session, owner.id, asked) {
            return;
        }
        if known.owners.len() >= KNOWN {
            known.owners.clear();
            known.of_users.clear();
        }
        known.owners.insert(session, (owner.clone(), expires_at));
        known.of_users.insert((owner.id, session));
    }

    /// Forgets those a write concerns until it has been answered. Call it before the commit.
    pub(crate) fn write(&self, concerns: Concerns) -> Writing {
        let mut known = self.lock();
        *known.writing.entry(concerns).or_default() += 1;
        known.forget(concerns);
        Writing(self.clone(), concerns)
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        let Self(owners, concerns) = self;
        let mut known = owners.lock();
        if let Some(writes) = known.writing.get_mut(concerns) {
            *writes -= 1;
            if *writes == 0 {
                known.writing.remove(concerns);
            }
        }
        if known.ended.len() >= ENDED {
            known.ended.pop_front();
        }
        known.ended.push_back(*concerns);
        known.writes += 1;
    }
}

impl Known {
    /// Whether a write that concerns a session of this person is in flight, or may have ended since the store was
    /// asked.
    fn may_have_changed(&self, session: SessionId, owner: UserId, Asked(before): Asked) -> bool {
        let concerned = [Concerns::Session(session), Concerns::User(owner)];
        let since = usize::try_from(self.writes - before).unwrap_or(usize::MAX);
        since > self.ended.len()
            || concerned.iter().any(|it| self.writing.contains_key(it))
            || self.ended.iter().rev().take(since).any(|it| concerned.contains(it))
    }

    fn forget(&mut self, concerns: Concerns) {
        match concerns {
            Concerns::Session(session) => {
                if let Some((account, _)) = self.owners.remove(&session) {
                    self.of_users.remove(&(account.id, session));
                }
            }
            Concerns::User(user) => {
                let all = (user, SessionId(Uuid::nil()))..=(user, SessionId(Uuid::max()));
                while let Some(known) = self.of_users.range(all.clone()).next().copied() {
                    self.of_users.remove(&known);
                    self.owners.remove(&known.1);
                }
            }
        }
    }
}
