//! The bus when Redis goes down, hangs and comes back.

use std::{sync::Arc, time::Duration};

use deadpool_redis::redis;
use parlance_application::{
    Result,
    live::{Event, Frame},
    ports::{Bus, Heard, Subscription, Topic},
};
use parlance_domain::{ConversationId, NodeId, UserId, WorkspaceId};
use parlance_redis::RedisBus;
use parlance_testkit::PATIENCE;
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

use super::{server::Server, unique, url};

const ONE: NodeId = NodeId(Uuid::from_u128(1));
const TWO: NodeId = NodeId(Uuid::from_u128(2));
const HERE: ConversationId = ConversationId(Uuid::from_u128(3));
const THERE: ConversationId = ConversationId(Uuid::from_u128(4));

fn left(n: u128) -> Arc<Event> {
    let workspace_id = WorkspaceId(Uuid::nil());
    Arc::new(Event::WorkspaceLeft { workspace_id, user_id: UserId(Uuid::from_u128(n)) })
}

fn news(conversation_id: ConversationId, text: &str) -> Arc<Event> {
    let frame = Frame::from_encoded(bytes::Bytes::copy_from_slice(text.as_bytes()));
    Arc::new(Event::Conversation { conversation_id, about: None, frame })
}

async fn heard(ears: &mut Box<dyn Subscription>) -> Heard {
    timeout(PATIENCE, ears.next()).await.expect("something in time").expect("the bus lives")
}

async fn number(ears: &mut Box<dyn Subscription>) -> u128 {
    match heard(ears).await {
        Heard::Event(event) => match &*event {
            Event::WorkspaceLeft { user_id, .. } => user_id.0.as_u128(),
            other => panic!("not what was sent: {other:?}"),
        },
        other => panic!("not an event: {other:?}"),
    }
}

/// Events that went out just before or after do not matter.
async fn lost(ears: &mut Box<dyn Subscription>) {
    loop {
        match heard(ears).await {
            Heard::Lost => return,
            Heard::Event(_) => {}
            Heard::Listening(topics) => panic!("no news of a loss, but {topics:?}"),
        }
    }
}

async fn listening(ears: &mut Box<dyn Subscription>) -> Vec<Topic> {
    loop {
        match heard(ears).await {
            Heard::Listening(topics) => return topics,
            Heard::Event(_) => {}
            Heard::Lost => panic!("no confirmation, but a loss"),
        }
    }
}

/// The next frame.
async fn frame(ears: &mut Box<dyn Subscription>) -> bytes::Bytes {
    loop {
        match heard(ears).await {
            Heard::Event(event) => {
                if let Some(frame) = event.frame() {
                    return frame.bytes().clone();
                }
            }
            other => panic!("not an event: {other:?}"),
        }
    }
}

/// Publishes until it works.
async fn publish(bus: &RedisBus, event: &Arc<Event>) {
    let published = async {
        while bus.publish(ONE, vec![Arc::clone(event)]).await.is_err() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, published).await.expect("the bus comes back");
}

/// Publishes until it fails, and returns how.
async fn refused(bus: &RedisBus) -> parlance_application::Error {
    let refused = async {
        loop {
            let begun = Instant::now();
            let outcome: Result<()> = bus.publish(ONE, vec![left(0)]).await;
            assert!(begun.elapsed() < Duration::from_millis(200), "publishing waited");
            if let Err(error) = outcome {
                return error;
            }
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, refused).await.expect("the bus notices that it is down")
}

#[tokio::test]
async fn what_is_not_listened_to_is_not_heard() {
    let bus = super::contract_bus();
    let mut two = bus.subscribe(TWO).await.expect("subscribes");
    bus.listen(TWO, vec![Topic::Conversation(HERE), Topic::Conversation(THERE)]);
    assert_eq!(listening(&mut two).await.len(), 2);
    bus.ignore(TWO, vec![Topic::Conversation(HERE)]);
    bus.listen(TWO, vec![Topic::Conversation(THERE)]);
    assert_eq!(listening(&mut two).await, [Topic::Conversation(THERE)]);
    for (here, text) in [(HERE, "not for two"), (THERE, "for two")] {
        bus.publish(ONE, vec![news(here, text)]).await.expect("publishes");
    }
    assert_eq!(frame(&mut two).await, "for two");
}

#[tokio::test]
async fn frames_arrive_byte_by_byte() {
    let bus = super::contract_bus();
    let mut two = bus.subscribe(TWO).await.expect("subscribes");
    bus.listen(TWO, vec![Topic::Conversation(HERE)]);
    listening(&mut two).await;
    for text in ["{}", "\n\n{\"a\":\n1}\r\n", &"\u{1F40D}\0".repeat(10_000)] {
        bus.publish(ONE, vec![news(HERE, text)]).await.expect("publishes");
        assert_eq!(frame(&mut two).await, text);
    }
}

#[tokio::test]
async fn what_is_malformed_is_passed_over() {
    let history = unique();
    let bus = RedisBus::connect(&url(), &history).expect("a URL");
    let mut two = bus.subscribe(TWO).await.expect("subscribes");
    let client = redis::Client::open(url()).expect("a URL");
    let mut stranger = client.get_multiplexed_async_connection().await.expect("connects");
    let db = client.get_connection_info().redis_settings().db();
    let channel = format!("parlance:bus:{history}:{db}:all");
    for payload in ["", "hello", "{}\n{}", "{\"from\":7}\n{}"] {
        let ears: u32 = redis::cmd("PUBLISH")
            .arg(&channel)
            .arg(payload)
            .query_async(&mut stranger)
            .await
            .expect("publishes");
        assert_eq!(ears, 1);
    }
    bus.publish(ONE, vec![left(1)]).await.expect("publishes");
    assert_eq!(number(&mut two).await, 1);
}

/// As with a copy of the store, whose conversations have the same ids.
#[tokio::test]
async fn another_history_is_not_heard() {
    let (ours, theirs) = (super::contract_bus(), super::contract_bus());
    let mut two = ours.subscribe(TWO).await.expect("subscribes");
    theirs.publish(ONE, vec![left(1)]).await.expect("publishes");
    // It reaches those whom it concerns, and only then is ours published.
    let mut other = theirs.subscribe(TWO).await.expect("subscribes");
    theirs.publish(ONE, vec![left(2)]).await.expect("publishes");
    while number(&mut other).await != 2 {}
    ours.publish(ONE, vec![left(3)]).await.expect("publishes");
    assert_eq!(number(&mut two).await, 3);
}

#[tokio::test]
async fn who_is_slow_is_told_of_the_loss() {
    let bus = super::contract_bus();
    let mut two = bus.subscribe(TWO).await.expect("subscribes");
    for n in 0..20_000 {
        publish(&bus, &left(n)).await;
    }
    let mut got = 0;
    loop {
        match heard(&mut two).await {
            Heard::Event(_) => got += 1,
            Heard::Lost => break,
            Heard::Listening(_) => {}
        }
    }
    assert!(got < 20_000);
}

#[tokio::test]
async fn a_restart_is_survived_and_told() {
    let mut server = Server::started().await;
    let bus = RedisBus::connect(&server.url(), "a").expect("a URL");
    let mut two = bus.subscribe(TWO).await.expect("subscribes");
    bus.listen(TWO, vec![Topic::Conversation(HERE)]);
    listening(&mut two).await;
    bus.ping().await.expect("Redis answers");

    server.kill();
    refused(&bus).await;
    assert!(bus.ping().await.is_err());
    // While it is down: what is wanted when it returns counts, however much it is.
    let places: Vec<_> = (10..1_210).map(|n| ConversationId(Uuid::from_u128(n))).collect();
    bus.listen(TWO, places.iter().copied().map(Topic::Conversation).collect());
    server.start().await;

    lost(&mut two).await;
    assert_eq!(listening(&mut two).await.len(), 1 + places.len());
    for there in &places {
        publish(&bus, &news(*there, "back")).await;
    }
    for _ in &places {
        assert_eq!(frame(&mut two).await, "back");
    }
    bus.ping().await.expect("Redis answers again");
}

#[tokio::test]
async fn a_late_redis_is_found() {
    let mut server = Server::absent();
    let bus = RedisBus::connect(&server.url(), "a").expect("a URL");
    let mut two = bus.subscribe(TWO).await.expect("subscribes without Redis");
    bus.listen(TWO, vec![Topic::Conversation(HERE)]);
    refused(&bus).await;
    server.start().await;
    lost(&mut two).await;
    assert_eq!(listening(&mut two).await, [Topic::Conversation(HERE)]);
    publish(&bus, &left(5)).await;
    while number(&mut two).await != 5 {}
}

#[tokio::test]
async fn a_hanging_redis_is_noticed() {
    let server = Server::started().await;
    let bus = RedisBus::connect(&server.url(), "a").expect("a URL");
    let mut two = bus.subscribe(TWO).await.expect("subscribes");
    server.signal("STOP");
    // As much as can be queued, including what is in flight.
    for _ in 0..16 {
        bus.publish(ONE, vec![left(0); 256]).await.expect("there is room");
    }
    bus.publish(ONE, vec![left(0)]).await.expect_err("there is none");
    refused(&bus).await;
    assert!(bus.ping().await.is_err());
    lost(&mut two).await;
    server.signal("CONT");
    assert_eq!(listening(&mut two).await, [], "it is heard again");
    publish(&bus, &left(5)).await;
    while number(&mut two).await != 5 {}
}

#[tokio::test]
async fn a_subscription_ends_with_its_bus() {
    let bus = super::contract_bus();
    let mut two = bus.subscribe(TWO).await.expect("subscribes");
    drop(bus);
    assert!(timeout(PATIENCE, two.next()).await.expect("ends in time").is_none());
}
