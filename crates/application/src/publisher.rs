//! How changes other than the sequencer's are committed and told.

use std::{
    future::poll_fn,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    task::Poll,
};

use futures::{Future, future::join};
use tokio::{
    sync::{self, MutexGuard},
    time::Instant,
};

use crate::{
    Caller, Result, Tasks,
    live::{Event, Live},
    rate_limit::WriteLimit,
};

/// Commits, publishes and waits until this node's sockets know; goes on to the end if the caller hangs up. Cheap to
/// clone.
#[derive(Clone)]
pub(crate) struct Publisher {
    live: Live,
    tasks: Arc<Tasks>,
    limit: Arc<WriteLimit>,
    /// Only with a store of this node's own, where nobody compares the revs that events carry: a join and the leave
    /// after it must not be told in reverse, but tasks on two threads could overtake each other between commit and
    /// publication. With a shared store, its revs and answers say which came last.
    order: Option<Arc<Order>>,
}

/// Publication in commit order, for a store that takes writes in the order they are first polled.
#[derive(Default)]
struct Order {
    /// Held while a write begins and gets its place in the queue below.
    beginning: Mutex<()>,
    /// Held while publishing. It is fair: its waiters form a queue.
    publishing: sync::Mutex<()>,
}

impl Order {
    /// Runs a write concurrently with those begun before it; the turn to publish comes after theirs.
    async fn run<T>(&self, write: impl Future<Output = T>) -> (MutexGuard<'_, ()>, T) {
        let mut both = pin!(join(self.publishing.lock(), write));
        let begun = poll_fn(|cx| {
            let _alone = self.beginning.lock().unwrap_or_else(PoisonError::into_inner);
            Poll::Ready(both.as_mut().poll(cx))
        });
        match begun.await {
            Poll::Ready(done) => done,
            Poll::Pending => both.await,
        }
    }
}

impl Publisher {
    pub(crate) fn new(live: Live, tasks: Arc<Tasks>, limit: Arc<WriteLimit>) -> Self {
        let order = (!live.has_peers()).then(Arc::default);
        Self { live, tasks, limit, order }
    }

    /// Runs a write, then publishes its events, in order. With a store of the node's own, changes, which may share a
    /// commit, are published in commit order. `RateLimited` beyond the caller's share of changes: many may have to hear
    /// what one person changes.
    pub(crate) async fn change<T: Send + 'static>(
        &self,
        caller: &Caller,
        write: impl Future<Output = Result<(T, Vec<Event>)>> + Send + 'static,
    ) -> Result<T> {
        self.limit.take(caller.id(), Instant::now())?;
        self.carry_out(self.order.clone(), write).await
    }

    /// The same without order or rate limit: for what only moves forward and tells few, such as read marks, and for
    /// ends of sessions, which nobody may be kept from.
    pub(crate) async fn advance<T: Send + 'static>(
        &self,
        write: impl Future<Output = Result<(T, Vec<Event>)>> + Send + 'static,
    ) -> Result<T> {
        self.carry_out(None, write).await
    }

    async fn carry_out<T: Send + 'static>(
        &self,
        order: Option<Arc<Order>>,
        write: impl Future<Output = Result<(T, Vec<Event>)>> + Send + 'static,
    ) -> Result<T> {
        let this = self.clone();
        let whole = async move {
            let (turn, written) = match &order {
                Some(order) => {
                    let (turn, written) = order.run(write).await;
                    (Some(turn), written)
                }
                None => (None, write.await),
            };
            let (output, events) = written?;
            let anything = this.publish(events).await;
            drop(turn);
            if anything {
                this.live.settle().await;
            }
            Ok(output)
        };
        self.tasks.complete(whole).await
    }

    /// Whether there was anything to publish.
    async fn publish(&self, events: Vec<Event>) -> bool {
        let anything = !events.is_empty();
        for event in events {
            self.live.publish(event).await;
        }
        anything
    }
}
