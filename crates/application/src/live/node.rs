//! The handle of a node's live side, and the tasks around its actor: what the bus brings, what a look finds, what is told at once.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::Duration,
};

use parlance_domain::{ConversationId, NodeId, SessionId, UserId, WorkspaceId};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep},
};

use super::{
    Event, Frame,
    actor::{Actor, Input, News},
    look,
};
use crate::{
    Tasks,
    ports::{
        Bus, ConnectionId, Fanout, Heard, Topic,
        store::{Changes, Conversations, Head, Messages},
    },
};

/// Inputs that may wait for the actor; beyond it callers wait.
const INBOX: usize = 4_096;

/// The handle of one node's live side. Cheap to clone; all calls are queued for one actor and happen in that order.
#[derive(Clone)]
pub struct Live {
    inbox: mpsc::Sender<Input>,
    /// What may be lost on its way to other nodes, in order.
    ephemeral: mpsc::Sender<Arc<Event>>,
    bus: Arc<dyn Bus>,
    bus_heard: Arc<AtomicBool>,
    /// Whether anything has ended that is to run as long as the node does.
    failed: watch::Receiver<bool>,
    node: NodeId,
    has_peers: bool,
    began: Instant,
}

/// What a node's live side is made of.
pub struct LivePorts {
    /// Which node.
    pub node: NodeId,
    /// To other nodes.
    pub bus: Arc<dyn Bus>,
    /// To this node's sockets.
    pub fanout: Arc<dyn Fanout>,
    /// Read from to bridge holes.
    pub store: Arc<dyn Messages>,
    /// For a node that shares its store with others. One whose store is its own relies on it to take writes in the order in which
    /// they are first polled.
    pub peers: Option<Peers>,
    /// At most so many connections of one user stay open.
    pub connections_per_user: Option<usize>,
}

/// Where a node asks what the other nodes have done.
#[derive(Clone)]
pub struct Peers {
    /// What has changed.
    pub changes: Arc<dyn Changes>,
    /// The conversations that people have come into.
    pub conversations: Arc<dyn Conversations>,
}

/// What a connection is to listen to after its `hello`.
#[derive(Debug, Default)]
pub struct Attachment {
    /// Workspaces of the user.
    pub workspaces: Vec<WorkspaceId>,
    /// Conversations: up to which rev the client has been told everything, and at which count of changes of access.
    pub conversations: Vec<Head>,
    /// Conversations that [`Live::replay`] attaches, after their replay; as the snapshot has them.
    pub pending: Vec<Head>,
    /// How far the client has been told that its user has read.
    pub read: Vec<(ConversationId, u64)>,
    /// Of which workspace each conversation is.
    pub homes: Vec<(ConversationId, WorkspaceId)>,
}

impl Live {
    /// Starts the actor, what listens to the bus and what looks at the store, in `services`, which run until they are
    /// aborted; what it reads of the store runs in `tasks`.
    pub fn start(ports: LivePorts, services: &Tasks, tasks: &Arc<Tasks>) -> Self {
        let LivePorts { node, bus, fanout, store, peers, connections_per_user } = ports;
        let (inbox, inputs) = mpsc::channel(INBOX);
        let (ephemeral, mut to_bus) = mpsc::channel::<Arc<Event>>(INBOX);
        let (ends, failed) = watch::channel(false);
        let ends = Arc::new(ends);
        let live = Self {
            inbox,
            ephemeral,
            bus: bus.clone(),
            bus_heard: Arc::default(),
            failed,
            node,
            has_peers: peers.is_some(),
            began: Instant::now(),
        };
        services.spawn(async move {
            while let Some(event) = to_bus.recv().await {
                // Where it is lost, clients see the typing end by `expires_in_ms`.
                let _ = bus.publish(node, event).await;
            }
        });
        let looked = peers.clone();
        let actor =
            Actor::new(live.clone(), fanout, store, peers, tasks.clone(), connections_per_user);
        services.spawn(whole(ends.clone(), actor.run(inputs)));
        services.spawn(whole(ends.clone(), live.clone().heed_bus()));
        if let Some(peers) = looked {
            services.spawn(whole(ends, look::run(live.clone(), peers.changes)));
        }
        live
    }

    /// Tells the sockets of this node, then the other nodes.
    pub async fn publish(&self, event: Event) {
        let event = Arc::new(event);
        self.input(Input::Event(event.clone())).await;
        self.tell_bus(event).await;
    }

    /// Tells the sockets of this node changes that were committed together, of each conversation in order. Gives what the
    /// other nodes are to be told, and what resolves to the number of sockets that these went to.
    pub(super) async fn tell_changes(
        &self,
        changes: Vec<(ConversationId, Vec<Event>)>,
    ) -> (Vec<Arc<Event>>, oneshot::Receiver<usize>) {
        let shared = |(conversation, events): (_, Vec<Event>)| {
            (conversation, events.into_iter().map(Arc::new).collect::<Vec<_>>())
        };
        let changes: Vec<_> =
            changes.into_iter().filter(|(_, events)| !events.is_empty()).map(shared).collect();
        let elsewhere = changes.iter().flat_map(|(_, events)| events).cloned().collect();
        let (done, told) = oneshot::channel();
        if !changes.is_empty() {
            self.input(Input::Changes(changes, done)).await;
        }
        (elsewhere, told)
    }

    /// Tells the other nodes, in order.
    pub(super) async fn tell_other_nodes(&self, events: Vec<Arc<Event>>) {
        for event in events {
            self.tell_bus(event).await;
        }
    }

    /// Returns when everything published before has taken effect on this node's sockets or, where the store is shared, waits for
    /// what it says. Ends of access never wait for that: this is awaited before they are acknowledged.
    pub async fn settle(&self) {
        let (done, settled) = oneshot::channel();
        self.input(Input::Settle(done)).await;
        let _ = settled.await;
    }

    /// Announces a connection that has said who it is. When this returns, nothing that concerns its user is missed any more:
    /// call it before reading the snapshot. Waits for the bus to confirm, for a second at most. `heard_at` is the connection's
    /// own note, in milliseconds of [`Live::uptime`], of when it last heard its client.
    pub async fn register(
        &self,
        connection: ConnectionId,
        user_id: UserId,
        session_id: SessionId,
        heard_at: Arc<AtomicI64>,
    ) {
        let (done, registered) = oneshot::channel();
        self.input(Input::Register { connection, user_id, session_id, heard_at, done }).await;
        let _ = registered.await;
    }

    /// Joins a registered connection to what its snapshot showed. Call it after the reply to `hello` has been queued.
    pub async fn attach(&self, connection: ConnectionId, attachment: Attachment) {
        self.input(Input::Attach { connection, attachment }).await;
    }

    /// Tells a connection a page of a conversation that is pending, and after the last one joins it there. Says whether it
    /// was still wanted: nothing is told of a conversation to which access has ended. Returns when it is queued.
    pub async fn replay(
        &self,
        connection: ConnectionId,
        conversation: ConversationId,
        frame: Frame,
        then: Option<Head>,
    ) -> bool {
        let (done, wanted) = oneshot::channel();
        self.input(Input::Replay { connection, conversation, frame, then, done }).await;
        wanted.await.unwrap_or(false)
    }

    /// A connection's access to a conversation has ended before its replay did: says so, unless it has been said.
    pub async fn lost_access(&self, connection: ConnectionId, conversation: ConversationId) {
        self.input(Input::LostAccess { connection, conversation }).await;
    }

    /// Whether the store is shared with other nodes.
    pub(crate) fn has_peers(&self) -> bool {
        self.has_peers
    }

    /// Returns when the actor has ended before its process, or what listens to the bus, or what looks at the store: one of them
    /// panicked, and sockets are not told everything any more.
    pub async fn failed(&self) {
        let _ = self.failed.clone().wait_for(|failed| *failed).await;
    }

    /// How long this node has lived, by the monotonic clock.
    pub fn uptime(&self) -> Duration {
        self.began.elapsed()
    }

    /// A connection has ended.
    pub async fn unregister(&self, connection: ConnectionId) {
        self.input(Input::Unregister { connection }).await;
    }

    /// Somebody who may post has begun to type, on this connection.
    pub async fn start_typing(&self, connection: ConnectionId, conversation: ConversationId) {
        self.input(Input::Typing { connection, conversation, on: true }).await;
    }

    /// Somebody has ceased to type.
    pub async fn stop_typing(&self, connection: ConnectionId, conversation: ConversationId) {
        self.input(Input::Typing { connection, conversation, on: false }).await;
    }

    /// Tells every connection that the node goes away, and closes it.
    pub async fn drain(&self) {
        let (done, drained) = oneshot::channel();
        self.input(Input::Drain(done)).await;
        let _ = drained.await;
    }

    async fn tell_bus(&self, event: Arc<Event>) {
        if let Err(error) = self.bus.publish(self.node, event).await {
            // The bus itself says when it goes away and comes back.
            tracing::debug!(%error, "an event did not reach the bus; other nodes will find it in the store");
        }
    }

    /// Tells the other nodes, unless too much is waiting already. The caller has told this one.
    pub(super) fn publish_ephemeral(&self, event: Event) {
        let _ = self.ephemeral.try_send(Arc::new(event));
    }

    pub(super) async fn input(&self, input: Input) {
        // The actor ends with the process only; nothing is lost to it that the store does not have.
        let _ = self.inbox.send(input).await;
    }

    pub(super) fn listen(&self, topics: Vec<Topic>) {
        self.bus.listen(self.node, topics);
    }

    pub(super) fn ignore(&self, topics: Vec<Topic>) {
        self.bus.ignore(self.node, topics);
    }

    /// Whether other processes could be heard when the bus was last heard of.
    pub(super) fn hears_bus(&self) -> bool {
        self.bus_heard.load(Ordering::Relaxed)
    }

    async fn heed_bus(self) {
        loop {
            match self.bus.subscribe(self.node).await {
                Ok(mut events) => {
                    let remote = self.bus.is_remote();
                    self.bus_heard.store(remote, Ordering::Relaxed);
                    self.input(Input::FromPeers(News::Subscribed)).await;
                    while let Some(heard) = events.next().await {
                        let lost = matches!(heard, Heard::Lost);
                        self.bus_heard.store(remote && !lost, Ordering::Relaxed);
                        let input = match heard {
                            Heard::Event(event) => Input::Event(event),
                            Heard::Listening(topics) => Input::FromPeers(News::Listening(topics)),
                            Heard::Lost => Input::FromPeers(News::Lost),
                        };
                        self.input(input).await;
                    }
                }
                Err(error) => tracing::warn!(%error, "the bus cannot be heard"),
            }
            self.bus_heard.store(false, Ordering::Relaxed);
            sleep(Duration::from_secs(1)).await;
        }
    }
}

/// Runs what is not to end, and says so if it does, by a panic too.
async fn whole(ends: Arc<watch::Sender<bool>>, service: impl Future<Output = ()>) {
    let _said = Ends(ends);
    service.await;
}

struct Ends(Arc<watch::Sender<bool>>);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.send_replace(true);
    }
}
