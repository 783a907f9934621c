//! State events on a node that shares its store: they tell the store's state, only to those who may hear it by what the
//! store says after the event. And what happens while it does not answer.

pub(super) mod elsewhere;

use std::time::Duration;

use parlance_application::{
    live::{Attachment, Event, Frame},
    ports::{
        Close, Heard,
        store::{State, Subject},
    },
};
use parlance_domain::{
    AccessRev, ConversationId, Member, ReadState, Rev, Role, Seq, SessionId, SessionRev, Timestamp,
    User, UserId, Workspace, WorkspaceId,
};
use parlance_testkit::{
    head,
    mocks::{MockConversations, MockMessages},
    socket,
};
use serde_json::json;
use uuid::Uuid;

use crate::scene::{HERE, Scene, quiet_scene};
use elsewhere::Elsewhere;

const TEAM: WorkspaceId = WorkspaceId(Uuid::from_u128(6));
const EVE: UserId = UserId(Uuid::from_u128(99));

/// Ada and Bob, as ever, listen to a conversation with the first two connections. With the third, Eve listens to it
/// too, and to the workspace; with the fourth, of another session, to the workspace, as does Bob with the fifth.
async fn scene(elsewhere: &Elsewhere) -> (Scene, [SessionId; 2]) {
    let scene = quiet_scene(elsewhere.clone(), MockConversations::new(), MockMessages::new()).await;
    let sessions = [3, 4].map(|_| SessionId(scene.node.ambient.next_uuid()));
    let bobs = SessionId(scene.node.ambient.next_uuid());
    for (number, session) in [3, 4, 5].into_iter().zip([sessions[0], sessions[1], bobs]) {
        let user = if number == 5 { scene.bob } else { EVE };
        scene.node.register(socket(number), user, session, 0).await;
        let conversations = if number == 3 { vec![head(HERE, 4)] } else { vec![] };
        let workspaces = vec![TEAM];
        let attachment = Attachment { workspaces, conversations, ..Attachment::default() };
        scene.node.live.attach(socket(number), attachment).await;
    }
    scene.node.live.settle().await;
    (scene, sessions)
}

fn told(kind: &str) -> Frame {
    Frame::encode(&json!({ "type": kind }))
}

fn of_team(kind: &str) -> Event {
    Event::Workspace { workspace_id: TEAM, about: None, frame: told(kind) }
}

fn of_here(kind: &str) -> Event {
    Event::Conversation { conversation_id: HERE, about: None, frame: told(kind) }
}

fn joined(user_id: UserId, access_rev: u64) -> Event {
    let frame = told("joined");
    Event::Joined {
        conversation_id: HERE,
        user_id,
        rev: Rev(4),
        access_rev: AccessRev(access_rev),
        read_seq: Seq::ZERO,
        workspace_id: None,
        frame,
    }
}

fn workspace_joined(user_id: UserId) -> Event {
    Event::WorkspaceJoined { workspace_id: TEAM, user_id, frame: told("in the team") }
}

fn workspace_left(user_id: UserId) -> Event {
    Event::WorkspaceLeft { workspace_id: TEAM, user_id }
}

fn named(name: &str) -> Workspace {
    let (role, created_at) = (Role::Member, Timestamp::from_millis(0));
    Workspace { id: TEAM, name: name.to_owned(), role, join_code: None, created_at }
}

/// Somebody is in a workspace.
pub(super) fn member(workspace_id: WorkspaceId, user_id: UserId) -> (Subject, State) {
    let at = Timestamp::from_millis(0);
    let user = User { id: user_id, display_name: "eve".to_owned(), created_at: at };
    let member = Member { workspace_id, user_id, role: Role::Member, joined_at: at, user };
    let workspace = Workspace { id: workspace_id, ..named("Acme") };
    (Subject::Member(workspace_id, user_id), State::Member(Box::new((member, workspace))))
}

/// The workspace has changed somehow.
fn renamed(name: &str) -> Event {
    let frame = Frame::workspace_updated(&named(name));
    Event::Workspace { workspace_id: TEAM, about: Some(Subject::Workspace(TEAM)), frame }
}

fn left(user_id: UserId, access_rev: u64) -> Event {
    let access_rev = AccessRev(access_rev);
    Event::Left { conversation_id: HERE, user_id, access_rev, frame: told("left") }
}

#[tokio::test(start_paused = true)]
async fn who_was_removed_elsewhere_hears_of_no_change_of_the_workspace() {
    let elsewhere = Elsewhere::new();
    let (scene, _) = scene(&elsewhere).await;
    scene.node.live.publish(of_team("one")).await;
    scene.until(3, &["one"]).await;
    elsewhere.book().out.insert(EVE);
    // Of this node, and of another that the bus still reaches.
    scene.node.live.publish(of_team("two")).await;
    scene.says(Heard::Event(of_team("three").into()));
    scene.until(5, &["one", "two", "three"]).await;
    assert_eq!(scene.node.fanout.types(socket(3)), ["one", "member.left"]);
}

#[tokio::test(start_paused = true)]
async fn who_was_removed_elsewhere_hears_of_no_change_of_a_conversation() {
    let elsewhere = Elsewhere::new();
    let (scene, _) = scene(&elsewhere).await;
    elsewhere.book().out.insert(EVE);
    scene.node.live.publish(of_here("one")).await;
    scene.says(Heard::Event(of_here("two").into()));
    for number in [1, 2] {
        scene.until(number, &["one", "two"]).await;
    }
    assert_eq!(scene.node.fanout.types(socket(3)), ["conversation.left"]);
}

#[tokio::test(start_paused = true)]
async fn a_session_that_ended_elsewhere_hears_of_nothing() {
    let read = ReadState { read_seq: Seq(3), unread_count: 0, mention_count: 0 };
    let frame = Frame::read_updated(HERE, read);
    let (conversation_id, user_id) = (HERE, EVE);
    for event in [
        of_team("one"),
        of_here("one"),
        joined(EVE, 2),
        renamed("Crew"),
        workspace_joined(EVE),
        Event::Read { user_id, conversation_id, read_seq: Seq(3), frame },
    ] {
        let elsewhere = Elsewhere::new();
        let (scene, sessions) = scene(&elsewhere).await;
        elsewhere.book().ended.extend(sessions);
        let team = (Subject::Workspace(TEAM), State::Workspace(named("Crew")));
        elsewhere.book().states = vec![team, member(TEAM, EVE)];
        scene.node.live.publish(event.clone()).await;
        for number in [3, 4] {
            scene.until(number, &["session.revoked"]).await;
            let closed = scene.node.fanout.closed(socket(number));
            assert_eq!(closed, Some(Close::SessionRevoked), "{event:?}");
        }
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert_eq!(scene.node.fanout.types(socket(3)), ["session.revoked"], "{event:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn another_session_of_the_same_person_hears_of_it() {
    let elsewhere = Elsewhere::new();
    let (scene, [ended, _]) = scene(&elsewhere).await;
    elsewhere.book().ended.insert(ended);
    scene.node.live.publish(joined(EVE, 2)).await;
    scene.until(4, &["joined"]).await;
    scene.until(3, &["session.revoked"]).await;
}

#[tokio::test(start_paused = true)]
async fn who_is_being_attached_is_asked_about_too() {
    let elsewhere = Elsewhere::new();
    let (scene, _) = scene(&elsewhere).await;
    let team = || Attachment { workspaces: vec![TEAM], ..Attachment::default() };
    let here = || Attachment { conversations: vec![head(HERE, 4)], ..team() };
    let (dan, session) = (UserId(Uuid::from_u128(98)), SessionId(Uuid::from_u128(1)));
    for number in [6, 7] {
        let user = if number == 6 { dan } else { EVE };
        scene.node.register(socket(number), user, session, 0).await;
    }
    // He is in the snapshot, and out before this.
    elsewhere.book().out.insert(dan);
    scene.node.live.publish(of_team("one")).await;
    scene.node.live.publish(of_here("two")).await;
    scene.until(3, &["one", "two"]).await;
    for number in [6, 7] {
        scene.node.live.attach(socket(number), here()).await;
    }
    scene.until(7, &["one", "two"]).await;
    scene.until(6, &["member.left"]).await;
}

#[tokio::test(start_paused = true)]
async fn who_comes_in_beside_a_change_is_asked_about_too() {
    let elsewhere = Elsewhere::silent();
    let (scene, _) = scene(&elsewhere).await;
    // While this is asked about, the rest comes.
    scene.node.live.publish(of_team("first")).await;
    elsewhere.asked(1).await;
    elsewhere.book().states = vec![member(TEAM, scene.ada)];
    for event in [workspace_joined(scene.ada), joined(EVE, 2), of_team("one"), of_here("two")] {
        scene.node.live.publish(event).await;
    }
    assert!(scene.node.fanout.types(socket(1)).is_empty());
    elsewhere.answer();
    elsewhere.asked(2).await;
    elsewhere.answer();
    scene.until(1, &["workspace.updated", "member.joined", "one", "two"]).await;
    scene.until(4, &["first", "member.joined", "joined", "one", "two"]).await;
}

#[tokio::test(start_paused = true)]
async fn what_the_store_does_not_answer_is_told_in_order_when_it_does() {
    let elsewhere = Elsewhere::new();
    let (scene, _) = scene(&elsewhere).await;
    elsewhere.book().away = true;
    scene.node.live.publish(of_team("one")).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    scene.node.live.publish(of_here("two")).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(scene.node.fanout.types(socket(3)).is_empty());
    assert!(elsewhere.book().asked > 2, "it is asked again");
    elsewhere.book().away = false;
    scene.until(3, &["one", "two"]).await;
}

#[tokio::test(start_paused = true)]
async fn an_end_of_access_waits_for_nothing() {
    let elsewhere = Elsewhere::silent();
    let (scene, [_, session]) = scene(&elsewhere).await;
    for event in [joined(EVE, 2), of_here("one"), left(EVE, 3)] {
        scene.node.live.publish(event).await;
    }
    scene.node.live.settle().await;
    assert_eq!(scene.node.fanout.types(socket(3)), ["left"]);
    let frame = told("session.revoked");
    let end = Event::SessionRevoked { session_id: session, session_rev: SessionRev(1), frame };
    scene.node.live.publish(end).await;
    scene.node.live.settle().await;
    assert_eq!(scene.node.fanout.closed(socket(4)), Some(Close::SessionRevoked));
    for question in 1..=2 {
        elsewhere.asked(question).await;
        elsewhere.answer();
    }
    scene.until(1, &["one"]).await;
    assert_eq!(scene.node.fanout.types(socket(3)), ["left"], "Eve's way in is over");
}

/// Two nodes changed it, and the bus brought the second change first.
#[tokio::test(start_paused = true)]
async fn what_the_bus_brings_late_is_told_as_it_is_now() {
    let elsewhere = Elsewhere::new();
    let (scene, _) = scene(&elsewhere).await;
    let team = (Subject::Workspace(TEAM), State::Workspace(named("second")));
    elsewhere.book().states = vec![team, member(TEAM, EVE)];
    for event in [renamed("second"), renamed("first"), workspace_left(EVE)] {
        scene.says(Heard::Event(event.into()));
    }
    scene.until(5, &["workspace.updated", "member.joined"]).await;
    scene.until(3, &["workspace.updated", "member.joined"]).await;
    let told = &scene.node.fanout.frames(socket(3))[0];
    assert_eq!(told["data"]["workspace"]["name"], "second");
    // Eve is back, and hears on.
    scene.node.live.publish(of_team("one")).await;
    scene.until(4, &["workspace.updated", "member.joined", "one"]).await;
}

#[tokio::test(start_paused = true)]
async fn who_is_removed_is_told_once_and_so_are_the_others() {
    let elsewhere = Elsewhere::new();
    let (scene, _) = scene(&elsewhere).await;
    elsewhere.book().out.insert(EVE);
    elsewhere.book().states = vec![(Subject::Member(TEAM, EVE), State::Gone)];
    let about = Some(Subject::Member(TEAM, EVE));
    let frame = Frame::workspace_member_left(TEAM, EVE);
    scene.node.live.publish(workspace_left(EVE)).await;
    scene.node.live.publish(Event::Workspace { workspace_id: TEAM, about, frame }).await;
    tokio::time::sleep(Duration::from_secs(20)).await;
    for number in 3..=5 {
        assert_eq!(scene.node.fanout.types(socket(number)), ["member.left"]);
    }
}

/// A client that is told that it left a workspace forgets them.
#[tokio::test(start_paused = true)]
async fn who_is_removed_leaves_the_conversations_first() {
    let elsewhere = Elsewhere::new();
    let (scene, _) = scene(&elsewhere).await;
    let (dan, session) = (UserId(Uuid::from_u128(98)), SessionId(Uuid::from_u128(1)));
    scene.node.register(socket(6), dan, session, 0).await;
    let there = ConversationId(Uuid::from_u128(78));
    let attachment = Attachment {
        workspaces: vec![TEAM],
        conversations: vec![head(HERE, 4), head(there, 4)],
        homes: vec![(HERE, TEAM), (there, WorkspaceId(Uuid::from_u128(60)))],
        ..Attachment::default()
    };
    scene.node.live.attach(socket(6), attachment).await;
    elsewhere.book().out.insert(dan);
    elsewhere.book().states = vec![(Subject::Member(TEAM, dan), State::Gone)];
    scene.node.live.publish(workspace_left(dan)).await;
    scene.until(6, &["conversation.left", "member.left"]).await;
    assert_eq!(scene.node.fanout.frames(socket(6))[0]["conversation_id"], HERE.to_string());
}

/// The snapshot may be from before the removal, or from after a return: the store is asked once more.
#[tokio::test(start_paused = true)]
async fn who_was_removed_and_is_back_while_being_attached_is_not_told_of_it() {
    for back in [false, true] {
        let elsewhere = Elsewhere::new();
        let (scene, _) = scene(&elsewhere).await;
        let (dan, session) = (UserId(Uuid::from_u128(98)), SessionId(Uuid::from_u128(1)));
        scene.node.register(socket(6), dan, session, 0).await;
        elsewhere.book().states = vec![(Subject::Member(TEAM, dan), State::Gone)];
        elsewhere.book().out.insert(dan);
        scene.node.live.publish(workspace_left(dan)).await;
        scene.until(5, &["member.left"]).await;
        if back {
            elsewhere.book().states = vec![member(TEAM, dan)];
            elsewhere.book().out.clear();
        }
        let attachment = Attachment { workspaces: vec![TEAM], ..Attachment::default() };
        scene.node.live.attach(socket(6), attachment).await;
        tokio::time::sleep(Duration::from_secs(5)).await;
        scene.node.live.publish(of_team("one")).await;
        scene.until(6, if back { &["member.joined", "one"] } else { &["member.left"] }).await;
    }
}

/// They have seen what was there before, and are not asked about; what has changed meanwhile is told again.
#[tokio::test(start_paused = true)]
async fn who_comes_while_the_store_is_asked_is_told_by_the_next_answer() {
    let elsewhere = Elsewhere::silent();
    elsewhere.book().at_states = true;
    let (scene, _) = scene(&elsewhere).await;
    scene.node.live.publish(renamed("first")).await;
    elsewhere.asked(1).await;
    let (dan, session) = (UserId(Uuid::from_u128(98)), SessionId(Uuid::from_u128(1)));
    scene.node.register(socket(6), dan, session, 0).await;
    let attachment = Attachment { workspaces: vec![TEAM], ..Attachment::default() };
    scene.node.live.attach(socket(6), attachment).await;
    let second = (Subject::Workspace(TEAM), State::Workspace(named("second")));
    elsewhere.book().states = vec![second];
    elsewhere.answer();
    scene.until(5, &["workspace.updated"]).await;
    assert!(scene.node.fanout.types(socket(6)).is_empty());
    scene.node.live.publish(renamed("second")).await;
    elsewhere.asked(2).await;
    elsewhere.answer();
    scene.until(6, &["workspace.updated"]).await;
    assert_eq!(scene.node.fanout.types(socket(5)), ["workspace.updated"], "told before");
}

#[tokio::test(start_paused = true)]
async fn who_connects_while_they_are_found_gone_stays() {
    let elsewhere = Elsewhere::silent();
    let (scene, _) = scene(&elsewhere).await;
    elsewhere.book().states = vec![(Subject::Member(TEAM, EVE), State::Gone)];
    elsewhere.book().out.insert(EVE);
    scene.node.live.publish(workspace_left(EVE)).await;
    elsewhere.asked(1).await;
    scene.node.register(socket(6), EVE, SessionId(Uuid::from_u128(1)), 0).await;
    let attachment = Attachment { workspaces: vec![TEAM], ..Attachment::default() };
    scene.node.live.attach(socket(6), attachment).await;
    elsewhere.book().out.clear();
    elsewhere.answer();
    for number in [3, 4] {
        scene.until(number, &["member.left"]).await;
    }
    scene.node.live.publish(of_team("one")).await;
    elsewhere.asked(2).await;
    elsewhere.answer();
    scene.until(6, &["one"]).await;
}

/// The removal was not heard of, and they would not be let in again by their return.
#[tokio::test(start_paused = true)]
async fn who_is_found_gone_is_put_out_and_can_come_back() {
    let elsewhere = Elsewhere::new();
    let (scene, _) = scene(&elsewhere).await;
    elsewhere.book().out.insert(EVE);
    scene.node.live.publish(of_team("one")).await;
    scene.node.live.publish(of_here("two")).await;
    scene.until(5, &["one"]).await;
    scene.until(1, &["two"]).await;
    scene.until(3, &["member.left", "conversation.left"]).await;
    elsewhere.book().out.clear();
    elsewhere.book().states = vec![member(TEAM, EVE)];
    scene.says(Heard::Event(workspace_joined(EVE).into()));
    scene.until(4, &["member.left", "workspace.updated", "member.joined"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_question_without_an_answer_holds_nothing_up_for_ever() {
    let elsewhere = Elsewhere::silent();
    let (scene, _) = scene(&elsewhere).await;
    scene.node.live.publish(of_team("one")).await;
    elsewhere.asked(1).await;
    scene.node.live.publish(of_team("two")).await;
    elsewhere.asked(2).await;
    for _ in 1..=3 {
        elsewhere.answer();
    }
    scene.until(5, &["one", "two"]).await;
}

#[tokio::test(start_paused = true)]
async fn nobody_is_asked_about_what_concerns_nobody() {
    let elsewhere = Elsewhere::new();
    let (scene, _) = scene(&elsewhere).await;
    let (other_team, elsewhere_at) =
        (WorkspaceId(Uuid::from_u128(60)), ConversationId(Uuid::from_u128(61)));
    let stranger = UserId(Uuid::from_u128(62));
    for event in [
        Event::Workspace { workspace_id: other_team, about: None, frame: told("one") },
        Event::Conversation { conversation_id: elsewhere_at, about: None, frame: told("one") },
        Event::WorkspaceLeft { workspace_id: other_team, user_id: stranger },
        joined(stranger, 2),
    ] {
        scene.node.live.publish(event).await;
    }
    scene.node.live.settle().await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(elsewhere.book().asked, 0);
}

/// The states are asked for first. After `member.left` a client has forgotten the workspace.
#[tokio::test(start_paused = true)]
async fn who_is_removed_between_two_answers_is_not_told_that_they_are_in() {
    let elsewhere = Elsewhere::new();
    let (scene, _) = scene(&elsewhere).await;
    elsewhere.book().states = vec![member(TEAM, EVE)];
    elsewhere.book().out.insert(EVE);
    scene.node.live.publish(workspace_joined(EVE)).await;
    scene.until(5, &["member.joined"]).await;
    scene.node.live.publish(of_team("one")).await;
    scene.until(5, &["member.joined", "one"]).await;
    for number in [3, 4] {
        assert_eq!(scene.node.fanout.types(socket(number)), ["member.left"]);
    }
}

/// Their snapshot is younger than the answer, and may show that they are out again.
#[tokio::test(start_paused = true)]
async fn who_connects_while_they_are_found_in_a_conversation_is_not_let_in() {
    let elsewhere = Elsewhere::silent();
    let (scene, _) = scene(&elsewhere).await;
    scene.node.live.publish(joined(EVE, 2)).await;
    elsewhere.asked(1).await;
    for (number, attached) in [(6, true), (7, false)] {
        let session = SessionId(Uuid::from_u128(number.into()));
        scene.node.register(socket(number), EVE, session, 0).await;
        if attached {
            scene.node.live.attach(socket(number), Attachment::default()).await;
        }
    }
    elsewhere.answer();
    scene.until(4, &["joined"]).await;
    scene.node.live.attach(socket(7), Attachment::default()).await;
    scene.node.live.settle().await;
    for number in [6, 7] {
        assert!(scene.node.fanout.types(socket(number)).is_empty());
    }
}

/// The one who made the change in between has seen it in its answer.
#[tokio::test(start_paused = true)]
async fn a_name_that_is_back_is_told_again() {
    let elsewhere = Elsewhere::new();
    let (scene, _) = scene(&elsewhere).await;
    elsewhere.book().states = vec![(Subject::Workspace(TEAM), State::Workspace(named("first")))];
    scene.node.live.publish(renamed("first")).await;
    scene.until(5, &["workspace.updated"]).await;
    scene.says(Heard::Event(renamed("second").into()));
    scene.until(5, &["workspace.updated", "workspace.updated"]).await;
    scene.says(Heard::Event(renamed("first").into()));
    scene.node.live.publish(of_team("one")).await;
    scene.until(5, &["workspace.updated", "workspace.updated", "one"]).await;
}
