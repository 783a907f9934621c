//! The surroundings of a test's server: a directory of its own, and on services also a database, a Redis and a mail
//! catcher.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::Mutex,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use super::PATIENCE;

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

    /// The environment variables of a server.
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
        let (port, process) = on_a_free_port("redis-server", Self::spawn);
        Self { port, process: Mutex::new(process) }
    }

    /// `kill -9`: all that it knew is gone.
    pub(crate) fn kill(&self) {
        end(&self.process);
    }

    pub(crate) fn start_again(&self) {
        let process = Self::spawn(self.port).expect("redis-server has its port back");
        *self.process.lock().expect("unpoisoned") = process;
    }

    fn spawn(port: u16) -> Option<Child> {
        let child = Command::new(needed("PARLANCE_TEST_REDIS_SERVER"))
            .args(["--port", &port.to_string(), "--save", "", "--appendonly", "no"])
            .args(["--bind", "127.0.0.1"])
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server starts");
        let own = format!("process_id:{}\r\n", child.id());
        answering(child, port, ("INFO server\r\n", &own))
    }
}

impl Catcher {
    fn start() -> Self {
        let dir = TempDir::new().expect("a directory");
        std::fs::create_dir(dir.path().join("mails")).expect("a directory");
        let (port, process) = on_a_free_port("the mail catcher", |port| Self::spawn(port, &dir));
        Self { port, process: Mutex::new(process), dir }
    }

    /// Sets how it answers from now on: `ok`, `451`, `550` or `hang`.
    pub(crate) fn answer(&self, mode: &str) {
        std::fs::write(self.dir.path().join("mode"), mode).expect("a file");
    }

    /// Attempts to deliver so far, whatever their outcome.
    pub(crate) fn attempts(&self) -> usize {
        let log = std::fs::read_to_string(self.dir.path().join("attempts")).unwrap_or_default();
        log.lines().count()
    }

    pub(crate) fn kill(&self) {
        end(&self.process);
    }

    pub(crate) fn start_again(&self) {
        let process = Self::spawn(self.port, &self.dir).expect("the catcher has its port back");
        *self.process.lock().expect("unpoisoned") = process;
    }

    fn spawn(port: u16, dir: &TempDir) -> Option<Child> {
        let child = Command::new(needed("PARLANCE_TEST_PYTHON"))
            .args(["-c", CATCHER, &port.to_string()])
            .arg(dir.path())
            .spawn()
            .expect("python starts");
        let own = format!("catcher {}\r\n", child.id());
        answering(child, port, ("", &own))
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
ident = f"catcher {os.getpid()}"
UnthreadedController(Handler(), hostname="127.0.0.1", port=port, loop=loop, ident=ident).begin()
loop.run_forever()
"#;

/// A variable that `make test` sets.
fn needed(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!("{name} is not set: run the tests with `make test`, which starts what they need")
    })
}

/// A database that no other test uses, on a server that no concurrent test uses if there are enough.
fn database() -> String {
    let servers = needed("PARLANCE_TEST_MONGODB_URI");
    let servers: Vec<_> = servers.split_whitespace().collect();
    // nextest numbers the tests that run at a time.
    let slot = std::env::var("NEXTEST_TEST_GLOBAL_SLOT").ok().and_then(|slot| slot.parse().ok());
    let uri = servers[slot.unwrap_or(0_usize) % servers.len()];
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

/// Another process may get the same port before the child has bound it: then the next is tried.
fn on_a_free_port(what: &str, spawn: impl Fn(u16) -> Option<Child>) -> (u16, Child) {
    let tries = std::iter::repeat_with(free_port).take(10);
    let mut started = tries.filter_map(|port| Some((port, spawn(port)?)));
    started.next().unwrap_or_else(|| panic!("{what} ends at once, on whatever port"))
}

/// The child, once it answers on its port; `None` if it has ended instead. `ask` is sent to it and `own` is what only
/// it would answer: a taken port is answered by another process.
#[expect(clippy::disallowed_methods, reason = "a process is waited for, off any clock of a test")]
fn answering(mut child: Child, port: u16, (ask, own): (&str, &str)) -> Option<Child> {
    let begin = Instant::now();
    loop {
        if matches!(answer(port, ask, own), Ok(true)) {
            return Some(child);
        }
        if child.try_wait().expect("a child to ask about").is_some() {
            return None;
        }
        if begin.elapsed() > PATIENCE {
            let _ = child.kill();
            panic!("nothing says {own:?} on port {port}");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Whether the listener there gives this answer.
fn answer(port: u16, ask: &str, own: &str) -> std::io::Result<bool> {
    let mut link = TcpStream::connect(("127.0.0.1", port))?;
    // Another process may not answer at all.
    link.set_read_timeout(Some(Duration::from_secs(5)))?;
    link.write_all(ask.as_bytes())?;
    let (mut said, mut some) = (vec![], [0; 4096]);
    while !String::from_utf8_lossy(&said).contains(own) {
        match link.read(&mut some)? {
            0 => return Ok(false),
            count => said.extend_from_slice(&some[..count]),
        }
    }
    Ok(true)
}

fn end(process: &Mutex<Child>) {
    let mut child = process.lock().expect("unpoisoned");
    let _ = child.kill();
    let _ = child.wait();
}
