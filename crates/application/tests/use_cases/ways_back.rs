//! Who is put out by what is older than their way back, on a node that shares its store.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use parlance_application::{
    live::{Attachment, Event, Frame},
    ports::{
        Heard,
        store::{Head, Look, Readers},
    },
};
use parlance_domain::{AccessRev, Rev, Seq, SessionId, UserId};
use parlance_testkit::{
    channel,
    mocks::{MockChanges, MockConversations, MockMessages},
    socket, summary,
};
use serde_json::json;

use crate::scene::{HERE, Scene, changed, changes, nothing_new, quiet_scene, replays};

/// Everybody is in the conversation, whose count of changes of access is this.
pub(super) fn knowing(mut rest: MockChanges, access_rev: u64) -> (MockChanges, MockConversations) {
    let (mut conversations, access_rev) = (MockConversations::new(), AccessRev(access_rev));
    rest.expect_changes().returning(|_| Ok(nothing_new()));
    rest.expect_heads()
        .returning(move |_| Ok(vec![Head { conversation_id: HERE, rev: Rev(5), access_rev }]));
    rest.expect_states().returning(|_| Ok(vec![]));
    rest.expect_workspace_members().returning(|_, users| Ok(users));
    rest.expect_readers().returning(move |_, users| Ok(Some(Readers { access_rev, users })));
    conversations.expect_summary().returning(|_, id| Ok(summary(channel(id, 5))));
    (rest, conversations)
}

pub(super) fn heard_joined(user_id: UserId, access_rev: u64) -> Heard {
    let joined = Event::Joined {
        conversation_id: HERE,
        user_id,
        rev: Rev(4),
        access_rev: AccessRev(access_rev),
        read_seq: Seq::ZERO,
        workspace_id: None,
        frame: Frame::encode(&json!({ "type": "conversation.joined" })),
    };
    Heard::Event(Arc::new(joined))
}

/// Eve has come with the third connection, as of the third change of access, and waits for a replay.
async fn eve_waits() -> (Scene, UserId) {
    let (changes, conversations) = knowing(changes(), 3);
    let scene = quiet_scene(changes, conversations, MockMessages::new()).await;
    let eve = UserId(scene.node.ambient.next_uuid());
    scene.node.register(socket(3), eve, SessionId(scene.node.ambient.next_uuid()), 0).await;
    let pending = vec![Head { conversation_id: HERE, rev: Rev(5), access_rev: AccessRev(3) }];
    scene.node.live.attach(socket(3), Attachment { pending, ..Attachment::default() }).await;
    scene.node.live.settle().await;
    (scene, eve)
}

#[tokio::test(start_paused = true)]
async fn whom_a_late_departure_puts_out_is_let_in_again() {
    let (scene, eve) = eve_waits().await;
    let frame = Frame::left(HERE);
    let left = Event::Left { conversation_id: HERE, user_id: eve, access_rev: AccessRev(2), frame };
    scene.says(Heard::Event(Arc::new(left)));
    scene.until(3, &["conversation.left", "conversation.joined"]).await;
}

#[tokio::test(start_paused = true)]
async fn who_was_found_out_when_a_replay_was_read_is_let_in_again() {
    let (scene, _) = eve_waits().await;
    scene.node.live.lost_access(socket(3), HERE).await;
    scene.until(3, &["conversation.left", "conversation.joined"]).await;
}

/// Looks show a way in for a few seconds only.
#[tokio::test(start_paused = true)]
async fn who_was_let_in_while_they_came_is_let_in_however_long_their_hello_took() {
    const EVE: UserId = UserId(uuid::Uuid::from_u128(99));
    let (mut changes, admitted) = (changes(), vec![(HERE, EVE)]);
    let lets_in = move |_| Ok(Look { admitted: admitted.clone(), ..nothing_new() });
    changes.expect_changes().times(10).returning(lets_in);
    let (changes, conversations) = knowing(changes, 3);
    let scene = quiet_scene(changes, conversations, MockMessages::new()).await;
    scene.node.register(socket(3), EVE, SessionId(scene.node.ambient.next_uuid()), 0).await;
    tokio::time::sleep(Duration::from_secs(20)).await;
    scene.node.live.attach(socket(3), Attachment::default()).await;
    scene.until(3, &["conversation.joined"]).await;
}

/// One answer says that she is out, as of the second change of access. She has been let in again since.
#[tokio::test(start_paused = true)]
async fn an_answer_older_than_the_way_back_puts_nobody_out() {
    let (mut changes, older) = (changes(), Arc::new(Mutex::new(None)));
    let out = older.clone();
    changes.expect_readers().returning(move |_, users| {
        let out: Option<UserId> = out.lock().expect("not poisoned").take();
        let access_rev = AccessRev(if out.is_some() { 2 } else { 3 });
        let users = users.into_iter().filter(|user| Some(*user) != out).collect();
        Ok(Some(Readers { access_rev, users }))
    });
    let (changes, conversations) = knowing(changes, 3);
    let scene = quiet_scene(changes, conversations, replays(5, 3)).await;
    let eve = UserId(scene.node.ambient.next_uuid());
    scene.node.register(socket(3), eve, SessionId(scene.node.ambient.next_uuid()), 0).await;
    let have = Head { conversation_id: HERE, rev: Rev(4), access_rev: AccessRev(3) };
    let attachment = Attachment { conversations: vec![have], ..Attachment::default() };
    scene.node.live.attach(socket(3), attachment).await;
    scene.says(changed(5, 3));
    scene.until(3, &["replay"]).await;
    *older.lock().expect("not poisoned") = Some(eve);
    let frame = Frame::encode(&json!({ "type": "one" }));
    let one = Event::Conversation { conversation_id: HERE, about: None, frame };
    scene.says(Heard::Event(Arc::new(one)));
    scene.until(1, &["replay", "one"]).await;
    assert_eq!(scene.node.fanout.types(socket(3)), ["replay"], "she is in");
}
