//! The actor of a node's live side: its state, its inputs, and the loop that takes them one by one. Their handlers are
//! in `actor/`, by subject.

mod admissions;
mod asking;
mod bridging;
mod events;
mod marks;
mod membership;
mod peers;
mod sessions;
mod states;
mod typing;

use std::{
    sync::{Arc, atomic::AtomicI64},
    time::Duration,
};

use parlance_domain::{ConversationId, SessionId, SessionRev, UserId};
use rustc_hash::FxHashMap as HashMap;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep_until},
};

use super::{
    Event, Frame, Live,
    attaching::Scope,
    audiences::Audiences,
    bus_link::BusLink,
    connections::{Connection, Connections, Registration},
    doubts::Doubts,
    ended::Ended,
    feed::FeedNumber,
    gate::Gate,
    node::{Attachment, Peers},
    told::Told,
    typing::Typing,
};
use crate::{
    Result, Tasks,
    ports::{
        Close, ConnectionId, Fanout, Urgency,
        store::{Head, Messages, Readers, ReplayPage},
    },
};

/// How often a feed retries a store that did not answer.
const RETRY: Duration = Duration::from_secs(1);
/// When clients of a draining node should reconnect.
const RECONNECT_AFTER_MS: u64 = 1_000;

pub(super) use peers::News;
use states::Present;

pub(super) enum Input {
    Register {
        connection: ConnectionId,
        user_id: UserId,
        session_id: SessionId,
        heard_at: Arc<AtomicI64>,
        done: oneshot::Sender<()>,
    },
    Attach {
        connection: ConnectionId,
        attachment: Attachment,
    },
    Replay {
        connection: ConnectionId,
        conversation: ConversationId,
        frame: Option<Frame>,
        then: Option<Head>,
        done: oneshot::Sender<bool>,
    },
    LostAccess {
        connection: ConnectionId,
        conversation: ConversationId,
    },
    Unregister {
        connection: ConnectionId,
    },
    Typing {
        connection: ConnectionId,
        conversation: ConversationId,
        on: bool,
    },
    /// In order; once they have been handed down, the sender is told how many sockets their changes went to.
    Events(Vec<Arc<Event>>, oneshot::Sender<usize>),
    Bridged {
        conversation: ConversationId,
        page: Result<ReplayPage>,
    },
    Checked {
        conversation: ConversationId,
        /// The number of the feed that asked.
        feed: FeedNumber,
        asked: Vec<UserId>,
        readers: Result<Option<Readers>>,
    },
    SessionsChecked {
        session_rev: SessionRev,
        ended: Result<Vec<SessionId>>,
    },
    FromPeers(peers::News),
    Settle(oneshot::Sender<()>),
    Drain(oneshot::Sender<()>),
}

/// Owns all live state of a node; see [`Live`] for what each input means.
pub(super) struct Actor {
    live: Live,
    fanout: Arc<dyn Fanout>,
    store: Arc<dyn Messages>,
    tasks: Arc<Tasks>,
    connections_per_user: Option<usize>,
    connections: Connections,
    audiences: Audiences,
    typing: Typing,
    peers: Option<Peers>,
    told: Told,
    gate: Gate,
    /// Users who may be in a conversation without listening to it.
    admissions: Doubts,
    /// Users whose read mark in a conversation may be further than they have been told.
    marks: Doubts,
    /// The store's answer about what waits, kept until all sessions that had ended by then are known.
    present: Option<Present>,
    /// The node is shutting down and accepts no more registrations.
    draining: bool,
    ended: Ended,
    /// Pages that wait until the sessions that had ended when they were read are known; meanwhile their feeds read no
    /// others.
    unclear: HashMap<ConversationId, ReplayPage>,
    bus_link: BusLink,
}

impl Actor {
    pub(super) fn new(
        live: Live,
        fanout: Arc<dyn Fanout>,
        store: Arc<dyn Messages>,
        peers: Option<Peers>,
        tasks: Arc<Tasks>,
        connections_per_user: Option<usize>,
    ) -> Self {
        Self {
            live,
            fanout,
            store,
            tasks,
            connections_per_user,
            connections: Connections::default(),
            audiences: Audiences::new(Instant::now()),
            typing: Typing::default(),
            peers,
            told: Told::default(),
            gate: Gate::default(),
            admissions: Doubts::default(),
            marks: Doubts::default(),
            present: None,
            draining: false,
            ended: Ended::default(),
            unclear: HashMap::default(),
            bus_link: BusLink::default(),
        }
    }

    pub(super) async fn run(mut self, mut inputs: mpsc::Receiver<Input>) {
        let mut retry_at = Instant::now() + RETRY;
        loop {
            let wake = self.typing.next_deadline().map_or(retry_at, |at| at.min(retry_at));
            tokio::select! {
                biased;
                input = inputs.recv() => match input {
                    Some(input) => {
                        self.take(input).await;
                        self.ask_gate();
                        self.ask_admissions();
                        self.ask_marks();
                        self.choose_topics();
                    }
                    None => return,
                },
                () = sleep_until(wake) => {}
            }
            let now = Instant::now();
            self.type_on(now).await;
            if now >= retry_at {
                retry_at = now + RETRY;
                // Registrations do not wait for an unreachable bus.
                self.bus_link.confirm_all();
                self.connections.forget_shown(now);
                self.audiences.age(now);
                self.ask_sessions();
                self.make_up();
                self.gate.retry();
                self.ask_gate();
                self.admissions.retry();
                self.ask_admissions();
                self.marks.retry();
                self.ask_marks();
                self.retry().await;
            }
        }
    }

    async fn take(&mut self, input: Input) {
        match input {
            Input::Register { connection, user_id, session_id, heard_at, done } => {
                self.register(connection, user_id, session_id, heard_at).await;
                self.confirm_registration(user_id, done);
            }
            Input::Attach { connection, attachment } => self.attach(connection, attachment).await,
            Input::Replay { connection, conversation, frame, then, done } => {
                let wanted = self.replay(connection, conversation, frame, then).await;
                let _ = done.send(wanted);
            }
            Input::LostAccess { connection, conversation } => {
                if self.audiences.awaits(connection, conversation) {
                    self.tell(vec![connection], &Frame::left(conversation)).await;
                    self.leave(connection, conversation);
                    // They may have rejoined since the page was requested.
                    if let Some(user) = self.connections.get(connection).map(|c| c.user_id) {
                        self.admit(conversation, user);
                    }
                }
            }
            Input::Unregister { connection } => self.unregister(connection).await,
            Input::Typing { connection, conversation, on } => {
                self.type_in(connection, conversation, on).await;
            }
            Input::Events(events, told) => {
                let _ = told.send(self.events(&events).await);
            }
            Input::Bridged { conversation, page } => self.bridged(conversation, page).await,
            Input::Checked { conversation, feed, asked, readers } => {
                self.checked(conversation, feed, asked, readers).await;
            }
            Input::SessionsChecked { session_rev, ended } => {
                self.sessions_checked(session_rev, ended).await;
            }
            Input::FromPeers(news) => self.heed(news).await,
            Input::Settle(done) => {
                let _ = done.send(());
            }
            Input::Drain(done) => {
                self.draining = true;
                let all = self.connections.ids();
                // No event precedes the reply to `hello`: a client still waiting for it gets only that and the close
                // code.
                self.tell(self.connections.attached(), &Frame::draining(RECONNECT_AFTER_MS)).await;
                for connection in all {
                    self.fanout.close(connection, Close::Draining).await;
                }
                let _ = done.send(());
            }
        }
    }

    async fn tell(&self, to: Vec<ConnectionId>, frame: &Frame) {
        if !to.is_empty() {
            self.fanout.deliver(to.into(), frame.clone(), Urgency::Reliable).await;
        }
    }

    /// Tells the concerned among a user's attached connections up to this number, and returns them; holds the frame for
    /// those being attached.
    async fn tell_user(
        &mut self,
        user: UserId,
        upto: Registration,
        scope: Scope,
        frame: &Frame,
        concerns: impl Fn(&Connection) -> bool,
    ) -> Vec<ConnectionId> {
        let mut told = Vec::new();
        for id in self.connections.of_user(user) {
            let Some(connection) = self.connections.get_mut(id).filter(|c| c.number <= upto) else {
                continue;
            };
            let concerned = concerns(connection);
            if let Some(attaching) = &mut connection.attaching {
                attaching.hold(scope, Some(frame));
            } else if concerned {
                told.push(id);
            }
        }
        self.tell(told.clone(), frame).await;
        told
    }

    /// Holds a frame for all connections being attached whose user may hear it: which of them it concerns is known only
    /// later.
    fn hold(
        &mut self,
        scope: Scope,
        frame: &Frame,
        may_hear: impl Fn(UserId, Registration) -> bool,
    ) {
        self.connections.hold(may_hear, |attaching| attaching.hold(scope, Some(frame)));
    }
}
