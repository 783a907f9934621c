//! How long nothing may happen while something is due.

use std::time::{Duration, Instant};

use crate::clock;

pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// Renewed whenever there is more than before of what is waited for.
pub(super) struct Patience {
    seen: u64,
    since: Instant,
}

impl Patience {
    pub(super) fn new() -> Self {
        Self { seen: 0, since: clock::now() }
    }

    /// Whether any is left, given how much has come in all.
    pub(super) fn lasts(&mut self, seen: u64) -> bool {
        self.lasts_at(seen, clock::now())
    }

    fn lasts_at(&mut self, seen: u64, now: Instant) -> bool {
        if seen > self.seen {
            *self = Self { seen, since: now };
        }
        now.saturating_duration_since(self.since) < PATIENCE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_more_than_before_renews_it() {
        let mut patience = Patience::new();
        let begin = patience.since;
        let mut lasts =
            |seen, seconds| patience.lasts_at(seen, begin + Duration::from_secs(seconds));
        assert!(lasts(0, 19) && lasts(63, 19) && lasts(63, 38));
        // Sixty-three connections are open, and the one at the front never is.
        assert!(!lasts(63, 39));
        assert!(lasts(64, 40) && lasts(64, 59) && !lasts(64, 60));
    }
}
