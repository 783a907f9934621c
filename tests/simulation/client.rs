//! A simulated client: the reference client's cache and outbox, on a connection that breaks, with somebody who types.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parlance_application::{Caller, live::Resume};
use parlance_client::{Applied, Cache, Outbox, Outcome, SyncRequest};
use parlance_domain::{ConversationId, MessageId, Rev, WorkspaceId};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::{
    chance::{Chance, Climate},
    judge::{Judge, number, text},
    node::{Command, Commands, Node, Socket},
};

/// The nodes as a client sees them.
pub(crate) type Cluster = Arc<Mutex<Vec<Option<Arc<Node>>>>>;

/// What a client holds, by conversation.
pub(crate) type Held = BTreeMap<ConversationId, HeldConversation>;

pub(crate) struct HeldConversation {
    /// Everything after this `seq` should be here.
    pub(crate) since: u64,
    pub(crate) cursor: u64,
    pub(crate) messages: BTreeMap<u64, Value>,
}

pub(crate) struct Client {
    pub(crate) name: String,
    /// Another one after its session has ended.
    pub(crate) caller: Arc<Mutex<Caller>>,
    pub(crate) judge: Judge,
    pub(crate) chance: Chance,
    pub(crate) climate: Climate,
    pub(crate) cluster: Cluster,
    /// Nobody types any more.
    pub(crate) quiet: Arc<AtomicBool>,
    pub(crate) mind: Mind,
}

/// What outlives connections. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Mind(Arc<Mutex<Inner>>);

pub(crate) struct Inner {
    pub(crate) cache: Cache,
    outbox: Outbox,
    /// The `seq` from which a conversation is held.
    since: BTreeMap<String, u64>,
    connected: bool,
    sends: u64,
}

/// What a reply is to.
enum Asked {
    Hello,
    Send { conversation: String, key: String },
    Sync(String),
    Change,
    Read(ConversationId),
}

/// One connection.
struct Line {
    socket: Arc<Socket>,
    commands: Commands,
    asked: BTreeMap<u64, Asked>,
    next: u64,
}

impl Default for Inner {
    fn default() -> Self {
        Self {
            cache: Cache::default(),
            outbox: Outbox::new(64),
            since: BTreeMap::new(),
            connected: false,
            sends: 0,
        }
    }
}

impl Mind {
    pub(crate) fn look(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().expect("no panic")
    }
}

impl Inner {
    /// Nothing is in flight.
    pub(crate) fn at_rest(&self) -> bool {
        self.connected
            && self.outbox.is_empty()
            && self.cache.conversations().values().all(|it| !it.syncing())
    }

    /// What it believes a workspace's name to be, if it is in it.
    pub(crate) fn name_of(&self, workspace: WorkspaceId) -> Option<String> {
        let workspace = self.cache.workspaces().get(&workspace.to_string())?;
        Some(text(workspace, "name"))
    }

    pub(crate) fn held(&self) -> Held {
        let of = |(id, it): (&String, &parlance_client::Conversation)| {
            let held = HeldConversation {
                since: self.since.get(id).copied().unwrap_or(0),
                cursor: it.cursor(),
                messages: it.messages().map(|m| (m.seq, Value::clone(&m.body))).collect(),
            };
            (ConversationId(id.parse().expect("an id")), held)
        };
        self.cache.conversations().iter().map(of).collect()
    }

    /// Notes where newly held conversations begin, and forgets those that are gone.
    fn begin(&mut self, anew: &[String]) {
        for id in anew {
            self.since.remove(id);
        }
        let Self { cache, since, .. } = self;
        since.retain(|id, _| cache.conversation(id).is_some());
        for (id, conversation) in cache.conversations() {
            since.entry(id.clone()).or_insert_with(|| conversation.last_seq());
        }
    }
}

impl Client {
    /// Reconnects forever.
    pub(crate) async fn run(self) {
        loop {
            let node = {
                let cluster = self.cluster.lock().expect("no panic");
                let alive: Vec<_> = cluster.iter().flatten().cloned().collect();
                self.chance.pick(&alive).cloned()
            };
            if let Some((socket, commands)) = node.and_then(|node| node.accept(self.caller())) {
                self.judge.note(format!("{} is connection {}", self.name, socket.serial));
                let mut line = Line { socket, commands, asked: BTreeMap::new(), next: 0 };
                self.converse(&mut line).await;
                line.socket.cut();
            }
            {
                let mut mind = self.mind.look();
                mind.connected = false;
                mind.outbox.disconnected();
            }
            sleep(Duration::from_millis(50) + self.chance.millis(400)).await;
        }
    }

    fn caller(&self) -> Caller {
        self.caller.lock().expect("no panic").clone()
    }

    /// Until the connection ends.
    async fn converse(&self, line: &mut Line) {
        let resume = self.mind.look().cache.resume().map(|resume| {
            let cursors = resume.cursors.iter().map(|(id, rev)| (id_of(id), Rev(*rev))).collect();
            Resume { epoch: resume.epoch, cursors }
        });
        line.ask(Command::Hello(resume), Asked::Hello);
        let slow = self.chance.percent(self.climate.slow_readers);
        let (mut tick, patience) = (Instant::now(), Instant::now() + Duration::from_secs(20));
        loop {
            let due = tokio::time::sleep_until(tick);
            tokio::select! {
                biased;
                frame = line.socket.next() => {
                    let Some(frame) = frame else { return };
                    if self.chance.percent(20) {
                        self.chance.pause(self.climate.network_delay).await;
                    }
                    if slow {
                        self.chance.pause(300).await;
                    }
                    self.hear(line, &frame);
                }
                () = due => {
                    tick = Instant::now() + Duration::from_millis(40) + self.chance.millis(400);
                    if self.mind.look().connected {
                        self.act(line);
                    } else if tick > patience {
                        return;
                    }
                }
            }
        }
    }

    fn hear(&self, line: &mut Line, frame: &Value) {
        let mut mind = self.mind.look();
        let applied = match frame["type"].as_str() {
            Some("ok" | "error") => {
                let number = frame["id"].as_u64().expect("our id");
                let asked = line.asked.remove(&number).expect("one answer for each command");
                // The cache sees every frame; a reply moves nothing.
                mind.cache.apply(frame).expect("readable");
                self.answered(&mut mind, line, asked, frame)
            }
            _ => mind.cache.apply(frame).expect("readable"),
        };
        let mut anew = applied.joined.clone();
        if applied.reset {
            anew.extend(applied.conversation_id.clone());
        }
        mind.begin(&anew);
        for sync in applied.syncs {
            line.sync(sync);
        }
    }

    fn answered(&self, mind: &mut Inner, line: &mut Line, asked: Asked, frame: &Value) -> Applied {
        let data = (frame["type"] == "ok").then(|| &frame["data"]);
        let code = frame["error"]["code"].as_str().unwrap_or("ok");
        match asked {
            Asked::Hello => {
                if let Some(welcome) = data {
                    let syncs = mind.cache.welcome(welcome).expect("readable");
                    mind.connected = true;
                    mind.begin(&[]);
                    for sync in syncs {
                        line.sync(sync);
                    }
                }
            }
            Asked::Send { conversation, key } => {
                let outcome = match (data, code) {
                    (Some(data), _) => {
                        self.judge.acknowledged(&data["message"]);
                        Outcome::Acknowledged
                    }
                    (None, "unavailable" | "internal" | "rate_limited") => {
                        Outcome::Retry { after: Duration::from_millis(200) }
                    }
                    (None, _) => Outcome::Refused,
                };
                mind.outbox.answered(&conversation, &key, outcome, Instant::now());
            }
            Asked::Sync(conversation) => match data {
                Some(page) => return mind.cache.synced(page).expect("readable"),
                None if matches!(code, "unavailable" | "internal") => {
                    if let Some(again) = mind.cache.sync_of(&conversation) {
                        line.sync(again);
                    }
                }
                None => mind.cache.sync_failed(&conversation),
            },
            Asked::Change => {
                if let Some(message) = data {
                    self.judge.acknowledged(message);
                }
            }
            Asked::Read(conversation) => {
                if let Some(read) = data {
                    self.judge.marked(self.caller().id(), conversation, number(read, "read_seq"));
                }
            }
        }
        Applied::default()
    }

    /// Sends what is due, and now and then thinks of something else to do.
    fn act(&self, line: &mut Line) {
        let mut mind = self.mind.look();
        if !self.quiet.load(Ordering::Relaxed) && self.chance.percent(60) {
            let ids: Vec<String> = mind.cache.conversations().keys().cloned().collect();
            if let Some(id) = self.chance.pick(&ids) {
                self.do_something(&mut mind, line, id);
            }
        }
        for send in mind.outbox.due(Instant::now()) {
            let (conversation, key) = (send.conversation_id, send.client_msg_id);
            let command = Command::Send {
                conversation: id_of(&conversation),
                key: key.clone(),
                text: send.text,
            };
            line.ask(command, Asked::Send { conversation, key });
        }
    }

    fn do_something(&self, mind: &mut Inner, line: &mut Line, id: &str) {
        let messages: Vec<_> = mind.cache.messages(id).filter(|m| !m.deleted()).cloned().collect();
        let any = self.chance.pick(&messages).cloned();
        let own =
            any.clone().filter(|m| text(&m.body, "author_id") == self.caller().id().to_string());
        match (self.chance.below(10), own, any) {
            (0, Some(own), _) => {
                let text = format!("edited {}", self.chance.below(1_000));
                line.ask(Command::Edit { message: message_id(&own.id), text }, Asked::Change);
            }
            (1, Some(own), _) => {
                line.ask(Command::Delete { message: message_id(&own.id) }, Asked::Change);
            }
            (2, _, Some(any)) => {
                line.ask(Command::React { message: message_id(&any.id) }, Asked::Change);
            }
            (3, _, Some(any)) => {
                let conversation = id_of(id);
                let command = Command::Read { conversation, seq: any.seq };
                line.ask(command, Asked::Read(conversation));
            }
            _ => {
                mind.sends += 1;
                let key = format!("{}-{}", self.name, mind.sends);
                let words = if self.chance.percent(3) { 300 } else { 1 };
                // A full outbox is the typist's problem.
                let _ = mind.outbox.push(id, &key, &format!("{key} ").repeat(words));
            }
        }
    }
}

impl Line {
    fn ask(&mut self, command: Command, asked: Asked) {
        self.next += 1;
        // A busy server, or one that is gone, is asked nothing; the outbox repeats what matters on the next connection.
        if self.commands.try_send((self.next, command)).is_ok() {
            self.asked.insert(self.next, asked);
        } else {
            self.socket.cut();
        }
    }

    fn sync(&mut self, SyncRequest { conversation_id, from_rev }: SyncRequest) {
        let conversation = id_of(&conversation_id);
        self.ask(Command::Sync { conversation, from_rev }, Asked::Sync(conversation_id));
    }
}

fn id_of(id: &str) -> ConversationId {
    ConversationId(id.parse().expect("an id"))
}

fn message_id(id: &str) -> MessageId {
    MessageId(id.parse().expect("an id"))
}
