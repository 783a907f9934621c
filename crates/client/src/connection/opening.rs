//! From nothing to the reply to `hello`.

use std::{sync::Arc, time::Duration};

use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};
use tokio_tungstenite::{
    client_async_with_config,
    tungstenite::{self, Message, http::header::RETRY_AFTER, protocol::WebSocketConfig},
};

use super::{Connection, End, GOODBYE, LOST, Renewal, Socket, Syncs, code_of};
use crate::{config::Config, error::Refusal, shared::Shared};

/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(5);
/// How long the server may take to answer `hello`.
const WELCOME: Duration = Duration::from_secs(10);
/// The code for a token refused without a close frame.
const BAD_TOKEN: u16 = 4500;
/// In bytes. Less than the library's default, because a benchmark has many clients.
const READ_BUFFER: usize = 8 * 1024;

/// Why there is no connection.
struct Failed {
    code: u16,
    hint: Option<Duration>,
}

impl Connection {
    /// Connects and says `hello`; returns the connection and the reply's data.
    pub(crate) async fn open(
        config: &Config,
        shared: &Arc<Shared>,
        url: &str,
        token: String,
    ) -> Result<(Self, Value), End> {
        match open(config, shared, url, &token).await {
            Ok((socket, welcome)) => {
                let connection = Self {
                    config: config.clone(),
                    shared: shared.clone(),
                    socket,
                    next_id: 2,
                    pending: [].into(),
                    heartbeat: CONNECT,
                    heard_at: Instant::now(),
                    pinged: false,
                    renewal: Renewal::new(config.token.clone(), token),
                    syncs: Syncs::default(),
                    hint: None,
                };
                Ok((connection, welcome))
            }
            Err(Failed { code, hint }) => Err(End { code, hint, token }),
        }
    }

    /// Applies the reply to `hello`; false if it could not be understood.
    pub(crate) fn welcome(&mut self, reply: &Value) -> bool {
        let millis = |field: &str| reply[field].as_u64().map(Duration::from_millis);
        let (Some(heartbeat), Some(lasts)) =
            (millis("heartbeat_ms").filter(|it| !it.is_zero()), millis("token_expires_in_ms"))
        else {
            self.shared.count(|stats| stats.unreadable += 1);
            return false;
        };
        self.heartbeat = heartbeat;
        self.renewal.lasts(lasts);
        let mut syncs = Ok(vec![]);
        self.shared.cache.send_modify(|cache| syncs = cache.welcome(reply));
        let Ok(syncs) = syncs else {
            self.shared.count(|stats| stats.unreadable += 1);
            return false;
        };
        self.ask(syncs);
        true
    }
}

async fn open(
    config: &Config,
    shared: &Shared,
    url: &str,
    token: &str,
) -> Result<(Socket, Value), Failed> {
    let lost = |_| Failed { code: LOST, hint: None };
    let mut socket = timeout(CONNECT, connect(config, url)).await.map_err(lost)??;
    let mut hello = json!({
        "token": token,
        "client": { "name": &config.name, "version": env!("CARGO_PKG_VERSION") },
    });
    if let Some(resume) = shared.cache.borrow().resume() {
        hello["resume"] = json!(resume);
    }
    let frame = json!({ "type": "hello", "id": 1, "data": hello });
    let asked = async {
        // A failure shows up when reading, perhaps with its reason in a close frame.
        let _ = socket.send(Message::text(frame.to_string())).await;
        reply(&mut socket).await
    };
    match timeout(WELCOME, asked).await.map_err(lost)?? {
        Ok(welcome) => Ok((socket, welcome)),
        Err(refusal) => Err(refused(&mut socket, &refusal).await),
    }
}

async fn connect(config: &Config, url: &str) -> Result<Socket, Failed> {
    let failed = |hint| Failed { code: LOST, hint };
    let wire = config.dial.dial(url).await.map_err(|_| failed(None))?;
    let request = format!("{}/api/v1/ws", url.trim_end_matches('/'));
    let settings = WebSocketConfig::default().read_buffer_size(READ_BUFFER);
    match client_async_with_config(request, wire, Some(settings)).await {
        Ok((socket, _)) => Ok(socket),
        Err(tungstenite::Error::Http(response)) => {
            let seconds = response.headers().get(RETRY_AFTER).and_then(|it| it.to_str().ok());
            Err(failed(seconds.and_then(|it| it.parse().ok()).map(Duration::from_secs)))
        }
        Err(_) => Err(failed(None)),
    }
}

/// The reply to `hello`. Nothing else comes before it.
async fn reply(socket: &mut Socket) -> Result<Result<Value, Refusal>, Failed> {
    loop {
        match socket.next().await {
            Some(Ok(Message::Text(text))) => {
                let frame: Value = serde_json::from_str(&text).unwrap_or_default();
                match frame["type"].as_str() {
                    Some("ok") => return Ok(Ok(frame["data"].clone())),
                    Some("error") => return Ok(Err(Refusal::read(&frame))),
                    _ => {}
                }
            }
            Some(Ok(Message::Close(frame))) => {
                return Err(Failed { code: code_of(frame.as_ref()), hint: None });
            }
            Some(Ok(_)) => {}
            None | Some(Err(_)) => return Err(Failed { code: LOST, hint: None }),
        }
    }
}

/// The server has refused `hello`. It closes with a code that says how to proceed; if not, the refusal says it.
async fn refused(socket: &mut Socket, refusal: &Refusal) -> Failed {
    let closed = async {
        while let Some(Ok(message)) = socket.next().await {
            if let Message::Close(frame) = message {
                return Some(code_of(frame.as_ref()));
            }
        }
        None
    };
    let without = if refusal.code == "unauthenticated" { BAD_TOKEN } else { LOST };
    let code = timeout(GOODBYE, closed).await.ok().flatten().unwrap_or(without);
    Failed { code, hint: refusal.retry_after }
}
