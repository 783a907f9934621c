//! What a connection hears of the time between its registration and its attachment, whatever its snapshot shows.

use parlance_application::{
    live::{Attachment, Event, Frame},
    ports::store::Subject,
};
use parlance_domain::{ConversationId, SessionId, UserId, WorkspaceId};
use parlance_testkit::{TestNode, head, mocks::MockMessages, socket};
use serde_json::json;
use uuid::Uuid;

const HERE: ConversationId = ConversationId(Uuid::from_u128(77));
const TEAM: WorkspaceId = WorkspaceId(Uuid::from_u128(1));
const ADA: UserId = UserId(Uuid::from_u128(2));

/// Ada has said who she is.
async fn registered() -> TestNode {
    let node = TestNode::start(MockMessages::new());
    node.register(socket(1), ADA, SessionId(Uuid::from_u128(3)), 0).await;
    node
}

fn left(access_rev: u64) -> [Event; 2] {
    let (conversation_id, about) = (HERE, Some(Subject::Participant(HERE, ADA)));
    let frame = Frame::left(HERE);
    let left = Event::Left { conversation_id, user_id: ADA, access_rev, frame };
    let frame = Frame::member_left(HERE, ADA);
    [left, Event::Conversation { conversation_id, about, frame }]
}

fn entered(access_rev: u64) -> [Event; 2] {
    let (conversation_id, about) = (HERE, Some(Subject::Participant(HERE, ADA)));
    let frame = Frame::member_joined(HERE, ADA);
    let told = Event::Conversation { conversation_id, about, frame };
    let frame = Frame::encode(&json!({ "type": "conversation.joined" }));
    [told, Event::Joined { conversation_id, user_id: ADA, rev: 4, access_rev, frame }]
}

async fn publish(node: &TestNode, events: impl IntoIterator<Item = Event>) {
    for event in events {
        node.live.publish(event).await;
    }
    node.live.settle().await;
}

async fn attach(node: &TestNode, attachment: Attachment) -> Vec<String> {
    node.live.attach(socket(1), attachment).await;
    node.live.settle().await;
    node.fanout.types(socket(1))
}

fn snapshot_with(conversations: &[ConversationId]) -> Attachment {
    let conversations = conversations.iter().map(|id| head(*id, 4)).collect();
    Attachment { workspaces: vec![TEAM], conversations, ..Attachment::default() }
}

#[tokio::test]
async fn who_has_left_hears_nothing_that_came_after() {
    let node = registered().await;
    publish(&node, left(2)).await;
    assert_eq!(attach(&node, snapshot_with(&[HERE])).await, ["conversation.left"]);
}

#[tokio::test]
async fn who_comes_in_hears_nothing_that_came_before() {
    let node = registered().await;
    publish(&node, entered(2)).await;
    assert_eq!(attach(&node, snapshot_with(&[])).await, ["conversation.joined"]);
}

#[tokio::test]
async fn who_has_left_and_come_back_hears_both() {
    let node = registered().await;
    publish(&node, left(2)).await;
    publish(&node, entered(3)).await;
    publish(&node, entered(3).into_iter().take(1)).await;
    let heard = ["conversation.left", "conversation.joined", "conversation.member_joined"];
    assert_eq!(attach(&node, snapshot_with(&[HERE])).await, heard);
}

#[tokio::test]
async fn who_has_left_a_workspace_hears_nothing_that_came_after() {
    let node = registered().await;
    let (workspace_id, user_id) = (TEAM, ADA);
    let frame = Frame::workspace_member_left(TEAM, ADA);
    let told = || Event::Workspace { workspace_id, about: None, frame: frame.clone() };
    let left = Event::WorkspaceLeft { workspace_id, user_id };
    publish(&node, [told(), left, told()]).await;
    assert_eq!(attach(&node, snapshot_with(&[])).await, ["member.left"]);
}

#[tokio::test]
async fn a_read_mark_of_another_conversation_is_told_to_nobody() {
    let node = registered().await;
    attach(&node, snapshot_with(&[])).await;
    let read = || {
        let frame = Frame::encode(&json!({ "type": "read" }));
        Event::Read { user_id: ADA, conversation_id: HERE, read_seq: 4, frame }
    };
    publish(&node, [read()]).await;
    assert!(node.fanout.types(socket(1)).is_empty());
    publish(&node, entered(2)).await;
    publish(&node, [read()]).await;
    assert_eq!(node.fanout.types(socket(1)), ["conversation.joined", "read"]);
}
