//! Questions to the store: asked in tasks of their own, and answered by an input each, whatever becomes of them.

use futures::{Future, StreamExt as _, stream};
use parlance_domain::{Summary, UserId};

use super::{Actor, Input};
use crate::{Error, Result, live::doubts::Doubt, ports::store::Conversations, tasks::answer};

/// Summaries that are read concurrently.
const AT_ONCE: usize = 8;

impl Actor {
    /// Asks, and puts the answer into the inbox, even if the question panics: something may wait for it.
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

/// How conversations look to people who may be in them: to those who are, and of whom the store did not say.
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
