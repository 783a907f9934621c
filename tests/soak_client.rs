//! One person with one connection at a time, who keeps to the contract's "What a client does".

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::{
    net::TcpStream,
    sync::Notify,
    task::AbortHandle,
    time::{Instant, sleep, timeout},
};
use tokio_tungstenite::{WebSocketStream, client_async, tungstenite::Message};

use crate::{proxy::Dice, soak_ledger::Ledger};

/// How long a connection and its `hello` may take.
const OPENING: Duration = Duration::from_secs(4);
/// After so much silence a client asks whether anybody is there …
const QUIET: Duration = Duration::from_millis(1_500);
/// … and after so much it leaves.
const SILENCE: Duration = Duration::from_secs(4);
/// A command that has no answer for so long is tried at another connection.
const ANSWER: Duration = Duration::from_secs(8);
const TICK: Duration = Duration::from_millis(100);
/// A client that is to come back waits for as long, more or less.
const PAUSE: Duration = Duration::from_millis(150);

type Stream = WebSocketStream<TcpStream>;

pub(crate) struct Client {
    pub(crate) id: String,
    pub(crate) token: String,
    state: Mutex<State>,
    work: Notify,
    ledger: Arc<Ledger>,
    dice: Dice,
    nodes: Vec<SocketAddr>,
}

/// Ends with its owner.
pub(crate) struct Running(pub(crate) Arc<Client>, AbortHandle);

#[derive(Default)]
pub(crate) struct State {
    epoch: String,
    pub(crate) conversations: HashMap<String, Held>,
    outbox: HashMap<String, VecDeque<Write>>,
    marks: Vec<(String, u64)>,
    pub(crate) connected: Option<Instant>,
}

/// What the client holds of a conversation.
#[derive(Default)]
pub(crate) struct Held {
    pub(crate) cursor: u64,
    /// The newest message when the client came.
    pub(crate) first: u64,
    read_seq: u64,
    /// By `seq`.
    pub(crate) messages: BTreeMap<u64, Kept>,
    /// Gone from the list, or left.
    pub(crate) over: bool,
    syncing: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) id: String,
    pub(crate) rev: u64,
    pub(crate) author: String,
    pub(crate) key: String,
    pub(crate) text: String,
    pub(crate) deleted: bool,
}

#[derive(Clone)]
enum Write {
    Send { key: String, text: String },
    Edit { message_id: String, text: String },
    Delete { message_id: String },
}

/// What a command of this connection was for.
enum Asked {
    Write(String),
    Sync(String),
    Other,
}

/// One connection.
struct Line<'a> {
    client: &'a Client,
    stream: Stream,
    next_id: i64,
    asked: HashMap<i64, (Asked, Instant)>,
    /// Conversations with a write on its way, or with one that is to wait until then.
    busy: HashSet<String>,
    later: Vec<(Instant, String)>,
    since: Instant,
    heard: Instant,
    pinged: Instant,
}

impl Held {
    /// Messages of others that nobody has read, as the contract counts them.
    pub(crate) fn unread(&self, me: &str) -> usize {
        let own =
            self.messages.iter().rev().find(|(_, m)| m.author == me).map_or(0, |(seq, _)| *seq);
        let after = self.read_seq.max(own) + 1;
        let unread = self.messages.range(after..).filter(|(_, m)| m.author != me && !m.deleted);
        unread.count().min(100)
    }
}

impl Kept {
    pub(crate) fn of(message: &Value) -> (u64, Self) {
        let text = |name: &str| message[name].as_str().unwrap_or_default().to_owned();
        let kept = Self {
            id: text("id"),
            rev: message["rev"].as_u64().unwrap_or_default(),
            author: text("author_id"),
            key: text("client_msg_id"),
            text: text("text"),
            deleted: !message["deleted_at"].is_null(),
        };
        (message["seq"].as_u64().unwrap_or_default(), kept)
    }
}

impl Client {
    pub(crate) fn new(
        (id, token): (String, String),
        nodes: Vec<SocketAddr>,
        ledger: Arc<Ledger>,
        seed: u64,
    ) -> Arc<Self> {
        let (state, work) = (Mutex::default(), Notify::new());
        Arc::new(Self { id, token, state, work, ledger, dice: Dice::new(seed), nodes })
    }

    pub(crate) fn start(self: &Arc<Self>) -> Running {
        let this = self.clone();
        Running(self.clone(), tokio::spawn(async move { this.run().await }).abort_handle())
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes that have no answer yet.
    pub(crate) fn unanswered(&self) -> usize {
        self.state().outbox.values().map(VecDeque::len).sum()
    }

    pub(crate) fn send(&self, conversation: &str, key: &str, text: &str) {
        self.ledger.book().begin(&self.id, conversation, key, text);
        self.push(conversation, Write::Send { key: key.to_owned(), text: text.to_owned() });
    }

    /// Only once for each message: a second edit could not be told from a late first one.
    pub(crate) fn edit(&self, conversation: &str, key: &str, message_id: &str, text: &str) {
        if let Some(fate) = self.ledger.book().sends.get_mut(key) {
            text.clone_into(&mut fate.text);
        }
        let (message_id, text) = (message_id.to_owned(), text.to_owned());
        self.push(conversation, Write::Edit { message_id, text });
    }

    pub(crate) fn delete(&self, conversation: &str, key: &str, message_id: &str) {
        if let Some(fate) = self.ledger.book().sends.get_mut(key) {
            fate.deleted = true;
        }
        self.push(conversation, Write::Delete { message_id: message_id.to_owned() });
    }

    /// Marks all that has come as read, if there is a connection to do it.
    pub(crate) fn mark_read(&self, conversation: &str) {
        let mut state = self.state();
        let last = state.conversations.get(conversation).and_then(|c| c.messages.keys().last());
        if let Some(seq) = last.copied() {
            state.marks.push((conversation.to_owned(), seq));
        }
        drop(state);
        self.work.notify_one();
    }

    fn push(&self, conversation: &str, write: Write) {
        self.state().outbox.entry(conversation.to_owned()).or_default().push_back(write);
        self.work.notify_one();
    }

    async fn run(&self) {
        let mut away = Instant::now();
        loop {
            if let Some(mut line) = self.open().await {
                {
                    let mut book = self.ledger.book();
                    book.connections += 1;
                    book.absences.add(away.elapsed(), &self.id);
                }
                let how = line.serve().await;
                let begun =
                    line.asked.values().filter(|(asked, _)| matches!(asked, Asked::Write(_)));
                let mut book = self.ledger.book();
                book.ended(&how);
                book.retries += begun.count() as u64;
                drop(book);
                self.state().connected = None;
                away = Instant::now();
            }
            sleep(self.dice.around(PAUSE)).await;
        }
    }

    async fn open(&self) -> Option<Line<'_>> {
        let node = *self.dice.of(&self.nodes);
        let opening = async {
            let stream = TcpStream::connect(node).await.ok()?;
            stream.set_nodelay(true).ok()?;
            let (mut stream, _) =
                client_async(format!("ws://{node}/api/v1/ws"), stream).await.ok()?;
            let resume = {
                let state = self.state();
                let cursors: HashMap<_, _> = state
                    .conversations
                    .iter()
                    .filter(|(_, c)| !c.over)
                    .map(|(id, c)| (id, c.cursor))
                    .collect();
                (!state.epoch.is_empty())
                    .then(|| json!({ "epoch": state.epoch, "cursors": cursors }))
            };
            let hello = json!({ "token": self.token, "resume": resume });
            let hello = json!({ "type": "hello", "id": 0, "data": hello }).to_string();
            stream.send(Message::text(hello)).await.ok()?;
            loop {
                if let Message::Text(text) = stream.next().await?.ok()? {
                    let reply: Value = serde_json::from_str(&text).ok()?;
                    return (reply["type"] == "ok").then_some((stream, reply));
                }
            }
        };
        let (stream, reply) = timeout(OPENING, opening).await.ok().flatten()?;
        let since = Instant::now();
        let mut line = Line {
            client: self,
            stream,
            next_id: 0,
            asked: HashMap::new(),
            busy: HashSet::new(),
            later: vec![],
            since,
            heard: since,
            pinged: since,
        };
        line.welcomed(&reply["data"]).await?;
        self.state().connected = Some(since);
        Some(line)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.1.abort();
    }
}

impl Line<'_> {
    /// Until the end, which it tells.
    async fn serve(&mut self) -> String {
        let mut tick = tokio::time::interval(TICK);
        loop {
            let done = tokio::select! {
                message = self.stream.next() => {
                    self.heard = Instant::now();
                    match message {
                        Some(Ok(Message::Text(text))) => match serde_json::from_str(&text) {
                            Ok(frame) => self.frame(&frame).await,
                            Err(_) => return "unreadable".to_owned(),
                        },
                        Some(Ok(Message::Close(close))) => {
                            return close.map_or("closed".to_owned(), |c| u16::from(c.code).to_string());
                        }
                        Some(Ok(_)) => Some(()),
                        Some(Err(_)) | None => return "broken".to_owned(),
                    }
                }
                () = self.client.work.notified() => self.work().await,
                _ = tick.tick() => {
                    if self.heard.elapsed() > SILENCE {
                        return "silent".to_owned();
                    }
                    if self.asked.values().any(|(_, at)| at.elapsed() > ANSWER) {
                        return "unanswered".to_owned();
                    }
                    self.ticked().await
                }
            };
            if done.is_none() {
                return "broken".to_owned();
            }
        }
    }

    async fn ticked(&mut self) -> Option<()> {
        if self.heard.elapsed() > QUIET && self.pinged <= self.heard {
            self.pinged = Instant::now();
            self.command("ping", json!({}), Asked::Other).await?;
        }
        let now = Instant::now();
        let (due, later) =
            std::mem::take(&mut self.later).into_iter().partition(|(at, _)| *at <= now);
        self.later = later;
        for (_, conversation) in due {
            self.busy.remove(&conversation);
        }
        self.work().await
    }

    async fn welcomed(&mut self, hello: &Value) -> Option<()> {
        let mut listed = HashSet::new();
        {
            let mut state = self.client.state();
            hello["epoch"].as_str()?.clone_into(&mut state.epoch);
            for summary in hello["conversations"].as_array()? {
                listed.insert(summary["id"].as_str()?.to_owned());
                state.joined(summary);
            }
            for (id, held) in &mut state.conversations {
                held.syncing = false;
                held.over = !listed.contains(id);
            }
        }
        for id in hello["behind"].as_array()? {
            self.sync(id.as_str()?).await?;
        }
        self.work().await
    }

    async fn command(&mut self, kind: &str, data: Value, asked: Asked) -> Option<()> {
        self.next_id += 1;
        self.asked.insert(self.next_id, (asked, Instant::now()));
        let frame = json!({ "type": kind, "id": self.next_id, "data": data }).to_string();
        // A peer that takes nothing is as silent as one that says nothing.
        timeout(SILENCE, self.stream.send(Message::text(frame))).await.ok()?.ok()
    }

    async fn sync(&mut self, conversation: &str) -> Option<()> {
        let from_rev = {
            let mut state = self.client.state();
            let Some(held) = state.conversations.get_mut(conversation) else { return Some(()) };
            if std::mem::replace(&mut held.syncing, true) {
                return Some(());
            }
            held.cursor
        };
        let data = json!({ "conversation_id": conversation, "from_rev": from_rev });
        self.command("sync", data, Asked::Sync(conversation.to_owned())).await
    }

    /// Begins what can be begun: one write at a time for each conversation.
    async fn work(&mut self) -> Option<()> {
        let (marks, writes): (_, Vec<_>) = {
            let mut state = self.client.state();
            let idle = state.outbox.iter().filter(|(id, _)| !self.busy.contains(*id));
            let writes =
                idle.filter_map(|(id, writes)| Some((id.clone(), writes.front()?.clone())));
            let writes = writes.collect();
            (std::mem::take(&mut state.marks), writes)
        };
        for (conversation, seq) in marks {
            let data = json!({ "conversation_id": conversation, "seq": seq });
            self.command("read.mark", data, Asked::Other).await?;
        }
        for (conversation, write) in writes {
            self.busy.insert(conversation.clone());
            let (kind, data) = match write {
                Write::Send { key, text } => (
                    "message.send",
                    json!({ "conversation_id": conversation, "client_msg_id": key, "text": text }),
                ),
                Write::Edit { message_id, text } => {
                    ("message.edit", json!({ "message_id": message_id, "text": text }))
                }
                Write::Delete { message_id } => {
                    ("message.delete", json!({ "message_id": message_id }))
                }
            };
            self.command(kind, data, Asked::Write(conversation)).await?;
        }
        Some(())
    }

    async fn frame(&mut self, frame: &Value) -> Option<()> {
        match frame["type"].as_str()? {
            kind @ ("ok" | "error") => {
                let (asked, _) = self.asked.remove(&frame["id"].as_i64()?)?;
                match asked {
                    Asked::Write(conversation) => {
                        self.answered(&conversation, kind == "ok", frame).await
                    }
                    Asked::Sync(conversation) => {
                        if let Some(held) = self.client.state().conversations.get_mut(&conversation)
                        {
                            held.syncing = false;
                        }
                        if kind == "ok" {
                            self.page(&frame["data"], &frame["data"]).await
                        } else {
                            Some(())
                        }
                    }
                    Asked::Other => Some(()),
                }
            }
            "replay" => self.page(frame, &frame["data"]).await,
            "conversation.joined" => {
                self.client.state().joined(&frame["data"]["conversation"]);
                Some(())
            }
            "conversation.left" | "conversation.deleted" => {
                let id = frame["conversation_id"]
                    .as_str()
                    .or(frame["data"]["conversation_id"].as_str())?;
                if let Some(held) = self.client.state().conversations.get_mut(id) {
                    held.over = true;
                }
                Some(())
            }
            "read.updated" => {
                let (id, seq) =
                    (frame["conversation_id"].as_str()?, frame["data"]["read_seq"].as_u64()?);
                if let Some(held) = self.client.state().conversations.get_mut(id) {
                    held.read_seq = held.read_seq.max(seq);
                }
                Some(())
            }
            _ => match frame["rev"].as_u64() {
                Some(rev) => self.live(frame, rev).await,
                None => Some(()),
            },
        }
    }

    async fn live(&mut self, frame: &Value, rev: u64) -> Option<()> {
        let id = frame["conversation_id"].as_str()?;
        {
            let mut state = self.client.state();
            let Some(held) = state.conversations.get_mut(id) else {
                let wrong = format!("an event of {id}, which {} is not in", self.client.id);
                self.client.ledger.book().wrong(wrong);
                return Some(());
            };
            if rev <= held.cursor {
                self.client.ledger.book().repeats += 1;
                return Some(());
            }
            if rev == held.cursor + 1 {
                if frame["data"]["message"].is_object() {
                    self.apply(held, &frame["data"]["message"]);
                }
                held.cursor = rev;
                return Some(());
            }
            self.client.ledger.book().holes += 1;
        }
        self.sync(id).await
    }

    /// A replay, as an event or as the reply to `sync`.
    async fn page(&mut self, page: &Value, data: &Value) -> Option<()> {
        let id = page["conversation_id"].as_str()?;
        let (from, to) = (page["from_rev"].as_u64()?, page["to_rev"].as_u64()?);
        let more = {
            let mut state = self.client.state();
            let held = state.conversations.get_mut(id)?;
            if page["reset"] == true {
                let wrong =
                    format!("{} was told to drop {id} at rev {}", self.client.id, held.cursor);
                self.client.ledger.book().wrong(wrong);
            }
            if from > held.cursor {
                true
            } else {
                if to > held.cursor {
                    for message in data["messages"].as_array()? {
                        self.apply(held, message);
                    }
                    held.cursor = to;
                    self.client.ledger.book().replays += 1;
                }
                // An event says by itself that more follow.
                page["complete"] == false && page["type"].is_null()
            }
        };
        if more { self.sync(id).await } else { Some(()) }
    }

    fn apply(&self, held: &mut Held, message: &Value) {
        let (seq, kept) = Kept::of(message);
        let mut book = self.client.ledger.book();
        match held.messages.get_mut(&seq) {
            Some(before) if before.id != kept.id => {
                book.wrong(format!(
                    "{} got {} and {} as seq {seq}",
                    self.client.id, before.key, kept.key
                ));
            }
            Some(before) if before.rev < kept.rev => *before = kept,
            Some(_) => {}
            None if seq <= held.first => {}
            None => {
                book.arrived(&self.client.id, &kept.key, self.since);
                held.messages.insert(seq, kept);
            }
        }
    }

    async fn answered(&mut self, conversation: &str, well: bool, frame: &Value) -> Option<()> {
        let client = self.client;
        let error = &frame["error"];
        let again =
            matches!(error["code"].as_str(), Some("unavailable" | "internal" | "rate_limited"));
        if !well && again {
            client.ledger.book().put_off += 1;
            let wait = error["retry_after_ms"].as_u64().unwrap_or(200);
            let until = Instant::now() + client.dice.around(Duration::from_millis(wait.min(2_000)));
            self.later.push((until, conversation.to_owned()));
            return Some(());
        }
        let write = client.state().outbox.get_mut(conversation)?.pop_front()?;
        self.busy.remove(conversation);
        match write {
            Write::Send { key, .. } if well => {
                let message = &frame["data"]["message"];
                let (id, seq) = (message["id"].as_str()?, message["seq"].as_u64()?);
                client.ledger.book().acknowledged(&key, id, seq);
            }
            _ if well => {}
            // Whoever was removed may not write any more.
            _ if client.ledger.book().is_removed(&client.id) => {}
            _ => client.ledger.book().wrong(format!("{} was refused: {error}", client.id)),
        }
        self.work().await
    }
}

impl State {
    /// A conversation is listed, or joined.
    fn joined(&mut self, summary: &Value) {
        let number = |name: &str| summary[name].as_u64().unwrap_or_default();
        let id = summary["id"].as_str().unwrap_or_default().to_owned();
        let held = self.conversations.entry(id).or_insert_with(|| Held {
            cursor: number("rev"),
            first: number("last_seq"),
            ..Held::default()
        });
        held.read_seq = held.read_seq.max(number("read_seq"));
        held.over = false;
    }
}
