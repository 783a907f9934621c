//! A lane: the writes waiting to be committed.

use std::collections::{VecDeque, hash_map::Entry};

use parlance_domain::{ConversationId, UserId};
use rustc_hash::FxHashMap as HashMap;
use tokio::sync::oneshot;

use super::{Commit, Error, Result, Write, gathering::Gathering};

/// The most writes appended together.
const MOST: usize = 256;
/// The most writes that may wait for one conversation; more are refused as `Unavailable`.
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
    /// For each conversation with any, oldest first.
    waiting: HashMap<ConversationId, VecDeque<Waiting>>,
    /// Those conversations, in turn.
    turns: VecDeque<ConversationId>,
    /// How many wait in all.
    count: usize,
    gathering: Gathering,
    awaited: Option<Awaited>,
}

/// Writers answered by the last batch who have not written again yet.
struct Awaited {
    /// One for each answer.
    actors: Vec<UserId>,
    /// Signalled when nobody is missing, or a batch is full.
    enough: oneshot::Sender<()>,
}

impl Lane {
    pub(super) fn new(gathering: Gathering) -> Self {
        Self { gathering, ..Self::default() }
    }

    /// What the lane's successor starts with.
    pub(super) fn learnt(self) -> Gathering {
        self.gathering
    }

    /// Queues a write, unless too many wait for its conversation.
    pub(super) fn push(&mut self, waiting: Waiting) -> Result<()> {
        let (conversation, actor) = (waiting.conversation, waiting.write.by.user);
        let own = self.waiting.entry(conversation).or_default();
        if own.len() >= WAITING {
            return Err(Error::unavailable("too many writes wait for one conversation"));
        }
        if own.is_empty() {
            self.turns.push_back(conversation);
        }
        own.push_back(waiting);
        self.count += 1;
        let full = self.count >= MOST;
        let all_are_here = |awaited: &mut Awaited| awaited.has_come(actor) || full;
        if let Some(Awaited { enough, .. }) = self.awaited.take_if(all_are_here) {
            let _ = enough.send(());
        }
        Ok(())
    }

    /// The next writes to commit together, by conversation; empty if nothing waits. Conversations take turns, each with
    /// an equal share plus what those before it left over: so a flood in one delays another by one commit at most.
    pub(super) fn take(&mut self) -> Vec<Batch> {
        let (mut room, mut batches) = (MOST, Vec::new());
        for to_come in (1..=self.turns.len()).rev() {
            if room == 0 {
                break;
            }
            let share = room.div_ceil(to_come);
            let Some(conversation) = self.turns.pop_front() else { break };
            let Entry::Occupied(mut own) = self.waiting.entry(conversation) else { continue };
            let taken = own.get().len().min(share);
            batches.push((conversation, own.get_mut().drain(..taken).collect()));
            if own.get().is_empty() {
                own.remove();
            } else {
                self.turns.push_back(conversation);
            }
            room -= taken;
        }
        self.count -= MOST - room;
        batches
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Drops all that waits; its submitters get an error.
    pub(super) fn clear(&mut self) {
        self.waiting.clear();
        self.turns.clear();
        self.count = 0;
    }

    /// Call it before a batch is answered. Returns a future that resolves when those answered have written again, each
    /// as many times as they are listed, or when a batch is full; none if it is not worth waiting.
    pub(super) fn gather(&mut self, answered: Vec<UserId>) -> Option<oneshot::Receiver<()>> {
        // A single writer waits for nobody.
        let others = answered.len() + self.count > 1;
        if !others || self.count >= MOST || !self.gathering.pays() {
            return None;
        }
        let (enough, gathered) = oneshot::channel();
        self.awaited = Some(Awaited { actors: answered, enough });
        Some(gathered)
    }

    /// How the wait ended.
    pub(super) fn gathered(&mut self, all: bool) {
        self.awaited = None;
        self.gathering.ended(all);
    }
}

impl Awaited {
    /// Somebody has written; true if nobody is missing now.
    fn has_come(&mut self, actor: UserId) -> bool {
        if let Some(at) = self.actors.iter().position(|awaited| *awaited == actor) {
            self.actors.swap_remove(at);
        }
        self.actors.is_empty()
    }
}
