//! An end of access is acknowledged only when this node's sockets know of it, and they do even if nobody waits for
//! that.

use std::{future::Future, sync::Arc, time::Duration};

use async_trait::async_trait;
use parlance_application::{
    App, Caller, Error, Ports, Result, Tasks,
    live::{Attachment, Frame, Live, LivePorts},
    ports::{Close, ConnectionId, Fanout, PasswordHash, RefreshToken, Urgency, store::NewPassword},
};
use parlance_domain::{AccessRev, ConversationId, NodeId, SessionId, SessionRev};
use parlance_testkit::{
    MemoryStore, Stage, Team, TestNode, Weather, caller, head,
    mocks::{MockMessages, MockStore},
    password, socket,
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
    store.expect_remove_channel_member().once().returning(|_, _, _| Ok(AccessRev(2)));
    let scene = scene(store).await;
    let removal = scene.app.channels.remove_member(&scene.ada, scene.here, scene.ada.id());
    waits_for(&scene.sockets, removal).await;
}

#[tokio::test(start_paused = true)]
async fn a_revocation_waits_for_the_sockets() {
    let mut store = MockStore::new();
    store.expect_revoke_session().once().returning(|_, _, _| Ok(SessionRev(1)));
    let scene = scene(store).await;
    let revocation = scene.app.accounts.revoke_session(&scene.ada, scene.ada.session_id);
    waits_for(&scene.sockets, revocation).await;
}

/// A store that commits what a method asks for, and answers when it is told to.
struct Late {
    method: &'static str,
    committed: Semaphore,
    answers: Semaphore,
}

#[async_trait]
impl Weather for Late {
    async fn after(&self, method: &'static str) -> Result<()> {
        if method == self.method {
            self.committed.add_permits(1);
            self.answers.acquire().await.expect("is never closed").forget();
        }
        Ok(())
    }
}

/// Bob, who has two sessions. The socket is the other one's, and so is the token, which has been exchanged twice.
struct Bob {
    app: App,
    caller: Caller,
    team: Team,
    place: ConversationId,
    other: SessionId,
    spent: RefreshToken,
}

/// Bob asks for an end, and hangs up when it is committed and not answered. What his other socket hears in the end.
async fn hung_up<End>(method: &'static str, end: impl FnOnce(Arc<Bob>) -> End) -> Vec<String>
where
    End: Future<Output = Result<()>>,
{
    let (node, store) = (TestNode::start(MockMessages::new()), MemoryStore::new());
    let stage = Stage::new(store.clone());
    let ada = stage.person("ada").await;
    let (account, session) = stage.sign_up("bob").await;
    let (id, old) = (account.id, PasswordHash("plain:old password".to_owned()));
    let change = NewPassword {
        user: id,
        verified: Stage::hash(),
        password: old.clone(),
        keep: session.id,
        at: stage.at(),
    };
    stage.store.change_password(change).await.expect("has a password");
    let other = stage.session(id);
    stage.store.open_session(other.clone(), &old).await.expect("opens");
    let team = stage.team_of(ada, [id]).await;
    let place = stage.channel(id, &team, "news").await;
    node.register(socket(1), id, other.id, 0).await;
    let attachment = Attachment { conversations: vec![head(place, 0)], ..Attachment::default() };
    node.live.attach(socket(1), attachment).await;

    let late = Late { method, committed: Semaphore::new(0), answers: Semaphore::new(0) };
    let late = Arc::new(late);
    let app = |store| {
        let ambient = Arc::new(stage.ambient.clone());
        App::new(Ports { ambient, ..node.ports(store) })
    };
    let calm = app(store.clone()).accounts;
    let spent = RefreshToken(other.refresh.0);
    let next = calm.refresh(RefreshToken(spent.0)).await.expect("exchanges").refresh;
    calm.refresh(next).await.expect("exchanges once more");
    let caller = Caller { account, session_id: session.id, expires_at: session.expires_at };
    let app = app(store.behind(late.clone()));
    let bob = Arc::new(Bob { app, caller, team, place, other: other.id, spent });
    let mut asking = Box::pin(end(bob));
    tokio::select! {
        answer = &mut asking => unreachable!("answered before the store did: {answer:?}"),
        committed = late.committed.acquire() => committed.expect("is never closed").forget(),
    }
    drop(asking);
    late.answers.add_permits(1);
    node.tasks.wait().await;
    node.live.settle().await;
    node.fanout.types(socket(1))
}

#[tokio::test]
async fn the_end_of_a_session_goes_on_when_its_client_hangs_up() {
    let revoked = hung_up("revoke_session", async |bob: Arc<Bob>| {
        bob.app.accounts.revoke_session(&bob.caller, bob.other).await
    });
    assert_eq!(revoked.await, ["session.revoked"]);
    let changed = hung_up("change_password", async |bob: Arc<Bob>| {
        let (old, new) = (password("old password"), password("new password"));
        bob.app.accounts.change_password(&bob.caller, old, new).await.map(drop)
    });
    assert_eq!(changed.await, ["session.revoked"]);
    let reused = hung_up("rotate_refresh", async |bob: Arc<Bob>| {
        bob.app.accounts.refresh(RefreshToken(bob.spent.0)).await.map(drop)
    });
    assert_eq!(reused.await, ["session.revoked"]);
}

#[tokio::test]
async fn the_end_of_a_membership_goes_on_when_its_client_hangs_up() {
    let left = hung_up("remove_channel_member", async |bob: Arc<Bob>| {
        bob.app.channels.remove_member(&bob.caller, bob.place, bob.caller.id()).await
    });
    assert_eq!(left.await, ["conversation.left"]);
    let left = hung_up("remove_member", async |bob: Arc<Bob>| {
        bob.app.workspaces.remove_member(&bob.caller, bob.team.id, bob.caller.id()).await
    });
    assert_eq!(left.await, ["conversation.left"]);
}
