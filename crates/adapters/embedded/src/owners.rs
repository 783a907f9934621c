//! A cache of sessions' owners: nearly every request asks.
//!
//! The process is alone with its database, so all that can change an answer comes past here. While such a write is on
//! its way, until it is answered, nothing is known; so no answer is older than a change that somebody has been told of.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use parlance_domain::{Account, SessionId, Timestamp};

/// The most sessions that are known.
const KNOWN: usize = 16_384;

#[derive(Clone, Default)]
pub(crate) struct Owners(Arc<Mutex<Known>>);

#[derive(Default)]
struct Known {
    owners: HashMap<SessionId, (Account, Timestamp)>,
    /// Writes in progress.
    writing: usize,
    /// Writes ever begun.
    writes: u64,
}

/// When the store was asked.
pub(crate) struct Asked(u64);

/// A write in progress that may change owners; it ends when this is dropped.
pub(crate) struct Writing(Owners);

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
        Asked(writes): Asked,
        session: SessionId,
        owner: &Account,
        expires_at: Timestamp,
    ) {
        let mut known = self.lock();
        if known.writing > 0 || known.writes != writes {
            return;
        }
        if known.owners.len() >= KNOWN {
            known.owners.clear();
        }
        known.owners.insert(session, (owner.clone(), expires_at));
    }

    /// Empties the cache, and keeps it empty until the write has been answered.
    pub(crate) fn write(&self) -> Writing {
        let mut known = self.lock();
        known.writing += 1;
        known.writes += 1;
        known.owners.clear();
        Writing(self.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        let mut known = self.0.lock();
        known.writing -= 1;
        known.writes += 1;
    }
}

#[cfg(test)]
mod tests {
    use parlance_domain::UserId;
    use uuid::Uuid;

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_000);
    const SESSION: SessionId = SessionId(Uuid::from_u128(1));

    fn account() -> Account {
        Account {
            id: UserId(Uuid::from_u128(2)),
            email: "ada@example.org".to_owned(),
            display_name: "Ada".to_owned(),
            created_at: NOW,
        }
    }

    fn asked(owners: &Owners) -> Asked {
        owners.get(SESSION, NOW).expect_err("nobody is known")
    }

    #[test]
    fn an_owner_is_known_until_the_session_expires() {
        let owners = Owners::default();
        let expires_at = Timestamp::from_millis(2_000);
        owners.put(asked(&owners), SESSION, &account(), expires_at);
        assert_eq!(owners.get(SESSION, NOW).ok(), Some(account()));
        assert!(owners.get(SESSION, expires_at).is_err());
    }

    /// What was read before a change, or during it, is not kept.
    #[test]
    fn a_write_forgets_what_was_known_and_what_was_being_asked() {
        let owners = Owners::default();
        let expires_at = Timestamp::from_millis(2_000);
        let put = |asked| owners.put(asked, SESSION, &account(), expires_at);
        put(asked(&owners));
        let writing = owners.write();
        let beside = asked(&owners);
        put(beside);
        let beside = asked(&owners);
        drop(writing);
        put(beside);
        let after = asked(&owners);
        let writing = owners.write();
        drop(writing);
        put(after);
        put(asked(&owners));
        assert!(owners.get(SESSION, NOW).is_ok());
    }
}
