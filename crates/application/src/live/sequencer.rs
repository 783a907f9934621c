//! Gives the changes of a conversation their order: one append at a time for each conversation, each taking all that has
//! come since the last. So concurrent sends share a commit, and commit order is publication order.

use std::{
    collections::VecDeque,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{Future, FutureExt};
use parlance_domain::{ChangeKind, ConversationId};
use rustc_hash::FxHashMap as HashMap;
use tokio::sync::oneshot;

use super::{Event, Frame, Live};
use crate::{
    Error, Result, Tasks,
    ports::store::{Commit, Committed, Messages, Write},
};

/// Most writes in one append.
const BATCH: usize = 256;
/// Most writes that may wait for one conversation; beyond it senders are told to come back.
const WAITING: usize = 2_048;

/// See the module's description. Cheap to clone.
#[derive(Clone)]
pub struct Sequencer {
    store: Arc<dyn Messages>,
    live: Live,
    tasks: Arc<Tasks>,
    /// A lane stands here exactly while a task drains it.
    lanes: Arc<Mutex<HashMap<ConversationId, VecDeque<Waiting>>>>,
}

struct Waiting {
    write: Write,
    reply: oneshot::Sender<Result<Commit>>,
}

impl Sequencer {
    /// Writes through `store`, publishes to `live`.
    pub fn new(store: Arc<dyn Messages>, live: Live, tasks: Arc<Tasks>) -> Self {
        Self { store, live, tasks, lanes: Arc::default() }
    }

    /// Queues a write at once, before the returned future is polled: calls made one after another commit in that order.
    /// The write goes on if the future is dropped.
    pub fn submit(
        &self,
        conversation: ConversationId,
        write: Write,
    ) -> impl Future<Output = Result<Commit>> + Send + use<> {
        let queued = self.enqueue(conversation, write);
        async move {
            queued?.await.unwrap_or_else(|_| Err(Error::internal("the sequencer dropped a write")))
        }
    }

    fn enqueue(
        &self,
        conversation: ConversationId,
        write: Write,
    ) -> Result<oneshot::Receiver<Result<Commit>>> {
        let (reply, receiver) = oneshot::channel();
        let waiting = Waiting { write, reply };
        let mut lanes = self.lock();
        if let Some(lane) = lanes.get_mut(&conversation) {
            if lane.len() >= WAITING {
                return Err(Error::Unavailable {
                    retry_after: Duration::from_secs(1),
                    cause: "too many writes wait for one conversation".into(),
                });
            }
            lane.push_back(waiting);
        } else {
            lanes.insert(conversation, VecDeque::from([waiting]));
            drop(lanes);
            let this = self.clone();
            self.tasks.spawn(async move { this.drain(conversation).await });
        }
        Ok(receiver)
    }

    async fn drain(self, conversation: ConversationId) {
        while let Some(batch) = self.next_batch(conversation) {
            let (writes, replies): (Vec<Write>, Vec<_>) =
                batch.into_iter().map(|waiting| (waiting.write, waiting.reply)).unzip();
            let stamps: Vec<_> = writes.iter().map(|write| (write.actor, write.at)).collect();
            let appended = AssertUnwindSafe(self.store.append(conversation, writes)).catch_unwind();
            let outcomes = match appended.await {
                Ok(Ok(outcomes)) if outcomes.len() == replies.len() => outcomes,
                Ok(Ok(_)) => failed(
                    &Error::internal("append answered another number of writes"),
                    replies.len(),
                ),
                Ok(Err(error)) => failed(&error, replies.len()),
                Err(_) => failed(&Error::internal("append panicked"), replies.len()),
            };
            let mut events = Vec::new();
            for ((outcome, reply), (actor, at)) in outcomes.into_iter().zip(replies).zip(stamps) {
                if let Ok(Commit { subject, change: Some((kind, rev)), access_rev, session_rev }) =
                    &outcome
                {
                    events.push(Event::Changed {
                        conversation_id: conversation,
                        rev: *rev,
                        access_rev: *access_rev,
                        session_rev: *session_rev,
                        author_id: author_of_new(*kind, subject),
                        frame: Frame::changed(*kind, *rev, subject, actor, at),
                    });
                }
                // A sender that hung up needs no answer; the change stands.
                let _ = reply.send(outcome);
            }
            if !events.is_empty() {
                self.live.publish_changes(conversation, events).await;
            }
        }
    }

    /// Takes what waits, or ends the lane.
    fn next_batch(&self, conversation: ConversationId) -> Option<Vec<Waiting>> {
        let mut lanes = self.lock();
        let lane = lanes.get_mut(&conversation)?;
        if lane.is_empty() {
            lanes.remove(&conversation);
            return None;
        }
        let take = lane.len().min(BATCH);
        Some(lane.drain(..take).collect())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ConversationId, VecDeque<Waiting>>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn failed(error: &Error, count: usize) -> Vec<Result<Commit>> {
    (0..count).map(|_| Err(error.clone())).collect()
}

fn author_of_new(kind: ChangeKind, subject: &Committed) -> Option<parlance_domain::UserId> {
    match subject {
        Committed::Message(message) if kind == ChangeKind::Created => message.author_id,
        _ => None,
    }
}
