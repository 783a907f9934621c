//! One connection, from `hello` to its end.

mod opening;
mod renewal;
mod syncs;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep_until, timeout},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        self, Message,
        protocol::{CloseFrame, frame::coding::CloseCode},
    },
};

use self::{renewal::Renewal, syncs::Syncs};
use crate::{
    backoff::pause,
    cache::{Applied, SyncRequest, Unreadable},
    config::{Config, Wire},
    error::{CommandError, Refusal},
    outbox::Send,
    shared::{Order, Shared, Update},
};

/// A connection that was lost without a close frame.
const LOST: u16 = 1006;
/// The most commands of callers in flight. Beyond that no more are taken, so that reading is never starved.
const COMMANDS: usize = 64;
/// How long the server may take to answer a close frame.
const GOODBYE: Duration = Duration::from_secs(1);

type Socket = WebSocketStream<Box<dyn Wire>>;

pub(crate) struct Connection {
    config: Config,
    shared: Arc<Shared>,
    socket: Socket,
    next_id: u64,
    pending: BTreeMap<u64, Pending>,
    heartbeat: Duration,
    heard_at: Instant,
    /// Whether a `ping` has been sent since the server was last heard.
    pinged: bool,
    renewal: Renewal,
    syncs: Syncs,
    /// How long to wait before coming back, if the server has said so.
    hint: Option<Duration>,
}

/// How a connection ended.
pub(crate) struct End {
    pub(crate) code: u16,
    /// The minimum wait before coming back.
    pub(crate) hint: Option<Duration>,
    /// The token used last.
    pub(crate) token: String,
}

/// What is awaiting a reply.
enum Pending {
    Ping,
    Renewal { token: String },
    Sync { conversation_id: String },
    Send(Send),
    Command(oneshot::Sender<Result<Value, CommandError>>),
}

/// The connection is over, with this code.
struct Over(u16);

impl Connection {
    /// Runs until the connection ends; `None` if its user closed it.
    pub(crate) async fn serve(&mut self, orders: &mut mpsc::Receiver<Order>) -> Option<End> {
        loop {
            match self.step(orders).await {
                Ok(true) => {}
                Ok(false) => {
                    let _ = timeout(GOODBYE, self.say_goodbye(CloseCode::Normal)).await;
                    return None;
                }
                Err(Over(code)) => return Some(self.end(code)),
            }
        }
    }

    /// Ends it because the server cannot be understood.
    pub(crate) async fn give_up(&mut self) -> End {
        let _ = timeout(GOODBYE, self.say_goodbye(CloseCode::Protocol)).await;
        self.end(LOST)
    }

    /// Handles the next event; false to end.
    async fn step(&mut self, orders: &mut mpsc::Receiver<Order>) -> Result<bool, Over> {
        let wake = self.transmit().await?;
        let shared = self.shared.clone();
        let room =
            self.pending.values().filter(|it| matches!(it, Pending::Command(_))).count() < COMMANDS;
        tokio::select! {
            // Always the same order, so that a simulation is reproducible.
            biased;
            () = sleep_until(wake) => self.mind_the_silence().await?,
            order = orders.recv(), if room => match order {
                None | Some(Order::Close) => return Ok(false),
                Some(Order::Command { kind, data, reply }) => {
                    self.command(&kind, &data, Pending::Command(reply)).await?;
                }
            },
            token = self.renewal.token() => if let Some(token) = token {
                self.command("auth.refresh", &json!({ "token": &token }), Pending::Renewal { token })
                    .await?;
            },
            () = shared.sends.notified() => {}
            message = self.socket.next() => self.heard(message).await?,
        }
        Ok(true)
    }

    /// Writes all that is due; returns when to look again.
    async fn transmit(&mut self) -> Result<Instant, Over> {
        let now = Instant::now();
        let (sends, next_send) = self.shared.due(now);
        for send in sends {
            let data = json!({
                "conversation_id": &send.conversation_id,
                "client_msg_id": &send.client_msg_id,
                "text": &send.text,
            });
            self.command("message.send", &data, Pending::Send(send)).await?;
        }
        while let Some(conversation_id) = self.syncs.next(now) {
            // With the current cursor; `None` if the conversation is gone.
            let request = self.shared.cache.borrow().sync_of(&conversation_id);
            let Some(request) = request else {
                self.syncs.done();
                continue;
            };
            self.shared.count(|stats| stats.syncs += 1);
            self.command("sync", &json!(request), Pending::Sync { conversation_id }).await?;
        }
        let silence = self.heard_at + self.heartbeat * if self.pinged { 2 } else { 1 };
        Ok([next_send, self.syncs.next_due()].into_iter().flatten().fold(silence, Instant::min))
    }

    /// The network may fail silently: pings a silent server, and gives up if nothing comes.
    async fn mind_the_silence(&mut self) -> Result<(), Over> {
        let silence = self.heard_at.elapsed();
        if silence >= self.heartbeat * 2 {
            return Err(Over(LOST));
        }
        if silence >= self.heartbeat && !self.pinged {
            self.pinged = true;
            self.command("ping", &json!({}), Pending::Ping).await?;
        }
        Ok(())
    }

    async fn heard(
        &mut self,
        message: Option<Result<Message, tungstenite::Error>>,
    ) -> Result<(), Over> {
        (self.heard_at, self.pinged) = (Instant::now(), false);
        match message {
            Some(Ok(Message::Text(text))) => {
                let understood = match serde_json::from_str(&text) {
                    Ok(frame) => self.frame(frame),
                    Err(_) => Err(Unreadable("type")),
                };
                if understood.is_err() {
                    self.shared.count(|stats| stats.unreadable += 1);
                    return Err(Over(self.give_up().await.code));
                }
                Ok(())
            }
            Some(Ok(Message::Close(frame))) => {
                // By the end of the stream, the library has answered it.
                let _ =
                    timeout(GOODBYE, async { while self.socket.next().await.is_some() {} }).await;
                Err(Over(code_of(frame.as_ref())))
            }
            // Pings are answered by the library.
            Some(Ok(_)) => Ok(()),
            None | Some(Err(_)) => Err(Over(LOST)),
        }
    }

    fn frame(&mut self, mut frame: Value) -> Result<(), Unreadable> {
        let reply = match frame["type"].as_str() {
            Some("ok") => Ok(frame["data"].take()),
            Some("error") => Err(Refusal::read(&frame)),
            _ => {
                let mut applied = Err(Unreadable("type"));
                self.shared.cache.send_modify(|cache| applied = cache.apply(&frame));
                self.applied(applied?);
                return Ok(());
            }
        };
        let pending = frame["id"].as_u64().and_then(|id| self.pending.remove(&id));
        match pending {
            Some(Pending::Sync { conversation_id }) => self.synced(conversation_id, reply)?,
            Some(Pending::Send(send)) => self.sent(send, reply),
            Some(Pending::Command(waiter)) => {
                // The caller may be gone.
                let _ = waiter.send(reply.map_err(Into::into));
            }
            Some(Pending::Renewal { token }) => self.renewal.answered(token, reply.ok().as_ref()),
            Some(Pending::Ping) | None => {}
        }
        Ok(())
    }

    fn applied(&mut self, applied: Applied) {
        self.shared.count(|stats| stats.duplicates_dropped += applied.duplicates);
        self.hint = applied.reconnect_after.or(self.hint);
        self.ask(applied.syncs.clone());
        self.shared.tell(Update::Applied(Arc::new(applied)));
    }

    fn ask(&mut self, syncs: Vec<SyncRequest>) {
        for request in syncs {
            self.syncs.ask(request.conversation_id);
        }
    }

    fn synced(
        &mut self,
        conversation_id: String,
        reply: Result<Value, Refusal>,
    ) -> Result<(), Unreadable> {
        self.syncs.done();
        match reply {
            Ok(page) => {
                self.syncs.answered();
                let mut applied = Err(Unreadable("conversation_id"));
                self.shared.cache.send_modify(|cache| applied = cache.synced(&page));
                self.applied(applied?);
            }
            Err(refusal) if refusal.passing() => {
                let after = pause(self.syncs.failed(), refusal.retry_after, &*self.config.random);
                self.syncs.put_off(Instant::now() + after, conversation_id);
            }
            Err(_) => self.shared.cache.send_modify(|cache| cache.sync_failed(&conversation_id)),
        }
        Ok(())
    }

    fn sent(&self, send: Send, reply: Result<Value, Refusal>) {
        let now = Instant::now();
        match reply {
            Err(refusal) if refusal.passing() => {
                let after = pause(send.attempts, refusal.retry_after, &*self.config.random);
                self.shared.put_off(&send, after, now);
            }
            Ok(mut data) => self.shared.settled(send, Ok(data["message"].take()), now),
            Err(refusal) => self.shared.settled(send, Err(refusal.into()), now),
        }
    }

    async fn command(&mut self, kind: &str, data: &Value, pending: Pending) -> Result<(), Over> {
        let id = self.next_id;
        self.next_id += 1;
        self.pending.insert(id, pending);
        let frame = json!({ "type": kind, "id": id, "data": data }).to_string();
        // Nothing is read while a write is stuck, so it has a time limit.
        match timeout(self.heartbeat, self.socket.send(Message::text(frame))).await {
            // A failure shows up when reading, perhaps with its reason in a close frame.
            Ok(_) => Ok(()),
            Err(_) => Err(Over(LOST)),
        }
    }

    async fn say_goodbye(&mut self, code: CloseCode) {
        let frame = CloseFrame { code, reason: "".into() };
        if self.socket.close(Some(frame)).await.is_ok() {
            while let Some(Ok(_)) = self.socket.next().await {}
        }
    }

    fn end(&mut self, code: u16) -> End {
        for pending in std::mem::take(&mut self.pending).into_values() {
            if let Pending::Command(waiter) = pending {
                let _ = waiter.send(Err(CommandError::Lost));
            }
        }
        End { code, hint: self.hint, token: self.renewal.current().to_owned() }
    }
}

fn code_of(frame: Option<&CloseFrame>) -> u16 {
    frame.map_or(LOST, |frame| frame.code.into())
}
