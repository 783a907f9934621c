//! Time, ids and randomness under a test's control: the same calls give the same values.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use parlance_application::ports::Ambient;
use parlance_domain::Timestamp;
use uuid::Uuid;

/// Clock, ids and randomness that a test sets. The same seed and calls give the same values. Clones share their state.
#[derive(Debug, Clone)]
pub struct TestAmbient(Arc<State>);

#[derive(Debug)]
struct State {
    now: AtomicI64,
    ids: AtomicU64,
    random: AtomicU64,
}

impl TestAmbient {
    /// When its clock begins: 2024-11-24T06:14:29Z.
    pub const BEGIN: Timestamp = Timestamp::from_millis(1_732_428_869_000);

    /// Begins at [`TestAmbient::BEGIN`].
    pub fn seeded(seed: u64) -> Self {
        Self(Arc::new(State {
            now: AtomicI64::new(Self::BEGIN.as_millis()),
            ids: AtomicU64::new(0),
            random: AtomicU64::new(seed),
        }))
    }

    /// Moves the clock forward, and returns the new time.
    pub fn advance(&self, by: Duration) -> Timestamp {
        let now = self.now() + by;
        self.set(now);
        now
    }

    /// Sets the clock, even backwards.
    pub fn set(&self, now: Timestamp) {
        self.0.now.store(now.as_millis(), Ordering::SeqCst);
    }

    /// One millisecond later: for what has to happen after something else.
    pub fn tick(&self) -> Timestamp {
        self.advance(Duration::from_millis(1))
    }

    /// [`Ambient::uuid`] without the trait in scope.
    pub fn next_uuid(&self) -> Uuid {
        self.uuid()
    }

    /// Splitmix64.
    fn draw(&self) -> u64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut z = self.0.random.fetch_add(STEP, Ordering::SeqCst).wrapping_add(STEP);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

impl Ambient for TestAmbient {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.now.load(Ordering::SeqCst))
    }

    /// Shaped as version 7. As long as the clock does not step back, each is greater than the one before.
    fn uuid(&self) -> Uuid {
        let ms = u128::from(self.now().as_millis().cast_unsigned() & 0xffff_ffff_ffff);
        let n = self.0.ids.fetch_add(1, Ordering::SeqCst);
        let high = u128::from((n >> 20) & 0xfff);
        let low = u128::from(n & 0xf_ffff);
        let noise = u128::from(self.draw() >> 22);
        Uuid::from_u128(
            (ms << 80) | (0x7 << 76) | (high << 64) | (0b10 << 62) | (low << 42) | noise,
        )
    }

    fn random(&self) -> [u8; 32] {
        let mut bytes = [0; 32];
        for chunk in bytes.chunks_exact_mut(8) {
            chunk.copy_from_slice(&self.draw().to_le_bytes());
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_values_and_ids_increase() {
        let (one, two, other) =
            (TestAmbient::seeded(1), TestAmbient::seeded(1), TestAmbient::seeded(2));
        let ids: Vec<Uuid> = (0..1_000).map(|_| one.uuid()).collect();
        assert!(ids.is_sorted_by(|a, b| a < b) && ids.iter().all(|id| id.get_version_num() == 7));
        assert!(ids.iter().all(|id| *id == two.uuid()));
        assert_eq!(one.random(), two.random());
        assert_ne!(one.random(), other.random());
    }

    #[test]
    fn the_clock_goes_where_it_is_told() {
        let ambient = TestAmbient::seeded(0);
        let later = ambient.advance(Duration::from_secs(5));
        assert_eq!(later.since(TestAmbient::BEGIN), Duration::from_secs(5));
        ambient.clone().set(TestAmbient::BEGIN);
        assert_eq!(ambient.now(), TestAmbient::BEGIN);
    }
}
