//! Somebody who has signed up: what they ask by REST, and the sockets that they open.

use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};
use tokio::net::TcpSocket;
use tokio_tungstenite::{
    MaybeTlsStream, client_async, connect_async,
    tungstenite::{
        Error,
        client::IntoClientRequest,
        handshake::client::Response as Handshake,
        http::{HeaderName, HeaderValue},
    },
};

use super::{Server, Socket, contract, socket, text};

#[derive(Clone)]
pub(crate) struct Person {
    pub(crate) id: String,
    pub(crate) token: String,
    pub(crate) refresh: String,
    url: String,
    http: reqwest::Client,
}

impl Person {
    pub(super) fn of(signed_in: &Value, url: &str, http: reqwest::Client) -> Self {
        Self {
            id: text(&signed_in["user"]["id"]),
            token: text(&signed_in["access_token"]),
            refresh: text(&signed_in["refresh_token"]),
            url: url.to_owned(),
            http,
        }
    }

    /// The same person at a server that was restarted.
    pub(crate) fn at(mut self, server: &Server) -> Self {
        server.url.clone_into(&mut self.url);
        self
    }

    /// The answer to a call, with its headers.
    pub(crate) async fn ask(&self, method: Method, path: &str, body: Value) -> Response {
        let url = format!("{}/api/v1{path}", self.url);
        let mut request = self.http.request(method, url).bearer_auth(&self.token);
        if !body.is_null() {
            request = request.json(&body);
        }
        request.send().await.expect("an answer")
    }

    pub(crate) async fn call(
        &self,
        method: Method,
        path: &str,
        body: Value,
    ) -> (StatusCode, Value) {
        let answer = self.ask(method.clone(), path, body).await;
        let status = answer.status();
        let bytes = answer.bytes().await.expect("a whole body");
        let body = match &*bytes {
            [] => Value::Null,
            bytes => serde_json::from_slice(bytes).expect("a body of JSON"),
        };
        contract::answered(&method, path, status, &body);
        (status, body)
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        let (status, body) = self.call(Method::GET, path, Value::Null).await;
        assert!(status.is_success(), "GET {path}: {status} {body}");
        body
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Value {
        let (status, answer) = self.call(Method::POST, path, body).await;
        assert!(status.is_success(), "POST {path}: {status} {answer}");
        answer
    }

    pub(crate) async fn connect(&self) -> Socket {
        self.resume(Value::Null).await
    }

    pub(crate) async fn resume(&self, resume: Value) -> Socket {
        let mut socket = self.knock(resume).await;
        let reply = socket.reply(1).await;
        assert_eq!(reply["type"], "ok", "{reply}");
        socket.hello = reply["data"].clone();
        socket
    }

    /// The socket opened, or the refusal and the code that it was closed with.
    pub(crate) async fn hello(&self, mut socket: Socket) -> Result<Socket, (Value, u16)> {
        let reply = socket.command("hello", json!({ "token": self.token })).await;
        if reply["type"] == "error" {
            return Err((reply, socket.closed().await));
        }
        Ok(socket)
    }

    /// A socket that has said hello and does not wait for the answer.
    pub(crate) async fn knock(&self, resume: Value) -> Socket {
        let mut socket = self.open().await;
        socket.begin("hello", json!({ "token": self.token, "resume": resume })).await;
        socket
    }

    /// A socket on which nothing has been said yet.
    pub(crate) async fn open(&self) -> Socket {
        self.open_with(&[]).await
    }

    /// The same, with more headers in the handshake.
    pub(crate) async fn open_with(&self, headers: &[(&'static str, &str)]) -> Socket {
        let (stream, _) = self.shake_hands(headers).await.expect("a socket");
        Socket::on(stream)
    }

    /// A socket that buffers next to nothing of what the server has not read.
    pub(crate) async fn open_narrow(&self) -> Socket {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_send_buffer_size(4_096).expect("a small buffer");
        let address = self.url.strip_prefix("http://").expect("an http URL");
        let stream = socket.connect(address.parse().expect("an address")).await;
        let stream = MaybeTlsStream::Plain(stream.expect("a connection"));
        let upgraded = client_async(format!("ws://{address}/api/v1/ws"), stream).await;
        Socket::on(upgraded.expect("a socket").0)
    }

    /// The status of the answer to a handshake, and the subprotocol that was selected.
    pub(crate) async fn handshake(
        &self,
        headers: &[(&'static str, &str)],
    ) -> (u16, Option<String>) {
        match self.shake_hands(headers).await {
            Ok((_, answer)) => {
                let selected = answer.headers().get("sec-websocket-protocol");
                let selected = selected.map(|name| name.to_str().expect("text").to_owned());
                (answer.status().as_u16(), selected)
            }
            Err(Error::Http(answer)) => (answer.status().as_u16(), None),
            Err(error) => panic!("no answer: {error}"),
        }
    }

    async fn shake_hands(
        &self,
        headers: &[(&'static str, &str)],
    ) -> Result<(socket::Stream, Handshake), Error> {
        let url = format!("{}/api/v1/ws", self.url.replace("http://", "ws://"));
        let mut request = url.into_client_request()?;
        for (name, value) in headers {
            let value = HeaderValue::from_str(value).expect("a header's value");
            request.headers_mut().insert(HeaderName::from_static(name), value);
        }
        connect_async(request).await
    }

    /// The same person, signed in again.
    pub(crate) async fn sign_in(&self, email: &str) -> Self {
        let body = json!({ "email": email, "password": "correct horse" });
        Self::of(&self.post("/auth/signin", body).await, &self.url, self.http.clone())
    }

    /// A workspace of their own: its id, its `general`, its join code.
    pub(crate) async fn workspace(&self) -> (String, String, String) {
        let workspace = self.post("/workspaces", json!({ "name": "Acme" })).await;
        let id = text(&workspace["id"]);
        let channels = self.get(&format!("/workspaces/{id}/channels")).await;
        assert_eq!(channels["items"][0]["name"], "general");
        (id, text(&channels["items"][0]["id"]), text(&workspace["join_code"]))
    }

    /// Enters a workspace.
    pub(crate) async fn join(&self, code: &str) {
        self.post("/workspaces/join", json!({ "join_code": code })).await;
    }
}
