//! A socket without a client behind it, to do what no client does.

use std::time::Duration;

use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::{
    net::{TcpSocket, TcpStream},
    time::{sleep, timeout},
};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Error, Message},
};

use crate::{stage::Node, support::PATIENCE};

pub(crate) type Stream = WebSocketStream<TcpStream>;

/// Bypasses the proxy, which would read for those who do not. A deaf one has almost no room for what it does not read.
pub(crate) async fn upgrade(node: &Node, deaf: bool) -> Stream {
    let socket = TcpSocket::new_v4().expect("a socket");
    if deaf {
        socket.set_recv_buffer_size(4_096).expect("a small buffer");
    }
    let url = node.url().expect("a running node");
    let address = url.strip_prefix("http://").expect("an http URL").parse().expect("an address");
    let stream = socket.connect(address).await.expect("a connection");
    let upgraded = client_async(format!("ws://{address}/api/v1/ws"), stream).await;
    upgraded.expect("a socket").0
}

/// The reply; `None` if the connection ended instead.
pub(crate) async fn hello(stream: &mut Stream, token: &str) -> Option<Value> {
    let hello = json!({ "type": "hello", "id": 0, "data": { "token": token } });
    stream.send(Message::text(hello.to_string())).await.ok()?;
    answer(stream).await
}

/// Comes again when it is told to.
pub(crate) async fn open(node: &Node, token: &str, deaf: bool) -> Stream {
    let opened = timeout(PATIENCE, async {
        loop {
            let mut stream = upgrade(node, deaf).await;
            let reply = hello(&mut stream, token).await.expect("a reply");
            if reply["type"] == "ok" {
                return stream;
            }
            assert_eq!(reply["error"]["code"], "unavailable", "{reply}");
            let after = reply["error"]["retry_after_ms"].as_u64().expect("a time");
            sleep(Duration::from_millis(after)).await;
        }
    });
    opened.await.expect("is let in in time")
}

/// The next reply; `None` at the end.
pub(crate) async fn answer(
    stream: &mut (impl futures::Stream<Item = Result<Message, Error>> + Unpin),
) -> Option<Value> {
    loop {
        match timeout(PATIENCE, stream.next()).await.expect("a frame in time")? {
            Ok(Message::Text(text)) => {
                // Events are long here, and not looked at.
                if text.starts_with(r#"{"type":"ok""#) || text.starts_with(r#"{"type":"error""#) {
                    return Some(serde_json::from_str(&text).expect("JSON"));
                }
            }
            Ok(Message::Close(_)) | Err(_) => return None,
            Ok(_) => {}
        }
    }
}
