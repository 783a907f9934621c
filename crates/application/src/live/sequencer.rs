//! Orders the changes of a conversation: one append at a time per conversation, each taking what has queued since the
//! last. So concurrent sends share a commit, and commit order is publication order. With a single-writer store, all
//! conversations share a lane: what it commits together is told together, in one write to each socket.

mod gathering;
mod lane;

use std::{
    collections::hash_map::Entry,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::Future;
use parlance_domain::{ChangeKind, ConversationId, Timestamp, UserId};
use rustc_hash::FxHashMap as HashMap;
use tokio::{
    sync::oneshot,
    task::yield_now,
    time::{Instant, timeout_at},
};

use self::{
    gathering::{GATHER, Gathering},
    lane::{Batch, Lane, Waiting},
};
use super::{Event, Frame, Live};
use crate::{
    Error, Result, Tasks,
    ports::store::{Answers, Commit, Committed, Messages, Write},
    tasks::answer,
};

/// See the module's description. Cheap to clone.
#[derive(Clone)]
pub struct Sequencer {
    store: Arc<dyn Messages>,
    live: Live,
    tasks: Arc<Tasks>,
    lanes: Lanes,
    running: Arc<Mutex<Running>>,
}

#[derive(Default)]
struct Running {
    /// A lane is in here exactly while a task drains it.
    lanes: HashMap<Key, Lane>,
    /// What the shared lane had learned when it last ran empty.
    learnt: Gathering,
    closed: bool,
}

/// Which conversations wait for each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lanes {
    /// None: for a store that commits them concurrently, so that a slow one holds up no other.
    Apart,
    /// All: for a single-writer store, which commits concurrent writes together.
    Shared,
}

/// The writers of a batch that the store was given.
struct Writers {
    conversation: ConversationId,
    waiting: Vec<(Stamp, oneshot::Sender<Result<Commit>>)>,
}

/// Who has written, and when.
struct Stamp {
    actor: UserId,
    at: Timestamp,
}

/// The outcome of a batch.
struct Appended {
    /// What is to be told.
    events: Vec<Arc<Event>>,
    /// Each write's outcome, and who waits for it.
    answers: Vec<(oneshot::Sender<Result<Commit>>, Result<Commit>)>,
}

/// Removes a lane whose task ends before it is empty: its waiting writers get an error, and the next write starts
/// another.
struct Draining {
    running: Arc<Mutex<Running>>,
    key: Key,
    ended: bool,
}

/// A lane's conversation; none for the shared lane.
type Key = Option<ConversationId>;

impl Sequencer {
    /// Writes through `store`, publishes to `live`.
    pub fn new(store: Arc<dyn Messages>, live: Live, tasks: Arc<Tasks>, lanes: Lanes) -> Self {
        Self { store, live, tasks, lanes, running: Arc::default() }
    }

    /// Queues a write at once, before the returned future is polled: successive calls for a conversation commit in that
    /// order. The write goes on if the future is dropped.
    pub fn submit(
        &self,
        conversation: ConversationId,
        write: Write,
    ) -> impl Future<Output = Result<Commit>> + Send + use<> {
        let queued = self.enqueue(conversation, write);
        async move {
            // No answer comes only if the node or the lane's task ends; the outcome of a write already begun is
            // unknown.
            queued?.await.unwrap_or_else(|_| Err(Error::unavailable("the node has ended")))
        }
    }

    /// Refuses what waits and all that comes: the node is shutting down. What the store has begun is still answered and
    /// told.
    pub fn close(&self) {
        let mut running = self.lock();
        running.closed = true;
        running.lanes.values_mut().for_each(Lane::clear);
    }

    fn enqueue(
        &self,
        conversation: ConversationId,
        write: Write,
    ) -> Result<oneshot::Receiver<Result<Commit>>> {
        let (reply, receiver) = oneshot::channel();
        let key = match self.lanes {
            Lanes::Apart => Some(conversation),
            Lanes::Shared => None,
        };
        let mut running = self.lock();
        if running.closed {
            return Err(Error::unavailable("the node ends"));
        }
        let Running { lanes, learnt, .. } = &mut *running;
        let (lane, is_new) = match lanes.entry(key) {
            Entry::Occupied(lane) => (lane.into_mut(), false),
            Entry::Vacant(place) => {
                let learnt =
                    if key.is_none() { std::mem::take(learnt) } else { Gathering::default() };
                (place.insert(Lane::new(learnt)), true)
            }
        };
        lane.push(Waiting { conversation, write, reply })?;
        drop(running);
        if is_new {
            let draining = Draining { running: self.running.clone(), key, ended: false };
            self.tasks.spawn(self.clone().drain(draining));
        }
        Ok(receiver)
    }

    async fn drain(self, mut draining: Draining) {
        let key = draining.key;
        while let Some(batches) = self.next_batches(key) {
            let writes = batches.iter().flat_map(|(_, writes)| writes);
            let answered = writes.map(|waiting| waiting.write.by.user).collect();
            let appended = self.append(batches).await;
            let (mut events, mut answers) = (Vec::new(), Vec::new());
            for Appended { events: changes, answers: own } in appended {
                events.extend(changes);
                answers.extend(own);
            }
            // Told first, so that an answer and its event usually leave in one turn of the worker.
            let mut told = self.live.tell(events.clone()).await;
            let all = self.lock().lanes.get_mut(&key).and_then(|lane| lane.gather(answered));
            let at = Instant::now();
            for (reply, outcome) in answers {
                // A sender that hung up needs no answer; the change stands.
                let _ = reply.send(outcome);
            }
            self.live.tell_other_nodes(events).await;
            if let Some(all) = all {
                self.gather(key, all, at, &mut told).await;
            } else if self.has_waiting(key) {
                // A store may commit without yielding: let what has been told leave first.
                yield_now().await;
            }
            // Backpressure: writers cannot outrun their audience, since the next commit waits until this one is handed
            // down.
            if !told.is_terminated() {
                let _ = told.await;
            }
        }
        draining.ended = true;
    }

    async fn append(&self, batches: Vec<Batch>) -> Vec<Appended> {
        let (batches, waiting): (Vec<_>, Vec<_>) = batches.into_iter().map(split).unzip();
        let answers = match <[_; 1]>::try_from(batches) {
            Ok([(conversation, writes)]) => {
                vec![answer(self.store.append(conversation, writes)).await]
            }
            Err(batches) => {
                let answers = answer(async { Ok(self.store.append_each(batches).await) }).await;
                answers.unwrap_or_else(|error| failed(&error, waiting.len()))
            }
        };
        let answers = as_many(answers, waiting.len());
        waiting.into_iter().zip(answers).map(|(waiting, answers)| waiting.told(answers)).collect()
    }

    /// Whether somebody waits in a lane.
    fn has_waiting(&self, key: Key) -> bool {
        self.lock().lanes.get(&key).is_some_and(|lane| !lane.is_empty())
    }

    /// Takes what waits, or ends the lane.
    fn next_batches(&self, key: Key) -> Option<Vec<Batch>> {
        let mut running = self.lock();
        let batches = running.lanes.get_mut(&key)?.take();
        if batches.is_empty() {
            let ended = running.lanes.remove(&key)?;
            if key.is_none() {
                running.learnt = ended.learnt();
            }
            return None;
        }
        Some(batches)
    }

    /// Waits for those who were answered at this time to write again.
    async fn gather(
        &self,
        key: Key,
        mut all: oneshot::Receiver<()>,
        answered: Instant,
        told: &mut oneshot::Receiver<usize>,
    ) {
        let came = timeout_at(answered + GATHER, &mut all).await.is_ok()
            || tokio::select! {
                biased;
                _ = &mut all => true,
                // The lane would not go on before that anyway.
                sockets = told => {
                    let longer = Gathering::longer(sockets.unwrap_or(0));
                    !longer.is_zero() && timeout_at(answered + GATHER + longer, all).await.is_ok()
                }
            };
        if let Some(lane) = self.lock().lanes.get_mut(&key) {
            lane.gathered(came);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Running> {
        lock(&self.running)
    }
}

impl Writers {
    /// What is to be told and answered.
    fn told(self, answers: Answers) -> Appended {
        let Self { conversation, waiting } = self;
        let answers = match answers {
            Ok(answers) => as_many(answers, waiting.len()),
            Err(error) => failed(&error, waiting.len()),
        };
        let mut appended = Appended { events: Vec::new(), answers: Vec::new() };
        for ((Stamp { actor, at }, reply), outcome) in waiting.into_iter().zip(answers) {
            if let Ok(Commit { subject, change: Some((kind, rev)), access_rev, session_rev }) =
                &outcome
            {
                appended.events.push(Arc::new(Event::Changed {
                    conversation_id: conversation,
                    rev: *rev,
                    access_rev: *access_rev,
                    session_rev: *session_rev,
                    author_id: author_of_new(*kind, subject),
                    frame: Frame::changed(*kind, *rev, subject, actor, at),
                }));
            }
            appended.answers.push((reply, outcome));
        }
        appended
    }
}

impl Drop for Draining {
    fn drop(&mut self) {
        if !self.ended {
            lock(&self.running).lanes.remove(&self.key);
        }
    }
}

fn lock(running: &Mutex<Running>) -> MutexGuard<'_, Running> {
    running.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the store is given, and who waits for the answers.
fn split((conversation, batch): Batch) -> ((ConversationId, Vec<Write>), Writers) {
    let split = |Waiting { write, reply, .. }| {
        let stamp = Stamp { actor: write.by.user, at: write.at };
        (write, (stamp, reply))
    };
    let (writes, waiting) = batch.into_iter().map(split).unzip();
    ((conversation, writes), Writers { conversation, waiting })
}

/// Answers are matched to writes by position alone: if their number differs, nobody gets one.
fn as_many<T>(answers: Vec<Result<T>>, count: usize) -> Vec<Result<T>> {
    if answers.len() == count {
        return answers;
    }
    failed(&Error::internal("the store gave another number of answers"), count)
}

fn failed<T>(error: &Error, count: usize) -> Vec<Result<T>> {
    (0..count).map(|_| Err(error.clone())).collect()
}

fn author_of_new(kind: ChangeKind, subject: &Committed) -> Option<UserId> {
    match subject {
        Committed::Message(message) if kind == ChangeKind::Created => message.author_id,
        _ => None,
    }
}
