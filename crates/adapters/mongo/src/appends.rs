//! Group commit: appends of several conversations that come at the same time share a transaction; [`crate::queue`] says which.
//!
//! 1. A group is tried a few times. If somebody else has written one of its heads each time, or one of its sends is a second
//!    one, then its halves go on apart, and so on: a conversation that is stuck is soon alone, and the others are not.
//! 2. An append whose conversation somebody else of this node is writing, or that renames a channel, goes alone.

use std::time::Duration;

use parlance_application::{
    Error, Result,
    ports::store::{Change, Write},
};
use parlance_domain::ConversationId;
use tokio::{sync::oneshot, time::timeout};

use crate::{
    MongoStore,
    append::{self, Answers},
    error::Outcome,
    group::Append,
    lanes::Lane,
    queue::{self, Waiting},
    tx::{Tx, in_turn},
};

/// How often a group is tried before it is halved; whoever was before it at another node is done in a moment.
const TRIES: u32 = 4;
/// What takes longer is not waited for.
const LONG: Duration = Duration::from_millis(50);

impl MongoStore {
    /// Appends, together with others if there are any. It goes on if the future is dropped.
    pub(crate) async fn append_in_group(
        &self,
        conversation: ConversationId,
        writes: Vec<Write>,
    ) -> Result<Answers> {
        let (reply, answer) = oneshot::channel();
        if self.appends.push(Waiting { append: (conversation, writes), reply }) {
            begin(self);
        }
        answer.await.unwrap_or_else(|_| Err(Error::unavailable("an append was not answered")))
    }
}

fn begin(store: &MongoStore) {
    tokio::spawn(drain(store.clone()));
}

async fn drain(store: MongoStore) {
    loop {
        let group = store.appends.take();
        if group.is_empty() {
            return;
        }
        let answered = queue::writes(&group);
        // Should it panic, then the next has its turn all the same.
        let mut trying = tokio::spawn(together(store.clone(), group, false));
        if timeout(LONG, &mut trying).await.is_ok() {
            store.appends.gather(answered).await;
            continue;
        }
        if store.appends.leave() {
            begin(&store);
        }
        let _ = trying.await;
        if !store.appends.come_back() {
            return;
        }
    }
}

/// Tries a group, and begins with what is to be tried apart.
async fn together(store: MongoStore, group: Vec<Waiting>, is_part: bool) {
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
    let tried = attempts(&store, &appends, is_part).await;
    drop(turns);
    match tried {
        Ok(answers) => {
            for (reply, answers) in replies.into_iter().zip(answers) {
                let _ = reply.send(Ok(answers));
            }
        }
        Err(fail) if fail.is_transient() => {
            tracing::debug!(%fail, appends = appends.len(), "a group goes on in halves");
            let waiting = |(append, reply)| Waiting { append, reply };
            let mut first: Vec<_> = appends.into_iter().zip(replies).map(waiting).collect();
            let second = first.split_off(first.len() / 2);
            go_on(&store, first);
            go_on(&store, second);
        }
        Err(fail) => {
            let error = Error::from(fail);
            for reply in replies {
                let _ = reply.send(Err(error.clone()));
            }
        }
    }
}

fn go_on(store: &MongoStore, part: Vec<Waiting>) {
    if part.len() > 1 {
        tokio::spawn(together(store.clone(), part, true));
        return;
    }
    for only in part {
        tokio::spawn(alone(store.clone(), only));
    }
}

async fn attempts(store: &MongoStore, appends: &[Append], is_part: bool) -> Outcome<Vec<Answers>> {
    let mut failed = 0;
    loop {
        let tried = attempt(store, appends, is_part).await;
        let Err(fail) = &tried else { return tried };
        failed += 1;
        if fail.is_duplicate() {
            store.facts.note_repeat();
        }
        if !fail.is_transient() || failed >= TRIES || appends.len() == 1 {
            return tried;
        }
        tokio::time::sleep(Duration::from_millis(1 << failed)).await;
    }
}

async fn attempt(store: &MongoStore, appends: &[Append], is_part: bool) -> Outcome<Vec<Answers>> {
    let _held = if is_part { store.lanes.writer().await } else { None };
    let mut tx = Tx::begin(store, true).await?;
    let outcome = append::run(&mut tx, appends).await;
    tx.end(outcome).await
}

/// In its turn, and as often as it takes.
async fn alone(store: MongoStore, waiting: Waiting) {
    let Waiting { append, reply } = waiting;
    let _turn = store.lanes.turns(lanes(&append).collect()).await;
    let append = std::slice::from_ref(&append);
    let answers: Result<Vec<Answers>> = in_turn!(&store, |tx| append::run(tx, append).await);
    let only =
        |mut all: Vec<Answers>| all.pop().ok_or_else(|| Error::internal("an append has no answer"));
    let _ = reply.send(answers.and_then(only));
}

/// What it writes that others may write, too.
fn lanes((conversation, writes): &Append) -> impl Iterator<Item = Lane> {
    let marks = writes.iter().map(|write| Lane::Mark(conversation.0, write.actor.0));
    std::iter::once(Lane::Head(conversation.0)).chain(marks)
}

/// Whether others may be in the same transaction: a name is looked for where it is written, at the end.
fn shares((_, writes): &Append) -> bool {
    !writes.iter().any(|write| matches!(write.change, Change::UpdateChannel { .. }))
}
