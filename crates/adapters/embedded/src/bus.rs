//! The bus of nodes that share a process: one alone, or several in a test.

use std::sync::Arc;

use async_trait::async_trait;
use parlance_application::{
    Result,
    live::Event,
    ports::{Bus, Heard, Subscription, Topic},
};
use parlance_domain::NodeId;
use tokio::sync::broadcast::{self, error::RecvError};

/// The most events that wait for the slowest node. A slower one is told that it has lost some.
const CAPACITY: usize = 4096;

/// Hands events from node to node within this process. Clones are the same bus.
#[derive(Debug, Clone)]
pub struct InProcessBus {
    events: broadcast::Sender<(NodeId, Arc<Event>)>,
}

impl Default for InProcessBus {
    fn default() -> Self {
        Self { events: broadcast::Sender::new(CAPACITY) }
    }
}

#[async_trait]
impl Bus for InProcessBus {
    async fn publish(&self, from: NodeId, event: Arc<Event>) -> Result<()> {
        // Fails only when nobody listens.
        let _ = self.events.send((from, event));
        Ok(())
    }

    async fn subscribe(&self, node: NodeId) -> Result<Box<dyn Subscription>> {
        Ok(Box::new(Receiver { node, events: self.events.subscribe() }))
    }

    fn listen(&self, _node: NodeId, _topics: Vec<Topic>) {}

    fn ignore(&self, _node: NodeId, _topics: Vec<Topic>) {}
}

struct Receiver {
    node: NodeId,
    events: broadcast::Receiver<(NodeId, Arc<Event>)>,
}

#[async_trait]
impl Subscription for Receiver {
    async fn next(&mut self) -> Option<Heard> {
        loop {
            match self.events.recv().await {
                Ok((from, _)) if from == self.node => {}
                Ok((_, event)) => return Some(Heard::Event(event)),
                Err(RecvError::Lagged(lost)) => {
                    tracing::warn!(lost, "the bus was slower than its events");
                    return Some(Heard::Lost);
                }
                Err(RecvError::Closed) => return None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use parlance_domain::{UserId, WorkspaceId};
    use uuid::Uuid;

    use super::*;

    fn event(n: u128) -> Arc<Event> {
        Arc::new(Event::WorkspaceLeft {
            workspace_id: WorkspaceId(Uuid::nil()),
            user_id: UserId(Uuid::from_u128(n)),
        })
    }

    #[tokio::test]
    async fn hears_others_only_and_is_told_of_losses_and_of_the_end() {
        let (one, two) = (NodeId(Uuid::from_u128(1)), NodeId(Uuid::from_u128(2)));
        let bus = InProcessBus::default();
        let mut heard = bus.subscribe(one).await.expect("subscribes");
        bus.publish(one, event(1)).await.expect("publishes");
        bus.publish(two, event(2)).await.expect("publishes");
        let Some(Heard::Event(got)) = heard.next().await else { panic!("no event") };
        assert!(
            matches!(&*got, Event::WorkspaceLeft { user_id, .. } if user_id.0 == Uuid::from_u128(2))
        );

        for n in 0..=CAPACITY {
            bus.publish(two, event(n as u128)).await.expect("publishes");
        }
        assert!(matches!(heard.next().await, Some(Heard::Lost)));
        assert!(matches!(heard.next().await, Some(Heard::Event(_))));
        drop(bus);
        while let Some(next) = heard.next().await {
            assert!(matches!(next, Heard::Event(_)), "no further loss");
        }
    }
}
