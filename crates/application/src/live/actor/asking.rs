//! Questions to the store: asked in tasks of their own, and answered by an input each, whatever becomes of them.

use futures::Future;

use super::{Actor, Input};
use crate::{Result, tasks::answer};

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
