//! One run's randomness: all of it comes from one seed.

use std::time::Duration;

use parlance_application::ports::Ambient;
use parlance_testkit::TestAmbient;
use tokio::time::sleep;

use crate::world::Faults;

/// Clones share the source.
#[derive(Clone)]
pub(crate) struct Chance(TestAmbient);

/// How bad a run's weather is. Percentages and milliseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Climate {
    pub(crate) bus_loses: u64,
    pub(crate) bus_repeats: u64,
    pub(crate) bus_delay: u64,
    pub(crate) store_fails: u64,
    pub(crate) store_delay: u64,
    pub(crate) network_delay: u64,
    /// How many of the clients read slowly.
    pub(crate) slow_readers: u64,
    /// The time between two faults.
    pub(crate) calm: u64,
    pub(crate) faults: Faults,
}

impl Climate {
    pub(crate) const GOOD: Self = Self {
        bus_loses: 0,
        bus_repeats: 0,
        bus_delay: 0,
        store_fails: 0,
        store_delay: 0,
        network_delay: 0,
        slow_readers: 0,
        calm: 0,
        faults: Faults::NONE,
    };
}

impl Chance {
    pub(crate) fn of(seed: u64) -> Self {
        Self(TestAmbient::seeded(seed))
    }

    fn draw(&self) -> u64 {
        let bytes = self.0.random();
        u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes"))
    }

    /// 0 … `bound` - 1.
    pub(crate) fn below(&self, bound: u64) -> u64 {
        self.draw() % bound.max(1)
    }

    pub(crate) fn index(&self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).expect("an index")
    }

    pub(crate) fn percent(&self, of: u64) -> bool {
        self.below(100) < of
    }

    pub(crate) fn pick<'a, T>(&self, some: &'a [T]) -> Option<&'a T> {
        (!some.is_empty()).then(|| &some[self.index(some.len())])
    }

    pub(crate) fn millis(&self, most: u64) -> Duration {
        Duration::from_millis(self.below(most + 1))
    }

    /// Waits up to this many milliseconds, or not at all.
    pub(crate) async fn pause(&self, most: u64) {
        let pause = self.millis(most);
        if !pause.is_zero() {
            sleep(pause).await;
        }
    }

    /// A run's climate: some are mild, some are rough in one respect.
    pub(crate) fn climate(&self) -> Climate {
        let some = |most: u64| if self.percent(50) { 0 } else { self.below(most) };
        Climate {
            bus_loses: some(40),
            bus_repeats: some(30),
            bus_delay: if self.percent(20) { 1_500 } else { 1 + self.below(60) },
            store_fails: some(8),
            store_delay: 1 + self.below(25),
            network_delay: 1 + self.below(40),
            slow_readers: some(30),
            calm: if self.percent(25) { self.below(300) } else { 300 + self.below(3_000) },
            faults: Faults::some(self),
        }
    }
}
