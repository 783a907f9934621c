use std::time::Duration;

/// How long a lane waits for those who have just been answered.
pub(super) const GATHER: Duration = Duration::from_millis(1);
/// One millisecond more for each 250 sockets told: telling them takes about that long, and another batch meanwhile would only
/// queue behind it.
const TOLD_IN_A_MILLISECOND: usize = 250;
/// The most milliseconds more.
const LONGER: usize = 4;
/// After this many waits in vain, one after the other, it waits after every 64th batch only.
const PATIENCE: u32 = 6;

/// Whether it pays to wait, before the next batch, for those whom the last one has answered.
///
/// Whoever has just been answered often writes again at once. Taking the first of them alone commits twice where once is
/// enough, and goes on so: half of them always wait for the commit of the other half. But where those who were answered do
/// not come back, the wait is for nothing: then it is tried after ever fewer batches. (The `commit_delay` of Postgres has the
/// same purpose; its `commit_siblings` asks who is there, not who was.)
#[derive(Default)]
pub(super) struct Gathering {
    /// Waits in vain, one after the other.
    in_vain: u32,
    /// How many batches go by before the next wait.
    skip: u32,
}

impl Gathering {
    /// How much longer than [`GATHER`] to wait where so many sockets were told.
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
