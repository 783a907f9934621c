//! Questions to the store: each runs in its own task and always produces an input with its answer.

use futures::{Future, StreamExt as _, stream};
use parlance_domain::{Summary, UserId};

use super::{Actor, Input};
use crate::{Error, Result, live::doubts::Doubt, ports::store::Conversations, tasks::answer};

/// The most summaries read concurrently.
const AT_ONCE: usize = 8;

impl Actor {
    /// Asks, and puts the answer in the inbox even if the question panics: something may be waiting for it.
    pub(super) fn ask<T: Send + 'static>(
        &self,
        question: impl Future<Output = Result<T>> + Send + 'static,
        to_input: impl FnOnce(Result<T>) -> Input + Send + 'static,
    ) {
        let live = self.live.clone();
        self.tasks.spawn(async move {
            let answer = answer(question).await;
            live.input(to_input(answer)).await;
        });
    }
}

/// Conversations as seen by people who may be in them: the summaries of those who are, and those the store gave no
/// answer about.
pub(super) async fn summaries(
    conversations: &dyn Conversations,
    asked: impl IntoIterator<Item = Doubt>,
) -> (Vec<(UserId, Summary)>, Vec<Doubt>) {
    let mut answers = stream::iter(asked)
        .map(|(conversation, user)| async move {
            (conversation, user, answer(conversations.summary(user, conversation)).await)
        })
        .buffered(AT_ONCE);
    let (mut inside, mut unknown) = (Vec::new(), Vec::new());
    while let Some((conversation, user, found)) = answers.next().await {
        match found {
            // Somebody who has left can still read a public channel.
            Ok(summary) if summary.joined => inside.push((user, summary)),
            Ok(_) | Err(Error::NotFound(_)) => {}
            Err(error) => {
                tracing::warn!(%error, %conversation, "somebody's place in a conversation could not be read yet");
                unknown.push((conversation, user));
            }
        }
    }
    (inside, unknown)
}
