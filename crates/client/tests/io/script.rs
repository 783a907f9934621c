//! A server that does what the test says.

use std::{
    collections::BTreeSet,
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::{FutureExt, SinkExt, StreamExt, future::BoxFuture};
use parlance_client::{Cache, Client, Config, Dial, FixedToken, Seeded, TokenSource, Wire};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream, duplex},
    sync::mpsc,
    time::timeout,
};
use tokio_tungstenite::{
    WebSocketStream, accept_async,
    tungstenite::{Message, protocol::CloseFrame},
};

/// Longer than the client waits for anything. Under a paused clock this costs nothing.
const PATIENCE: Duration = Duration::from_mins(2);
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(25);

/// Nodes without a network.
pub(crate) struct Nodes {
    incoming: mpsc::UnboundedReceiver<(String, DuplexStream)>,
    down: Arc<Mutex<BTreeSet<String>>>,
    pub(crate) config: Config,
}

struct Pipes {
    out: mpsc::UnboundedSender<(String, DuplexStream)>,
    down: Arc<Mutex<BTreeSet<String>>>,
}

/// The server's side of a connection.
pub(crate) struct Peer<S = DuplexStream> {
    pub(crate) url: String,
    pub(crate) socket: WebSocketStream<S>,
}

impl Dial for Pipes {
    fn dial(&self, url: &str) -> BoxFuture<'static, io::Result<Box<dyn Wire>>> {
        if self.down.lock().expect("no panic").contains(url) {
            return futures::future::ready(Err(io::ErrorKind::ConnectionRefused.into())).boxed();
        }
        let (ours, theirs) = duplex(64 * 1024);
        let dialled = self.out.send((url.to_owned(), theirs)).map_err(io::Error::other);
        futures::future::ready(dialled.map(|()| Box::new(ours) as Box<dyn Wire>)).boxed()
    }
}

impl Nodes {
    pub(crate) fn new() -> Self {
        Self::with(FixedToken("token".into()))
    }

    pub(crate) fn with(token: impl TokenSource + 'static) -> Self {
        let (out, incoming) = mpsc::unbounded_channel();
        let down = Arc::new(Mutex::new(BTreeSet::new()));
        let config = Config {
            dial: Arc::new(Pipes { out, down: down.clone() }),
            random: Arc::new(Seeded::new(1)),
            name: "test".into(),
            ..Config::new(["ws://one"], token)
        };
        Self { incoming, down, config }
    }

    pub(crate) fn take_down(&self, url: &str) {
        self.down.lock().expect("no panic").insert(url.into());
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(self.config.clone())
    }

    /// The next connection, before its upgrade.
    pub(crate) async fn dialled(&mut self) -> (String, DuplexStream) {
        timeout(PATIENCE, self.incoming.recv()).await.expect("a connection").expect("a client")
    }

    pub(crate) async fn accept(&mut self) -> Peer {
        let (url, stream) = self.dialled().await;
        Peer { url, socket: accept_async(stream).await.expect("an upgrade") }
    }

    /// The next connection, and the `hello` on it, which is answered.
    pub(crate) async fn welcome(&mut self, reply: Value) -> (Peer, Value) {
        let mut peer = self.accept().await;
        let hello = peer.welcome(reply).await;
        (peer, hello)
    }

    /// Whether nobody comes any more.
    pub(crate) async fn quiet(&mut self) -> bool {
        !matches!(timeout(PATIENCE, self.incoming.recv()).await, Ok(Some(_)))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Peer<S> {
    /// Answers `hello`, which must be the first frame; its data.
    pub(crate) async fn welcome(&mut self, reply: Value) -> Value {
        let hello = self.command("hello").await;
        self.ok(&hello, reply).await;
        hello["data"].clone()
    }

    /// The next command, which must be of this type.
    pub(crate) async fn command(&mut self, kind: &str) -> Value {
        let frame = self.frame().await.expect("a command");
        assert_eq!(frame["type"], kind, "{frame}");
        frame
    }

    /// What a `message.send` carries, which must be next.
    pub(crate) async fn sent(&mut self) -> (Value, String) {
        let command = self.command("message.send").await;
        let text = command["data"]["text"].as_str().expect("a text").to_owned();
        (command, text)
    }

    /// The next frame; nothing at the end, or if there is none for long.
    pub(crate) async fn frame(&mut self) -> Option<Value> {
        loop {
            match timeout(PATIENCE, self.socket.next()).await {
                Ok(Some(Ok(Message::Text(text)))) => {
                    return Some(serde_json::from_str(&text).expect("JSON"));
                }
                Ok(Some(Ok(Message::Ping(_) | Message::Pong(_)))) => {}
                _ => return None,
            }
        }
    }

    /// Whether the client says nothing for this long.
    pub(crate) async fn silent(&mut self, time: Duration) -> bool {
        timeout(time, self.socket.next()).await.is_err()
    }

    pub(crate) async fn say(&mut self, frame: Value) {
        self.socket.send(Message::text(frame.to_string())).await.expect("written");
    }

    pub(crate) async fn ok(&mut self, command: &Value, data: Value) {
        self.say(json!({ "type": "ok", "id": command["id"], "data": data })).await;
    }

    pub(crate) async fn refuse(&mut self, command: &Value, error: Value) {
        self.say(json!({ "type": "error", "id": command["id"], "error": error })).await;
    }

    pub(crate) async fn close(mut self, code: u16) {
        let frame = CloseFrame { code: code.into(), reason: "".into() };
        self.socket.close(Some(frame)).await.expect("written");
        while let Some(Ok(_)) = self.socket.next().await {}
    }
}

/// Waits until the client's cache is as wanted.
pub(crate) async fn until(client: &Client, wanted: impl FnMut(&Cache) -> bool) {
    timeout(PATIENCE, client.until(wanted)).await.expect("the cache gets there");
}

/// A welcome with one conversation, `c`.
pub(crate) fn hello(rev: u64) -> Value {
    json!({
        "session_id": "s", "user": { "id": "me" }, "token_expires_in_ms": 900_000, "heartbeat_ms": 25_000,
        "epoch": "one", "limits": {}, "features": [], "workspaces": [], "behind": [],
        "conversations": [{
            "id": "c", "workspace_id": "w", "rev": rev, "last_seq": rev, "last_message_at": null,
            "read_seq": 0, "unread_count": 0, "mention_count": 0,
        }],
    })
}

/// A message whose place is its rev.
pub(crate) fn message(rev: u64) -> Value {
    json!({ "id": format!("m{rev}"), "seq": rev, "rev": rev, "author_id": "other", "text": rev.to_string() })
}

pub(crate) fn created(rev: u64) -> Value {
    json!({ "type": "message.created", "conversation_id": "c", "rev": rev, "data": { "message": message(rev) } })
}

/// The answer to `sync`.
pub(crate) fn page(from_rev: u64, to_rev: u64) -> Value {
    let messages: Vec<_> = (from_rev + 1..=to_rev).map(message).collect();
    json!({
        "conversation_id": "c", "from_rev": from_rev, "to_rev": to_rev, "complete": true, "messages": messages,
        "conversation": { "id": "c", "rev": to_rev, "last_seq": to_rev },
    })
}
