//! Where a server of a test lives: a directory of its own, and on services a database, a Redis and a mail catcher of its own.

use std::{
    net::{TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::Mutex,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::support::PATIENCE;

/// What the servers of a suite run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum On {
    /// Nothing but a directory.
    Embedded,
    /// MongoDB, Redis and SMTP.
    Services,
}

pub(crate) struct Home {
    dir: TempDir,
    services: Option<Services>,
}

/// Processes of one test; they end with it.
pub(crate) struct Services {
    database: String,
    pub(crate) redis: Redis,
    pub(crate) mail: Catcher,
}

pub(crate) struct Redis {
    port: u16,
    process: Mutex<Child>,
}

pub(crate) struct Catcher {
    port: u16,
    process: Mutex<Child>,
    dir: TempDir,
}

impl Home {
    pub(crate) fn new(on: On) -> Self {
        let services = (on == On::Services).then(|| Services {
            database: database(),
            redis: Redis::start(),
            mail: Catcher::start(),
        });
        Self { dir: TempDir::new().expect("a directory"), services }
    }

    pub(crate) fn services(&self) -> &Services {
        self.services.as_ref().expect("a suite on services")
    }

    /// A data directory of its own for each node.
    pub(crate) fn data(&self, node: usize) -> PathBuf {
        self.dir.path().join(format!("node-{node}"))
    }

    /// What a server's environment says.
    pub(crate) fn settings(&self) -> Vec<(&'static str, String)> {
        let Some(services) = &self.services else { return vec![] };
        vec![
            ("PARLANCE_MONGODB_URI", services.database.clone()),
            ("PARLANCE_REDIS_URL", format!("redis://127.0.0.1:{}", services.redis.port)),
            ("PARLANCE_SMTP_URL", format!("smtp://127.0.0.1:{}", services.mail.port)),
            ("PARLANCE_JWT_SECRET", "a secret of thirty-two bytes or so".to_owned()),
        ]
    }

    /// All mails that have been delivered.
    pub(crate) fn mails(&self) -> Vec<String> {
        let dir = match &self.services {
            Some(services) => services.mail.dir.path().join("mails"),
            None => self.data(0).join("outbox"),
        };
        let files = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|file| file.path());
        let whole = files.filter(|path| path.extension().is_some_and(|ext| ext == "eml"));
        whole.map(|path| std::fs::read_to_string(path).expect("a mail")).collect()
    }
}

impl Redis {
    fn start() -> Self {
        let port = free_port();
        Self { port, process: Mutex::new(Self::spawn(port)) }
    }

    /// `kill -9`: all that it knew is gone.
    pub(crate) fn kill(&self) {
        end(&self.process);
    }

    pub(crate) fn start_again(&self) {
        *self.process.lock().expect("unpoisoned") = Self::spawn(self.port);
    }

    fn spawn(port: u16) -> Child {
        let child = Command::new(needed("PARLANCE_TEST_REDIS_SERVER"))
            .args(["--port", &port.to_string(), "--save", "", "--appendonly", "no"])
            .args(["--bind", "127.0.0.1"])
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server starts");
        answers(port);
        child
    }
}

impl Catcher {
    fn start() -> Self {
        let (port, dir) = (free_port(), TempDir::new().expect("a directory"));
        std::fs::create_dir(dir.path().join("mails")).expect("a directory");
        Self { port, process: Mutex::new(Self::spawn(port, &dir)), dir }
    }

    /// How it answers from now on: `ok`, `451`, `550` or `hang`.
    pub(crate) fn answer(&self, mode: &str) {
        std::fs::write(self.dir.path().join("mode"), mode).expect("a file");
    }

    /// Attempts to deliver so far, whatever became of them.
    pub(crate) fn attempts(&self) -> usize {
        let log = std::fs::read_to_string(self.dir.path().join("attempts")).unwrap_or_default();
        log.lines().count()
    }

    pub(crate) fn kill(&self) {
        end(&self.process);
    }

    pub(crate) fn start_again(&self) {
        *self.process.lock().expect("unpoisoned") = Self::spawn(self.port, &self.dir);
    }

    fn spawn(port: u16, dir: &TempDir) -> Child {
        let child = Command::new(needed("PARLANCE_TEST_PYTHON"))
            .args(["-c", CATCHER, &port.to_string()])
            .arg(dir.path())
            .spawn()
            .expect("python starts");
        answers(port);
        child
    }
}

impl Drop for Services {
    fn drop(&mut self) {
        self.redis.kill();
        self.mail.kill();
    }
}

/// A real SMTP server that does as it is told.
const CATCHER: &str = r#"
import asyncio, os, sys, uuid
from aiosmtpd.controller import UnthreadedController
port, home = int(sys.argv[1]), sys.argv[2]

class Handler:
    async def handle_DATA(self, server, session, envelope):
        with open(os.path.join(home, "attempts"), "a") as log:
            log.write("attempt\n")
        try:
            mode = open(os.path.join(home, "mode")).read()
        except FileNotFoundError:
            mode = "ok"
        if mode == "hang":
            await asyncio.sleep(3600)
        if mode == "451":
            return "451 try again later"
        if mode == "550":
            return "550 no such mailbox"
        name = os.path.join(home, "mails", uuid.uuid4().hex)
        with open(name, "wb") as file:
            file.write(envelope.content)
        os.rename(name, name + ".eml")
        return "250 accepted"

loop = asyncio.new_event_loop()
UnthreadedController(Handler(), hostname="127.0.0.1", port=port, loop=loop).begin()
loop.run_forever()
"#;

/// A variable that `make test` sets.
fn needed(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!("{name} is not set: run the tests with `make test`, which starts what they need")
    })
}

/// A database that no other test uses.
fn database() -> String {
    let uri = needed("PARLANCE_TEST_MONGODB_URI");
    let name = format!("e2e-{}-{}", std::process::id(), free_port());
    match uri.split_once('?') {
        Some((server, options)) => format!("{}/{name}?{options}", server.trim_end_matches('/')),
        None => format!("{}/{name}", uri.trim_end_matches('/')),
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

#[expect(clippy::disallowed_methods, reason = "a process is waited for, off any clock of a test")]
fn answers(port: u16) {
    let begin = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(begin.elapsed() < PATIENCE, "nothing listens on port {port}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn end(process: &Mutex<Child>) {
    let mut child = process.lock().expect("unpoisoned");
    let _ = child.kill();
    let _ = child.wait();
}
