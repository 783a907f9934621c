use std::{panic::AssertUnwindSafe, sync::Mutex};

use futures::{Future, FutureExt};
use tokio::task::JoinSet;

/// The node's own task set: what runs beyond the request that began it, so that a client that hangs up interrupts nothing
/// between a commit and its publication, and a shutdown can wait for it.
#[derive(Default)]
pub struct Tasks(Mutex<JoinSet<()>>);

impl Tasks {
    /// Runs a future to its end, whoever waits for it or not.
    pub fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        let mut set = self.lock();
        while set.try_join_next().is_some() {}
        set.spawn(future);
    }

    /// Runs a future to its end and hands its output back; the future goes on if the caller is dropped.
    pub async fn complete<T: Send + 'static>(
        &self,
        future: impl Future<Output = crate::Result<T>> + Send + 'static,
    ) -> crate::Result<T> {
        let (done, output) = tokio::sync::oneshot::channel();
        self.spawn(async move {
            // Nobody may be waiting any more.
            let _ = done.send(future.await);
        });
        output.await.unwrap_or_else(|_| Err(crate::Error::internal("a task ended early")))
    }

    /// Waits until all tasks have ended, those too that they spawn in the meantime. Dropping the future ends what it waits for.
    pub async fn wait(&self) {
        loop {
            let mut set = std::mem::take(&mut *self.lock());
            if set.is_empty() {
                return;
            }
            while set.join_next().await.is_some() {}
        }
    }

    /// Ends all tasks where they are.
    pub fn abort(&self) {
        self.lock().abort_all();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, JoinSet<()>> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// What a port answers: an error if it panics, so that whoever waits for the answer has one.
pub(crate) async fn answer<T>(
    question: impl Future<Output = crate::Result<T>>,
) -> crate::Result<T> {
    let answer = AssertUnwindSafe(question).catch_unwind().await;
    answer.unwrap_or_else(|_| Err(crate::Error::internal("the store panicked")))
}
