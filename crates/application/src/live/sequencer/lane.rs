//! What waits to be written to one conversation.
//!
//! Whoever has just been answered often writes again at once. A lane that took the first of them alone would commit twice
//! where once is enough, and would go on so: half of them would always wait for the commit of the other half. So after a batch
//! the lane's task waits until those are back who were answered, [`GATHER`] at most. Where they do not come, it waits after
//! ever fewer batches. (The `commit_delay` of Postgres has the same end; its `commit_siblings` asks who is there, not who was.)

use std::{collections::VecDeque, time::Duration};

use tokio::sync::oneshot;

use super::{Commit, Result, Write};

/// How long a lane waits for those who have just been answered.
pub(super) const GATHER: Duration = Duration::from_millis(1);
/// Most writes in one append.
const BATCH: usize = 256;
/// Most writes that may wait for one conversation; beyond it senders are told to come back.
const WAITING: usize = 2_048;
/// After so many times in vain, the lane waits after one batch of `1 << PATIENCE` only.
const PATIENCE: u32 = 8;

pub(super) struct Waiting {
    pub(super) write: Write,
    pub(super) reply: oneshot::Sender<Result<Commit>>,
}

/// See the module's description.
#[derive(Default)]
pub(super) struct Lane {
    waiting: VecDeque<Waiting>,
    /// To be told when so many wait.
    wanted: Option<(usize, oneshot::Sender<()>)>,
    /// How often it was waited in vain, one time after the other.
    in_vain: u32,
    /// So many batches go by before it is waited again.
    skip: u32,
}

impl Lane {
    /// Queues a write; gives it back if too many wait.
    pub(super) fn push(&mut self, waiting: Waiting) -> std::result::Result<(), Waiting> {
        if self.waiting.len() >= WAITING {
            return Err(waiting);
        }
        self.waiting.push_back(waiting);
        let count = self.waiting.len();
        if let Some((_, enough)) = self.wanted.take_if(|(wanted, _)| count >= *wanted) {
            let _ = enough.send(());
        }
        Ok(())
    }

    /// What is to be written together; nothing if nothing waits.
    pub(super) fn take(&mut self) -> Vec<Waiting> {
        let count = self.waiting.len().min(BATCH);
        self.waiting.drain(..count).collect()
    }

    /// After a batch of `answered` writes: resolves when as many are back, if they are to be waited for.
    pub(super) fn gather(&mut self, answered: usize) -> Option<oneshot::Receiver<()>> {
        let wanted = (self.waiting.len() + answered).min(BATCH);
        // Who writes alone waits for nobody.
        if wanted < 2 || self.waiting.len() >= wanted {
            return None;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return None;
        }
        let (enough, gathered) = oneshot::channel();
        self.wanted = Some((wanted, enough));
        Some(gathered)
    }

    /// How the wait ended.
    pub(super) fn gathered(&mut self, all: bool) {
        self.wanted = None;
        self.in_vain = if all { 0 } else { PATIENCE.min(self.in_vain + 1) };
        self.skip = (1 << self.in_vain) - 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_vain_it_waits_ever_more_seldom_and_a_success_is_remembered() {
        let mut lane = Lane::default();
        let skipped = |lane: &mut Lane| (0..1_000).find(|_| lane.gather(2).is_some());
        let mut vain = Vec::new();
        for _ in 0..10 {
            vain.push(skipped(&mut lane));
            lane.gathered(false);
        }
        assert_eq!(vain, [0, 1, 3, 7, 15, 31, 63, 127, 255, 255].map(Some));
        assert_eq!(skipped(&mut lane), Some(255));
        lane.gathered(true);
        assert_eq!(skipped(&mut lane), Some(0));
    }
}
