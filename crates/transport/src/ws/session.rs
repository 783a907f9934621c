//! One connection: `hello`, then commands, heartbeats and the end. Sends are pipelined; all else is taken one after another.

use std::{
    collections::HashSet,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use actix_web::web::Data;
use actix_ws::{AggregatedMessage, AggregatedMessageStream};
use futures::{
    FutureExt, StreamExt,
    future::{FusedFuture, LocalBoxFuture},
    stream::FuturesUnordered,
};
use parlance_application::{
    App, Caller, Error, Result, Unauthenticated,
    live::{Attachment, Frame, replay_frame},
    ports::{
        Close, Urgency,
        store::{Head, ReplayPage, Snapshot, SnapshotEntry},
    },
};
use parlance_domain::{
    ClientMsgId, ConversationAction, ConversationId, Emoji, Message, MessageText,
};
use serde::Serialize;
use serde_json::json;
use tokio::time::{Instant, interval_at, sleep, sleep_until, timeout};

use super::{
    Worker,
    hub::Socket,
    protocol::{
        self, Command, CommandId, Edit, Hello, HelloWorkspace, Limits, Nothing, Place, Reaction,
        ReadMark, Resume, Send, Sync, Target, Token, Unreadable, Welcome,
    },
    wire::{INBOUND_LIMIT, Outbound, text_frame},
};
use crate::{error::face, http::messages::Sent as SentReply, sync::SyncPage};

/// How long a client may take to say hello.
const HELLO_WITHIN: Duration = Duration::from_secs(10);
/// How often the server pings.
const HEARTBEAT: Duration = Duration::from_secs(25);
/// How long a client may be silent.
const SILENCE: Duration = Duration::from_mins(1);
/// How long the peer may take to answer a close frame.
const GOODBYE: Duration = Duration::from_secs(1);
/// Unreadable frames in a row that end the connection.
const GARBAGE: u32 = 5;
/// Sends of one connection that may wait for their answer; beyond it nothing more is read.
const SENDS_IN_FLIGHT: usize = 64;
/// The most that one `hello` replays, in bytes.
const REPLAY_BUDGET: usize = 2 * 1024 * 1024;
/// The most cursors in one `hello`.
const CURSORS: usize = 1_000;

type Reply = (CommandId, Result<Frame>);

/// A connection.
pub(super) struct Session {
    app: Data<App>,
    socket: Socket,
    outbound: Outbound,
    /// By the upgrade's header, and then by `hello`.
    caller: Option<Caller>,
    heard_at: Arc<AtomicI64>,
    garbage: u32,
}

/// What came in.
enum Incoming {
    Command(Command),
    /// Nothing that is left to do.
    Nothing,
    End,
}

/// Changes of one conversation, to be sent as the socket drains.
struct Replay {
    pages: Vec<Frame>,
    /// What the client has after them, at the access of the snapshot.
    then: Head,
}

impl Session {
    pub(super) fn new(
        app: Data<App>,
        worker: &Worker,
        caller: Option<Caller>,
        outbound: Outbound,
    ) -> Self {
        let heard_at = Arc::new(AtomicI64::new(app.ambient.now().as_millis()));
        Self {
            app,
            socket: worker.insert(outbound.clone()),
            outbound,
            caller,
            heard_at,
            garbage: 0,
        }
    }

    /// Lives as long as the connection.
    pub(super) async fn run(mut self, mut inbound: AggregatedMessageStream) {
        if let Some(replays) = self.open(&mut inbound).await {
            self.serve(&mut inbound, replays).await;
        }
        self.app.live.unregister(self.socket.id).await;
        // The peer may answer the close frame; what it still sends is read, so that the close frame is not lost to a reset.
        let goodbye = async {
            while !matches!(
                inbound.next().await,
                None | Some(Ok(AggregatedMessage::Close(_)) | Err(_))
            ) {}
        };
        if timeout(GOODBYE, goodbye).await.is_ok() {
            // An inbound side that has failed cannot show that the close frame arrived.
            sleep(GOODBYE / 10).await;
        }
        self.outbound.finish();
    }

    /// Waits for a good `hello`.
    async fn open(&mut self, inbound: &mut AggregatedMessageStream) -> Option<Vec<Replay>> {
        let deadline = Instant::now() + HELLO_WITHIN;
        loop {
            let command = tokio::select! {
                () = sleep_until(deadline) => {
                    self.outbound.close(Close::NoHello);
                    return None;
                }
                () = self.outbound.ended() => return None,
                message = inbound.next() => match self.read(message) {
                    Incoming::Command(command) => command,
                    Incoming::Nothing => continue,
                    Incoming::End => return None,
                },
            };
            if command.kind != "hello" {
                self.answer(&command.id, Err(Unauthenticated::Missing.into()));
                continue;
            }
            match self.hello(&command).await {
                Ok(replays) => return Some(replays),
                Err(error) => {
                    let close = face(&error).close;
                    self.answer(&command.id, Err(error));
                    if let Some(close) = close {
                        self.outbound.close(close);
                        return None;
                    }
                }
            }
        }
    }

    async fn hello(&mut self, command: &Command) -> Result<Vec<Replay>> {
        let hello: Hello = command.data()?;
        if hello.resume.as_ref().is_some_and(|resume| resume.cursors.len() > CURSORS) {
            return Err(Error::refused("resume.cursors", "too_long", "must be at most 1000"));
        }
        let caller = match (hello.token, self.caller.take()) {
            (Some(token), _) => self.app.accounts.authenticate(&token).await?,
            (None, Some(caller)) => caller,
            (None, None) => return Err(Unauthenticated::Missing.into()),
        };
        let id = self.socket.id;
        self.app.live.register(id, caller.id(), caller.session_id, self.heard_at.clone()).await;
        // A session that ended between its look-up and its registration is found now.
        let opened = async {
            self.app.accounts.still_lives(&caller).await?;
            let snapshot = self.app.channels.snapshot(&caller).await?;
            let (replays, behind) = self.replays(&caller, &snapshot, hello.resume).await?;
            Ok((snapshot, replays, behind))
        };
        let (snapshot, replays, behind) = match opened.await {
            Ok(opened) => opened,
            Err(error) => {
                self.app.live.unregister(id).await;
                return Err(error);
            }
        };
        self.welcome(&command.id, &caller, &snapshot, &behind);
        let pending: Vec<ConversationId> =
            replays.iter().map(|replay| replay.then.conversation_id).collect();
        let waiting: HashSet<&ConversationId> = pending.iter().collect();
        let conversations = snapshot
            .conversations
            .iter()
            .map(SnapshotEntry::head)
            .filter(|head| !waiting.contains(&head.conversation_id))
            .collect();
        let workspaces = snapshot.workspaces.iter().map(|workspace| workspace.id).collect();
        self.app.live.attach(id, Attachment { workspaces, conversations, pending }).await;
        self.caller = Some(caller);
        Ok(replays)
    }

    fn welcome(
        &self,
        id: &CommandId,
        caller: &Caller,
        snapshot: &Snapshot,
        behind: &[ConversationId],
    ) {
        let welcome = Welcome {
            session_id: caller.session_id,
            user: &caller.account,
            token_expires_in_ms: millis(self.expires_in(caller)),
            heartbeat_ms: millis(HEARTBEAT),
            epoch: &snapshot.epoch,
            limits: Limits {
                frame_bytes: INBOUND_LIMIT,
                text_chars: MessageText::MAX,
                resume_cursors: CURSORS,
                sends_in_flight: SENDS_IN_FLIGHT,
            },
            features: ["resume", "typing"],
            workspaces: snapshot
                .workspaces
                .iter()
                .map(|w| HelloWorkspace { id: w.id, name: &w.name, role: w.role })
                .collect(),
            conversations: snapshot.conversations.iter().map(|entry| &entry.summary).collect(),
            behind,
        };
        self.push(&protocol::ok(id, &welcome));
    }

    /// Reads what changed since the client's cursors, most recently active conversation first, as far as the budget goes;
    /// names those that it did not reach.
    async fn replays(
        &self,
        caller: &Caller,
        snapshot: &Snapshot,
        resume: Option<Resume>,
    ) -> Result<(Vec<Replay>, Vec<ConversationId>)> {
        let (mut replays, mut behind, mut budget) = (Vec::new(), Vec::new(), REPLAY_BUDGET);
        let Some(resume) = resume else { return Ok((replays, behind)) };
        for entry in &snapshot.conversations {
            let conversation = &entry.summary.conversation;
            let Some(cursor) = resume.cursors.get(&conversation.id).copied() else { continue };
            if resume.epoch != snapshot.epoch || cursor > conversation.rev {
                let page = ReplayPage {
                    from_rev: 0,
                    to_rev: conversation.rev,
                    complete: true,
                    reset: true,
                    messages: vec![],
                    conversation: conversation.clone(),
                    access_rev: entry.access_rev,
                };
                replays.push(Replay { pages: vec![replay_frame(&page)], then: entry.head() });
            } else if cursor < conversation.rev {
                match self.changes(caller, entry, cursor, budget).await? {
                    Some((replay, bytes)) => {
                        budget -= bytes;
                        replays.push(replay);
                    }
                    None => behind.push(conversation.id),
                }
            }
        }
        Ok((replays, behind))
    }

    /// All pages of a conversation, if they fit the budget.
    async fn changes(
        &self,
        caller: &Caller,
        entry: &SnapshotEntry,
        cursor: u64,
        budget: usize,
    ) -> Result<Option<(Replay, usize)>> {
        let (mut pages, mut to_rev, mut bytes) = (Vec::new(), cursor, 0);
        loop {
            let page = match self
                .app
                .messages
                .replay(caller, entry.head().conversation_id, to_rev)
                .await
            {
                Ok(page) => page,
                // Access ended since the snapshot; the event that says so is on its way.
                Err(Error::NotFound(_)) => return Ok(None),
                Err(error) => return Err(error),
            };
            let frame = replay_frame(&page);
            bytes += frame.bytes().len();
            if bytes > budget {
                return Ok(None);
            }
            pages.push(frame);
            to_rev = page.to_rev;
            if page.complete {
                let then = Head { rev: to_rev, ..entry.head() };
                return Ok(Some((Replay { pages, then }, bytes)));
            }
        }
    }

    async fn serve(&mut self, inbound: &mut AggregatedMessageStream, replays: Vec<Replay>) {
        let mut sends: FuturesUnordered<LocalBoxFuture<'static, Reply>> = FuturesUnordered::new();
        let mut heartbeat = interval_at(Instant::now() + HEARTBEAT, HEARTBEAT);
        let catch_up =
            send_replays(self.app.clone(), self.outbound.clone(), self.socket.id, replays);
        let mut catch_up = pin!(catch_up.fuse());
        let mut expires_at =
            Instant::now() + self.caller.as_ref().map_or(Duration::ZERO, |c| self.expires_in(c));
        loop {
            tokio::select! {
                () = self.outbound.ended() => return,
                () = sleep_until(expires_at) => {
                    self.outbound.close(Close::TokenExpired);
                    return;
                }
                _ = heartbeat.tick() => {
                    let silent = self.app.ambient.now().as_millis() - self.heard_at.load(Ordering::Relaxed);
                    if u128::try_from(silent).unwrap_or(0) >= SILENCE.as_millis() - HEARTBEAT.as_millis() / 2 {
                        self.outbound.close(Close::HeartbeatLost);
                        return;
                    }
                    self.outbound.ping();
                }
                () = &mut catch_up, if !catch_up.is_terminated() => {}
                Some((id, reply)) = sends.next(), if !sends.is_empty() => self.answer(&id, reply),
                message = inbound.next(), if sends.len() < SENDS_IN_FLIGHT => {
                    let command = match self.read(message) {
                        Incoming::Command(command) => command,
                        Incoming::Nothing => continue,
                        Incoming::End => return,
                    };
                    if command.kind == "message.send" {
                        sends.push(self.send(command));
                        continue;
                    }
                    let reply = self.command(&command).await;
                    self.answer(&command.id, reply);
                    if command.kind == "auth.refresh" && let Some(caller) = &self.caller {
                        expires_at = Instant::now() + self.expires_in(caller);
                    }
                }
            }
        }
    }

    /// Begins a send. It has its place in the conversation's queue when this returns.
    fn send(&self, command: Command) -> LocalBoxFuture<'static, Reply> {
        let begun = self.begin_send(&command);
        Box::pin(async move {
            let outcome = match begun {
                Ok(sent) => sent.await,
                Err(error) => Err(error),
            };
            let reply = outcome.map(|sent| protocol::ok(&command.id, &SentReply::from(sent)));
            (command.id, reply)
        })
    }

    fn begin_send(
        &self,
        command: &Command,
    ) -> Result<impl Future<Output = Result<parlance_application::Sent>> + use<>> {
        let data: Send = command.data()?;
        let key = ClientMsgId::parse(&data.client_msg_id)
            .map_err(|e| Error::invalid("client_msg_id", e))?;
        if data.thread_root_id.is_some() {
            return Err(Error::refused(
                "thread_root_id",
                "invalid",
                "is not a live top-level message of this conversation",
            ));
        }
        let caller = self.caller.as_ref().ok_or(Unauthenticated::Missing)?;
        Ok(self.app.messages.send(caller, data.conversation_id, key, &data.text))
    }

    async fn command(&mut self, command: &Command) -> Result<Frame> {
        let id = &command.id;
        let caller = self.caller.as_ref().ok_or(Unauthenticated::Missing)?;
        let (messages, channels) = (&self.app.messages, &self.app.channels);
        match command.kind.as_str() {
            "hello" => Err(Error::BadRequest("hello has been said".into())),
            "ping" => command.data::<Nothing>().map(|Nothing {}| protocol::ok(id, &json!({}))),
            "auth.refresh" => {
                let renewed =
                    self.app.accounts.authenticate(&command.data::<Token>()?.token).await?;
                if (renewed.id(), renewed.session_id) != (caller.id(), caller.session_id) {
                    return Err(Error::Forbidden("the token is of another session"));
                }
                let expires_in = millis(self.expires_in(&renewed));
                self.caller = Some(renewed);
                Ok(protocol::ok(id, &json!({ "token_expires_in_ms": expires_in })))
            }
            "message.edit" => {
                let data: Edit = command.data()?;
                let text = MessageText::parse(&data.text).map_err(|e| Error::invalid("text", e))?;
                Ok(done(id, &messages.edit(caller, data.message_id, text).await?))
            }
            "message.delete" => {
                let data: Target = command.data()?;
                Ok(done(id, &messages.delete(caller, data.message_id).await?))
            }
            "reaction.add" | "reaction.remove" => {
                let data: Reaction = command.data()?;
                let emoji = Emoji::parse(&data.emoji).map_err(|e| Error::invalid("emoji", e))?;
                let message = if command.kind == "reaction.add" {
                    messages.react(caller, data.message_id, emoji).await?
                } else {
                    messages.unreact(caller, data.message_id, emoji).await?
                };
                Ok(done(id, &message))
            }
            "typing.start" | "typing.stop" => {
                let Place { conversation_id } = command.data()?;
                channels.permit(caller, conversation_id, ConversationAction::Post).await?;
                if command.kind == "typing.start" {
                    self.app.live.start_typing(self.socket.id, conversation_id).await;
                } else {
                    self.app.live.stop_typing(self.socket.id, conversation_id).await;
                }
                Ok(protocol::ok(id, &json!({})))
            }
            "read.mark" => {
                let data: ReadMark = command.data()?;
                Ok(protocol::ok(
                    id,
                    &channels.mark_read(caller, data.conversation_id, data.seq).await?,
                ))
            }
            "sync" => {
                let data: Sync = command.data()?;
                let page = messages.replay(caller, data.conversation_id, data.from_rev).await?;
                Ok(protocol::ok(id, &SyncPage::from(page)))
            }
            other => Err(Error::UnknownType(other.chars().take(64).collect())),
        }
    }

    fn read(
        &mut self,
        message: Option<Result<AggregatedMessage, actix_http::ws::ProtocolError>>,
    ) -> Incoming {
        self.heard_at.store(self.app.ambient.now().as_millis(), Ordering::Relaxed);
        let Some(message) = message else { return Incoming::End };
        match message {
            Ok(AggregatedMessage::Text(text)) => match Command::read(text.as_bytes()) {
                Ok(command) => {
                    self.garbage = 0;
                    return Incoming::Command(command);
                }
                Err(Unreadable { id, error, garbage }) => {
                    self.push(&protocol::error(id.as_ref(), &error));
                    self.garbage = if garbage { self.garbage + 1 } else { 0 };
                    if self.garbage >= GARBAGE {
                        self.outbound.close(Close::ProtocolError);
                        return Incoming::End;
                    }
                }
            },
            Ok(AggregatedMessage::Ping(payload)) => self.outbound.pong(&payload),
            Ok(AggregatedMessage::Pong(_)) => {}
            Ok(AggregatedMessage::Close(_)) => {
                self.outbound.close_normally();
                self.outbound.finish();
                return Incoming::End;
            }
            Ok(AggregatedMessage::Binary(_)) | Err(_) => {
                self.outbound.close(Close::ProtocolError);
                return Incoming::End;
            }
        }
        Incoming::Nothing
    }

    fn answer(&self, id: &CommandId, reply: Result<Frame>) {
        match reply {
            Ok(frame) => self.push(&frame),
            Err(error) => self.push(&protocol::error(Some(id), &error)),
        }
    }

    fn push(&self, frame: &Frame) {
        self.outbound.push(text_frame(frame.bytes()), Urgency::Reliable);
    }

    fn expires_in(&self, caller: &Caller) -> Duration {
        caller.expires_at.since(self.app.ambient.now())
    }
}

/// Sends replays as the socket drains, and joins each conversation behind its own.
async fn send_replays(
    app: Data<App>,
    outbound: Outbound,
    connection: parlance_application::ports::ConnectionId,
    replays: Vec<Replay>,
) {
    for Replay { pages, then } in replays {
        for page in pages {
            outbound.drained().await;
            outbound.push(text_frame(page.bytes()), Urgency::Reliable);
        }
        app.live.attach_later(connection, then).await;
    }
}

fn done(id: &CommandId, message: &Message) -> Frame {
    #[derive(Serialize)]
    struct Done<'a> {
        message: &'a Message,
    }
    protocol::ok(id, &Done { message })
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
