//! The bus of nodes that share a process: one alone, or several in a test.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use parlance_application::{
    Result,
    live::Event,
    ports::{Bus, Heard, Subscription, Topic},
};
use parlance_domain::NodeId;
use tokio::sync::broadcast::{self, error::RecvError};

/// The most events buffered for a node. One that falls further behind is told that it has lost some.
const CAPACITY: usize = 4096;

/// Hands events from node to node within this process. Clones are the same bus.
#[derive(Debug, Clone, Default)]
pub struct InProcessBus {
    nodes: Arc<Mutex<Vec<Node>>>,
}

/// A subscribed node. Each has its own channel, so that its own events do not wake it.
#[derive(Debug)]
struct Node {
    id: NodeId,
    events: broadcast::Sender<Arc<Event>>,
}

impl InProcessBus {
    fn nodes(&self) -> MutexGuard<'_, Vec<Node>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Bus for InProcessBus {
    fn is_remote(&self) -> bool {
        false
    }

    async fn publish(&self, from: NodeId, events: Vec<Arc<Event>>) -> Result<()> {
        for node in self.nodes().iter().filter(|node| node.id != from) {
            for event in &events {
                // Fails only when the node is gone.
                let _ = node.events.send(event.clone());
            }
        }
        Ok(())
    }

    async fn subscribe(&self, node: NodeId) -> Result<Box<dyn Subscription>> {
        let (sender, events) = broadcast::channel(CAPACITY);
        let mut nodes = self.nodes();
        nodes.retain(|node| node.events.receiver_count() > 0);
        nodes.push(Node { id: node, events: sender });
        Ok(Box::new(Receiver { events }))
    }

    fn listen(&self, _node: NodeId, _topics: Vec<Topic>) {}

    fn ignore(&self, _node: NodeId, _topics: Vec<Topic>) {}
}

struct Receiver {
    events: broadcast::Receiver<Arc<Event>>,
}

#[async_trait]
impl Subscription for Receiver {
    async fn next(&mut self) -> Option<Heard> {
        match self.events.recv().await {
            Ok(event) => Some(Heard::Event(event)),
            Err(RecvError::Lagged(lost)) => {
                tracing::warn!(lost, "the bus was slower than its events");
                Some(Heard::Lost)
            }
            Err(RecvError::Closed) => None,
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
        bus.publish(one, vec![event(1)]).await.expect("publishes");
        bus.publish(two, vec![event(2)]).await.expect("publishes");
        let Some(Heard::Event(got)) = heard.next().await else { panic!("no event") };
        assert!(
            matches!(&*got, Event::WorkspaceLeft { user_id, .. } if user_id.0 == Uuid::from_u128(2))
        );

        for n in 0..=CAPACITY {
            bus.publish(two, vec![event(n as u128)]).await.expect("publishes");
        }
        assert!(matches!(heard.next().await, Some(Heard::Lost)));
        assert!(matches!(heard.next().await, Some(Heard::Event(_))));
        drop(bus);
        while let Some(next) = heard.next().await {
            assert!(matches!(next, Heard::Event(_)), "no further loss");
        }
    }
}
