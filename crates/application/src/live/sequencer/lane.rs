//! What waits to be written to one conversation.

use std::{collections::VecDeque, time::Duration};

use tokio::sync::oneshot;

use super::{Commit, Result, Write, gathering::Gathering};

/// How long a lane waits for those who have just been answered.
pub(super) const GATHER: Duration = Duration::from_millis(1);
/// Most writes in one append.
const BATCH: usize = 256;
/// Most writes that may wait for one conversation; beyond it senders are told to come back.
const WAITING: usize = 2_048;

pub(super) struct Waiting {
    pub(super) write: Write,
    pub(super) reply: oneshot::Sender<Result<Commit>>,
}

/// See the module's description.
#[derive(Default)]
pub(super) struct Lane {
    waiting: VecDeque<Waiting>,
    gathering: Gathering,
    /// To be told when so many wait.
    wanted: Option<(usize, oneshot::Sender<()>)>,
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
        if self.waiting.len() >= BATCH {
            return None;
        }
        let wanted = self.gathering.wanted(answered, self.waiting.len())?.min(BATCH);
        let (enough, gathered) = oneshot::channel();
        self.wanted = Some((wanted, enough));
        Some(gathered)
    }

    /// How the wait ended.
    pub(super) fn gathered(&mut self, all: bool) {
        self.wanted = None;
        self.gathering.ended(all);
    }
}
