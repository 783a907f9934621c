//! A node with fakes around it: the actor and the use cases are the real ones, nothing leaves the process.

use std::sync::{Arc, atomic::AtomicI64};

use parlance_application::{
    App, Ports, Tasks,
    live::{Attachment, Lanes, Live, LivePorts, Peers},
    ports::{
        Bus, ConnectionId,
        store::{Head, Messages, Store},
    },
};
use parlance_domain::{AccessRev, ConversationId, NodeId, Rev, SessionId, UserId};
use uuid::Uuid;

use crate::{PlainHasher, PlainTokens, RecordingFanout, SilentBus, TestAmbient};

/// A node with fakes around it. Ends with the test's runtime.
pub struct TestNode {
    /// Clock, ids, randomness.
    pub ambient: TestAmbient,
    /// What goes to sockets.
    pub fanout: RecordingFanout,
    /// The live side.
    pub live: Live,
    /// The node's task set.
    pub tasks: Arc<Tasks>,
    _services: Tasks,
}

impl TestNode {
    /// A node that fills gaps from `store`, with no connection limit. Needs a runtime.
    pub fn start(store: impl Messages + 'static) -> Self {
        Self::limited(store, None)
    }

    /// The same with a connection limit per user.
    pub fn limited(store: impl Messages + 'static, connections_per_user: Option<usize>) -> Self {
        Self::build(store, Arc::new(SilentBus), None, connections_per_user)
    }

    /// One of several nodes, which share `peers` and `bus`.
    pub fn among(store: impl Messages + 'static, bus: Arc<dyn Bus>, peers: Peers) -> Self {
        Self::build(store, bus, Some(peers), None)
    }

    fn build(
        store: impl Messages + 'static,
        bus: Arc<dyn Bus>,
        peers: Option<Peers>,
        connections_per_user: Option<usize>,
    ) -> Self {
        let (fanout, tasks, services) =
            (RecordingFanout::default(), Arc::new(Tasks::default()), Tasks::default());
        let ports = LivePorts {
            node: NodeId(Uuid::from_u128(1)),
            bus,
            fanout: Arc::new(fanout.clone()),
            store: Arc::new(store),
            peers,
            connections_per_user,
        };
        let live = Live::start(ports, &services, &tasks);
        Self { ambient: TestAmbient::seeded(7), fanout, live, tasks, _services: services }
    }

    /// The use cases on `store`, with [`PlainHasher`] and [`PlainTokens`].
    pub fn app(&self, store: impl Store + 'static) -> App {
        App::new(self.ports(store))
    }

    /// The ports of [`TestNode::app`], for a test that replaces one, such as the hasher.
    pub fn ports(&self, store: impl Store + 'static) -> Ports {
        Ports {
            store: Arc::new(store),
            ambient: Arc::new(self.ambient.clone()),
            hasher: Arc::new(PlainHasher),
            tokens: Arc::new(PlainTokens),
            live: self.live.clone(),
            tasks: self.tasks.clone(),
            rate_limits: false,
            lanes: Lanes::Apart,
        }
    }

    /// Announces a connection that was last heard at `heard_at`.
    pub async fn register(
        &self,
        connection: ConnectionId,
        user: UserId,
        session: SessionId,
        heard_at: i64,
    ) {
        self.live.register(connection, user, session, Arc::new(AtomicI64::new(heard_at))).await;
    }

    /// Registers a connection and attaches it to conversations, each up to a rev.
    pub async fn connect(
        &self,
        connection: ConnectionId,
        user: UserId,
        conversations: &[(ConversationId, u64)],
    ) {
        self.register(connection, user, SessionId(self.ambient.next_uuid()), 0).await;
        let conversations = conversations.iter().map(|(id, rev)| head(*id, *rev)).collect();
        let attachment = Attachment { conversations, ..Attachment::default() };
        self.live.attach(connection, attachment).await;
        self.live.settle().await;
    }
}

/// A conversation's head, with the first `access_rev`.
pub fn head(conversation_id: ConversationId, rev: u64) -> Head {
    Head { conversation_id, rev: Rev(rev), access_rev: AccessRev(1) }
}
