//! A node that shares its store with others, and has no bus to hear them by.

use std::{sync::Arc, time::Duration};

use parlance_application::{
    Error,
    live::{Attachment, Peers},
    ports::{Close, store::Look},
};
use parlance_domain::{SessionId, UserId};
use parlance_testkit::{
    SilentBus, TestNode, head,
    mocks::{MockChanges, MockConversations, MockMessages},
    socket,
};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::scene::{HERE, changes, nothing_new, replays};

const ADA: UserId = UserId(Uuid::from_u128(1));

fn node(changes: MockChanges) -> TestNode {
    node_of(changes, MockMessages::new())
}

fn node_of(changes: MockChanges, store: MockMessages) -> TestNode {
    let conversations = Arc::new(MockConversations::new());
    let peers = Peers { changes: Arc::new(changes), conversations };
    TestNode::among(store, Arc::new(SilentBus), peers)
}

#[tokio::test(start_paused = true)]
async fn a_connection_does_not_wait_for_a_bus_that_confirms_nothing() {
    let mut changes = changes();
    changes.expect_changes().returning(|_| Ok(nothing_new()));
    let node = node(changes);
    // The subscription has been made by then.
    sleep(Duration::from_millis(10)).await;
    let began = Instant::now();
    node.register(socket(1), ADA, SessionId(Uuid::from_u128(2)), 0).await;
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn whoever_a_silent_store_leaves_cut_off_is_sent_elsewhere() {
    let mut changes = changes();
    changes.expect_changes().returning(|_| Err(Error::unavailable("away")));
    let node = node(changes);
    node.connect(socket(1), ADA, &[]).await;
    let began = Instant::now();
    while node.fanout.closed(socket(1)).is_none() {
        sleep(Duration::from_secs(1)).await;
        assert!(began.elapsed() < Duration::from_secs(20), "kept");
    }
    assert_eq!(node.fanout.closed(socket(1)), Some(Close::Overloaded));
    assert!(began.elapsed() >= Duration::from_secs(10), "too soon");
}

#[tokio::test(start_paused = true)]
async fn what_a_look_finds_during_a_long_hello_is_not_missed() {
    let (mut changes, mut looks) = (changes(), 0);
    changes.expect_changes().returning(move |_| {
        looks += 1;
        let heads = if looks == 2 { vec![head(HERE, 5)] } else { vec![] };
        Ok(Look { heads, ..nothing_new() })
    });
    let node = node_of(changes, replays(5, 1));
    node.register(socket(1), ADA, SessionId(Uuid::from_u128(2)), 0).await;
    sleep(Duration::from_secs(4)).await;
    // The snapshot was read before the change.
    let attachment = Attachment { conversations: vec![head(HERE, 4)], ..Attachment::default() };
    node.live.attach(socket(1), attachment).await;
    node.fanout.heard(socket(1), "replay").await;
}
