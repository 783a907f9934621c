//! What a connection hears of the time between its registration and its attachment, whatever its snapshot shows.

use std::{
    sync::{Arc, atomic::AtomicI64},
    time::Duration,
};

use parlance_application::{
    live::{Attachment, Event, Frame},
    ports::{
        Close,
        store::{Snapshot, SnapshotEntry, Subject},
    },
};
use parlance_domain::{AccessRev, ConversationId, Rev, Seq, SessionId, UserId, WorkspaceId};
use parlance_testkit::{
    TestNode, caller, channel, head,
    mocks::{MockMessages, MockStore},
    socket, summary,
};
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
    let left =
        Event::Left { conversation_id, user_id: ADA, access_rev: AccessRev(access_rev), frame };
    let frame = Frame::member_left(HERE, ADA);
    [left, Event::Conversation { conversation_id, about, frame }]
}

fn entered(access_rev: u64) -> [Event; 2] {
    let (conversation_id, about) = (HERE, Some(Subject::Participant(HERE, ADA)));
    let frame = Frame::member_joined(HERE, ADA);
    let told = Event::Conversation { conversation_id, about, frame };
    let frame = Frame::encode(&json!({ "type": "conversation.joined" }));
    let (user_id, rev, read_seq) = (ADA, Rev(4), Seq(4));
    [
        told,
        Event::Joined {
            conversation_id,
            user_id,
            rev,
            access_rev: AccessRev(access_rev),
            read_seq,
            workspace_id: None,
            frame,
        },
    ]
}

fn read(user_id: UserId, read_seq: u64) -> Event {
    let frame = Frame::encode(&json!({ "type": format!("read {read_seq}") }));
    Event::Read { user_id, conversation_id: HERE, read_seq: Seq(read_seq), frame }
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
    publish(&node, [left, told()]).await;
    assert_eq!(attach(&node, snapshot_with(&[])).await, ["member.left"]);
}

#[tokio::test]
async fn a_read_mark_never_goes_back_behind_the_snapshot() {
    let node = TestNode::start(MockMessages::new());
    let ada = caller(&node.ambient, "ada");
    let mut store = MockStore::new();
    let account = ada.account.clone();
    store.expect_session_owner().returning(move |_, _| Ok(Some(account.clone())));
    store.expect_snapshot().returning(move |_| {
        let entry =
            SnapshotEntry { summary: summary(channel(HERE, 400)), access_rev: AccessRev(1) };
        Ok(Snapshot { epoch: "one".into(), workspaces: vec![], conversations: vec![entry] })
    });
    let app = node.app(store);
    let heard_at = Arc::new(AtomicI64::new(0));
    let opened = app.hello.open(&ada.claims(), socket(1), heard_at, None).await.expect("opens");

    let read = |read_seq| read(ada.id(), read_seq);
    publish(&node, [read(397)]).await;
    app.hello.attach(socket(1), &opened).await;
    publish(&node, [read(398), read(400), read(401)]).await;
    assert_eq!(node.fanout.types(socket(1)), ["read 401"]);
}

#[tokio::test(start_paused = true)]
async fn what_was_shown_is_known_for_as_long_as_an_older_mark_may_come() {
    let node = registered().await;
    let shown = Attachment { read: vec![(HERE, Seq(4))], ..snapshot_with(&[HERE]) };
    attach(&node, shown).await;
    tokio::time::sleep(Duration::from_secs(59)).await;
    publish(&node, [read(ADA, 2)]).await;
    assert!(node.fanout.types(socket(1)).is_empty());
    tokio::time::sleep(Duration::from_secs(3)).await;
    publish(&node, [read(ADA, 3)]).await;
    assert_eq!(node.fanout.types(socket(1)), ["read 3"]);
}

#[tokio::test]
async fn a_read_mark_never_goes_back_behind_the_way_in() {
    let node = registered().await;
    attach(&node, snapshot_with(&[HERE])).await;
    publish(&node, left(2)).await;
    publish(&node, entered(3)).await;
    publish(&node, [read(ADA, 3), read(ADA, 4), read(ADA, 5)]).await;
    let heard = ["conversation.left", "conversation.joined", "read 5"];
    assert_eq!(node.fanout.types(socket(1)), heard);
}

#[tokio::test]
async fn what_one_connection_was_shown_is_told_to_the_other() {
    let node = registered().await;
    attach(&node, snapshot_with(&[HERE])).await;
    node.register(socket(2), ADA, SessionId(Uuid::from_u128(3)), 0).await;
    let shown = Attachment { read: vec![(HERE, Seq(4))], ..snapshot_with(&[HERE]) };
    node.live.attach(socket(2), shown).await;
    publish(&node, [read(ADA, 3), read(ADA, 4)]).await;
    assert_eq!(node.fanout.types(socket(1)), ["read 3", "read 4"]);
    assert!(node.fanout.types(socket(2)).is_empty());
}

#[tokio::test]
async fn a_read_mark_of_another_conversation_is_told_to_nobody() {
    let node = registered().await;
    attach(&node, snapshot_with(&[])).await;
    publish(&node, [read(ADA, 5)]).await;
    assert!(node.fanout.types(socket(1)).is_empty());
    publish(&node, entered(2)).await;
    publish(&node, [read(ADA, 5)]).await;
    assert_eq!(node.fanout.types(socket(1)), ["conversation.joined", "read 5"]);
}

/// It could not be told all of it: so it comes again, and reads how things stand then.
#[tokio::test]
async fn who_misses_more_than_is_held_is_sent_away() {
    let node = registered().await;
    let frame = Frame::encode(&json!({ "type": "workspace.updated" }));
    let event = || Event::Workspace { workspace_id: TEAM, about: None, frame: frame.clone() };
    publish(&node, (0..1_025).map(|_| event())).await;
    assert_eq!(attach(&node, snapshot_with(&[HERE])).await, [""; 0]);
    assert_eq!(node.fanout.closed(socket(1)), Some(Close::Overloaded));
    publish(&node, [event()]).await;
    assert_eq!(node.fanout.types(socket(1)), [""; 0]);
}
