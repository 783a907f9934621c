//! The opening of a connection.

use std::{
    cell::RefCell,
    sync::{Arc, atomic::AtomicI64},
    time::Duration,
};

use async_trait::async_trait;
use parlance_application::{
    App, Caller, Error, Opened, Unauthenticated,
    live::{Event, Frame, Live, Resume},
    ports::{
        Close,
        store::{ReplayPage, Snapshot, SnapshotEntry},
    },
};
use parlance_domain::{AccessRev, ConversationId, Rev, SessionId, SessionRev};
use parlance_testkit::{
    MemoryStore, Stage, TestNode, Weather, caller, channel, message,
    mocks::{MockMessages, MockStore},
    socket, summary,
};
use tokio::time::Instant;

struct Scene {
    node: TestNode,
    ada: Caller,
    here: ConversationId,
}

impl Scene {
    fn new() -> Self {
        let node = TestNode::start(MockMessages::new());
        let (ada, here) = (caller(&node.ambient, "ada"), ConversationId(node.ambient.next_uuid()));
        Self { node, ada, here }
    }

    /// A store whose one conversation is at rev 400.
    fn store(&self) -> MockStore {
        let mut store = MockStore::new();
        store.expect_weigh().returning(|cursors, _| Ok(vec![1_000; cursors.len()]));
        self.store_over(store)
    }

    fn store_over(&self, mut store: MockStore) -> MockStore {
        let (account, here) = (self.ada.account.clone(), self.here);
        store.expect_session_owner().returning(move |_, _| Ok(Some(account.clone())));
        store.expect_snapshot().returning(move |_| {
            let entry =
                SnapshotEntry { summary: summary(channel(here, 400)), access_rev: AccessRev(1) };
            let epoch = "one".to_owned();
            Ok(Snapshot { epoch, workspaces: vec![], conversations: vec![entry] })
        });
        store
    }

    async fn open(&self, app: &App, number: u32, cursor: u64) -> Result<Opened, Error> {
        let resume = Resume { epoch: "one".into(), cursors: [(self.here, Rev(cursor))].into() };
        let heard_at = Arc::new(AtomicI64::new(0));
        app.hello.open(&self.ada.claims(), socket(number), heard_at, Some(&resume)).await
    }

    /// The conversation's next change.
    async fn changed(&self, app: &App) {
        let event = Event::Changed {
            conversation_id: self.here,
            rev: Rev(401),
            access_rev: AccessRev(1),
            session_rev: SessionRev::ZERO,
            author_id: None,
            frame: Frame::encode(&serde_json::json!({ "type": "changed" })),
        };
        app.live.publish(event).await;
        app.live.settle().await;
    }
}

fn two_pages(scene: &Scene, store: &mut MockStore) {
    let (here, ada, ambient) = (scene.here, scene.ada.id(), scene.node.ambient.clone());
    store.expect_replay().returning(move |_, _, query| {
        let from_rev = query.from_rev;
        let to_rev = Rev(from_rev.0 + 200).min(Rev(400));
        let id = parlance_domain::MessageId(ambient.next_uuid());
        Ok(ReplayPage {
            from_rev,
            to_rev,
            complete: to_rev == Rev(400),
            reset: false,
            messages: vec![message(id, here, ada, to_rev.0, "hello")],
            conversation: channel(here, 400),
            access_rev: AccessRev(1),
            session_rev: SessionRev::ZERO,
        })
    });
}

#[tokio::test]
async fn what_was_missed_comes_page_by_page_and_then_live() {
    let scene = Scene::new();
    let mut store = scene.store();
    two_pages(&scene, &mut store);
    let app = scene.node.app(store);
    let opened = scene.open(&app, 1, 0).await.expect("opens");
    app.hello.attach(socket(1), &opened).await;
    let told_before = RefCell::new(Vec::new());
    let drained = || async {
        told_before.borrow_mut().push(scene.node.fanout.frames(socket(1)).len());
    };
    app.hello.catch_up(&scene.ada, socket(1), opened.catch_up, drained).await;
    assert_eq!(told_before.into_inner(), [0, 1], "one page each time that the socket has drained");

    scene.changed(&app).await;
    assert_eq!(scene.node.fanout.types(socket(1)), ["replay", "replay", "changed"]);
}

/// All commands but sends wait for the replay.
#[tokio::test(start_paused = true)]
async fn who_has_missed_what_cannot_be_read_hears_what_comes() {
    let scene = Scene::new();
    let mut store = scene.store();
    store.expect_replay().returning(|_, _, _| Err(Error::internal("a row that is none")));
    let app = scene.node.app(store);
    let opened = scene.open(&app, 1, 0).await.expect("opens");
    app.hello.attach(socket(1), &opened).await;
    app.hello.catch_up(&scene.ada, socket(1), opened.catch_up, || std::future::ready(())).await;
    scene.changed(&app).await;
    assert_eq!(scene.node.fanout.types(socket(1)), ["changed"]);
}

#[tokio::test]
async fn who_is_removed_in_the_middle_of_a_replay_is_told_no_more_of_it() {
    let scene = Scene::new();
    let mut store = scene.store();
    two_pages(&scene, &mut store);
    let app = scene.node.app(store);
    let opened = scene.open(&app, 1, 0).await.expect("opens");
    app.hello.attach(socket(1), &opened).await;
    let (conversation_id, user_id) = (scene.here, scene.ada.id());
    let left = || Event::Left {
        conversation_id,
        user_id,
        access_rev: AccessRev(2),
        frame: Frame::left(conversation_id),
    };
    let times = RefCell::new(0);
    let drained = || async {
        *times.borrow_mut() += 1;
        if *times.borrow() == 2 {
            app.live.publish(left()).await;
        }
    };
    app.hello.catch_up(&scene.ada, socket(1), opened.catch_up, drained).await;
    assert_eq!(scene.node.fanout.types(socket(1)), ["replay", "conversation.left"]);
}

#[tokio::test]
async fn who_is_found_removed_when_a_replay_is_read_is_told_so() {
    let scene = Scene::new();
    let mut store = scene.store();
    store.expect_replay().once().returning(|_, _, _| Err(Error::NotFound("conversation")));
    let app = scene.node.app(store);
    let opened = scene.open(&app, 1, 0).await.expect("opens");
    app.hello.attach(socket(1), &opened).await;
    app.hello.catch_up(&scene.ada, socket(1), opened.catch_up, || std::future::ready(())).await;
    app.live.settle().await;
    assert_eq!(scene.node.fanout.types(socket(1)), ["conversation.left"]);
}

#[tokio::test]
async fn a_session_that_ended_meanwhile_is_refused_and_forgotten() {
    let scene = Scene::new();
    let mut store = MockStore::new();
    store.expect_session_owner().returning(|_, _| Ok(None));
    let app = scene.node.app(store);
    let refused = scene.open(&app, 1, 0).await;
    assert!(matches!(refused, Err(Error::Unauthenticated(Unauthenticated::Revoked))));
    app.live.drain().await;
    assert_eq!(scene.node.fanout.closed(socket(1)), None, "it is not among the connections");
}

#[tokio::test(start_paused = true)]
async fn a_herd_is_let_in_by_and_by() {
    let scene = Scene::new();
    let mut ports = scene.node.ports(scene.store());
    ports.rate_limits = true;
    let app = App::new(ports);
    let began = Instant::now();
    let all = (0..2_000).map(|n| scene.open(&app, n, 400));
    let outcomes = futures::future::join_all(all).await;
    let took = began.elapsed();
    assert!(took > Duration::from_millis(1_900) && took < Duration::from_millis(2_100), "{took:?}");
    let (opened, refused): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(Result::is_ok);
    assert!((1_500..=1_501).contains(&opened.len()), "{} were let in", opened.len());
    let later = refused.iter().all(|outcome| {
        matches!(outcome, Err(Error::Unavailable { retry_after, .. })
            if *retry_after > Duration::from_secs(2) && *retry_after < Duration::from_secs(5))
    });
    assert!(later);
    assert_eq!(scene.node.fanout.closed(socket(0)), None::<Close>);
}

/// A store in which a session ends between two questions about it.
struct Ending {
    live: Live,
    session: SessionId,
}

#[async_trait]
impl Weather for Ending {
    async fn after(&self, method: &'static str) -> Result<(), Error> {
        if method == "session_owner" {
            let (session_id, frame) = (self.session, Frame::session_revoked(self.session));
            let end = Event::SessionRevoked { session_id, session_rev: SessionRev(1), frame };
            self.live.publish(end).await;
            self.live.settle().await;
        }
        Ok(())
    }
}

/// The connection is known before its session is looked at, so that whoever ends it finds it.
#[tokio::test]
async fn a_session_that_ends_just_after_it_was_looked_at_takes_its_connection_along() {
    let (scene, store) = (Scene::new(), MemoryStore::new());
    let stage = Stage::new(store.clone());
    let (account, session) = stage.sign_up("ada").await;
    let caller = Caller { account, session_id: session.id, expires_at: session.expires_at };
    let ending = Ending { live: scene.node.live.clone(), session: session.id };
    let mut ports = scene.node.ports(store.behind(Arc::new(ending)));
    ports.ambient = Arc::new(stage.ambient.clone());
    let app = App::new(ports);
    let heard_at = Arc::new(AtomicI64::new(0));
    let opened = app.hello.open(&caller.claims(), socket(1), heard_at, None).await;
    assert!(opened.is_ok(), "{opened:?}");
    assert_eq!(scene.node.fanout.closed(socket(1)), Some(Close::SessionRevoked));
    assert_eq!(scene.node.fanout.types(socket(1)), Vec::<String>::new(), "before the reply");
}

/// As far behind it would come back, and be refused again.
#[tokio::test]
async fn whose_absence_cannot_be_weighed_is_let_in_and_told_of_what() {
    for why in [Error::unavailable("too long"), Error::internal("a message cannot be read")] {
        let (scene, mut store) = (Scene::new(), MockStore::new());
        store.expect_weigh().once().returning(move |_, _| Err(why.clone()));
        let store = scene.store_over(store);
        let app = scene.node.app(store);
        let opened = scene.open(&app, 1, 7).await.expect("is let in");
        assert_eq!(opened.catch_up.behind(), [scene.here]);
        assert_eq!(opened.catch_up.pending().count(), 0);
    }
}

/// A store that says nothing of what somebody is in.
struct Silent;

#[async_trait]
impl Weather for Silent {
    async fn after(&self, method: &'static str) -> Result<(), Error> {
        if method == "snapshot" {
            std::future::pending::<()>().await;
        }
        Ok(())
    }
}

/// What is committed meanwhile is remembered for a minute.
#[tokio::test(start_paused = true)]
async fn an_opening_that_takes_too_long_is_refused_and_forgotten() {
    let (scene, store) = (Scene::new(), MemoryStore::new());
    let stage = Stage::new(store.clone());
    let (account, session) = stage.sign_up("ada").await;
    let caller = Caller { account, session_id: session.id, expires_at: session.expires_at };
    let mut ports = scene.node.ports(store.behind(Arc::new(Silent)));
    ports.ambient = Arc::new(stage.ambient.clone());
    let app = App::new(ports);
    let (began, heard_at) = (Instant::now(), Arc::new(AtomicI64::new(0)));
    let opened = app.hello.open(&caller.claims(), socket(1), heard_at, None).await;
    assert!(matches!(opened, Err(Error::Unavailable { .. })), "{opened:?}");
    assert_eq!(began.elapsed(), Duration::from_secs(30));
    let frame = Frame::session_revoked(session.id);
    let (session_id, session_rev) = (session.id, SessionRev(1));
    app.live.publish(Event::SessionRevoked { session_id, session_rev, frame }).await;
    app.live.settle().await;
    assert_eq!(scene.node.fanout.closed(socket(1)), None::<Close>, "it is known no more");
}
