use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use parlance_domain::Timestamp;

use crate::{Error, Result, Unauthenticated};

/// The pause, and how long attempts are remembered.
const PAUSE: Duration = Duration::from_mins(1);
/// Guessers that are remembered at a time.
const REMEMBERED: usize = 1_024;
/// No address is longer, and every one typed is remembered for a while.
const LONGEST: usize = 254;

/// Who tries (where a proxy does not hide it) and the address that they typed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Guesser(Option<IpAddr>, String);

/// Slows down the guessing of passwords. Unknown addresses are counted too, so that a pause betrays nobody.
pub struct Attempts {
    /// So many in a row before a pause.
    free: u32,
    known: Mutex<HashMap<Guesser, (u32, Timestamp)>>,
}

impl Guesser {
    /// Whoever typed this.
    pub fn new(from: Option<IpAddr>, typed: &str) -> Result<Self> {
        let typed = typed.trim().to_lowercase();
        if typed.len() > LONGEST {
            return Err(Unauthenticated::Credentials.into());
        }
        Ok(Self(from, typed))
    }
}

impl Attempts {
    /// With so many in a row before a pause of a minute.
    pub fn new(free: u32) -> Self {
        Self { free, known: Mutex::default() }
    }

    /// Lets somebody try, unless they have to pause.
    pub async fn counted<T>(
        &self,
        guesser: &Guesser,
        now: Timestamp,
        attempt: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        self.begin(guesser, now)?;
        let known = attempt.await?;
        self.succeeded(guesser);
        Ok(known)
    }

    /// Counts an attempt before its outcome is known, so that many at once gain nothing.
    fn begin(&self, guesser: &Guesser, now: Timestamp) -> Result<()> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let (count, last) = known
            .get(guesser)
            .copied()
            .filter(|(_, last)| now.since(*last) < PAUSE)
            .unwrap_or((0, now));
        if count >= self.free {
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
    fn succeeded(&self, guesser: &Guesser) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).remove(guesser);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guesser(n: usize) -> Guesser {
        Guesser::new(None, &format!(" P{n}@example.org")).expect("short")
    }

    #[test]
    fn five_a_minute_for_each_guesser() {
        let attempts = Attempts::new(5);
        let at = Timestamp::from_millis(1_000);
        for _ in 0..5 {
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
        for _ in 0..5 {
            attempts.begin(&guesser(1), at + PAUSE).expect("free");
        }
    }

    #[test]
    fn memory_is_bounded() {
        let attempts = Attempts::new(5);
        for n in 0..REMEMBERED + 100 {
            attempts.begin(&guesser(n), Timestamp::from_millis(1_000)).expect("free");
        }
        assert_eq!(attempts.known.lock().expect("whole").len(), REMEMBERED);
    }
}
