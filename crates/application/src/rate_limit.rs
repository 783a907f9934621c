//! Rate limits by the generic cell rate algorithm ("virtual scheduling", ITU-T I.371): one instant per key, no timers.
//! Our own rather than a library's, because a duplicate gives back what it took, and because a crowd is told when to
//! retry (`hello_queue.rs`).

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use parlance_domain::UserId;
use tokio::time::Instant;

use crate::{Error, Result};

/// Changes that one user may make on one node.
const WRITES: Quota = Quota { every: Duration::from_millis(10), burst: 1_000 };
/// How many people are remembered before those with their full share again are forgotten.
const REMEMBERED: usize = 1_024;

/// One per `every`, and up to `burst` at once after a pause.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Quota {
    pub(crate) every: Duration,
    pub(crate) burst: u32,
}

/// The algorithm's "theoretical arrival time": when the next one is due if they come evenly.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ArrivalTime(Instant);

/// Each user's share of changes of any kind on this node. That is enough: a connection lives on one node. None for no
/// limit.
pub(crate) struct WriteLimit(Option<Mutex<Spending>>);

#[derive(Default)]
struct Spending {
    next: HashMap<UserId, ArrivalTime>,
    /// Beyond this many entries, idle ones are removed.
    full: usize,
}

impl WriteLimit {
    /// With limits, or without.
    pub(crate) fn new(on: bool) -> Self {
        Self(on.then(Mutex::default))
    }

    /// Takes one from a user's share. `RateLimited` if none is left, with the time until there is one.
    pub(crate) fn take(&self, user: UserId, now: Instant) -> Result<()> {
        let Some(mut spending) = self.spending() else { return Ok(()) };
        let Spending { next, full } = &mut *spending;
        if next.len() > *full {
            next.retain(|_, next| next.0 > now);
            *full = REMEMBERED.max(2 * next.len());
        }
        let next = next.entry(user).or_insert(ArrivalTime::new(now));
        match next.wait(&WRITES, now) {
            Duration::ZERO => {
                next.take(&WRITES, now);
                Ok(())
            }
            retry_after => Err(Error::RateLimited { retry_after }),
        }
    }

    /// Gives back one that was taken for nothing.
    pub(crate) fn give_back(&self, user: UserId) {
        if let Some(mut spending) = self.spending()
            && let Some(next) = spending.next.get_mut(&user)
        {
            next.0 -= WRITES.every;
        }
    }

    fn spending(&self) -> Option<MutexGuard<'_, Spending>> {
        Some(self.0.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl ArrivalTime {
    /// For somebody who has taken nothing yet.
    pub(crate) const fn new(now: Instant) -> Self {
        Self(now)
    }

    /// How long until one more is within the quota.
    pub(crate) fn wait(self, quota: &Quota, now: Instant) -> Duration {
        let ahead = self.0.saturating_duration_since(now) + quota.every;
        ahead.saturating_sub(quota.every * quota.burst)
    }

    /// Takes one.
    pub(crate) fn take(&mut self, quota: &Quota, now: Instant) {
        self.0 = self.0.max(now) + quota.every;
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn user(n: u128) -> UserId {
        UserId(Uuid::from_u128(n))
    }

    /// How long somebody has to wait for their next change, which is taken if they need not.
    fn wait(limit: &WriteLimit, user: UserId, now: Instant) -> Duration {
        match limit.take(user, now) {
            Ok(()) => Duration::ZERO,
            Err(Error::RateLimited { retry_after }) => retry_after,
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn a_user_has_a_burst_and_then_a_rate() {
        let (limit, now) = (WriteLimit::new(true), Instant::now());
        for _ in 0..WRITES.burst {
            assert_eq!(wait(&limit, user(1), now), Duration::ZERO);
        }
        assert_eq!(wait(&limit, user(1), now), WRITES.every);
        assert_eq!(wait(&limit, user(2), now), Duration::ZERO, "another's share is another's");
        let later = now + WRITES.every;
        assert_eq!(wait(&limit, user(1), later), Duration::ZERO);
        assert_eq!(wait(&limit, user(1), later), WRITES.every);
        limit.give_back(user(1));
        assert_eq!(wait(&limit, user(1), later), Duration::ZERO);
    }

    #[test]
    fn who_has_not_spent_of_late_is_forgotten() {
        let (limit, now) = (WriteLimit::new(true), Instant::now());
        for n in 0..100_000 {
            let _ = limit.take(user(n), now + WRITES.every * u32::try_from(n).unwrap_or(0));
        }
        let remembered = limit.spending().map(|spending| spending.next.len());
        assert!(remembered.is_some_and(|remembered| remembered <= REMEMBERED + 1));
    }
}
