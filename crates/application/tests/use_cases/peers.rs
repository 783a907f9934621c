//! A node that shares its store: how it handles a bus that loses events, and what it finds in the store.

use std::{sync::Arc, time::Duration};

use parlance_application::{
    Error,
    live::{Attachment, Event, Frame},
    ports::{
        Close, Heard, Topic,
        store::{Head, Look, Readers},
    },
};
use parlance_domain::{
    AccessRev, ConversationId, Rev, Seq, SessionId, SessionRev, Timestamp, UserId, WorkspaceId,
};
use parlance_testkit::{
    channel, head,
    mocks::{MockConversations, MockMessages},
    socket,
};
use serde_json::json;
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::{
    gate::member,
    scene::{HERE, changed, changed_when, changes, nothing_new, quiet_scene, replays, scene},
};

#[tokio::test(start_paused = true)]
async fn who_was_removed_elsewhere_hears_nothing_that_came_after() {
    let mut changes = changes();
    changes.expect_readers().once().returning(|_, asked| {
        assert_eq!(asked.len(), 2);
        Ok(Some(Readers {
            access_rev: AccessRev(2),
            users: asked.into_iter().min().into_iter().collect(),
        }))
    });
    let scene = scene(changes, replays(5, 2)).await;
    assert!(scene.ada < scene.bob);
    scene.says(changed(5, 2));
    scene.until(1, &["replay"]).await;
    scene.until(2, &["conversation.left"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_check_that_fails_is_made_again_before_anything_is_told() {
    let mut changes = changes();
    changes.expect_readers().once().returning(|_, _| Err(Error::unavailable("away")));
    changes
        .expect_readers()
        .once()
        .returning(|_, users| Ok(Some(Readers { access_rev: AccessRev(2), users })));
    let scene = scene(changes, replays(5, 2)).await;
    scene.says(changed(5, 2));
    scene.until(1, &["replay"]).await;
    scene.until(2, &["replay"]).await;
}

#[tokio::test(start_paused = true)]
async fn what_a_check_finds_deleted_is_told_as_deleted_and_once() {
    let mut changes = changes();
    changes.expect_readers().once().returning(|_, _| Ok(None));
    let scene = scene(changes, replays(5, 2)).await;
    scene.says(changed(5, 2));
    for number in [1, 2] {
        scene.until(number, &["conversation.deleted"]).await;
    }
    let (conversation_id, frame) = (HERE, Frame::deleted(HERE));
    scene.says(Heard::Event(Arc::new(Event::Deleted { conversation_id, frame })));
    scene.says(changed(5, 2));
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(scene.node.fanout.types(socket(1)), ["conversation.deleted"]);
}

#[tokio::test(start_paused = true)]
async fn what_the_bus_lost_is_found_by_a_look() {
    let mut changes = changes();
    let mut looks = 0;
    changes.expect_changes().returning(move |since| {
        looks += 1;
        assert_eq!(since.is_none(), looks == 1);
        let heads = if looks == 2 { vec![head(HERE, 6)] } else { vec![] };
        Ok(Look { heads, ..nothing_new() })
    });
    let scene = quiet_scene(changes, MockConversations::new(), replays(6, 1)).await;
    scene.until(1, &["replay"]).await;
    scene.says(changed(6, 1));
    scene.says(changed(7, 1));
    scene.until(2, &["replay", "changed"]).await;
}

#[tokio::test(start_paused = true)]
async fn what_came_before_a_topic_was_heard_is_looked_up() {
    let mut changes = changes();
    changes.expect_heads().once().returning(|asked| {
        assert_eq!(asked, [HERE]);
        Ok(vec![head(HERE, 5)])
    });
    let mut scene = scene(changes, replays(5, 1)).await;
    let mut wanted = vec![];
    while let Ok((on, topics)) = scene.topics.try_recv() {
        assert!(on);
        wanted.extend(topics);
    }
    // Topics wanted before the bus was there are asked for again.
    wanted.dedup();
    let here = Topic::Conversation(HERE);
    assert_eq!(wanted, [Topic::User(scene.ada), here, Topic::User(scene.bob)]);
    scene.says(Heard::Listening(wanted));
    scene.until(1, &["replay"]).await;

    scene.node.live.unregister(socket(1)).await;
    scene.node.live.unregister(socket(2)).await;
    let mut unwanted = vec![];
    while unwanted.len() < 3 {
        let (on, topics) = scene.topics.recv().await.expect("the node lives");
        assert!(!on);
        unwanted.extend(topics);
    }
    assert_eq!(unwanted, [Topic::User(scene.ada), Topic::User(scene.bob), here]);
}

#[tokio::test(start_paused = true)]
async fn after_a_loss_every_room_is_looked_up() {
    let mut changes = changes();
    changes.expect_heads().once().returning(|_| Ok(vec![head(HERE, 5)]));
    let scene = scene(changes, replays(5, 1)).await;
    scene.says(Heard::Lost);
    scene.until(2, &["replay"]).await;
}

/// And the news of the loss, which waited behind them, is not passed over.
#[tokio::test(start_paused = true)]
async fn changes_that_the_bus_brings_at_once_leave_at_once() {
    let mut changes = changes();
    changes.expect_heads().once().returning(|_| Ok(vec![head(HERE, 8)]));
    let scene = scene(changes, replays(8, 1)).await;
    let frame = Frame::encode(&json!({ "type": "typing.started" }));
    let typing = Event::Typing { conversation_id: HERE, user_id: scene.bob, frame };
    scene.says(changed(5, 1));
    scene.says(changed(6, 1));
    scene.says(Heard::Event(typing.into()));
    scene.says(changed(7, 1));
    scene.says(Heard::Lost);
    scene.until(1, &["changed", "changed", "typing.started", "changed", "replay"]).await;
    assert_eq!(scene.node.fanout.together(socket(1)), [2, 1, 1, 1]);
}

/// All of it waits when the node takes it.
#[tokio::test(start_paused = true)]
async fn whom_the_bus_puts_out_hears_nothing_that_came_behind() {
    let scene = scene(changes(), MockMessages::new()).await;
    let (conversation_id, user_id, frame) = (HERE, scene.ada, Frame::left(HERE));
    let left = Event::Left { conversation_id, user_id, access_rev: AccessRev(2), frame };
    scene.says(changed(5, 1));
    scene.says(Heard::Event(left.into()));
    scene.says(changed(6, 2));
    scene.until(2, &["changed", "changed"]).await;
    assert_eq!(scene.node.fanout.types(socket(1)), ["changed", "conversation.left"]);
}

#[tokio::test(start_paused = true)]
async fn what_other_nodes_publish_meanwhile_waits_in_the_bus() {
    let scene = scene(changes(), MockMessages::new()).await;
    scene.node.fanout.hold(true);
    scene.says(changed(5, 1));
    while scene.waiting() > 0 {
        tokio::task::yield_now().await;
    }
    for rev in 6..=205 {
        scene.says(changed(rev, 1));
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(scene.waiting(), 200, "one that is told, and none on its way");
    scene.node.fanout.hold(false);
    scene.until(1, &["changed"; 201]).await;
    assert_eq!(scene.node.fanout.together(socket(1)), [1, 200]);
}

#[tokio::test(start_paused = true)]
async fn sessions_and_workspace_members_are_looked_at_too() {
    let (mut changes, mut looks) = (changes(), 0);
    let (session, workspace) = (SessionId(Uuid::from_u128(5)), WorkspaceId(Uuid::from_u128(6)));
    changes.expect_changes().returning(move |_| {
        looks += 1;
        if looks == 1 {
            return Ok(nothing_new());
        }
        Ok(Look { session_rev: SessionRev(1), workspaces: vec![workspace], ..nothing_new() })
    });
    changes
        .expect_ended_sessions()
        .returning(move |of| Ok(of.into_iter().filter(|asked| *asked == session).collect()));
    changes.expect_workspace_members().returning(|_, users| Ok(users));
    let scene = quiet_scene(changes, MockConversations::new(), MockMessages::new()).await;
    let eve = UserId(scene.node.ambient.next_uuid());
    scene.node.register(socket(3), eve, session, 0).await;
    let attachment = Attachment { workspaces: vec![workspace], ..Attachment::default() };
    scene.node.live.attach(socket(3), attachment).await;
    while scene.node.fanout.closed(socket(3)).is_none() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(scene.node.fanout.closed(socket(3)), Some(Close::SessionRevoked));
}

#[tokio::test(start_paused = true)]
async fn a_node_that_reaches_neither_store_nor_bus_closes_its_sockets() {
    let mut changes = changes();
    changes.expect_changes().returning(|_| Err(Error::unavailable("away")));
    changes.expect_heads().returning(|_| Err(Error::unavailable("away")));
    let scene = quiet_scene(changes, MockConversations::new(), MockMessages::new()).await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(scene.node.fanout.closed(socket(1)), None, "the bus is there");
    scene.says(Heard::Lost);
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(scene.node.fanout.closed(socket(1)), Some(Close::Overloaded));
}

#[tokio::test(start_paused = true)]
async fn who_came_in_unheard_is_let_in() {
    let (mut changes, mut conversations) = (changes(), MockConversations::new());
    let there = ConversationId(Uuid::from_u128(78));
    let ada = Arc::new(std::sync::OnceLock::<UserId>::new());
    let who = ada.clone();
    changes.expect_changes().returning(move |_| {
        let admitted = who.get().map(|ada| (there, *ada)).into_iter().collect();
        Ok(Look { admitted, ..nothing_new() })
    });
    changes.expect_heads().returning(move |_| {
        Ok(vec![Head { conversation_id: there, rev: Rev(3), access_rev: AccessRev(2) }])
    });
    let team = channel(there, 3).workspace_id;
    let who = ada.clone();
    changes
        .expect_states()
        .returning(move |_| Ok(who.get().map(|ada| member(team, *ada)).into_iter().collect()));
    changes.expect_workspace_members().returning(|_, users| Ok(users));
    changes
        .expect_readers()
        .returning(|_, users| Ok(Some(Readers { access_rev: AccessRev(2), users })));
    conversations.expect_summary().returning(|_, id| Ok(parlance_testkit::summary(channel(id, 3))));
    let scene = quiet_scene(changes, conversations, MockMessages::new()).await;
    ada.set(scene.ada).expect("set once");
    // Who is in a channel is in its workspace.
    let mut heard = vec!["workspace.updated", "member.joined", "conversation.joined"];
    scene.until(1, &heard).await;
    let frame = Frame::encode(&json!({ "type": "changed", "rev": 4 }));
    let event = Event::Changed {
        conversation_id: there,
        rev: Rev(4),
        access_rev: AccessRev(2),
        session_rev: SessionRev::ZERO,
        author_id: None,
        frame,
    };
    scene.says(Heard::Event(Arc::new(event)));
    heard.push("changed");
    scene.until(1, &heard).await;
    let frame = Frame::encode(&json!({ "type": "workspace" }));
    let of_team = Event::Workspace { workspace_id: team, about: None, frame };
    scene.says(Heard::Event(Arc::new(of_team)));
    heard.push("workspace");
    scene.until(1, &heard).await;
    assert!(scene.node.fanout.types(socket(2)).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_connection_reads_its_snapshot_when_the_bus_brings_what_concerns_it() {
    let scene = scene(changes(), MockMessages::new()).await;
    let eve = UserId(scene.node.ambient.next_uuid());
    let session = SessionId(scene.node.ambient.next_uuid());
    let mut registered = Box::pin(scene.node.register(socket(3), eve, session, 0));
    // The node asks for it …
    assert!(futures::poll!(&mut registered).is_pending());
    scene.node.live.settle().await;
    assert!(futures::poll!(&mut registered).is_pending());
    // … and goes on when it has it, before anything else could let it go on.
    let asked = tokio::time::Instant::now();
    scene.says(Heard::Listening(vec![Topic::User(eve)]));
    registered.await;
    assert_eq!(asked.elapsed(), Duration::ZERO);

    let session = SessionId(scene.node.ambient.next_uuid());
    let asked = tokio::time::Instant::now();
    scene.node.register(socket(4), eve, session, 0).await;
    assert_eq!(asked.elapsed(), Duration::ZERO, "it has it already");
}

#[tokio::test(start_paused = true)]
async fn a_bus_that_does_not_answer_keeps_nobody_out() {
    let scene = scene(changes(), MockMessages::new()).await;
    let (eve, asked) = (UserId(scene.node.ambient.next_uuid()), tokio::time::Instant::now());
    scene.node.register(socket(3), eve, SessionId(scene.node.ambient.next_uuid()), 0).await;
    assert!(asked.elapsed() <= Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn what_was_committed_after_a_session_ended_reaches_none_of_its_connections() {
    let session = SessionId(Uuid::from_u128(5));
    let mut changes = changes();
    changes
        .expect_ended_sessions()
        .once()
        .returning(move |of| Ok(of.into_iter().filter(|asked| *asked == session).collect()));
    let scene = scene(changes, replays(6, 1)).await;
    let eve = UserId(scene.node.ambient.next_uuid());
    scene.node.register(socket(3), eve, session, 0).await;
    let conversations = vec![head(HERE, 4)];
    let attachment = Attachment { conversations, ..Attachment::default() };
    scene.node.live.attach(socket(3), attachment).await;
    scene.says(changed_when(5, 1, 0));
    // The end itself was lost.
    scene.says(changed_when(6, 1, 1));
    scene.until(3, &["changed", "session.revoked"]).await;
    scene.until(1, &["changed", "replay"]).await;
    assert_eq!(scene.node.fanout.closed(socket(3)), Some(Close::SessionRevoked));
    // It is known now.
    scene.says(changed_when(7, 1, 1));
    scene.until(1, &["changed", "replay", "changed"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_session_whose_end_was_heard_needs_no_question() {
    let mut changes = changes();
    changes.expect_ended_sessions().never();
    let scene = scene(changes, MockMessages::new()).await;
    let session_id = SessionId(Uuid::from_u128(5));
    let frame = Frame::session_revoked(session_id);
    scene.says(Heard::Event(Arc::new(Event::SessionRevoked {
        session_id,
        session_rev: SessionRev(1),
        frame,
    })));
    scene.says(changed_when(5, 1, 1));
    scene.until(1, &["changed"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_departure_that_comes_late_puts_nobody_out_who_is_back() {
    let mut changes = changes();
    changes
        .expect_readers()
        .returning(|_, users| Ok(Some(Readers { access_rev: AccessRev(3), users })));
    let scene = scene(changes, MockMessages::new()).await;
    let (user_id, conversation_id) = (scene.bob, HERE);
    let left = || {
        let frame = Frame::left(HERE);
        let left = Event::Left { conversation_id, user_id, access_rev: AccessRev(2), frame };
        Heard::Event(Arc::new(left))
    };
    scene.says(left());
    let frame = Frame::encode(&json!({ "type": "conversation.joined" }));
    let (rev, access_rev, read_seq) = (Rev(4), AccessRev(3), Seq::ZERO);
    let joined = Event::Joined {
        conversation_id,
        user_id,
        rev,
        access_rev,
        read_seq,
        workspace_id: None,
        frame,
    };
    scene.says(Heard::Event(Arc::new(joined)));
    scene.says(left());
    scene.says(changed(5, 3));
    scene.until(2, &["conversation.left", "conversation.joined", "changed"]).await;
}

/// The count says that one more has ended, and not which.
#[tokio::test(start_paused = true)]
async fn a_later_end_of_a_session_hides_no_earlier_one() {
    let [lost, heard] = [5, 6].map(|n| SessionId(Uuid::from_u128(n)));
    let mut changes = changes();
    changes
        .expect_ended_sessions()
        .once()
        .returning(move |of| Ok(of.into_iter().filter(|asked| *asked == lost).collect()));
    let scene = scene(changes, replays(5, 1)).await;
    let eve = UserId(scene.node.ambient.next_uuid());
    scene.node.register(socket(3), eve, lost, 0).await;
    let conversations = vec![head(HERE, 4)];
    let attachment = Attachment { conversations, ..Attachment::default() };
    scene.node.live.attach(socket(3), attachment).await;
    let frame = Frame::session_revoked(heard);
    let second = Event::SessionRevoked { session_id: heard, session_rev: SessionRev(2), frame };
    scene.says(Heard::Event(Arc::new(second)));
    scene.says(changed_when(5, 1, 2));
    scene.until(3, &["session.revoked"]).await;
    scene.until(1, &["replay"]).await;
    assert_eq!(scene.node.fanout.closed(socket(3)), Some(Close::SessionRevoked));
}

#[tokio::test(start_paused = true)]
async fn what_did_not_fit_a_look_is_asked_for_at_once() {
    let mut changes = changes();
    let (tell, mut looks) = mpsc::unbounded_channel();
    let mut count = 0;
    changes.expect_changes().returning(move |_| {
        count += 1;
        tell.send(tokio::time::Instant::now()).expect("the test listens");
        Ok(Look { more: count < 5, until: Timestamp::from_millis(count), ..nothing_new() })
    });
    let _scene = quiet_scene(changes, MockConversations::new(), MockMessages::new()).await;
    let mut at = vec![];
    while at.len() < 6 {
        at.push(looks.recv().await.expect("the node looks"));
    }
    assert_eq!(at[4] - at[0], Duration::ZERO);
    assert!(at[5] - at[4] >= Duration::from_secs(1), "nothing more is known");
}
