//! How a change that is no message is committed and told.

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
    /// Only on a store of this node's own, where nobody compares the counts that events carry: a join and the leave
    /// after it must not be told the other way round, but tasks of two threads could overtake each other between commit
    /// and publication. On a shared store its counts and answers say which came last.
    order: Option<Arc<Order>>,
}

/// Publication in the order of commits, on a store that takes writes in the order in which they are first polled.
#[derive(Default)]
struct Order {
    /// Held while a write is begun and gets its place in the queue below.
    beginning: Mutex<()>,
    /// Held by whoever publishes. It is fair: its waiters are a queue.
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

    /// Runs a write, then publishes what it tells, in order. Changes are published in the order of their commits, which
    /// they may share. `RateLimited` beyond the caller's share of changes: what one person changes, many may have to hear.
    pub(crate) async fn change<T: Send + 'static>(
        &self,
        caller: &Caller,
        write: impl Future<Output = Result<(T, Vec<Event>)>> + Send + 'static,
    ) -> Result<T> {
        self.limit.take(caller.id(), Instant::now())?;
        self.carry_out(self.order.clone(), write).await
    }

    /// The same without an order and without a share: for what only moves forward and tells few, such as read marks, and for the
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
