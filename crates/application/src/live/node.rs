//! The handle of a node's live side, and the tasks around its actor: the bus's listener, the looks at the store, and
//! the publisher of ephemeral events.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::Duration,
};

use futures::{FutureExt, future::BoxFuture};
use parlance_domain::{ConversationId, NodeId, Seq, SessionId, UserId, WorkspaceId};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::unconstrained,
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
        Bus, ConnectionId, Fanout, Heard, Subscription, Topic,
        store::{Changes, Conversations, Head, Messages},
    },
};

/// Inputs that may be queued for the actor; beyond that, callers wait.
const INBOX: usize = 4_096;
/// The most events of other nodes told together.
const TOGETHER: usize = 256;

/// The handle of one node's live side. Cheap to clone; all calls are queued for one actor and take effect in that
/// order.
#[derive(Clone)]
pub struct Live {
    inbox: mpsc::Sender<Input>,
    /// Ephemeral events for other nodes, in order.
    ephemeral: mpsc::Sender<Arc<Event>>,
    bus: Arc<dyn Bus>,
    bus_heard: Arc<AtomicBool>,
    /// Whether anything that should run as long as the node has ended.
    failed: watch::Receiver<bool>,
    node: NodeId,
    has_peers: bool,
    began: Instant,
}

/// What a node's live side is made of.
pub struct LivePorts {
    /// The node's id, unique among running processes.
    pub node: NodeId,
    /// The way to other nodes.
    pub bus: Arc<dyn Bus>,
    /// The way to this node's sockets.
    pub fanout: Arc<dyn Fanout>,
    /// Read to fill holes.
    pub store: Arc<dyn Messages>,
    /// Set if the node shares its store. A store of the node's own must take writes in the order they are first polled.
    pub peers: Option<Peers>,
    /// The most connections of one user that stay open; none for no limit.
    pub connections_per_user: Option<usize>,
}

/// Where a node learns what other nodes have done.
#[derive(Clone)]
pub struct Peers {
    /// What has changed.
    pub changes: Arc<dyn Changes>,
    /// Summaries of conversations that people have joined.
    pub conversations: Arc<dyn Conversations>,
}

/// What a connection listens to after its `hello`.
#[derive(Debug, Default)]
pub struct Attachment {
    /// The user's workspaces.
    pub workspaces: Vec<WorkspaceId>,
    /// Conversations that it joins at once: the client has everything up to `rev`, as of `access_rev`.
    pub conversations: Vec<Head>,
    /// Conversations that it joins by [`Live::replay`]; as in the snapshot.
    pub pending: Vec<Head>,
    /// The read marks that the client has been told.
    pub read: Vec<(ConversationId, Seq)>,
    /// Each conversation's workspace.
    pub homes: Vec<(ConversationId, WorkspaceId)>,
}

impl Live {
    /// Starts the actor, the bus's listener and the looks at the store in `services`, where they run until aborted.
    /// Reads of the store run in `tasks`.
    pub fn start(ports: LivePorts, services: &Tasks, tasks: &Arc<Tasks>) -> Self {
        Self::start_beside(ports, services, tasks, |actor| services.spawn(actor))
    }

    /// As [`Live::start`], but the actor runs where `host` spawns it. On a thread that has sockets, what it hands to
    /// them wakes no other thread.
    pub fn start_beside(
        ports: LivePorts,
        services: &Tasks,
        tasks: &Arc<Tasks>,
        host: impl FnOnce(BoxFuture<'static, ()>),
    ) -> Self {
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
                // If it is lost, clients let the typing expire after `expires_in_ms`.
                let _ = bus.publish(node, vec![event]).await;
            }
        });
        let looked = peers.clone();
        let actor =
            Actor::new(live.clone(), fanout, store, peers, tasks.clone(), connections_per_user);
        host(whole(ends.clone(), actor.run(inputs)).boxed());
        services.spawn(whole(ends.clone(), live.clone().heed_bus()));
        if let Some(peers) = looked {
            services.spawn(whole(ends, look::run(live.clone(), peers.changes)));
        }
        live
    }

    /// Tells the sockets of this node, then the other nodes.
    pub async fn publish(&self, event: Event) {
        let event = Arc::new(event);
        self.tell(vec![event.clone()]).await;
        self.tell_other_nodes(vec![event]).await;
    }

    /// Tells this node's sockets what happened, here or elsewhere, in order. Adjacent changes are delivered together.
    /// The receiver resolves once all has been handed down, to the number of sockets that changes went to.
    pub(super) async fn tell(&self, events: Vec<Arc<Event>>) -> oneshot::Receiver<usize> {
        let (done, told) = oneshot::channel();
        if !events.is_empty() {
            self.input(Input::Events(events, done)).await;
        }
        told
    }

    /// Tells the other nodes, in order.
    pub(super) async fn tell_other_nodes(&self, events: Vec<Arc<Event>>) {
        if !events.is_empty()
            && let Err(error) = self.bus.publish(self.node, events).await
        {
            // The bus itself says when it goes away and comes back.
            tracing::debug!(%error, "events did not reach the bus; other nodes will find them in the store");
        }
    }

    /// Returns once everything published before has taken effect on this node's sockets or, with a shared store, waits
    /// for the store. Ends of access never wait for the store: await this before acknowledging one.
    pub async fn settle(&self) {
        let (done, settled) = oneshot::channel();
        self.input(Input::Settle(done)).await;
        let _ = settled.await;
    }

    /// Announces an authenticated connection. Once this returns, nothing that concerns its user is missed: call it
    /// before reading the snapshot. Waits at most a second for the bus to confirm. `heard_at` is the connection's own
    /// record, in milliseconds of [`Live::uptime`], of when it last heard its client.
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

    /// Tells a connection a page of a pending conversation, if there is one; with `then`, which comes with the last
    /// page, it joins. False if the page is no longer wanted, because access has ended. Returns once the page is
    /// queued.
    pub async fn replay(
        &self,
        connection: ConnectionId,
        conversation: ConversationId,
        frame: Option<Frame>,
        then: Option<Head>,
    ) -> bool {
        let (done, wanted) = oneshot::channel();
        self.input(Input::Replay { connection, conversation, frame, then, done }).await;
        wanted.await.unwrap_or(false)
    }

    /// Tells a connection that its access to a conversation ended during the replay, unless it has been told.
    pub async fn lost_access(&self, connection: ConnectionId, conversation: ConversationId) {
        self.input(Input::LostAccess { connection, conversation }).await;
    }

    /// Whether the store is shared with other nodes.
    pub(crate) fn has_peers(&self) -> bool {
        self.has_peers
    }

    /// Returns if the actor, the bus's listener or the looks end before the process: one of them panicked, and sockets
    /// no longer hear everything.
    pub async fn failed(&self) {
        let _ = self.failed.clone().wait_for(|failed| *failed).await;
    }

    /// How long this node has run, by the monotonic clock.
    pub fn uptime(&self) -> Duration {
        self.began.elapsed()
    }

    /// A connection has ended.
    pub async fn unregister(&self, connection: ConnectionId) {
        self.input(Input::Unregister { connection }).await;
    }

    /// Somebody who may post has started typing, on this connection.
    pub async fn start_typing(&self, connection: ConnectionId, conversation: ConversationId) {
        self.input(Input::Typing { connection, conversation, on: true }).await;
    }

    /// Somebody has stopped typing.
    pub async fn stop_typing(&self, connection: ConnectionId, conversation: ConversationId) {
        self.input(Input::Typing { connection, conversation, on: false }).await;
    }

    /// Tells every connection that the node is shutting down, then closes it.
    pub async fn drain(&self) {
        let (done, drained) = oneshot::channel();
        self.input(Input::Drain(done)).await;
        let _ = drained.await;
    }

    /// Tells the other nodes, unless the queue is full. The caller tells this one.
    pub(super) fn publish_ephemeral(&self, event: Event) {
        let _ = self.ephemeral.try_send(Arc::new(event));
    }

    pub(super) async fn input(&self, input: Input) {
        // The actor ends only with the process or its thread; by then all sockets have ended, and the store has
        // everything.
        let _ = self.inbox.send(input).await;
    }

    pub(super) fn listen(&self, topics: Vec<Topic>) {
        self.bus.listen(self.node, topics);
    }

    pub(super) fn ignore(&self, topics: Vec<Topic>) {
        self.bus.ignore(self.node, topics);
    }

    /// Whether the bus was connected when last heard of.
    pub(super) fn hears_bus(&self) -> bool {
        self.bus_heard.load(Ordering::Relaxed)
    }

    async fn heed_bus(self) {
        loop {
            match self.bus.subscribe(self.node).await {
                Ok(subscription) => self.hear(subscription).await,
                Err(error) => tracing::warn!(%error, "the bus cannot be heard"),
            }
            self.bus_heard.store(false, Ordering::Relaxed);
            sleep(Duration::from_secs(1)).await;
        }
    }

    /// Passes on what the bus brings, until the bus is gone.
    async fn hear(&self, mut subscription: Box<dyn Subscription>) {
        let remote = self.bus.is_remote();
        self.bus_heard.store(remote, Ordering::Relaxed);
        self.input(Input::FromPeers(News::Subscribed)).await;
        let mut next = subscription.next().await;
        while let Some(heard) = next {
            let lost = matches!(heard, Heard::Lost);
            self.bus_heard.store(remote && !lost, Ordering::Relaxed);
            let mut after = None;
            match heard {
                Heard::Event(first) => {
                    let mut events = vec![first];
                    after = take_waiting(&mut *subscription, &mut events);
                    // Backpressure, so that other nodes cannot outrun this one's sockets: what comes meanwhile waits in
                    // the bus, which reports an overflow, and is then told together.
                    let _ = self.tell(events).await.await;
                }
                Heard::Listening(topics) => {
                    self.input(Input::FromPeers(News::Listening(topics))).await;
                }
                Heard::Lost => self.input(Input::FromPeers(News::Lost)).await,
            }
            next = match after {
                Some(_) => after,
                None => subscription.next().await,
            };
        }
    }
}

/// Takes the events received already, up to anything else: usually all that another node has published together.
fn take_waiting(
    subscription: &mut dyn Subscription,
    events: &mut Vec<Arc<Event>>,
) -> Option<Heard> {
    while events.len() < TOGETHER {
        // Tokio's cooperative budget would end it early.
        match unconstrained(subscription.next()).now_or_never().flatten()? {
            Heard::Event(event) => events.push(event),
            other => return Some(other),
        }
    }
    None
}

/// Runs a service that must not end, and reports if it does, even by a panic.
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
