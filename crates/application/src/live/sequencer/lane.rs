//! What waits to be written.

use std::{
    collections::{VecDeque, hash_map::Entry},
    time::Duration,
};

use parlance_domain::ConversationId;
use rustc_hash::FxHashMap as HashMap;
use tokio::sync::oneshot;

use super::{Commit, Error, Result, Write, gathering::Gathering};

/// How long a lane waits for those who have just been answered.
pub(super) const GATHER: Duration = Duration::from_millis(1);
/// Most writes that are appended together.
const MOST: usize = 256;
/// Most writes that may wait for one conversation; beyond it senders are told to come back.
const WAITING: usize = 2_048;

pub(super) struct Waiting {
    pub(super) conversation: ConversationId,
    pub(super) write: Write,
    pub(super) reply: oneshot::Sender<Result<Commit>>,
}

/// The writes to one conversation, in order.
pub(super) type Batch = (ConversationId, Vec<Waiting>);

/// See the module's description.
#[derive(Default)]
pub(super) struct Lane {
    waiting: VecDeque<Waiting>,
    /// How many of them each conversation has.
    counts: HashMap<ConversationId, usize>,
    gathering: Gathering,
    /// To be told when so many wait.
    wanted: Option<(usize, oneshot::Sender<()>)>,
}

impl Lane {
    /// Queues a write, unless too many of its conversation wait.
    pub(super) fn push(&mut self, waiting: Waiting) -> Result<()> {
        let own = self.counts.entry(waiting.conversation).or_default();
        if *own >= WAITING {
            return Err(Error::unavailable("too many writes wait for one conversation"));
        }
        *own += 1;
        self.waiting.push_back(waiting);
        let count = self.waiting.len();
        if let Some((_, enough)) = self.wanted.take_if(|(wanted, _)| count >= *wanted) {
            let _ = enough.send(());
        }
        Ok(())
    }

    /// What is to be written together, by conversations; nothing if nothing waits.
    pub(super) fn take(&mut self) -> Vec<Batch> {
        let count = self.waiting.len().min(MOST);
        let mut places = HashMap::default();
        let mut batches = Vec::new();
        for waiting in self.waiting.drain(..count) {
            let conversation = waiting.conversation;
            let place = *places.entry(conversation).or_insert_with(|| {
                batches.push((conversation, Vec::new()));
                batches.len() - 1
            });
            batches[place].1.push(waiting);
        }
        for (conversation, batch) in &batches {
            if let Entry::Occupied(mut own) = self.counts.entry(*conversation) {
                *own.get_mut() -= batch.len();
                if *own.get() == 0 {
                    own.remove();
                }
            }
        }
        batches
    }

    /// After a batch of `answered` writes: resolves when as many are back, if they are to be waited for.
    pub(super) fn gather(&mut self, answered: usize) -> Option<oneshot::Receiver<()>> {
        if self.waiting.len() >= MOST {
            return None;
        }
        let wanted = self.gathering.wanted(answered, self.waiting.len())?.min(MOST);
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
