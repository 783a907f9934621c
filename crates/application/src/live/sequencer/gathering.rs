//! When a lane waits for more writes before it commits, without I/O. It can only cost time: whatever it decides, order
//! and answers are the same. `lane.rs` uses it.

use std::time::Duration;

/// How long a lane waits for the writers it has just answered.
pub(super) const GATHER: Duration = Duration::from_millis(1);
/// One more millisecond for each 250 sockets told: telling them takes about that long, and another batch meanwhile
/// would only queue behind it.
const TOLD_IN_A_MILLISECOND: usize = 250;
/// The most additional milliseconds.
const LONGER: usize = 4;
/// After this many fruitless waits in a row, it waits only after every 64th batch.
const PATIENCE: u32 = 6;

/// Decides whether to wait, before the next batch, for the writers that the last one has answered.
///
/// A writer that has just been answered often writes again at once. Without a wait, the first of them would be
/// committed alone, and half of the writers would always wait for the other half's commit. But if those answered do not
/// come back, the wait is fruitless: then it is tried ever more rarely. (Postgres's `commit_delay` has the same
/// purpose; its `commit_siblings` asks who is active, not who was.)
#[derive(Default)]
pub(super) struct Gathering {
    /// Fruitless waits in a row.
    in_vain: u32,
    /// How many batches to let pass before the next wait.
    skip: u32,
}

impl Gathering {
    /// How much longer than [`GATHER`] to wait if this many sockets were told.
    pub(super) fn longer(told: usize) -> Duration {
        Duration::from_millis((told / TOLD_IN_A_MILLISECOND).min(LONGER) as u64)
    }

    /// Whether to wait this time.
    pub(super) fn pays(&mut self) -> bool {
        let pays = self.skip == 0;
        self.skip = self.skip.saturating_sub(1);
        pays
    }

    /// How the wait ended.
    pub(super) fn ended(&mut self, all_came: bool) {
        self.in_vain = if all_came { 0 } else { PATIENCE.min(self.in_vain + 1) };
        self.skip = (1 << self.in_vain) - 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_vain_it_waits_ever_more_seldom_and_a_success_is_remembered() {
        let mut gathering = Gathering::default();
        let skipped = |gathering: &mut Gathering| (0..1_000).find(|_| gathering.pays());
        let mut vain = Vec::new();
        for _ in 0..10 {
            vain.push(skipped(&mut gathering));
            gathering.ended(false);
        }
        assert_eq!(vain, [0, 1, 3, 7, 15, 31, 63, 63, 63, 63].map(Some));
        assert_eq!(skipped(&mut gathering), Some(63));
        gathering.ended(true);
        assert_eq!(skipped(&mut gathering), Some(0));
    }
}
