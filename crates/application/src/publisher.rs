//! How a change that is no message is committed and told.

use std::{sync::Arc, time::Duration};

use futures::Future;
use tokio::{sync::Mutex, time::timeout};

use crate::{
    Error, Result, Tasks,
    live::{Event, Live},
};

/// How long a change waits for those before it.
const PATIENCE: Duration = Duration::from_secs(5);

/// Commits, publishes and waits until this node's sockets know; goes on to the end if the caller hangs up. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Publisher {
    live: Live,
    tasks: Arc<Tasks>,
    /// Held from a write to its publication on a store of this node's own, whose events carry no count that is looked at: who
    /// was let in and then put out must not be told of it the other way round, and tasks of two threads could overtake each
    /// other between commit and publication. Where a store is shared counts tell, and it is asked.
    turn: Option<Arc<Mutex<()>>>,
}

impl Publisher {
    pub(crate) fn new(live: Live, tasks: Arc<Tasks>) -> Self {
        let turn = (!live.has_peers()).then(Arc::default);
        Self { live, tasks, turn }
    }

    /// Runs a write, then publishes what it tells, in order. Changes are published in the order of their commits.
    pub(crate) async fn change<T: Send + 'static>(
        &self,
        write: impl Future<Output = Result<(T, Vec<Event>)>> + Send + 'static,
    ) -> Result<T> {
        let this = self.clone();
        let whole = async move {
            let turn = match &this.turn {
                Some(turn) => {
                    let late = |_| Error::unavailable("too many changes wait for one another");
                    Some(timeout(PATIENCE, turn.lock()).await.map_err(late)?)
                }
                None => None,
            };
            let (output, events) = write.await?;
            let anything = this.publish(events).await;
            drop(turn);
            if anything {
                this.live.settle().await;
            }
            Ok(output)
        };
        self.tasks.complete(whole).await
    }

    /// The same for what only ever goes forward, and so may be told in any order: those who do it share commits.
    pub(crate) async fn advance<T: Send + 'static>(
        &self,
        write: impl Future<Output = Result<(T, Vec<Event>)>> + Send + 'static,
    ) -> Result<T> {
        Self { turn: None, ..self.clone() }.change(write).await
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
