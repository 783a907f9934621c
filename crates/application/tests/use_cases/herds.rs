//! What happens elsewhere in great numbers while somebody says hello.

use parlance_application::live::{Attachment, Event, Frame};
use parlance_domain::{ConversationId, SessionId, UserId};
use parlance_testkit::{
    TestNode, head,
    mocks::{MockConversations, MockMessages},
    socket,
};
use serde_json::json;
use uuid::Uuid;

use crate::{
    gate::elsewhere::Elsewhere,
    scene::{HERE, quiet_scene},
};

const EVE: UserId = UserId(Uuid::from_u128(99));
/// More than is held for a connection.
const MANY: u128 = 1_100;

fn some(number: u128) -> ConversationId {
    ConversationId(Uuid::from_u128(1_000 + number))
}

async fn attach(node: &TestNode) -> Vec<String> {
    let conversations = vec![head(HERE, 4), head(some(1), 4)];
    node.live.attach(socket(3), Attachment { conversations, ..Attachment::default() }).await;
    node.live.settle().await;
    assert_eq!(node.fanout.closed(socket(3)), None);
    node.fanout.types(socket(3))
}

#[tokio::test(start_paused = true)]
async fn what_is_asked_about_others_fills_nothing() {
    let elsewhere = Elsewhere::new();
    elsewhere.book().out.insert(EVE);
    let scene = quiet_scene(elsewhere, MockConversations::new(), MockMessages::new()).await;
    scene.node.register(socket(3), EVE, SessionId(Uuid::from_u128(3)), 0).await;
    for number in 1..=MANY {
        let frame = Frame::encode(&json!({ "type": "news" }));
        let conversation_id = some(number);
        scene.node.live.publish(Event::Conversation { conversation_id, about: None, frame }).await;
    }
    // The last to go through.
    let frame = Frame::encode(&json!({ "type": "last" }));
    let last = Event::Conversation { conversation_id: HERE, about: None, frame };
    scene.node.live.publish(last).await;
    scene.until(1, &["last"]).await;
    assert_eq!(attach(&scene.node).await, [""; 0]);
}

#[tokio::test]
async fn what_is_deleted_elsewhere_fills_nothing() {
    let node = TestNode::start(MockMessages::new());
    node.register(socket(3), EVE, SessionId(Uuid::from_u128(3)), 0).await;
    for number in 1..=MANY {
        let (conversation_id, frame) = (some(number), Frame::deleted(some(number)));
        node.live.publish(Event::Deleted { conversation_id, frame }).await;
    }
    assert_eq!(attach(&node).await, ["conversation.deleted"]);
}
