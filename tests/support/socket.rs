//! A client's end of a socket: commands and their replies, and events in the order in which they came.

use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, tungstenite::Message};

use super::{PATIENCE, contract};

pub(super) type Stream = WebSocketStream<MaybeTlsStream<TcpStream>>;

pub(crate) struct Socket {
    stream: Stream,
    next_id: i64,
    /// Commands that are not answered yet.
    said: Vec<Value>,
    /// Events that came while a reply was awaited.
    events: Vec<Value>,
    /// The data of the answer to `hello`.
    pub(crate) hello: Value,
}

impl Socket {
    /// One on which nothing has been said yet.
    pub(super) const fn on(stream: Stream) -> Self {
        Self { stream, next_id: 0, said: vec![], events: vec![], hello: Value::Null }
    }

    /// Sends a command and waits for its reply.
    pub(crate) async fn command(&mut self, kind: &str, data: Value) -> Value {
        let id = self.begin(kind, data).await;
        self.reply(id).await
    }

    /// Waits for the reply to a command.
    pub(crate) async fn reply(&mut self, id: i64) -> Value {
        loop {
            let frame = self.frame().await;
            if frame["id"] == id && (frame["type"] == "ok" || frame["type"] == "error") {
                return frame;
            }
            self.events.push(frame);
        }
    }

    /// Sends a command and waits for nothing.
    pub(crate) async fn begin(&mut self, kind: &str, data: Value) -> i64 {
        self.next_id += 1;
        let frame = json!({ "type": kind, "id": self.next_id, "data": data });
        self.stream.send(Message::text(frame.to_string())).await.expect("the server takes it");
        self.said.push(frame);
        self.next_id
    }

    pub(crate) async fn say(&mut self, conversation: &str, text: &str) -> Value {
        let data = json!({ "conversation_id": conversation, "client_msg_id": text, "text": text });
        let reply = self.command("message.send", data).await;
        assert_eq!(reply["type"], "ok", "{reply}");
        reply["data"]["message"].clone()
    }

    /// Waits for the `ok`s of this many commands.
    pub(crate) async fn answers(&mut self, mut count: usize) {
        while count > 0 {
            let frame = self.frame().await;
            match frame["type"].as_str() {
                Some("ok") => count -= 1,
                Some("error") => panic!("{frame}"),
                _ => {}
            }
        }
    }

    /// The next event of a type; skips those before it.
    pub(crate) async fn event(&mut self, kind: &str) -> Value {
        self.event_of(&[kind]).await
    }

    /// The next event of any of these types; skips those before it.
    pub(crate) async fn event_of(&mut self, kinds: &[&str]) -> Value {
        let wanted = |event: &Value| kinds.iter().any(|kind| event["type"] == *kind);
        while !self.events.is_empty() {
            let event = self.events.remove(0);
            if wanted(&event) {
                return event;
            }
        }
        loop {
            let frame = self.frame().await;
            if wanted(&frame) {
                return frame;
            }
        }
    }

    /// The next event, whatever it is.
    pub(crate) async fn next_event(&mut self) -> Value {
        if self.events.is_empty() { self.frame().await } else { self.events.remove(0) }
    }

    /// All that has come before the reply to a command that the server answers at once.
    pub(crate) async fn settled(&mut self) -> Vec<Value> {
        self.command("ping", json!({})).await;
        std::mem::take(&mut self.events)
    }

    /// All frames up to the last of these texts.
    pub(crate) async fn until_texts(&mut self, texts: &[&str]) -> Vec<Value> {
        let mut frames = std::mem::take(&mut self.events);
        let come = |frames: &[Value], text: &str| {
            frames.iter().any(|frame| frame["type"] != "ok" && frame.to_string().contains(text))
        };
        let all = timeout(PATIENCE, async {
            while !texts.iter().all(|text| come(&frames, text)) {
                frames.push(self.frame().await);
            }
        });
        let in_time = all.await.is_ok();
        assert!(
            in_time,
            "waited in vain for {texts:?} after {frames:?}, welcomed by {}",
            self.hello
        );
        frames
    }

    /// The code with which the server closes.
    pub(crate) async fn closed(&mut self) -> u16 {
        timeout(PATIENCE, self.rest()).await.expect("an end in time").1
    }

    /// All that comes before the server closes, and the code with which it does.
    pub(crate) async fn rest(&mut self) -> (Vec<Value>, u16) {
        let mut frames = std::mem::take(&mut self.events);
        loop {
            match timeout(PATIENCE, self.stream.next()).await.expect("an end in time") {
                Some(Ok(Message::Text(text))) => frames.push(self.read(&text)),
                Some(Ok(Message::Close(Some(close)))) => return (frames, close.code.into()),
                Some(Ok(_)) => {}
                other => panic!("ended without a close frame: {other:?}"),
            }
        }
    }

    pub(crate) async fn send_raw(&mut self, message: Message) {
        self.stream.send(message).await.expect("the server takes it");
    }

    /// The next ping or pong; skips what comes before it.
    pub(crate) async fn control(&mut self) -> Message {
        let control = async {
            loop {
                match self.stream.next().await {
                    Some(Ok(control @ (Message::Ping(_) | Message::Pong(_)))) => return control,
                    Some(Ok(_)) => {}
                    other => panic!("neither ping nor pong: {other:?}"),
                }
            }
        };
        timeout(PATIENCE, control).await.expect("a ping or pong in time")
    }

    /// The next frame, whatever it is.
    pub(crate) async fn frame(&mut self) -> Value {
        // Pings do not count: the server sends them however long nothing else comes.
        let frame = async {
            loop {
                match self.stream.next().await {
                    Some(Ok(Message::Text(text))) => return self.read(&text),
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                    other => panic!("no frame: {other:?}"),
                }
            }
        };
        timeout(PATIENCE, frame).await.expect("a frame in time")
    }

    /// A frame, checked against the contract.
    fn read(&mut self, text: &str) -> Value {
        let frame: Value = serde_json::from_str(text).expect("a frame of JSON");
        contract::heard(&frame);
        if let Some(at) = self.said.iter().position(|command| command["id"] == frame["id"]) {
            let command = self.said.swap_remove(at);
            if frame["type"] == "ok" {
                contract::accepted(&command, &frame);
            }
        }
        frame
    }
}
