//! State events that a look at the store finds: told where nobody told them, once, and to those who are still there.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use parlance_application::{
    live::{Attachment, Event, Frame},
    ports::{
        Heard,
        store::{Look, Mark, Readers, State, Subject},
    },
};
use parlance_domain::{
    AccessRev, ReadState, Seq, SessionId, Summary, Timestamp, UserId, WorkspaceId,
};
use parlance_testkit::{
    channel,
    mocks::{MockChanges, MockConversations, MockMessages},
    socket, summary,
};
use serde_json::json;
use uuid::Uuid;

use crate::scene::{HERE, Scene, changes, nothing_new, quiet_scene};

const EVE: UserId = UserId(Uuid::from_u128(99));
const EVES: Subject = Subject::Participant(HERE, EVE);
const TEAM: WorkspaceId = WorkspaceId(Uuid::from_u128(6));

/// The first look finds nothing new; the later ones find what `show` returns for their number.
fn later_looks(show: impl Fn(i64) -> Look + Send + 'static) -> MockChanges {
    let (mut changes, mut looks) = (changes(), 0);
    changes.expect_changes().returning(move |_| {
        looks += 1;
        Ok(if looks == 1 { nothing_new() } else { show(looks) })
    });
    changes
}

/// Eve came into the conversation before the second look, and all later ones show it. The store is asked as often as
/// there are `states`, and answers with these.
fn eve_comes_in(states: &'static [State]) -> MockChanges {
    let mut changes = later_looks(|look| Look {
        traces: vec![(EVES, Timestamp::from_millis(1_500))],
        until: Timestamp::from_millis(look * 1_000),
        ..nothing_new()
    });
    let mut said = states.iter();
    changes.expect_states().times(states.len()).returning(move |_| {
        Ok(said.next().map(|state| (EVES, state.clone())).into_iter().collect())
    });
    changes
}

fn of_eve(frame: Frame) -> Heard {
    let (conversation_id, about) = (HERE, Some(EVES));
    Heard::Event(Arc::new(Event::Conversation { conversation_id, about, frame }))
}

#[tokio::test(start_paused = true)]
async fn what_was_lost_is_told_once_and_to_those_who_are_still_there() {
    let mut changes = eve_comes_in(&[State::Inside]);
    let ada = Arc::new(std::sync::OnceLock::<UserId>::new());
    let still = ada.clone();
    changes.expect_readers().returning(move |_, _| {
        Ok(Some(Readers {
            access_rev: AccessRev(2),
            users: still.get().copied().into_iter().collect(),
        }))
    });
    let scene = quiet_scene(changes, MockConversations::new(), MockMessages::new()).await;
    ada.set(scene.ada).expect("set once");
    scene.until(1, &["conversation.member_joined"]).await;
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(scene.node.fanout.types(socket(1)), ["conversation.member_joined"]);
    let bob = scene.node.fanout.types(socket(2));
    assert_eq!(bob, ["conversation.left"], "he was removed at another node");
}

#[tokio::test(start_paused = true)]
async fn what_the_bus_has_told_is_not_told_again() {
    let mut changes = eve_comes_in(&[State::Inside, State::Inside]);
    changes
        .expect_readers()
        .returning(|_, users| Ok(Some(Readers { access_rev: AccessRev(1), users })));
    let scene = quiet_scene(changes, MockConversations::new(), MockMessages::new()).await;
    scene.says(of_eve(Frame::member_joined(HERE, EVE)));
    tokio::time::sleep(Duration::from_secs(20)).await;
    for who in [1, 2] {
        assert_eq!(scene.node.fanout.types(socket(who)), ["conversation.member_joined"]);
    }
}

#[tokio::test(start_paused = true)]
async fn another_state_than_the_bus_told_last_is_told() {
    let mut changes = eve_comes_in(&[State::Gone, State::Inside]);
    changes
        .expect_readers()
        .returning(|_, users| Ok(Some(Readers { access_rev: AccessRev(1), users })));
    let scene = quiet_scene(changes, MockConversations::new(), MockMessages::new()).await;
    scene.says(of_eve(Frame::member_left(HERE, EVE)));
    scene.until(1, &["conversation.member_left", "conversation.member_joined"]).await;
}

/// Looks show a workspace in which nobody is found `times` times; it, or Eve in it, has gone since the states were
/// asked for.
fn eve_is_out(times: usize, gone: impl Fn(&Subject) -> bool + Send + 'static) -> MockChanges {
    let mut changes = later_looks(|_| Look { workspaces: vec![TEAM], ..nothing_new() });
    changes.expect_workspace_members().times(..=times).returning(|_, _| Ok(vec![]));
    changes.expect_workspace_members().returning(|_, users| Ok(users));
    changes.expect_states().returning(move |of| {
        let of = of.into_iter().filter(&gone);
        Ok(of.map(|subject| (subject, State::Gone)).collect())
    });
    changes
}

/// Eve listens to the workspace with the third connection.
async fn with_eve(changes: MockChanges) -> Scene {
    let scene = quiet_scene(changes, MockConversations::new(), MockMessages::new()).await;
    let session = SessionId(scene.node.ambient.next_uuid());
    scene.node.register(socket(3), EVE, session, 0).await;
    let attachment = Attachment { workspaces: vec![TEAM], ..Attachment::default() };
    scene.node.live.attach(socket(3), attachment).await;
    scene
}

#[tokio::test(start_paused = true)]
async fn a_workspace_that_ends_while_its_members_are_asked_for_is_told_as_deleted() {
    let scene = with_eve(eve_is_out(99, |subject| *subject == Subject::Workspace(TEAM))).await;
    scene.until(3, &["workspace.deleted"]).await;
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(scene.node.fanout.types(socket(3)), ["workspace.deleted"]);
}

#[tokio::test(start_paused = true)]
async fn who_is_removed_while_the_members_are_asked_for_is_told() {
    let scene = with_eve(eve_is_out(99, |subject| *subject == Subject::Member(TEAM, EVE))).await;
    scene.until(3, &["member.left"]).await;
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(scene.node.fanout.types(socket(3)), ["member.left"]);
}

#[tokio::test(start_paused = true)]
async fn who_has_come_back_meanwhile_stays() {
    let scene = with_eve(eve_is_out(1, |_| false)).await;
    let (workspace_id, about) = (TEAM, None);
    tokio::time::sleep(Duration::from_secs(20)).await;
    let frame = Frame::encode(&json!({ "type": "workspace.updated" }));
    scene.says(Heard::Event(Arc::new(Event::Workspace { workspace_id, about, frame })));
    scene.until(3, &["workspace.updated"]).await;
}

#[tokio::test(start_paused = true)]
async fn who_has_left_a_channel_that_they_can_still_read_is_told_no_mark_of_it() {
    let (mut changes, mut conversations) = (changes(), MockConversations::new());
    let ada = Arc::new(std::sync::OnceLock::<UserId>::new());
    let who = ada.clone();
    changes.expect_changes().returning(move |_| {
        let mark = |user| Mark { conversation_id: HERE, user_id: user, read_seq: Seq(3) };
        Ok(Look { marks: who.get().copied().map(mark).into_iter().collect(), ..nothing_new() })
    });
    conversations
        .expect_summary()
        .times(1..)
        .returning(|_, id| Ok(Summary { joined: false, ..summary(channel(id, 4)) }));
    let scene = quiet_scene(changes, conversations, MockMessages::new()).await;
    ada.set(scene.ada).expect("set once");
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(scene.node.fanout.types(socket(1)).is_empty());
}

/// Looks show that ada has read on, and so has somebody who is not connected; only Ada's mark is asked for, `asked`
/// times.
async fn who_reads_on(asked: usize) -> Scene {
    let (mut changes, mut conversations) = (changes(), MockConversations::new());
    let ada = Arc::new(std::sync::OnceLock::<UserId>::new());
    let who = ada.clone();
    changes.expect_changes().returning(move |_| {
        let mark = |user| Mark { conversation_id: HERE, user_id: user, read_seq: Seq(3) };
        let marks = who.get().copied().into_iter().chain([EVE]).map(mark).collect();
        Ok(Look { marks, ..nothing_new() })
    });
    let reads = ada.clone();
    conversations.expect_summary().times(asked).returning(move |user, id| {
        assert_eq!(Some(&user), reads.get());
        let read = ReadState { read_seq: Seq(3), unread_count: 1, mention_count: 0 };
        Ok(Summary { read, ..summary(channel(id, 4)) })
    });
    let scene = quiet_scene(changes, conversations, MockMessages::new()).await;
    ada.set(scene.ada).expect("set once");
    scene
}

#[tokio::test(start_paused = true)]
async fn a_read_mark_that_was_lost_is_asked_for_once() {
    let scene = who_reads_on(1).await;
    scene.until(1, &["read.updated"]).await;
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(scene.node.fanout.types(socket(1)), ["read.updated"]);
    assert!(scene.node.fanout.types(socket(2)).is_empty(), "it is ada's own");
}

#[tokio::test(start_paused = true)]
async fn a_read_mark_that_the_bus_has_told_is_not_asked_for() {
    let scene = who_reads_on(0).await;
    let read = ReadState { read_seq: Seq(3), unread_count: 1, mention_count: 0 };
    let frame = Frame::read_updated(HERE, read);
    let (user_id, conversation_id, read_seq) = (scene.ada, HERE, Seq(3));
    scene.says(Heard::Event(Arc::new(Event::Read { user_id, conversation_id, read_seq, frame })));
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(scene.node.fanout.types(socket(1)), ["read.updated"]);
}

#[tokio::test(start_paused = true)]
async fn many_changes_are_asked_for_in_parts() {
    let mut changes = later_looks(|_| {
        let role = |n: u128| Subject::Role(TEAM, UserId(Uuid::from_u128(1_000 + n)));
        let traces = (0..1_500).map(|n| (role(n), Timestamp::from_millis(1_500))).collect();
        Look { traces, ..nothing_new() }
    });
    changes.expect_workspace_members().returning(|_, users| Ok(users));
    let asked = Arc::new(Mutex::new(Vec::new()));
    let note = asked.clone();
    changes.expect_states().returning(move |of| {
        note.lock().expect("not poisoned").push(of.len());
        Ok(of.into_iter().map(|subject| (subject, State::Gone)).collect())
    });
    let _scene = with_eve(changes).await;
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(*asked.lock().expect("not poisoned"), [256, 256, 256, 256, 256, 220]);
}
