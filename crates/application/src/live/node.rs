use std::sync::{Arc, atomic::AtomicI64};

use parlance_domain::{ConversationId, NodeId, SessionId, UserId, WorkspaceId};
use tokio::sync::{mpsc, oneshot};

use super::{
    Event,
    actor::{Actor, Input},
};
use crate::{
    Tasks,
    ports::{Bus, ConnectionId, Fanout, store::Messages},
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
    node: NodeId,
}

/// What a connection is to listen to after its `hello`.
#[derive(Debug, Default)]
pub struct Attachment {
    /// Workspaces of the user.
    pub workspaces: Vec<WorkspaceId>,
    /// Conversations, each with the rev up to which the client has been told everything.
    pub conversations: Vec<(ConversationId, u64)>,
    /// Conversations that will be attached by [`Live::attach_later`], after their replay.
    pub pending: Vec<ConversationId>,
}

impl Live {
    /// Starts the actor and what listens to the bus, in `services`, which run until they are aborted; what it reads of the
    /// store runs in `tasks`. At most `connections_per_user` connections of one user stay open.
    pub fn start(
        node: NodeId,
        bus: Arc<dyn Bus>,
        fanout: Arc<dyn Fanout>,
        store: Arc<dyn Messages>,
        services: &Tasks,
        tasks: &Arc<Tasks>,
        connections_per_user: Option<usize>,
    ) -> Self {
        let (inbox, inputs) = mpsc::channel(INBOX);
        let (ephemeral, mut to_bus) = mpsc::channel::<Arc<Event>>(INBOX);
        let live = Self { inbox, ephemeral, bus: bus.clone(), node };
        services.spawn(async move {
            while let Some(event) = to_bus.recv().await {
                // Others see it end by its own `expires_in_ms`.
                let _ = bus.publish(node, event).await;
            }
        });
        let actor = Actor::new(live.clone(), fanout, store, tasks.clone(), connections_per_user);
        services.spawn(actor.run(inputs));
        let listener = live.clone();
        services.spawn(async move { listener.listen().await });
        live
    }

    /// Tells the sockets of this node, then the other nodes.
    pub async fn publish(&self, event: Event) {
        let event = Arc::new(event);
        self.input(Input::Event(event.clone())).await;
        if let Err(error) = self.bus.publish(self.node, event).await {
            tracing::warn!(%error, "an event did not reach the bus; other nodes will find it in the store");
        }
    }

    /// Returns when everything published before has taken effect on this node's sockets. Awaited before an end of access
    /// is acknowledged.
    pub async fn settle(&self) {
        let (done, settled) = oneshot::channel();
        self.input(Input::Settle(done)).await;
        let _ = settled.await;
    }

    /// Announces a connection that has said who it is. From here on nothing that concerns its user is missed: call it
    /// before reading the snapshot. `heard_at` is the connection's own note, in milliseconds, of when it last heard its client.
    pub async fn register(
        &self,
        connection: ConnectionId,
        user_id: UserId,
        session_id: SessionId,
        heard_at: Arc<AtomicI64>,
    ) {
        self.input(Input::Register { connection, user_id, session_id, heard_at }).await;
    }

    /// Joins a registered connection to what its snapshot showed. Call it after the reply to `hello` has been queued.
    pub async fn attach(&self, connection: ConnectionId, attachment: Attachment) {
        self.input(Input::Attach { connection, attachment }).await;
    }

    /// Joins a connection to a conversation that was pending, unless access has ended in between.
    pub async fn attach_later(
        &self,
        connection: ConnectionId,
        conversation: ConversationId,
        have: u64,
    ) {
        self.input(Input::AttachLater { connection, conversation, have }).await;
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

    /// Tells the other nodes, unless too much is waiting already. The caller has told this one.
    pub(super) fn publish_ephemeral(&self, event: Event) {
        let _ = self.ephemeral.try_send(Arc::new(event));
    }

    pub(super) async fn input(&self, input: Input) {
        // The actor ends with the process only; nothing is lost to it that the store does not have.
        let _ = self.inbox.send(input).await;
    }

    async fn listen(self) {
        loop {
            match self.bus.subscribe(self.node).await {
                Ok(mut events) => {
                    while let Some(event) = events.next().await {
                        match event {
                            Ok(event) => self.input(Input::Event(event)).await,
                            Err(error) => tracing::warn!(%error, "the bus lost events"),
                        }
                    }
                }
                Err(error) => tracing::warn!(%error, "the bus cannot be heard"),
            }
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        }
    }
}
