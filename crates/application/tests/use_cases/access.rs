//! An end of access is acknowledged only when this node's sockets know of it.

use std::{future::Future, sync::Arc, time::Duration};

use async_trait::async_trait;
use parlance_application::{
    App, Caller, Error, Ports, Tasks,
    live::{Attachment, Frame, Live, LivePorts},
    ports::{Close, ConnectionId, Fanout, Urgency},
};
use parlance_domain::{ConversationId, NodeId};
use parlance_testkit::{
    TestNode, caller, head,
    mocks::{MockMessages, MockStore},
    socket,
};
use tokio::{sync::Semaphore, time::timeout};

/// Sockets that take nothing until the test lets them.
struct Stuck(Semaphore);

#[async_trait]
impl Fanout for Stuck {
    async fn deliver(&self, _: Arc<[ConnectionId]>, _: Frame, _: Urgency) {
        self.0.acquire().await.expect("never taken down").forget();
    }

    async fn close(&self, _: ConnectionId, _: Close) {}
}

struct Scene {
    app: App,
    sockets: Arc<Stuck>,
    ada: Caller,
    here: ConversationId,
    _services: Tasks,
}

/// Ada is connected, in one conversation, and her socket is stuck.
async fn scene(store: MockStore) -> Scene {
    let node = TestNode::start(MockMessages::new());
    let (sockets, services) = (Arc::new(Stuck(Semaphore::new(0))), Tasks::default());
    let ports = LivePorts {
        node: NodeId(node.ambient.next_uuid()),
        bus: Arc::new(parlance_testkit::SilentBus),
        fanout: sockets.clone(),
        store: Arc::new(MockMessages::new()),
        peers: None,
        connections_per_user: None,
    };
    let live = Live::start(ports, &services, &node.tasks);
    let ada = caller(&node.ambient, "ada");
    let here = ConversationId(node.ambient.next_uuid());
    live.register(socket(1), ada.id(), ada.session_id, Arc::default()).await;
    let attachment = Attachment { conversations: vec![head(here, 0)], ..Attachment::default() };
    live.attach(socket(1), attachment).await;
    live.settle().await;
    let app = App::new(Ports { live, ..node.ports(store) });
    Scene { app, sockets, ada, here, _services: services }
}

/// Holds while the socket is stuck, and ends when it is not.
async fn waits_for(sockets: &Stuck, change: impl Future<Output = Result<(), Error>>) {
    let mut change = Box::pin(change);
    // The clock is paused: this is over as soon as nothing else can move.
    let early = timeout(Duration::from_mins(1), &mut change).await;
    assert!(early.is_err(), "acknowledged before the socket knew");
    sockets.0.add_permits(2);
    change.await.expect("succeeds");
}

#[tokio::test(start_paused = true)]
async fn a_removal_waits_for_the_sockets() {
    let mut store = MockStore::new();
    store.expect_remove_channel_member().once().returning(|_, _, _| Ok(2));
    let scene = scene(store).await;
    let removal = scene.app.channels.remove_member(&scene.ada, scene.here, scene.ada.id());
    waits_for(&scene.sockets, removal).await;
}

#[tokio::test(start_paused = true)]
async fn a_revocation_waits_for_the_sockets() {
    let mut store = MockStore::new();
    store.expect_revoke_session().once().returning(|_, _, _| Ok(1));
    let scene = scene(store).await;
    let revocation = scene.app.accounts.revoke_session(&scene.ada, scene.ada.session_id);
    waits_for(&scene.sockets, revocation).await;
}
