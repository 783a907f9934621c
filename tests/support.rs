//! Starts the binary on a free port with a directory of its own, and speaks REST and WebSocket to it.

mod socket;

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::time::timeout;
use tokio_tungstenite::{
    connect_async,
    tungstenite::{
        Error,
        client::IntoClientRequest,
        handshake::client::Response,
        http::{HeaderName, HeaderValue},
    },
};

pub(crate) use self::socket::Socket;
use crate::home::Home;

/// Longer than anything should take, even on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(40);

pub(crate) struct Server {
    child: Child,
    pub(crate) home: Arc<Home>,
    node: usize,
    pub(crate) url: String,
}

/// A process that runs jobs alone.
pub(crate) struct Worker(Child);

#[derive(Clone)]
pub(crate) struct Person {
    pub(crate) id: String,
    pub(crate) token: String,
    pub(crate) refresh: String,
    url: String,
    http: reqwest::Client,
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    pub(crate) fn start_with(settings: &[(&str, &str)]) -> Self {
        Self::start_in(Arc::new(Home::new(crate::ON)), 0, settings)
    }

    /// One that lets a test send as fast as it likes.
    pub(crate) fn without_limits() -> Self {
        Self::start_with(&[("PARLANCE_RATE_LIMITS", "off")])
    }

    /// Another node on the same services.
    pub(crate) fn beside(other: &Self, node: usize) -> Self {
        Self::start_in(other.home.clone(), node, &[])
    }

    pub(crate) fn start_in(home: Arc<Home>, node: usize, settings: &[(&str, &str)]) -> Self {
        let (child, line) = spawn(&home, node, "serve", settings);
        let url = line.strip_prefix("parlance listening on ").expect("the announcement").to_owned();
        Self { child, home, node, url }
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("kill");
        self.child.wait().expect("wait");
    }

    /// `kill -9`, then the same directory again.
    pub(crate) fn crash_and_restart(mut self) -> Self {
        self.kill();
        Self::start_in(self.home.clone(), self.node, &[])
    }

    /// What `/readyz` says.
    pub(crate) async fn ready(&self) -> Value {
        let answer = reqwest::get(format!("{}/readyz", self.url)).await.expect("an answer");
        answer.json().await.expect("JSON")
    }

    pub(crate) fn terminate(&self) {
        let pid = self.pid().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().expect("kill").success());
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("wait")
    }

    pub(crate) async fn exit(&mut self) -> ExitStatus {
        timeout(PATIENCE, async {
            loop {
                if let Some(status) = self.ended() {
                    return status;
                }
                tokio::task::yield_now().await;
            }
        })
        .await
        .expect("the process ends")
    }

    pub(crate) async fn sign_up(&self, name: &str) -> Person {
        let http = reqwest::Client::new();
        let body = json!({ "email": format!("{name}@example.org"), "password": "correct horse", "display_name": name });
        let answer = http
            .post(format!("{}/api/v1/auth/signup", self.url))
            .json(&body)
            .send()
            .await
            .expect("an answer");
        assert_eq!(answer.status(), StatusCode::CREATED);
        Person::of(&answer.json().await.expect("JSON"), &self.url, http)
    }

    /// Ada and bob, in a workspace that ada has made: its id, and its `general`.
    pub(crate) async fn ada_and_bob(&self) -> (Person, Person, String, String) {
        let (ada, bob) = (self.sign_up("ada").await, self.sign_up("bob").await);
        let (workspace, general, code) = ada.workspace().await;
        bob.join(&code).await;
        (ada, bob, workspace, general)
    }
}

impl Worker {
    pub(crate) fn start(home: &Home) -> Self {
        let (child, line) = spawn(home, 99, "worker", &[]);
        assert_eq!(line, "parlance worker running");
        Self(child)
    }
}

impl Drop for Worker {
    /// `kill -9`.
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts the binary and waits for its first line.
fn spawn(home: &Home, node: usize, command: &str, settings: &[(&str, &str)]) -> (Child, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_parlance"))
        .args([command, "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(home.data(node))
        .env("RUST_LOG", std::env::var("RUST_LOG").unwrap_or_else(|_| "error".to_owned()))
        .envs(home.settings())
        .envs(settings.iter().copied())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let mut line = String::new();
    let stdout = child.stdout.take().expect("stdout");
    BufReader::new(stdout).read_line(&mut line).expect("a first line");
    (child, line.trim().to_owned())
}

/// Runs a command of the binary to its end: whether it went well, and all that it said.
pub(crate) fn run(home: &Home, command: &str, settings: &[(&str, &str)]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_parlance"))
        .args(command.split(' '))
        .arg("--data-dir")
        .arg(home.data(0))
        .env("RUST_LOG", "error")
        .envs(home.settings())
        .envs(settings.iter().copied())
        .output()
        .expect("the binary runs");
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

/// Waits until a condition has come true.
pub(crate) async fn until(what: &str, mut so: impl AsyncFnMut() -> bool) {
    let come = timeout(PATIENCE, async {
        while !so().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    assert!(come.await.is_ok(), "in vain: {what}");
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Person {
    fn of(signed_in: &Value, url: &str, http: reqwest::Client) -> Self {
        Self {
            id: text(&signed_in["user"]["id"]),
            token: text(&signed_in["access_token"]),
            refresh: text(&signed_in["refresh_token"]),
            url: url.to_owned(),
            http,
        }
    }

    /// The same person at a server that was started again.
    pub(crate) fn at(mut self, server: &Server) -> Self {
        server.url.clone_into(&mut self.url);
        self
    }

    pub(crate) async fn call(
        &self,
        method: Method,
        path: &str,
        body: Value,
    ) -> (StatusCode, Value) {
        let mut request = self
            .http
            .request(method, format!("{}/api/v1{path}", self.url))
            .bearer_auth(&self.token);
        if !body.is_null() {
            request = request.json(&body);
        }
        let answer = request.send().await.expect("an answer");
        let status = answer.status();
        let bytes = answer.bytes().await.expect("a body");
        (
            status,
            if bytes.is_empty() {
                Value::Null
            } else {
                serde_json::from_slice(&bytes).expect("JSON")
            },
        )
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

    /// A socket that has said hello and waits for no answer.
    pub(crate) async fn knock(&self, resume: Value) -> Socket {
        let mut socket = self.open().await;
        socket.begin("hello", json!({ "token": self.token, "resume": resume })).await;
        socket
    }

    /// A socket on which nothing has been said yet.
    pub(crate) async fn open(&self) -> Socket {
        self.open_with(&[]).await
    }

    /// The same, by a handshake with more headers.
    pub(crate) async fn open_with(&self, headers: &[(&'static str, &str)]) -> Socket {
        let (stream, _) = self.shake_hands(headers).await.expect("a socket");
        Socket::on(stream)
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
    ) -> Result<(socket::Stream, Response), Error> {
        let url = format!("{}/api/v1/ws", self.url.replace("http://", "ws://"));
        let mut request = url.into_client_request()?;
        for (name, value) in headers {
            let value = HeaderValue::from_str(value).expect("a header's value");
            request.headers_mut().insert(HeaderName::from_static(name), value);
        }
        connect_async(request).await
    }

    /// The same person, signed in once more.
    pub(crate) async fn sign_in(&self, email: &str) -> Self {
        let body = json!({ "email": email, "password": "correct horse" });
        Self::of(&self.post("/auth/signin", body).await, &self.url, self.http.clone())
    }

    /// A workspace of one's own: its id, its `general`, its join code.
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

pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no string")).to_owned()
}
