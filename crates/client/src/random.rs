//! Randomness for jitter and `client_msg_id`s.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// A source of random numbers.
pub trait Randomness: Send + Sync {
    /// The next one.
    fn next(&self) -> u64;
}

/// The system's randomness.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemRandomness;

/// The same numbers for the same seed (`SplitMix64`). Ids of sends must never repeat, so use each seed only once with a
/// persistent store.
#[derive(Debug)]
pub struct Seeded(AtomicU64);

impl Randomness for SystemRandomness {
    fn next(&self) -> u64 {
        #[expect(clippy::disallowed_methods, reason = "this is the client's source of randomness")]
        // Repeated ids would lose messages.
        getrandom::u64().unwrap_or_else(|_| std::process::abort())
    }
}

impl Seeded {
    /// Starts from a seed.
    pub fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }
}

impl Randomness for Seeded {
    fn next(&self) -> u64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut z = self.0.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// A new id for a send.
pub(crate) fn client_msg_id(random: &dyn Randomness) -> String {
    format!("{:016x}{:016x}", random.next(), random.next())
}

/// A uniform duration from zero to `most`.
pub(crate) fn up_to(most: Duration, random: &dyn Randomness) -> Duration {
    let share = u128::from(random.next() >> 32);
    let nanos = (most.as_nanos() >> 32) * share + (((most.as_nanos() & 0xffff_ffff) * share) >> 32);
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_itself_and_the_system_does_not() {
        let ids = |random: &dyn Randomness| [client_msg_id(random), client_msg_id(random)];
        assert_eq!(ids(&Seeded::new(1)), ids(&Seeded::new(1)));
        assert_ne!(ids(&Seeded::new(1)), ids(&Seeded::new(2)));
        assert_ne!(ids(&SystemRandomness), ids(&SystemRandomness));
        let [one, other] = ids(&Seeded::new(1));
        assert_ne!(one, other);
        assert!(one.len() <= 64 && one.bytes().all(|byte| byte.is_ascii_graphic()));
    }

    #[test]
    fn spreads_evenly_and_stays_within() {
        let (random, most) = (Seeded::new(7), Duration::from_secs(8));
        let drawn: Vec<_> = std::iter::repeat_with(|| up_to(most, &random)).take(4_000).collect();
        assert!(drawn.iter().all(|it| *it <= most));
        for quarter in 0..4 {
            let (low, high) = (most * quarter / 4, most * (quarter + 1) / 4);
            let count = drawn.iter().filter(|it| (low..high).contains(*it)).count();
            assert!((900..1_100).contains(&count), "{count} in quarter {quarter}");
        }
        assert_eq!(up_to(Duration::ZERO, &random), Duration::ZERO);
    }
}
