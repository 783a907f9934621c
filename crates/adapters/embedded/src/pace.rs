//! How long something has taken lately.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// A moving average of times, in which the latest weighs an eighth, and the threshold for quick. A disk that stalled
/// once for fifty times the threshold is quick again after some fifteen more.
pub(crate) struct Pace {
    quick: u64,
    average: AtomicU64,
}

impl Pace {
    /// Nobody should wait on a disk of unknown speed: slow, until it has been quick some six times.
    pub(crate) fn unknown(quick: Duration) -> Self {
        let quick = nanos(quick);
        Self { quick, average: AtomicU64::new(quick.saturating_mul(2)) }
    }

    pub(crate) fn is_quick(&self) -> bool {
        self.average.load(Ordering::Relaxed) < self.quick
    }

    /// Of two concurrent updates, one may be lost.
    pub(crate) fn took(&self, time: Duration) {
        let average = self.average.load(Ordering::Relaxed);
        self.average.store(average - average / 8 + nanos(time) / 8, Ordering::Relaxed);
    }

    #[cfg(test)]
    pub(crate) fn average(&self) -> Duration {
        Duration::from_nanos(self.average.load(Ordering::Relaxed))
    }

    #[cfg(test)]
    pub(crate) fn set(&self, average: Duration) {
        self.average.store(nanos(average), Ordering::Relaxed);
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pace_follows_what_was_taken() {
        let pace = Pace::unknown(Duration::from_millis(2));
        let times_until = |quick: bool, time: Duration| {
            let mut times = 0;
            while pace.is_quick() != quick {
                pace.took(time);
                times += 1;
            }
            times
        };
        assert_eq!(times_until(true, Duration::from_micros(100)), 6);
        // Settled.
        (0..100).for_each(|_| pace.took(Duration::from_micros(100)));
        assert_eq!(times_until(false, Duration::from_millis(4)), 6);
        pace.took(Duration::from_millis(100));
        assert_eq!(times_until(true, Duration::from_micros(100)), 16);
    }
}
