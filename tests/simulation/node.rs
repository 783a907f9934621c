//! A simulated node: the real use cases and the real live side, on a store and a bus that fail, with sockets made of
//! queues.

use std::{
    collections::BTreeMap,
    future::poll_fn,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    task::{Poll, Waker},
    time::Duration,
};

use async_trait::async_trait;
use futures::{
    FutureExt, StreamExt, future::BoxFuture, future::FusedFuture, stream::FuturesUnordered,
};
use parlance_application::{
    App, Caller, Error, NewMessage, Ports, Result, Tasks,
    live::{Backlog, Frame, Lanes, Live, LivePorts, Peers, Pushed, Resume},
    ports::{Close, ConnectionId, Fanout, Urgency},
};
use parlance_domain::{ConversationId, Emoji, MessageId, MessageText, NodeId, Rev, Seq, UserId};
use parlance_embedded::{
    EmbeddedStore,
    simulation::{Weather, Work},
};
use parlance_testkit::{PlainHasher, PlainTokens, TestAmbient};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::{
    bus::SimBus,
    chance::{Chance, Climate},
    judge::Judge,
};

/// What the nodes of one run share.
#[derive(Clone)]
pub(crate) struct Ground {
    /// Whether the store belongs to one node alone, which relies on that.
    pub(crate) alone: bool,
    pub(crate) chance: Chance,
    pub(crate) climate: Climate,
    pub(crate) ambient: TestAmbient,
    pub(crate) store: EmbeddedStore,
    pub(crate) bus: SimBus,
    pub(crate) judge: Judge,
    pub(crate) serials: Arc<AtomicU64>,
}

pub(crate) struct Node {
    pub(crate) id: NodeId,
    pub(crate) app: Arc<App>,
    pub(crate) store_link: Arc<StoreLink>,
    /// Whether it refuses new connections.
    draining: AtomicBool,
    sockets: Sockets,
    serials: Arc<AtomicU64>,
    tasks: Arc<Tasks>,
    services: Tasks,
    /// Its ends of the connections.
    connections: Tasks,
}

/// A node's way to the store.
pub(crate) struct StoreLink {
    chance: Chance,
    climate: Climate,
    alone: bool,
    pub(crate) cut: AtomicBool,
}

/// A connection's two ends.
pub(crate) struct Socket {
    /// Its number in the whole run.
    pub(crate) serial: u64,
    pub(crate) caller: Caller,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    backlog: Backlog,
    /// Set once nothing more is queued; what is there may still be read.
    closed: Option<Close>,
    /// Set once nothing more is read either.
    cut: bool,
    wakers: Vec<Waker>,
}

#[derive(Clone)]
struct Sockets {
    all: Arc<Mutex<BTreeMap<u32, Arc<Socket>>>>,
    judge: Judge,
}

/// What a client can ask for.
#[derive(Debug)]
pub(crate) enum Command {
    Hello(Option<Resume>),
    Send { conversation: ConversationId, key: String, text: String },
    Edit { message: MessageId, text: String },
    Delete { message: MessageId },
    React { message: MessageId },
    Read { conversation: ConversationId, seq: u64 },
    Sync { conversation: ConversationId, from_rev: u64 },
}

/// What a client asks, each with its number.
pub(crate) type Commands = mpsc::Sender<(u64, Command)>;
type Reply = (u64, Result<Value>);

impl Ground {
    /// Where nothing fails.
    pub(crate) fn in_good_weather(&self) -> Self {
        Self { climate: Climate::GOOD, ..self.clone() }
    }
}

impl Node {
    pub(crate) fn start(ground: &Ground) -> Arc<Self> {
        use parlance_application::ports::Ambient;
        let id = NodeId(ground.ambient.uuid());
        let store_link = Arc::new(StoreLink {
            chance: ground.chance.clone(),
            climate: ground.climate,
            alone: ground.alone,
            cut: AtomicBool::new(false),
        });
        let store = Arc::new(ground.store.behind(store_link.clone()));
        let sockets = Sockets { all: Arc::default(), judge: ground.judge.clone() };
        let (tasks, services) = (Arc::new(Tasks::default()), Tasks::default());
        let live = LivePorts {
            node: id,
            bus: Arc::new(ground.bus.clone()),
            fanout: Arc::new(sockets.clone()),
            store: store.clone(),
            peers: (!ground.alone)
                .then(|| Peers { changes: store.clone(), conversations: store.clone() }),
            connections_per_user: None,
        };
        let live = Live::start(live, &services, &tasks);
        let app = App::new(Ports {
            store,
            ambient: Arc::new(ground.ambient.clone()),
            hasher: Arc::new(PlainHasher),
            tokens: Arc::new(PlainTokens),
            live,
            tasks: tasks.clone(),
            rate_limits: false,
            // Where there is a choice, the seed makes it, so that both are exercised.
            lanes: if ground.alone || id.0.as_u128().is_multiple_of(2) {
                Lanes::Shared
            } else {
                Lanes::Apart
            },
        });
        let (draining, connections) = (AtomicBool::new(false), Tasks::default());
        let app = Arc::new(app);
        let serials = ground.serials.clone();
        Arc::new(Self {
            id,
            app,
            store_link,
            draining,
            sockets,
            serials,
            tasks,
            services,
            connections,
        })
    }

    /// `kill -9`: every task stops where it is, every socket is gone.
    pub(crate) fn crash(&self, bus: &SimBus) {
        self.draining.store(true, Ordering::Relaxed);
        self.services.abort();
        self.tasks.abort();
        self.connections.abort();
        bus.forget(self.id);
        for socket in std::mem::take(&mut *self.sockets.all.lock().expect("no panic")).values() {
            socket.cut();
        }
    }

    /// SIGTERM: says goodbye, finishes what has begun, then goes.
    pub(crate) async fn drain(&self, bus: &SimBus) {
        self.draining.store(true, Ordering::Relaxed);
        self.app.live.drain().await;
        let _ = tokio::time::timeout(Duration::from_secs(5), self.tasks.wait()).await;
        self.crash(bus);
    }

    /// The network between a node and its clients breaks, for some of them.
    pub(crate) fn lose_connections(&self, chance: &Chance, percent: u64) {
        for socket in self.sockets.all.lock().expect("no panic").values() {
            if chance.percent(percent) {
                socket.cut();
            }
        }
    }

    /// The same for one of them.
    pub(crate) fn lose_connections_of(&self, user: UserId) {
        for socket in self.sockets.all.lock().expect("no panic").values() {
            if socket.caller.id() == user {
                socket.cut();
            }
        }
    }

    /// A new connection of somebody, if the node takes any.
    pub(crate) fn accept(self: &Arc<Self>, caller: Caller) -> Option<(Arc<Socket>, Commands)> {
        if self.draining.load(Ordering::Relaxed) {
            return None;
        }
        let (commands, inbound) = mpsc::channel(16);
        let serial = self.serials.fetch_add(1, Ordering::Relaxed);
        let socket = Arc::new(Socket { serial, caller, state: Mutex::default() });
        let number = {
            let mut sockets = self.sockets.all.lock().expect("no panic");
            let number = sockets.keys().next_back().map_or(0, |last| last + 1);
            sockets.insert(number, socket.clone());
            number
        };
        let id = ConnectionId { worker: 0, number };
        let (node, served) = (self.clone(), socket.clone());
        self.connections.spawn(async move {
            node.serve(id, &served, inbound).await;
            node.app.live.unregister(id).await;
            node.sockets.all.lock().expect("no panic").remove(&number);
        });
        Some((socket, commands))
    }

    async fn serve(
        &self,
        id: ConnectionId,
        socket: &Arc<Socket>,
        mut commands: mpsc::Receiver<(u64, Command)>,
    ) {
        let (caller, app) = (&socket.caller, &self.app);
        let Some((number, Command::Hello(resume))) = commands.recv().await else { return };
        let heard_at = Arc::new(AtomicI64::new(0));
        let opened = match app.hello.open(&caller.claims(), id, heard_at, resume.as_ref()).await {
            Ok(opened) => opened,
            Err(error) => {
                socket.push(&reply(number, Err(error)), Urgency::Reliable);
                return socket.close(Close::Overloaded);
            }
        };
        let welcome = json!({
            "user": &caller.account,
            "workspaces": opened.snapshot.workspaces,
            "epoch": opened.snapshot.epoch,
            "conversations": opened.snapshot.conversations.iter().map(|e| &e.summary).collect::<Vec<_>>(),
            "behind": opened.catch_up.behind(),
        });
        let pending: Vec<_> = opened.catch_up.pending().map(|head| head.conversation_id).collect();
        self.sockets.judge.welcomed(socket.serial, &opened.snapshot, &pending);
        socket.welcome(&reply(number, Ok(welcome)));
        app.hello.attach(id, &opened).await;
        let drained = || socket.until(|state| state.backlog.has_room());
        let catch_up = app.hello.catch_up(caller, id, opened.catch_up, drained);
        let mut catch_up = std::pin::pin!(catch_up.fuse());
        let mut sends: FuturesUnordered<BoxFuture<'static, Reply>> = FuturesUnordered::new();
        loop {
            tokio::select! {
                biased;
                () = socket.until(|state| state.closed.is_some() || state.cut) => return,
                Some((number, outcome)) = sends.next(), if !sends.is_empty() => {
                    socket.push(&reply(number, outcome), Urgency::Reliable);
                }
                () = &mut catch_up, if !catch_up.is_terminated() => {}
                command = commands.recv() => match command {
                    None => return,
                    Some((number, Command::Send { conversation, key, text })) => {
                        let (client_msg_id, text) = (key.as_str(), text.as_str());
                        let new = NewMessage { client_msg_id, text, thread_root_id: None };
                        let sent = app.messages.send(caller, conversation, new);
                        sends.push(sent.map(move |sent| {
                            (number, sent.map(|s| json!({ "message": s.message, "duplicate": s.duplicate })))
                        }).boxed());
                    }
                    Some((number, command)) => {
                        let outcome = self.command(caller, command).await;
                        socket.push(&reply(number, outcome), Urgency::Reliable);
                    }
                },
            }
        }
    }

    async fn command(&self, caller: &Caller, command: Command) -> Result<Value> {
        let (messages, channels) = (&self.app.messages, &self.app.channels);
        match command {
            Command::Hello(_) | Command::Send { .. } => Err(Error::BadRequest("twice".into())),
            Command::Edit { message, text } => {
                let text = MessageText::parse(&text).expect("a good text");
                Ok(json(&messages.edit(caller, message, text).await?))
            }
            Command::Delete { message } => Ok(json(&messages.delete(caller, message).await?)),
            Command::React { message } => {
                let emoji = Emoji::parse("+1").expect("a good mark");
                Ok(json(&messages.react(caller, message, emoji).await?))
            }
            Command::Read { conversation, seq } => {
                Ok(json(&channels.mark_read(caller, conversation, Seq(seq)).await?))
            }
            Command::Sync { conversation, from_rev } => {
                let page = messages.replay(caller, conversation, Rev(from_rev)).await?;
                let mut data = json!({
                    "conversation_id": conversation,
                    "from_rev": page.from_rev,
                    "to_rev": page.to_rev,
                    "complete": page.complete,
                    "messages": page.messages,
                    "conversation": page.conversation,
                });
                if page.reset {
                    data["reset"] = true.into();
                }
                Ok(data)
            }
        }
    }
}

fn json(object: &impl Serialize) -> Value {
    serde_json::to_value(object).expect("encodes")
}

fn reply(id: u64, outcome: Result<Value>) -> Frame {
    Frame::encode(&match outcome {
        Ok(data) => json!({ "type": "ok", "id": id, "data": data }),
        Err(error) => {
            let code = match error {
                Error::Unavailable { .. } => "unavailable",
                Error::Internal { .. } => "internal",
                Error::RateLimited { .. } => "rate_limited",
                Error::NotFound(_) => "not_found",
                Error::Forbidden(_) => "forbidden",
                Error::Conflict { .. } => "conflict",
                _ => "other",
            };
            json!({ "type": "error", "id": id, "error": { "code": code, "message": error.to_string() } })
        }
    })
}

#[async_trait]
impl Weather for StoreLink {
    async fn before(&self, work: Work) -> Result<()> {
        if !self.alone || work == Work::Read {
            self.chance.pause(self.climate.store_delay).await;
        }
        self.passes("before it began")
    }

    /// A node's own store takes writes in order, and reports the outcome of each.
    async fn after(&self, work: Work) -> Result<()> {
        if self.alone && work == Work::Write {
            return Ok(());
        }
        self.chance.pause(self.climate.store_delay).await;
        self.passes("after it had committed")
    }
}

impl StoreLink {
    /// One on which nothing is lost.
    pub(crate) fn good(chance: &Chance) -> Self {
        Self {
            chance: chance.clone(),
            climate: Climate::GOOD,
            alone: false,
            cut: AtomicBool::new(false),
        }
    }

    fn passes(&self, when: &str) -> Result<()> {
        if self.cut.load(Ordering::Relaxed) || self.chance.percent(self.climate.store_fails) {
            return Err(Error::unavailable(format!("the store was lost {when}")));
        }
        Ok(())
    }
}

impl Socket {
    /// The next event; `None` once the connection has ended.
    pub(crate) async fn next(&self) -> Option<Value> {
        poll_fn(|cx| {
            let mut state = self.state.lock().expect("no panic");
            if state.cut {
                return Poll::Ready(None);
            }
            let next = state.backlog.frames().next().cloned();
            if let Some(frame) = next {
                state.backlog.written(frame.len());
                state.wake();
                return Poll::Ready(Some(serde_json::from_slice(&frame).expect("a frame is JSON")));
            }
            if state.closed.is_some() {
                return Poll::Ready(None);
            }
            state.wakers.push(cx.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// Cuts the connection: what was in flight is lost.
    pub(crate) fn cut(&self) {
        let mut state = self.state.lock().expect("no panic");
        state.cut = true;
        state.backlog.clear();
        state.wake();
    }

    fn push(&self, frame: &Frame, urgency: Urgency) {
        let mut state = self.state.lock().expect("no panic");
        if state.closed.is_none() && !state.cut {
            if state.backlog.push(frame.bytes().clone(), urgency) == Pushed::Overflowed {
                state.closed = Some(Close::SlowConsumer);
            }
            state.wake();
        }
    }

    fn welcome(&self, frame: &Frame) {
        let mut state = self.state.lock().expect("no panic");
        state.backlog.welcome(frame.bytes().clone());
        state.wake();
    }

    fn close(&self, close: Close) {
        let mut state = self.state.lock().expect("no panic");
        state.closed.get_or_insert(close);
        state.wake();
    }

    async fn until(&self, condition: impl Fn(&State) -> bool) {
        poll_fn(|cx| {
            let mut state = self.state.lock().expect("no panic");
            if condition(&state) || state.cut {
                return Poll::Ready(());
            }
            state.wakers.push(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

impl State {
    fn wake(&mut self) {
        self.wakers.drain(..).for_each(Waker::wake);
    }
}

#[async_trait]
impl Fanout for Sockets {
    async fn deliver(&self, to: Arc<[ConnectionId]>, frame: Frame, urgency: Urgency) {
        let sockets = self.all.lock().expect("no panic");
        let told: Vec<_> = to.iter().filter_map(|id| sockets.get(&id.number)).collect();
        let event: Value = serde_json::from_slice(frame.bytes()).expect("a frame is JSON");
        for socket in told {
            self.judge.delivered(socket.serial, &socket.caller, &event);
            socket.push(&frame, urgency);
        }
    }

    async fn close(&self, connection: ConnectionId, close: Close) {
        if let Some(socket) = self.all.lock().expect("no panic").get(&connection.number) {
            socket.close(close);
        }
    }
}
