//! One node's live side.

use std::{sync::Arc, time::Duration};

use futures::FutureExt as _;
use parlance_application::{
    Error, Tasks,
    live::{Attachment, Event, Frame, Live, LivePorts},
    ports::{
        Close,
        store::{Reader, ReplayPage},
    },
};
use parlance_domain::{AccessRev, ConversationId, NodeId, Rev, Seq, SessionId, SessionRev, UserId};
use parlance_testkit::{
    PATIENCE, SilentBus, TestNode, channel, head,
    mocks::{MockFanout, MockMessages},
    socket,
};
use serde_json::json;
use tokio::time::timeout;
use uuid::Uuid;

struct Scene {
    node: TestNode,
    ada: UserId,
    bob: UserId,
    here: ConversationId,
}

fn scene(store: MockMessages) -> Scene {
    let node = TestNode::start(store);
    let (ada, bob) = (UserId(node.ambient.next_uuid()), UserId(node.ambient.next_uuid()));
    let here = ConversationId(node.ambient.next_uuid());
    Scene { node, ada, bob, here }
}

impl Scene {
    /// The only page of a replay, to rev 0.
    async fn replayed(&self, number: u32) -> bool {
        let then = Some(head(self.here, 0));
        let page = Frame::encode(&json!({ "type": "replay" }));
        self.node.live.replay(socket(number), self.here, Some(page), then).await
    }

    async fn register(&self, number: u32, user: UserId) {
        self.node.register(socket(number), user, SessionId(self.node.ambient.next_uuid()), 0).await;
    }

    async fn attach(&self, number: u32, conversations: Vec<(ConversationId, u64)>) {
        let conversations = conversations.into_iter().map(|(id, rev)| head(id, rev)).collect();
        self.node
            .live
            .attach(socket(number), Attachment { conversations, ..Attachment::default() })
            .await;
        self.node.live.settle().await;
    }

    async fn changed(&self, rev: u64, author_id: Option<UserId>) {
        let frame = Frame::encode(&json!({ "type": "changed", "rev": rev }));
        self.node
            .live
            .publish(Event::Changed {
                conversation_id: self.here,
                rev: Rev(rev),
                access_rev: AccessRev(1),
                session_rev: SessionRev::ZERO,
                author_id,
                frame,
            })
            .await;
        self.node.live.settle().await;
    }

    async fn joined(&self, user_id: UserId, rev: u64) {
        let frame = Frame::encode(&json!({ "type": "conversation.joined" }));
        self.node
            .live
            .publish(Event::Joined {
                conversation_id: self.here,
                user_id,
                rev: Rev(rev),
                access_rev: AccessRev(1),
                read_seq: Seq::ZERO,
                workspace_id: None,
                frame,
            })
            .await;
        self.node.live.settle().await;
    }

    async fn left(&self, user_id: UserId) {
        let frame = Frame::left(self.here);
        let (conversation_id, access_rev) = (self.here, AccessRev(2));
        self.node.live.publish(Event::Left { conversation_id, user_id, access_rev, frame }).await;
        self.node.live.settle().await;
    }

    fn types(&self, number: u32) -> Vec<String> {
        self.node.fanout.types(socket(number))
    }
}

#[tokio::test]
async fn what_happens_between_registration_and_attachment_is_held() {
    let scene = scene(MockMessages::new());
    scene.register(1, scene.ada).await;
    scene.joined(scene.ada, 3).await;
    assert_eq!(scene.types(1), Vec::<String>::new());
    scene.attach(1, vec![]).await;
    assert_eq!(scene.types(1), ["conversation.joined"]);
}

/// A store that says once what has changed after a rev.
fn store_after(from_rev: u64, to_rev: u64) -> MockMessages {
    let mut store = MockMessages::new();
    store
        .expect_replay()
        .withf(move |reader, _, query| *reader == Reader::Node && query.from_rev == Rev(from_rev))
        .once()
        .returning(move |_, id, query| Ok(page(id, query.from_rev, to_rev)));
    store
}

#[tokio::test]
async fn what_nobody_could_hear_yet_is_read_by_who_attaches_with_an_older_view() {
    let scene = scene(store_after(3, 4));
    scene.register(1, scene.ada).await;
    scene.changed(4, None).await;
    // The snapshot was read before.
    scene.attach(1, vec![(scene.here, 3)]).await;
    scene.node.fanout.heard(socket(1), "replay").await;
    assert_eq!(scene.types(1), ["replay"]);
}

#[tokio::test]
async fn what_nobody_could_hear_yet_is_read_by_who_waited_for_a_replay() {
    let scene = scene(store_after(3, 4));
    scene.register(1, scene.ada).await;
    let attachment = Attachment { pending: vec![head(scene.here, 0)], ..Attachment::default() };
    scene.node.live.attach(socket(1), attachment).await;
    scene.changed(4, None).await;
    let last = Frame::encode(&json!({ "type": "last" }));
    let then = Some(head(scene.here, 3));
    scene.node.live.replay(socket(1), scene.here, Some(last), then).await;
    scene.node.fanout.heard(socket(1), "replay").await;
    assert_eq!(scene.types(1), ["last", "replay"]);
}

#[tokio::test]
async fn what_nobody_could_hear_yet_is_read_by_who_is_let_in_with_an_older_view() {
    let scene = scene(store_after(3, 4));
    scene.register(1, scene.ada).await;
    scene.attach(1, vec![]).await;
    scene.changed(4, None).await;
    scene.joined(scene.ada, 3).await;
    scene.node.fanout.heard(socket(1), "replay").await;
    assert_eq!(scene.types(1), ["conversation.joined", "replay"]);
}

#[tokio::test]
async fn what_only_somebody_heard_who_left_is_read_by_who_attaches_with_an_older_view() {
    let scene = scene(store_after(3, 4));
    scene.register(1, scene.ada).await;
    scene.register(2, scene.bob).await;
    scene.attach(2, vec![(scene.here, 3)]).await;
    scene.changed(4, None).await;
    scene.node.live.unregister(socket(2)).await;
    scene.attach(1, vec![(scene.here, 3)]).await;
    scene.node.fanout.heard(socket(1), "replay").await;
    assert_eq!(scene.types(1), ["replay"]);
}

#[tokio::test]
async fn who_joined_before_attachment_hears_what_follows() {
    let scene = scene(MockMessages::new());
    scene.register(1, scene.ada).await;
    scene.joined(scene.ada, 3).await;
    scene.attach(1, vec![]).await;
    scene.changed(4, None).await;
    assert_eq!(scene.types(1), ["conversation.joined", "changed"]);
}

#[tokio::test]
async fn who_left_before_attachment_is_not_joined() {
    let scene = scene(MockMessages::new());
    scene.register(1, scene.ada).await;
    scene.left(scene.ada).await;
    // The snapshot was read before.
    scene.attach(1, vec![(scene.here, 0)]).await;
    scene.changed(1, None).await;
    assert_eq!(scene.types(1), ["conversation.left"]);
}

#[tokio::test]
async fn who_left_before_a_late_attachment_is_not_joined() {
    let scene = scene(MockMessages::new());
    scene.register(1, scene.ada).await;
    let attachment = Attachment { pending: vec![head(scene.here, 0)], ..Attachment::default() };
    scene.node.live.attach(socket(1), attachment).await;
    scene.left(scene.ada).await;
    assert!(!scene.replayed(1).await, "nobody waits for it");
    scene.changed(1, None).await;
    assert_eq!(scene.types(1), ["conversation.left"]);
}

#[tokio::test]
async fn what_is_deleted_before_a_late_attachment_is_told_and_not_joined() {
    let scene = scene(MockMessages::new());
    scene.register(1, scene.ada).await;
    let attachment = Attachment { pending: vec![head(scene.here, 0)], ..Attachment::default() };
    scene.node.live.attach(socket(1), attachment).await;
    let frame = Frame::deleted(scene.here);
    scene.node.live.publish(Event::Deleted { conversation_id: scene.here, frame }).await;
    assert!(!scene.replayed(1).await, "nobody waits for it");
    scene.changed(1, None).await;
    assert_eq!(scene.types(1), ["conversation.deleted"]);
}

#[tokio::test]
async fn who_left_hears_nothing_more_when_the_publisher_goes_on() {
    let scene = scene(MockMessages::new());
    scene.node.connect(socket(1), scene.ada, &[(scene.here, 0)]).await;
    scene.node.connect(socket(2), scene.bob, &[(scene.here, 0)]).await;
    scene.left(scene.ada).await;
    scene.changed(1, None).await;
    assert_eq!(
        (scene.types(1), scene.types(2)),
        (vec!["conversation.left".to_owned()], vec!["changed".to_owned()])
    );
}

#[tokio::test(start_paused = true)]
async fn typing_ends_by_itself() {
    let scene = scene(MockMessages::new());
    scene.node.connect(socket(1), scene.ada, &[(scene.here, 0)]).await;
    scene.node.connect(socket(2), scene.bob, &[(scene.here, 0)]).await;
    let begin = tokio::time::Instant::now();
    scene.node.live.start_typing(socket(1), scene.here).await;
    scene.node.fanout.heard(socket(2), "typing.started").await;
    assert_eq!(begin.elapsed(), Duration::ZERO);
    scene.node.fanout.heard(socket(2), "typing.stopped").await;
    let lasted = begin.elapsed();
    assert!((6_000..6_010).contains(&lasted.as_millis()), "{lasted:?}");
    assert_eq!(scene.types(1), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn typing_ends_with_the_message_and_with_the_connection() {
    let scene = scene(MockMessages::new());
    for (number, user) in [(1, scene.ada), (2, scene.bob)] {
        scene.node.connect(socket(number), user, &[(scene.here, 0)]).await;
    }
    scene.node.live.start_typing(socket(1), scene.here).await;
    scene.changed(1, Some(scene.ada)).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    scene.node.live.start_typing(socket(1), scene.here).await;
    scene.node.live.unregister(socket(1)).await;
    scene.node.live.settle().await;
    let heard = ["typing.started", "typing.stopped", "changed", "typing.started", "typing.stopped"];
    assert_eq!(scene.types(2), heard);
}

#[tokio::test]
async fn typing_ends_with_the_membership() {
    let scene = scene(MockMessages::new());
    for (number, user) in [(1, scene.ada), (2, scene.bob)] {
        scene.node.connect(socket(number), user, &[(scene.here, 0)]).await;
    }
    scene.node.live.start_typing(socket(1), scene.here).await;
    let frame = Frame::left(scene.here);
    let (conversation_id, user_id) = (scene.here, scene.ada);
    let left = Event::Left { conversation_id, user_id, access_rev: AccessRev(2), frame };
    scene.node.live.publish(left).await;
    scene.node.live.settle().await;
    assert_eq!(scene.types(2), ["typing.started", "typing.stopped"]);
    // Nor does it begin again from outside.
    scene.node.live.start_typing(socket(1), scene.here).await;
    scene.node.live.settle().await;
    assert_eq!(scene.types(2).len(), 2);
}

/// A whole replay without messages.
pub(super) fn page(id: ConversationId, from_rev: Rev, to_rev: u64) -> ReplayPage {
    ReplayPage {
        from_rev,
        to_rev: Rev(to_rev),
        complete: true,
        reset: false,
        messages: vec![],
        conversation: channel(id, to_rev),
        access_rev: AccessRev(1),
        session_rev: SessionRev::ZERO,
    }
}

#[tokio::test]
async fn a_hole_is_bridged_from_the_store() {
    let mut store = MockMessages::new();
    store
        .expect_replay()
        .withf(|reader, _, query| *reader == Reader::Node && query.from_rev == Rev(1))
        .once()
        .returning(|_, id, query| Ok(page(id, query.from_rev, 4)));
    let scene = scene(store);
    scene.node.connect(socket(1), scene.ada, &[(scene.here, 0)]).await;
    scene.changed(1, None).await;
    scene.changed(4, None).await;
    let replay = scene.node.fanout.heard(socket(1), "replay").await;
    assert_eq!((&replay["from_rev"], &replay["to_rev"]), (&json!(1), &json!(4)));
    // Those that were late are not told again, and the next one is.
    for rev in [2, 3, 5] {
        scene.changed(rev, None).await;
    }
    assert_eq!(scene.types(1), ["changed", "replay", "changed"]);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_is_asked_again() {
    let mut store = MockMessages::new();
    let mut asked = 0;
    store.expect_replay().times(3).returning(move |_, id, query| {
        asked += 1;
        if asked < 3 { Err(Error::unavailable("away")) } else { Ok(page(id, query.from_rev, 3)) }
    });
    let scene = scene(store);
    scene.node.connect(socket(1), scene.ada, &[(scene.here, 0)]).await;
    scene.changed(3, None).await;
    scene.node.fanout.heard(socket(1), "replay").await;
    assert_eq!(scene.types(1), ["replay"]);
}

#[tokio::test]
async fn one_connection_too_many_closes_the_longest_silent() {
    let node = TestNode::limited(MockMessages::new(), Some(100));
    let (ada, bob) = (UserId(node.ambient.next_uuid()), UserId(node.ambient.next_uuid()));
    let session = SessionId(node.ambient.next_uuid());
    node.register(socket(500), bob, session, 0).await;
    for number in 1..=100 {
        let heard_at = if number == 57 { 10 } else { 1_000 + i64::from(number) };
        node.register(socket(number), ada, session, heard_at).await;
    }
    node.live.settle().await;
    assert!(node.fanout.records().is_empty());
    node.register(socket(101), ada, session, 5_000).await;
    node.live.settle().await;
    assert_eq!(node.fanout.closed(socket(57)), Some(Close::TooManyConnections));
    assert_eq!(node.fanout.records().len(), 1);
    node.register(socket(102), ada, session, 5_000).await;
    node.live.settle().await;
    assert_eq!(node.fanout.closed(socket(1)), Some(Close::TooManyConnections));
    assert_eq!(node.fanout.records().len(), 2);
}

#[tokio::test]
async fn a_draining_node_tells_and_closes_everybody() {
    let scene = scene(MockMessages::new());
    scene.node.connect(socket(1), scene.ada, &[]).await;
    scene.register(2, scene.bob).await;
    scene.node.live.drain().await;
    assert_eq!(scene.types(1), ["server.draining"]);
    assert!(scene.types(2).is_empty(), "nothing comes before the reply to `hello`");
    for number in [1, 2] {
        assert_eq!(scene.node.fanout.closed(socket(number)), Some(Close::Draining));
    }
}

#[tokio::test]
async fn a_node_that_goes_away_takes_nobody_in() {
    let scene = scene(MockMessages::new());
    scene.node.connect(socket(1), scene.ada, &[]).await;
    scene.node.live.drain().await;
    scene.register(2, scene.bob).await;
    assert!(scene.types(2).is_empty(), "nothing comes before the reply to `hello`");
    for number in [1, 2] {
        assert_eq!(scene.node.fanout.closed(socket(number)), Some(Close::Draining));
    }
}

#[tokio::test]
async fn a_read_mark_never_goes_back() {
    let scene = scene(MockMessages::new());
    for number in [1, 2] {
        scene.node.connect(socket(number), scene.ada, &[(scene.here, 0)]).await;
    }
    for read_seq in [19, 16, 20, 20] {
        let frame = Frame::encode(&json!({ "type": format!("read {read_seq}") }));
        let (user_id, conversation_id) = (scene.ada, scene.here);
        let read_seq = Seq(read_seq);
        let event = Event::Read { user_id, conversation_id, read_seq, frame };
        scene.node.live.publish(event).await;
        // What is known does not go with one of two connections.
        scene.node.live.unregister(socket(2)).await;
    }
    scene.node.live.settle().await;
    assert_eq!(scene.types(1), ["read 19", "read 20"]);
}

/// Its sockets would stay open, and what ends access would be acknowledged and end nothing.
#[tokio::test]
async fn a_node_says_that_its_actor_has_died() {
    let (services, tasks) = (Tasks::default(), Arc::new(Tasks::default()));
    let ports = LivePorts {
        node: NodeId(Uuid::from_u128(1)),
        bus: Arc::new(SilentBus),
        // Panics when it is asked for anything.
        fanout: Arc::new(MockFanout::new()),
        store: Arc::new(MockMessages::new()),
        peers: None,
        connections_per_user: None,
    };
    let live = Live::start(ports, &services, &tasks);
    live.settle().await;
    assert!(live.failed().now_or_never().is_none(), "it lives");
    let (user, session) = (UserId(Uuid::from_u128(2)), SessionId(Uuid::from_u128(3)));
    live.register(socket(1), user, session, Arc::default()).await;
    live.drain().await;
    timeout(PATIENCE, live.failed()).await.expect("says so");
}
