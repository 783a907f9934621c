//! Starts the binary on a free port with a directory of its own, and speaks REST and WebSocket to it.

mod contract;
pub(crate) mod home;
mod person;
mod socket;

use std::{
    io::{BufRead, BufReader, Read as _},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, mpsc},
    time::Duration,
};

use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::time::timeout;

use self::home::Home;
pub(crate) use self::{person::Person, socket::Socket};

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
        let (child, line) = announced(&home, node, "serve", settings);
        let mut server = Self { child, home, node, url: String::new() };
        let url = line.strip_prefix("parlance listening on ");
        url.unwrap_or_else(|| panic!("no announcement, but: {line:?}")).clone_into(&mut server.url);
        server
    }

    /// One that has not announced itself yet.
    pub(crate) fn starting(home: Arc<Home>) -> Self {
        let child = spawn(&home, 0, "serve", &[]);
        Self { child, home, node: 0, url: String::new() }
    }

    /// What a process that has ended while it was starting said on stdout.
    pub(crate) fn said(&mut self) -> String {
        let mut said = String::new();
        let stdout = self.child.stdout.as_mut().expect("a piped stdout");
        stdout.read_to_string(&mut said).expect("text");
        said
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("can be killed");
        self.child.wait().expect("ends");
    }

    /// `kill -9`, then the same directory again.
    pub(crate) fn crash_and_restart(mut self) -> Self {
        self.kill();
        Self::start_in(self.home.clone(), self.node, &[])
    }

    /// What `/readyz` says.
    pub(crate) async fn ready(&self) -> Value {
        let answer = reqwest::get(format!("{}/readyz", self.url)).await.expect("an answer");
        answer.json().await.expect("a body of JSON")
    }

    pub(crate) fn terminate(&self) {
        terminate(&self.child);
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child to ask about")
    }

    pub(crate) async fn exit(&mut self) -> ExitStatus {
        let mut status = None;
        until("the process ends", async || {
            status = self.ended();
            status.is_some()
        })
        .await;
        status.expect("an exit status")
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
        Person::of(&answer.json().await.expect("a body of JSON"), &self.url, http)
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
        Self::start_with(home, &[])
    }

    pub(crate) fn start_with(home: &Home, settings: &[(&str, &str)]) -> Self {
        let (child, line) = announced(home, 99, "worker", settings);
        assert_eq!(line, "parlance worker running");
        Self(child)
    }

    pub(crate) fn terminate(&self) {
        terminate(&self.0);
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.0.try_wait().expect("a child to ask about")
    }
}

impl Drop for Worker {
    /// `kill -9`.
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn terminate(process: &Child) {
    let pid = process.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().expect("kill runs").success());
}

/// Starts the binary.
fn spawn(home: &Home, node: usize, command: &str, settings: &[(&str, &str)]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_parlance"))
        .args([command, "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(home.data(node))
        .env("RUST_LOG", std::env::var("RUST_LOG").unwrap_or_else(|_| "error".to_owned()))
        .envs(home.settings())
        .envs(settings.iter().copied())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary starts")
}

/// Starts the binary and waits for its first line.
fn announced(
    home: &Home,
    node: usize,
    command: &str,
    settings: &[(&str, &str)],
) -> (Child, String) {
    let mut child = spawn(home, node, command, settings);
    let stdout = child.stdout.take().expect("a piped stdout");
    // On a thread of its own: a read from a pipe has no time limit.
    let (say, said) = mpsc::channel();
    std::thread::spawn(move || {
        let mut line = String::new();
        let _ = say.send(BufReader::new(stdout).read_line(&mut line).map(|_| line));
    });
    let Ok(line) = said.recv_timeout(PATIENCE) else {
        let _ = child.kill();
        let _ = child.wait();
        panic!("`parlance {command}` has said nothing for {PATIENCE:?}");
    };
    (child, line.expect("a first line").trim().to_owned())
}

/// Runs a command of the binary to its end: whether it succeeded, and all its output.
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

/// Waits until a condition is true.
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

pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no string")).to_owned()
}
