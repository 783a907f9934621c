//! Cases of [`parlance_application::ports::Bus`].

use std::sync::Arc;

use parlance_application::{
    live::Event,
    ports::{Bus, Subscription},
};
use parlance_domain::{NodeId, UserId, WorkspaceId};
use uuid::Uuid;

use crate::PATIENCE;

const ONE: NodeId = NodeId(Uuid::from_u128(1));
const TWO: NodeId = NodeId(Uuid::from_u128(2));

fn event(n: u128) -> Arc<Event> {
    Arc::new(Event::WorkspaceLeft {
        workspace_id: WorkspaceId(Uuid::nil()),
        user_id: UserId(Uuid::from_u128(n)),
    })
}

async fn next(events: &mut Box<dyn Subscription>) -> u128 {
    let event = tokio::time::timeout(PATIENCE, events.next()).await.expect("an event in time");
    match &*event.expect("the bus lives").expect("no loss") {
        Event::WorkspaceLeft { user_id, .. } => user_id.0.as_u128(),
        other => panic!("not what was published: {other:?}"),
    }
}

/// A node that published hears the next event of another, so nothing of its own came before.
pub async fn others_hear_and_oneself_does_not(bus: &dyn Bus) {
    let mut one = bus.subscribe(ONE).await.expect("subscribes");
    let mut two = bus.subscribe(TWO).await.expect("subscribes");
    bus.publish(ONE, event(1)).await.expect("publishes");
    assert_eq!(next(&mut two).await, 1);
    bus.publish(TWO, event(2)).await.expect("publishes");
    assert_eq!(next(&mut one).await, 2);
    bus.publish(ONE, event(3)).await.expect("publishes");
    assert_eq!(next(&mut two).await, 3);
}

/// On a bus that loses nothing.
pub async fn one_nodes_events_come_in_order(bus: &dyn Bus) {
    let mut two = bus.subscribe(TWO).await.expect("subscribes");
    for n in 0..100 {
        bus.publish(ONE, event(n)).await.expect("publishes");
    }
    for n in 0..100 {
        assert_eq!(next(&mut two).await, n);
    }
}
