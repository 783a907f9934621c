use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use parlance_application::{Error, Result};
use parlance_domain::Timestamp;

/// Attempts in a row before a pause.
const FREE: u32 = 5;
/// The pause, and how long attempts are remembered.
const PAUSE: Duration = Duration::from_mins(1);
/// Guessers that are remembered at a time.
const REMEMBERED: usize = 1_024;

/// Who tries (where a proxy does not hide it) and the address that they typed.
pub(super) type Guesser = (Option<IpAddr>, String);

/// Slows down the guessing of passwords. Unknown addresses are counted too, so that a pause betrays nobody.
#[derive(Default)]
pub(super) struct Attempts(Mutex<HashMap<Guesser, (u32, Timestamp)>>);

impl Attempts {
    /// Counts an attempt before its outcome is known, so that many at once gain nothing.
    pub(super) fn begin(&self, guesser: &Guesser, now: Timestamp) -> Result<()> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (count, last) = known
            .get(guesser)
            .copied()
            .filter(|(_, last)| now.since(*last) < PAUSE)
            .unwrap_or((0, now));
        if count >= FREE {
            return Err(Error::RateLimited { retry_after: PAUSE.saturating_sub(now.since(last)) });
        }
        if known.len() >= REMEMBERED && !known.contains_key(guesser) {
            known.retain(|_, (_, last)| now.since(*last) < PAUSE);
        }
        if known.len() >= REMEMBERED
            && let Some(oldest) =
                known.iter().min_by_key(|(_, (_, last))| *last).map(|(it, _)| it.clone())
        {
            known.remove(&oldest);
        }
        known.insert(guesser.clone(), (count + 1, now));
        Ok(())
    }

    /// Forgets the attempts of somebody who knew the password.
    pub(super) fn succeeded(&self, guesser: &Guesser) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(guesser);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guesser(n: usize) -> Guesser {
        (None, format!("p{n}@example.org"))
    }

    #[test]
    fn five_a_minute_for_each_guesser() {
        let attempts = Attempts::default();
        let at = Timestamp::from_millis(1_000);
        for _ in 0..FREE {
            attempts.begin(&guesser(1), at).expect("free");
        }
        let refused =
            attempts.begin(&guesser(1), at + Duration::from_secs(20)).expect_err("a pause");
        assert!(
            matches!(refused, Error::RateLimited { retry_after } if retry_after == Duration::from_secs(40)),
            "{refused:?}"
        );
        attempts.begin(&guesser(2), at).expect("another");
        attempts.begin(&guesser(1), at + PAUSE).expect("free again");
        attempts.succeeded(&guesser(1));
        for _ in 0..FREE {
            attempts.begin(&guesser(1), at + PAUSE).expect("free");
        }
    }

    #[test]
    fn memory_is_bounded() {
        let attempts = Attempts::default();
        for n in 0..REMEMBERED + 100 {
            attempts.begin(&guesser(n), Timestamp::from_millis(1_000)).expect("free");
        }
        assert_eq!(attempts.0.lock().expect("whole").len(), REMEMBERED);
    }
}
