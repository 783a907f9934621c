//! Cases of [`parlance_application::ports::Bus`].

use std::sync::Arc;

use futures::FutureExt as _;
use parlance_application::{
    live::{Event, Frame},
    ports::{Bus, Heard, Subscription, Topic},
};
use parlance_domain::{AccessRev, ConversationId, NodeId, Rev, SessionRev, UserId, WorkspaceId};
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
    loop {
        let heard = tokio::time::timeout(PATIENCE, events.next()).await.expect("an event in time");
        match heard.expect("the bus lives") {
            Heard::Event(event) => return number(&event),
            Heard::Listening(_) => {}
            Heard::Lost => panic!("nothing should be lost"),
        }
    }
}

fn number(event: &Event) -> u128 {
    match event {
        Event::WorkspaceLeft { user_id, .. } => user_id.0.as_u128(),
        Event::Changed { rev, .. } => u128::from(rev.0),
        other => panic!("not what was published: {other:?}"),
    }
}

fn changed(here: ConversationId, rev: u64) -> Arc<Event> {
    let frame = Frame::encode(&serde_json::json!({ "rev": rev, "text": "Grüße\n\u{1F600}" }));
    Arc::new(Event::Changed {
        conversation_id: here,
        rev: Rev(rev),
        access_rev: AccessRev(3),
        session_rev: SessionRev(0),
        author_id: Some(UserId(Uuid::from_u128(9))),
        frame,
    })
}

/// Listens to a topic, and publishes until it is heard: a bus may take its time.
async fn listen(bus: &dyn Bus, events: &mut Box<dyn Subscription>, here: ConversationId) {
    bus.listen(TWO, vec![Topic::Conversation(here)]);
    let heard = async {
        loop {
            bus.publish(ONE, vec![changed(here, 0)]).await.expect("publishes");
            let soon = tokio::time::timeout(std::time::Duration::from_millis(50), events.next());
            if let Ok(Some(Heard::Event(event))) = soon.await {
                assert_eq!(number(&event), 0);
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, heard).await.expect("the topic is heard in time");
}

/// And its frame is identical to the byte.
pub async fn a_topic_is_heard_by_who_listens(bus: &dyn Bus) {
    let here = ConversationId(Uuid::from_u128(5));
    let mut two = bus.subscribe(TWO).await.expect("subscribes");
    listen(bus, &mut two, here).await;
    let sent = changed(here, 1);
    bus.publish(ONE, vec![sent.clone()]).await.expect("publishes");
    loop {
        match tokio::time::timeout(PATIENCE, two.next()).await.expect("in time") {
            Some(Heard::Event(event)) if number(&event) == 1 => {
                assert_eq!(event.frame(), sent.frame());
                assert_eq!(format!("{event:?}"), format!("{sent:?}"));
                return;
            }
            Some(_) => {}
            None => panic!("the bus has gone"),
        }
    }
}

/// Ignoring is a hint, so nothing is asserted of that topic itself. What concerns all nodes still arrives, and who
/// listens again hears again.
pub async fn an_ignored_topic_stops_nothing_else(bus: &dyn Bus) {
    let here = ConversationId(Uuid::from_u128(6));
    let mut two = bus.subscribe(TWO).await.expect("subscribes");
    listen(bus, &mut two, here).await;
    bus.ignore(TWO, vec![Topic::Conversation(here)]);
    bus.publish(ONE, vec![event(7)]).await.expect("publishes");
    loop {
        let number = next(&mut two).await;
        if number == 7 {
            break;
        }
        assert_eq!(number, 0, "an earlier one");
    }
    listen(bus, &mut two, here).await;
}

/// A node that published hears the next event of another, so nothing of its own came before.
pub async fn others_hear_and_oneself_does_not(bus: &dyn Bus) {
    let mut one = bus.subscribe(ONE).await.expect("subscribes");
    let mut two = bus.subscribe(TWO).await.expect("subscribes");
    bus.publish(ONE, vec![event(1)]).await.expect("publishes");
    assert_eq!(next(&mut two).await, 1);
    bus.publish(TWO, vec![event(2)]).await.expect("publishes");
    assert_eq!(next(&mut one).await, 2);
    bus.publish(ONE, vec![event(3)]).await.expect("publishes");
    assert_eq!(next(&mut two).await, 3);
}

/// On a bus that loses nothing.
pub async fn one_nodes_events_come_in_order(bus: &dyn Bus) {
    let mut two = bus.subscribe(TWO).await.expect("subscribes");
    for together in (0..100).collect::<Vec<_>>().chunks(7) {
        let events = together.iter().copied().map(event).collect();
        bus.publish(ONE, events).await.expect("publishes");
    }
    for n in 0..100 {
        assert_eq!(next(&mut two).await, n);
    }
}

/// A node takes what is queued without waiting for more.
pub async fn a_wait_that_is_given_up_loses_nothing(bus: &dyn Bus) {
    let mut two = bus.subscribe(TWO).await.expect("subscribes");
    for n in 0..20 {
        while two.next().now_or_never().is_some() {}
        bus.publish(ONE, vec![event(n)]).await.expect("publishes");
        assert_eq!(next(&mut two).await, n);
    }
}
