//! One connection: `hello`, then commands, heartbeats and the end. Sends and `auth.refresh` are pipelined; all other
//! commands run one after another, concurrently with the rest. The application's `Deadlines` decide what is due when;
//! here it is carried out on a socket.

use std::{
    cell::Cell,
    collections::VecDeque,
    io,
    panic::AssertUnwindSafe,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use actix_web::web::Data;
use actix_ws::{AggregatedMessage, ProtocolError};
use futures::{
    FutureExt, StreamExt,
    future::{Fuse, FusedFuture, LocalBoxFuture},
    stream::FuturesUnordered,
};
use parlance_application::{
    App, Caller, Error, Opened, Result, Unauthenticated,
    live::{CatchUp, Deadlines, Due, Frame, HEARTBEAT, Resume, SENDS_IN_FLIGHT},
    ports::Close,
};
use parlance_domain::{ConversationId, MessageText};
use tokio::{
    sync::Mutex,
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{
    Worker,
    commands::Reply,
    hub::Socket,
    protocol::{
        self, Command, CommandId, Hello, HelloWorkspace, Kind, Limits, Unreadable, Welcome,
    },
    wire::{INBOUND_LIMIT, Inbound, Outbound, text_frame},
};
use crate::{
    error::{ApiError, face},
    number::Number,
};

/// How long the peer may take to answer a close frame.
const GOODBYE: Duration = Duration::from_secs(1);
/// How long the commands of a client that is gone, or is sent away, may still take.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// The most commands that wait for the replay, or for the one before them.
const HELD: usize = 64;
/// Bytes of them from which on nothing more is read.
const HELD_BYTES: usize = 128 * 1024;
/// The most cursors in one `hello`.
const CURSORS: usize = 1_000;

/// A connection.
pub(super) struct Connection {
    pub(super) app: Data<App>,
    pub(super) socket: Socket,
    outbound: Outbound,
    /// Whom the token in the upgrade's header names; from `hello` on, the caller of `hello`.
    pub(super) caller: Option<Caller>,
    deadlines: Deadlines,
    /// Held by the running `auth.refresh`, so that they take effect in order.
    renewing: Rc<Mutex<()>>,
    heard_at: Arc<AtomicI64>,
}

/// Commands executed one after another, once the replay is done: all but sends and `auth.refresh`.
struct Commands {
    running: Fuse<LocalBoxFuture<'static, Reply>>,
    held: VecDeque<Command>,
    /// Bytes of them.
    weight: usize,
    /// For the `typing.start`s among them: where, and what to set if a send overtakes them.
    starts: Vec<(ConversationId, Rc<Cell<bool>>)>,
}

/// What came in.
enum Incoming {
    Command(Command),
    /// Nothing to do.
    Nothing,
    End,
    /// The client has broken the protocol.
    Broken,
}

impl Connection {
    pub(super) fn new(
        app: Data<App>,
        worker: &Worker,
        caller: Option<Caller>,
        outbound: Outbound,
    ) -> Self {
        Self {
            socket: worker.insert(outbound.clone()),
            heard_at: Arc::new(AtomicI64::new(millis(app.live.uptime()).cast_signed())),
            deadlines: Deadlines::new(Instant::now()),
            renewing: Rc::default(),
            app,
            outbound,
            caller,
        }
    }

    /// Lives as long as the connection.
    pub(super) async fn run(&mut self, inbound: &mut Inbound) {
        let served = AssertUnwindSafe(self.greet_and_serve(inbound)).catch_unwind().await;
        Box::pin(self.app.live.unregister(self.socket.id)).await;
        if served.is_err() {
            tracing::error!("a connection has panicked");
            self.outbound.close(Close::Overloaded);
        }
        // The peer may answer the close frame; what it still sends is read, or a reset could discard the close frame.
        let goodbye = async { while inbound.next().await.is_some() {} };
        if timeout(GOODBYE, goodbye).await.is_ok() {
            // It may have ended by an error, which does not prove that the close frame has arrived.
            sleep(GOODBYE / 10).await;
        }
        self.outbound.finish();
    }

    async fn greet_and_serve(&mut self, inbound: &mut Inbound) {
        // Boxed, so that an idle connection holds no memory for opening it, nor for finishing its last commands.
        if let Some(catch_up) = Box::pin(self.open(inbound)).await
            && let Some(said) = self.serve(inbound, catch_up).await
        {
            Box::pin(self.finish(said)).await;
        }
    }

    /// Waits for a good `hello`.
    async fn open(&mut self, inbound: &mut Inbound) -> Option<CatchUp> {
        loop {
            let room = self.outbound.has_room();
            let command = tokio::select! {
                () = self.outbound.to_end() => {
                    self.outbound.close(Close::Draining);
                    return None;
                }
                () = sleep_until(self.deadlines.deadline()) => {
                    self.carry_out_due()?;
                    continue;
                }
                () = self.outbound.drained(), if !room => continue,
                message = inbound.next(), if room => match self.read(message) {
                    Incoming::Command(command) => command,
                    Incoming::Nothing => continue,
                    Incoming::End => return None,
                    Incoming::Broken => {
                        self.outbound.close(Close::ProtocolError);
                        return None;
                    }
                },
            };
            if command.kind != Kind::Hello {
                self.answer(&command.id, Err(Unauthenticated::Missing.into()));
                continue;
            }
            let opened = tokio::select! {
                opened = self.hello(&command) => opened,
                // A client that is gone is not let in, and nothing is read for it.
                () = inbound.gone() => continue,
            };
            match opened {
                Ok(catch_up) => return Some(catch_up),
                Err(error) => {
                    let error = ApiError::from(error);
                    let close = face(&error).close;
                    self.push(&protocol::error(Some(&command.id), &error));
                    if let Some(close) = close {
                        self.outbound.close(close);
                        return None;
                    }
                }
            }
        }
    }

    async fn hello(&mut self, command: &Command) -> Result<CatchUp> {
        let hello: Hello = command.data()?;
        if hello.resume.as_ref().is_some_and(|resume| resume.cursors.len() > CURSORS) {
            return Err(Error::refused("resume.cursors", "too_long", "must be at most 1000"));
        }
        let claims = match (hello.token, &self.caller) {
            (Some(token), _) => self.app.accounts.claims(&token)?,
            // The header's token was good when the socket was opened, and may have expired since.
            (None, Some(caller)) if caller.expires_at <= self.app.ambient.now() => {
                return Err(Unauthenticated::Expired.into());
            }
            (None, Some(caller)) => caller.claims(),
            (None, None) => return Err(Unauthenticated::Missing.into()),
        };
        let resume = hello.resume.map(resumed).transpose()?;
        let (id, heard_at) = (self.socket.id, self.heard_at.clone());
        let opened = self.app.hello.open(&claims, id, heard_at, resume.as_ref()).await?;
        self.outbound.welcome(text_frame(self.welcome(&command.id, &opened).bytes()));
        self.app.hello.attach(id, &opened).await;
        self.deadlines.opened(Instant::now(), lasts(&self.app, &opened.caller));
        self.caller = Some(opened.caller);
        Ok(opened.catch_up)
    }

    fn welcome(&self, id: &CommandId, opened: &Opened) -> Frame {
        let Opened { caller, snapshot, catch_up } = opened;
        let welcome = Welcome {
            session_id: caller.session_id,
            user: &caller.account,
            token_expires_in_ms: millis(lasts(&self.app, caller)),
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
            behind: catch_up.behind(),
        };
        protocol::welcome(id, &welcome)
    }

    /// Serves until one side ends the connection. If the client has, or is gone, returns its unfinished commands. The
    /// replay ends here: going on would take the store's time for nobody.
    async fn serve(&mut self, inbound: &mut Inbound, catch_up: CatchUp) -> Option<Commands> {
        let mut pipelined: FuturesUnordered<LocalBoxFuture<'static, Reply>> =
            FuturesUnordered::new();
        let mut catch_up = Box::pin(self.catch_up(catch_up)).fuse();
        let mut commands = Commands {
            running: Fuse::terminated(),
            held: VecDeque::new(),
            weight: 0,
            starts: vec![],
        };
        loop {
            let Commands { running, held, weight, starts } = &mut commands;
            let idle = pipelined.is_empty() && running.is_terminated() && held.is_empty();
            if let Some(close) = self.deadlines.leaving().filter(|_| idle) {
                self.outbound.close(close);
                return None;
            }
            // Backpressure: a client that does not take its answers gets no more commands executed or read.
            let room = self.outbound.has_room();
            if room && catch_up.is_terminated() && running.is_terminated() {
                if let Some(command) = held.pop_front() {
                    *weight -= command.weight();
                    *running = self.carry_out(command).fuse();
                } else {
                    // An idle connection keeps no room for them.
                    (*held, *starts) = (VecDeque::new(), Vec::new());
                }
            }
            tokio::select! {
                () = self.outbound.ended() => return self.outbound.is_gone().then_some(commands),
                () = self.outbound.to_end(), if self.deadlines.leaving().is_none() => {
                    self.deadlines.leave(Instant::now() + LAST_WORDS, Close::Draining);
                }
                () = sleep_until(self.deadlines.deadline()) => self.carry_out_due()?,
                () = &mut catch_up, if !catch_up.is_terminated() => {}
                reply = &mut *running, if !running.is_terminated() => self.settle(reply),
                Some(reply) = pipelined.next(), if !pipelined.is_empty() => {
                    self.deadlines.send_answered(reply.weight);
                    self.settle(reply);
                }
                () = self.outbound.drained(), if !room => {}
                message = inbound.next(), if room && held.len() < HELD && *weight < HELD_BYTES && self.deadlines.may_read() => {
                    match self.read(message) {
                        // Not held for the replay: a token expires by the clock, however long that takes.
                        Incoming::Command(command) if matches!(command.kind, Kind::Send | Kind::Renew) => {
                            self.deadlines.send_begun(command.weight());
                            let sends = command.kind == Kind::Send;
                            if sends && !starts.is_empty() {
                                end_typing(starts, &command);
                            }
                            pipelined.push(if sends { self.send(command) } else { self.renew(command) });
                        }
                        Incoming::Command(command) => {
                            *weight += command.weight();
                            starts.retain(|(_, over)| Rc::strong_count(over) > 1);
                            starts.extend(command.starts_typing());
                            held.push_back(command);
                        }
                        Incoming::Nothing => {}
                        Incoming::End => return Some(commands),
                        // What it said before that is answered first.
                        Incoming::Broken => {
                            self.deadlines.leave(Instant::now() + LAST_WORDS, Close::ProtocolError);
                        }
                    }
                }
            }
        }
    }

    /// Executes what a client said before it left: its last command may be a read mark.
    async fn finish(&self, Commands { running, held, .. }: Commands) {
        let done = async {
            if !running.is_terminated() {
                running.await;
            }
            for command in held {
                self.carry_out(command).await;
            }
        };
        if timeout(LAST_WORDS, done).await.is_err() {
            tracing::debug!("a client has gone, and what it said last took too long");
        }
    }

    fn renew(&self, command: Command) -> LocalBoxFuture<'static, Reply> {
        let (renewing, renewal) = (self.renewing.clone(), self.carry_out(command));
        Box::pin(async move {
            let _turn = renewing.lock().await;
            renewal.await
        })
    }

    fn settle(&mut self, reply: Reply) {
        if let Some(caller) = reply.renewed {
            self.deadlines.renewed(Instant::now(), lasts(&self.app, &caller));
            self.caller = Some(caller);
        }
        self.answer(&reply.id, reply.answer);
    }

    /// Replays what was missed, as the socket drains.
    fn catch_up(&self, catch_up: CatchUp) -> impl Future<Output = ()> + use<> {
        let (app, outbound, id) = (self.app.clone(), self.outbound.clone(), self.socket.id);
        let (caller, worker) = (self.caller.clone(), self.socket.worker.clone());
        async move {
            let drained = || async {
                worker.flush().await;
                outbound.drained().await;
            };
            if let Some(caller) = caller {
                app.hello.catch_up(&caller, id, catch_up, drained).await;
                worker.flush().await;
            }
        }
    }

    /// `None` if that ends the connection.
    fn carry_out_due(&mut self) -> Option<()> {
        if let Some(taken_at) = self.outbound.taken_at() {
            self.deadlines.heard(taken_at);
        }
        match self.deadlines.due(Instant::now()) {
            Due::Nothing => {}
            Due::Ping => self.outbound.ping(),
            Due::Close(close) => {
                self.outbound.close(close);
                return None;
            }
        }
        Some(())
    }

    fn read(&mut self, message: Option<Result<AggregatedMessage, ProtocolError>>) -> Incoming {
        self.deadlines.heard(Instant::now());
        self.heard_at.store(millis(self.app.live.uptime()).cast_signed(), Ordering::Relaxed);
        let Some(message) = message else { return Incoming::End };
        match message {
            Ok(AggregatedMessage::Text(text)) => match Command::read(text.as_bytes()) {
                Ok(command) => {
                    self.deadlines.readable();
                    return Incoming::Command(command);
                }
                Err(Unreadable { id, error, garbage }) => {
                    self.push(&protocol::error(id.as_ref(), &error));
                    if !garbage {
                        self.deadlines.readable();
                    } else if let Due::Close(_) = self.deadlines.unreadable() {
                        return Incoming::Broken;
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
            Err(ProtocolError::Io(error)) if is_gone(&error) => return Incoming::End,
            Ok(AggregatedMessage::Binary(_)) | Err(_) => return Incoming::Broken,
        }
        Incoming::Nothing
    }

    fn answer(&self, id: &CommandId, reply: Result<Frame>) {
        match reply {
            Ok(frame) => self.push(&frame),
            Err(error) => self.push(&protocol::error(Some(id), &error.into())),
        }
    }

    fn push(&self, frame: &Frame) {
        self.outbound.answer(text_frame(frame.bytes()));
    }
}

/// A message ends its author's typing, even if an earlier `typing.start` still has to wait.
fn end_typing(starts: &[(ConversationId, Rc<Cell<bool>>)], send: &Command) {
    let Ok(protocol::Send { conversation_id, .. }) = send.data() else { return };
    for (_, over) in starts.iter().filter(|(of, _)| *of == conversation_id) {
        over.set(true);
    }
}

/// What a client says it already has.
fn resumed(resume: protocol::Resume) -> Result<Resume> {
    let cursor = |(id, rev): (_, Number)| Ok((id, rev.within("resume.cursors")?));
    let cursors = resume.cursors.into_iter().map(cursor).collect::<Result<_>>()?;
    Ok(Resume { epoch: resume.epoch, cursors })
}

/// Whether the peer is gone, rather than breaking the protocol.
fn is_gone(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, TimedOut};
    matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | TimedOut)
}

/// How long a caller's token is good for.
pub(super) fn lasts(app: &App, caller: &Caller) -> Duration {
    caller.expires_at.since(app.ambient.now())
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
