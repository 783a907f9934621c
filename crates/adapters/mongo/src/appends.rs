//! Group commit: appends to several conversations that arrive while others are being committed share one transaction.
//!
//! 1. An append that finds fewer than [`AT_ONCE`] transactions in progress begins at once; so a lone one waits for
//!    nobody.
//! 2. Appends that arrive while [`AT_ONCE`] transactions are in progress share the next one, as many as fit.
//! 3. A group is tried a few times. If another node has written one of its heads each time, or one of its sends is a
//!    repeat, its two halves are tried apart, and so on; they are so at once if one of its conversations may be damaged.
//!    A stuck or damaged one is soon alone, and holds up no other. If the server does not answer, all fail at once: it
//!    would not answer the halves either.
//! 4. An append goes alone if another task of this node is in one of its lanes, or if it updates a channel.

use std::{
    collections::{HashSet, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use parlance_application::{
    Error, Result,
    ports::store::{Answers, Change, Write},
};
use parlance_domain::ConversationId;
use tokio::{sync::oneshot, time::Instant};

use crate::{
    MongoStore,
    error::{Fail, Outcome, in_time},
    group::Append,
    lanes::Lane,
    tx::{BODY, PATIENCE, Tries, Tx, in_turn},
    writes::{self, Commits},
};

/// The most group transactions in progress. More would conflict more often with those of other nodes.
const AT_ONCE: usize = 2;
/// How often a group is tried before it is halved. A faster node is usually done in a moment.
const TRIES: u32 = 4;
/// The most writes in a group.
const MOST: usize = 256;

/// Queued appends, and the number of transactions in progress.
#[derive(Default)]
pub(crate) struct Appends(Mutex<State>);

#[derive(Default)]
struct State {
    waiting: VecDeque<Waiting>,
    running: usize,
}

struct Waiting {
    append: Append,
    reply: oneshot::Sender<Answers>,
}

impl MongoStore {
    /// Appends, together with others if there are any. Continues even if the future is dropped.
    pub(crate) async fn append_in_group(
        &self,
        conversation: ConversationId,
        writes: Vec<Write>,
    ) -> Answers {
        let (reply, answer) = oneshot::channel();
        if self.appends.push(Waiting { append: (conversation, writes), reply }) {
            tokio::spawn(drain(self.clone()));
        }
        answer.await.unwrap_or_else(|_| Err(Error::unavailable("an append was not answered")))
    }
}

impl Appends {
    /// Queues an append. True if the caller has to start a task for the queue.
    fn push(&self, waiting: Waiting) -> bool {
        let mut state = self.lock();
        state.waiting.push_back(waiting);
        let begin = state.running < AT_ONCE;
        state.running += usize::from(begin);
        begin
    }

    /// The next group, oldest first. Empty if nothing is queued: then the caller's task counts as ended.
    fn take(&self) -> Vec<Waiting> {
        let mut state = self.lock();
        let (mut room, mut group, mut there) = (MOST, Vec::new(), HashSet::new());
        for _ in 0..state.waiting.len() {
            let Some(next) = state.waiting.pop_front() else { break };
            let (conversation, writes) = &next.append;
            let fits = group.is_empty() || writes.len() <= room;
            if fits && there.insert(*conversation) {
                room = room.saturating_sub(writes.len());
                group.push(next);
            } else {
                state.waiting.push_back(next);
            }
        }
        state.running -= usize::from(group.is_empty());
        group
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn drain(store: MongoStore) {
    loop {
        let group = store.appends.take();
        if group.is_empty() {
            return;
        }
        // A task of its own, so that a panic does not stop the next group.
        let _ = tokio::spawn(together(store.clone(), group, None)).await;
    }
}

/// Tries a group, or a part of one that was begun at `part_of`. Appends that must go alone, and the halves of a failed
/// group, continue in tasks of their own.
async fn together(store: MongoStore, group: Vec<Waiting>, part_of: Option<Instant>) {
    let (mut appends, mut replies, mut turns) = (Vec::new(), Vec::new(), Vec::new());
    for waiting in group {
        match store.lanes.free(lanes(&waiting.append)).filter(|_| shares(&waiting.append)) {
            Some(turn) => {
                turns.push(turn);
                appends.push(waiting.append);
                replies.push(waiting.reply);
            }
            None => drop(tokio::spawn(alone(store.clone(), waiting))),
        }
    }
    if appends.is_empty() {
        return;
    }
    let begun = part_of.unwrap_or_else(Instant::now);
    let tried = attempts(&store, &appends, begun, part_of.is_some()).await;
    drop(turns);
    match tried {
        Ok(answers) => {
            for (reply, answers) in replies.into_iter().zip(answers) {
                let _ = reply.send(Ok(answers));
            }
        }
        Err(fail) if is_divisible(&fail, appends.len()) && begun.elapsed() <= PATIENCE => {
            tracing::debug!(%fail, appends = appends.len(), "a group goes on in halves");
            let waiting = |(append, reply)| Waiting { append, reply };
            let mut first: Vec<_> = appends.into_iter().zip(replies).map(waiting).collect();
            let second = first.split_off(first.len() / 2);
            go_on(&store, first, begun);
            go_on(&store, second, begun);
        }
        Err(fail) => {
            let error = fail.given_up();
            for reply in replies {
                let _ = reply.send(Err(error.clone()));
            }
        }
    }
}

/// Whether the parts may succeed. A lone append gets more tries, which help against conflicts only.
fn is_divisible(fail: &Fail, appends: usize) -> bool {
    fail.is_conflict() || (appends > 1 && fail.may_spare_others())
}

fn go_on(store: &MongoStore, part: Vec<Waiting>, begun: Instant) {
    if part.len() > 1 {
        tokio::spawn(together(store.clone(), part, Some(begun)));
        return;
    }
    for only in part {
        tokio::spawn(alone(store.clone(), only));
    }
}

async fn attempts(
    store: &MongoStore,
    appends: &[Append],
    begun: Instant,
    is_part: bool,
) -> Outcome<Vec<Commits>> {
    let mut tries = Tries::of(TRIES, begun);
    loop {
        let outcome = attempt(store, appends, is_part).await;
        let Err(fail) = &outcome else { return outcome };
        if fail.is_duplicate() {
            store.facts.note_repeat();
        }
        if appends.len() == 1 || !fail.is_conflict() || !tries.again(fail).await {
            return outcome;
        }
    }
}

async fn attempt(store: &MongoStore, appends: &[Append], is_part: bool) -> Outcome<Vec<Commits>> {
    let _held = if is_part { Some(store.lanes.writer().await?) } else { None };
    let mut tx = Tx::begin(store, true).await?;
    let outcome = in_time(BODY, writes::run(&mut tx, appends)).await;
    tx.end(outcome).await
}

/// Tries one append, in its turn, for as long as a transaction is tried.
async fn alone(store: MongoStore, waiting: Waiting) {
    let Waiting { append, reply } = waiting;
    let _ = reply.send(in_its_turn(&store, append).await);
}

async fn in_its_turn(store: &MongoStore, append: Append) -> Answers {
    let _turn = store.lanes.turns(lanes(&append).collect()).await?;
    let append = std::slice::from_ref(&append);
    let answers: Result<Vec<Commits>> = in_turn!(store, |tx| writes::run(tx, append).await);
    answers?.pop().ok_or_else(|| Error::internal("an append has no answer"))
}

/// The lanes that an append writes in.
fn lanes((conversation, writes): &Append) -> impl Iterator<Item = Lane> {
    let marks = writes.iter().map(|write| Lane::Mark(conversation.0, write.by.user.0));
    std::iter::once(Lane::Head(conversation.0)).chain(marks)
}

/// Whether it may share a transaction. A rename may not: a group writes its heads at the end, so two renames to the
/// same name would not see each other.
fn shares((_, writes): &Append) -> bool {
    !writes.iter().any(|write| matches!(write.change, Change::UpdateChannel(_)))
}

#[cfg(test)]
mod tests {
    use parlance_application::ports::store::{Draft, Principal};
    use parlance_domain::{ClientMsgId, MessageId, MessageText, SessionId, Timestamp, UserId};
    use uuid::Uuid;

    use super::*;

    fn waiting(conversation: u128, writes: usize) -> Waiting {
        let draft = Draft {
            id: MessageId(Uuid::nil()),
            client_msg_id: ClientMsgId::parse("1").expect("valid"),
            text: MessageText::parse("hello").expect("valid"),
        };
        let by = Principal { user: UserId(Uuid::nil()), session: SessionId(Uuid::nil()) };
        let at = Timestamp::from_millis(0);
        let write = Write { by, at, change: Change::Send(draft) };
        let append = (ConversationId(Uuid::from_u128(conversation)), vec![write; writes]);
        Waiting { append, reply: oneshot::channel().0 }
    }

    fn taken(appends: &Appends) -> Vec<(u128, usize)> {
        let group = appends.take().into_iter();
        group.map(|next| (next.append.0.0.as_u128(), next.append.1.len())).collect()
    }

    #[test]
    fn who_comes_alone_begins_and_the_rest_shares() {
        let appends = Appends::default();
        for n in 0..AT_ONCE {
            assert!(appends.push(waiting(n as u128, 1)));
            assert_eq!(taken(&appends), [(n as u128, 1)]);
        }
        assert!(!appends.push(waiting(10, 1)), "enough are in progress");
        assert!(!appends.push(waiting(11, 2)));
        assert_eq!(taken(&appends), [(10, 1), (11, 2)]);
        assert!(taken(&appends).is_empty());
        assert!(appends.push(waiting(12, 1)), "one less is in progress");
    }

    #[test]
    fn a_group_has_each_conversation_once_and_no_more_than_fits() {
        let appends = Appends::default();
        for (conversation, writes) in [(1, 200), (2, 40), (1, 5), (3, 30), (4, 16), (5, 300)] {
            appends.push(waiting(conversation, writes));
        }
        assert_eq!(taken(&appends), [(1, 200), (2, 40), (4, 16)]);
        assert_eq!(taken(&appends), [(1, 5), (3, 30)]);
        assert_eq!(taken(&appends), [(5, 300)], "alone, however many");
        assert!(taken(&appends).is_empty());
    }
}
