//! The node's own tasks: work that must go on when its client hangs up, and that a shutdown waits for. Also how a
//! port's panic becomes an error ([`answer`]).

use std::{panic::AssertUnwindSafe, sync::Mutex};

use futures::{Future, FutureExt};
use tokio::task::JoinSet;

/// Tasks that outlive the request that began them, so that a client hanging up interrupts nothing between a commit and
/// its publication.
#[derive(Default)]
pub struct Tasks(Mutex<JoinSet<()>>);

impl Tasks {
    /// Runs a future to its end, whether or not anybody waits for it.
    pub fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        let mut set = self.lock();
        while set.try_join_next().is_some() {}
        set.spawn(future);
    }

    /// Runs a future to its end, even if the caller is dropped, and returns its output. `Internal` if it panics or is
    /// aborted.
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

    /// Waits until all tasks have ended, including those they spawn meanwhile. If this future is dropped, the tasks it
    /// waits for are aborted.
    pub async fn wait(&self) {
        loop {
            let mut set = std::mem::take(&mut *self.lock());
            if set.is_empty() {
                return;
            }
            while set.join_next().await.is_some() {}
        }
    }

    /// Aborts all tasks at their next `await`.
    pub fn abort(&self) {
        self.lock().abort_all();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, JoinSet<()>> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Awaits a port's call and turns a panic into `Internal`.
pub(crate) async fn answer<T>(
    question: impl Future<Output = crate::Result<T>>,
) -> crate::Result<T> {
    let answer = AssertUnwindSafe(question).catch_unwind().await;
    answer.unwrap_or_else(|_| Err(crate::Error::internal("the store panicked")))
}
