//! A node that shares its store, on a bus that says what the test tells it to.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use parlance_application::{
    Error, Result,
    live::{Event, Frame, Peers},
    ports::{
        Bus, Heard, Subscription, Topic,
        store::{Changes, Look, ReplayPage},
    },
};
use parlance_domain::{AccessRev, ConversationId, NodeId, Rev, SessionRev, Timestamp, UserId};
use parlance_testkit::{
    TestNode,
    mocks::{MockChanges, MockConversations, MockMessages},
    socket,
};
use serde_json::json;
use tokio::sync::{Mutex, mpsc};
use uuid::Uuid;

use crate::live;

/// A bus that says what the test tells it to.
struct Script {
    /// The subscriptions to come.
    says: Mutex<mpsc::UnboundedReceiver<Says>>,
    topics: mpsc::UnboundedSender<(bool, Vec<Topic>)>,
}

#[async_trait]
impl Bus for Script {
    fn is_remote(&self) -> bool {
        true
    }

    async fn publish(&self, _from: NodeId, _events: Vec<Arc<Event>>) -> Result<()> {
        Ok(())
    }

    async fn subscribe(&self, _node: NodeId) -> Result<Box<dyn Subscription>> {
        let says = self.says.lock().await.try_recv();
        says.map(|says| Box::new(says) as _).map_err(|_| Error::unavailable("gone"))
    }

    fn listen(&self, _node: NodeId, topics: Vec<Topic>) {
        let _ = self.topics.send((true, topics));
    }

    fn ignore(&self, _node: NodeId, topics: Vec<Topic>) {
        let _ = self.topics.send((false, topics));
    }
}

struct Says(mpsc::UnboundedReceiver<Heard>, Arc<AtomicUsize>);

#[async_trait]
impl Subscription for Says {
    async fn next(&mut self) -> Option<Heard> {
        let heard = self.0.recv().await;
        self.1.fetch_sub(1, Ordering::Relaxed);
        heard
    }
}

pub(super) struct Scene {
    pub(super) node: TestNode,
    bus: mpsc::UnboundedSender<Heard>,
    waiting: Arc<AtomicUsize>,
    subscriptions: mpsc::UnboundedSender<Says>,
    pub(super) topics: mpsc::UnboundedReceiver<(bool, Vec<Topic>)>,
    pub(super) ada: UserId,
    pub(super) bob: UserId,
}

pub(super) const HERE: ConversationId = ConversationId(Uuid::from_u128(77));

pub(super) fn nothing_new() -> Look {
    Look::empty(SessionRev::ZERO, Timestamp::from_millis(0))
}

/// No session has ended.
pub(super) fn changes() -> MockChanges {
    let mut changes = MockChanges::new();
    changes.expect_session_rev().returning(|| Ok(SessionRev::ZERO));
    changes
}

/// Bob and Ada are connected, at the fourth rev and the first state of access of a conversation.
pub(super) async fn scene(mut changes: MockChanges, store: MockMessages) -> Scene {
    changes.expect_changes().returning(|_| Ok(nothing_new()));
    quiet_scene(changes, MockConversations::new(), store).await
}

pub(super) async fn quiet_scene(
    changes: impl Changes + 'static,
    conversations: MockConversations,
    store: MockMessages,
) -> Scene {
    let ((bus, says), (tell, topics)) = (mpsc::unbounded_channel(), mpsc::unbounded_channel());
    let (subscriptions, to_come) = mpsc::unbounded_channel();
    let waiting = Arc::<AtomicUsize>::default();
    subscriptions.send(Says(says, waiting.clone())).expect("it is there");
    let script = Script { says: Mutex::new(to_come), topics: tell };
    let peers = Peers { changes: Arc::new(changes), conversations: Arc::new(conversations) };
    let node = TestNode::among(store, Arc::new(script), peers);
    let (ada, bob) = (UserId(node.ambient.next_uuid()), UserId(node.ambient.next_uuid()));
    node.connect(socket(1), ada, &[(HERE, 4)]).await;
    node.connect(socket(2), bob, &[(HERE, 4)]).await;
    Scene { node, bus, waiting, subscriptions, topics, ada, bob }
}

pub(super) fn changed(rev: u64, access_rev: u64) -> Heard {
    changed_when(rev, access_rev, 0)
}

/// A change that was committed when `session_rev` sessions had ended.
pub(super) fn changed_when(rev: u64, access_rev: u64, session_rev: u64) -> Heard {
    let frame = Frame::encode(&json!({ "type": "changed", "rev": rev }));
    let event = Event::Changed {
        conversation_id: HERE,
        rev: Rev(rev),
        access_rev: AccessRev(access_rev),
        session_rev: SessionRev(session_rev),
        author_id: None,
        frame,
    };
    Heard::Event(Arc::new(event))
}

pub(super) fn page(from_rev: Rev, to_rev: u64, access_rev: u64) -> ReplayPage {
    ReplayPage { access_rev: AccessRev(access_rev), ..live::page(HERE, from_rev, to_rev) }
}

pub(super) fn replays(to_rev: u64, access_rev: u64) -> MockMessages {
    let mut store = MockMessages::new();
    store.expect_replay().returning(move |_, _, q| Ok(page(q.from_rev, to_rev, access_rev)));
    store
}

impl Scene {
    pub(super) fn says(&self, heard: Heard) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        self.bus.send(heard).expect("the node listens");
    }

    /// How much of it the node has not taken yet.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// The subscription ends, and the next one succeeds.
    pub(super) fn begins_anew(&mut self) {
        let (bus, says) = mpsc::unbounded_channel();
        self.waiting = Arc::default();
        self.subscriptions.send(Says(says, self.waiting.clone())).expect("the bus is there");
        self.bus = bus;
    }

    pub(super) async fn until(&self, number: u32, types: &[&str]) {
        let seen = async {
            while self.node.fanout.types(socket(number)) != types {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let seen = tokio::time::timeout(parlance_testkit::PATIENCE, seen).await;
        assert!(seen.is_ok(), "{:?}, not {types:?}", self.node.fanout.types(socket(number)));
    }
}
