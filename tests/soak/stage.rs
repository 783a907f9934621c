//! Nodes that come and go, with a proxy in front of each of their links.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use reqwest::{Method, StatusCode};
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout};

use crate::{
    proxy::Proxy,
    session::{SECRET, Session},
    support::{
        PATIENCE, Server,
        home::{Home, On},
    },
};

const SAMPLE: Duration = Duration::from_millis(500);
const CALL: Duration = Duration::from_secs(5);

pub(crate) struct Stage {
    pub(crate) home: Arc<Home>,
    pub(crate) nodes: Vec<Arc<Node>>,
    pub(crate) seed: u64,
    http: reqwest::Client,
    turn: AtomicUsize,
    /// How long access tokens last, if not as long as the server says.
    pub(crate) token_life: Option<Duration>,
}

pub(crate) struct Node {
    number: usize,
    home: Arc<Home>,
    /// Between clients and the node; its address stays when the node's own changes.
    pub(crate) front: Proxy,
    /// Between the node and its services, if it has any.
    pub(crate) store: Option<Proxy>,
    pub(crate) bus: Option<Proxy>,
    settings: Vec<(&'static str, String)>,
    server: Mutex<Option<Server>>,
    /// Seconds since its first start, and KiB.
    memory: Mutex<Vec<(f32, u64)>>,
}

impl Stage {
    pub(crate) async fn set(
        on: On,
        nodes: usize,
        seed: u64,
        settings: &[(&'static str, &str)],
    ) -> Self {
        let home =
            tokio::task::spawn_blocking(move || Arc::new(Home::new(on))).await.expect("a home");
        #[expect(clippy::print_stderr, reason = "whatever fails, it can be run again")]
        {
            eprintln!("PARLANCE_SOAK_SEED={seed}");
        }
        let mut all = vec![];
        for number in 0..nodes {
            all.push(Node::start_first(&home, number, seed, settings).await);
        }
        let http = reqwest::Client::builder().timeout(CALL).pool_max_idle_per_host(8).build();
        let (http, turn) = (http.expect("a client"), AtomicUsize::new(0));
        Self { home, nodes: all, seed, http, turn, token_life: crate::token_life() }
    }

    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        self.nodes.iter().map(|node| node.front.address()).collect()
    }

    /// Adopts a session begun by an answer to a sign-up.
    pub(crate) fn session(&self, signed: &Value) -> Arc<Session> {
        Session::new(signed, (self.http.clone(), self.addresses()), self.token_life)
    }

    /// Asks one node after another until one answers.
    pub(crate) async fn call(
        &self,
        (method, path, body): (Method, &str, Value),
        token: &str,
    ) -> (StatusCode, Value) {
        let asking = async {
            loop {
                let turn = self.turn.fetch_add(1, Ordering::Relaxed);
                let node = self.nodes[turn % self.nodes.len()].front.address();
                let mut request =
                    self.http.request(method.clone(), format!("http://{node}/api/v1{path}"));
                request = request.bearer_auth(token);
                if !body.is_null() {
                    request = request.json(&body);
                }
                if let Ok(answer) = request.send().await {
                    let status = answer.status();
                    let said = answer.bytes().await.map(|bytes| {
                        if bytes.is_empty() {
                            Ok(Value::Null)
                        } else {
                            serde_json::from_slice(&bytes)
                        }
                    });
                    match said {
                        Ok(Ok(said))
                            if status.as_u16() < 500 && status != StatusCode::TOO_MANY_REQUESTS =>
                        {
                            return (status, said);
                        }
                        _ => {}
                    }
                }
                sleep(Duration::from_millis(100)).await;
            }
        };
        timeout(PATIENCE, asking).await.unwrap_or_else(|_| panic!("no node answers {path}"))
    }

    pub(crate) async fn get(&self, path: &str, token: &str) -> Value {
        let (status, body) = self.call((Method::GET, path, Value::Null), token).await;
        assert!(status.is_success(), "GET {path}: {status} {body}");
        body
    }

    pub(crate) async fn post(&self, path: &str, body: Value, token: &str) -> Value {
        let (status, answer) = self.call((Method::POST, path, body), token).await;
        assert!(status.is_success(), "POST {path}: {status} {answer}");
        answer
    }

    /// All links as they should be, all nodes ready.
    pub(crate) async fn heal(&self) {
        for node in &self.nodes {
            for proxy in node.proxies() {
                proxy.heal();
            }
        }
        for node in &self.nodes {
            crate::support::until("a node is ready", async || node.is_ready().await).await;
        }
    }
}

impl Node {
    async fn start_first(
        home: &Arc<Home>,
        number: usize,
        seed: u64,
        settings: &[(&'static str, &str)],
    ) -> Arc<Self> {
        let mut all: Vec<_> =
            settings.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        all.push(("PARLANCE_JWT_SECRET", SECRET.to_owned()));
        let (mut store, mut bus) = (None, None);
        for (name, value) in home.settings() {
            let proxy = match name {
                "PARLANCE_MONGODB_URI" => &mut store,
                "PARLANCE_REDIS_URL" => &mut bus,
                _ => continue,
            };
            let (before, target, after) = parts(&value);
            let started = Proxy::start(target, seed ^ number as u64).await;
            let mut url = format!("{before}{}{after}", started.address());
            if name == "PARLANCE_MONGODB_URI" {
                // Otherwise the driver asks the set for its members, and bypasses the proxy.
                let options = url.split_once('?').map_or(url.as_str(), |(server, _)| server);
                url = format!("{options}?directConnection=true");
            }
            *proxy = Some(started);
            all.push((name, url));
        }
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 9));
        let node = Arc::new(Self {
            number,
            home: home.clone(),
            front: Proxy::start(nowhere, seed ^ number as u64).await,
            store,
            bus,
            settings: all,
            server: Mutex::default(),
            memory: Mutex::default(),
        });
        node.start().await;
        tokio::spawn(sample(Arc::downgrade(&node)));
        node
    }

    pub(crate) async fn start(self: &Arc<Self>) {
        let this = self.clone();
        let starting = tokio::task::spawn_blocking(move || {
            let settings: Vec<_> =
                this.settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
            Server::start_in(this.home.clone(), this.number, &settings)
        });
        let server = starting.await.expect("a node that starts");
        self.front.aim(parts(&server.url).1);
        *self.server.lock().expect("unpoisoned") = Some(server);
    }

    /// `kill -9`. Its clients notice.
    pub(crate) fn kill(&self) {
        self.server.lock().expect("unpoisoned").take();
    }

    /// SIGTERM; waits until it has ended.
    pub(crate) async fn stop(&self) -> Duration {
        let mut server = self.server.lock().expect("unpoisoned").take().expect("a running node");
        let begun = Instant::now();
        server.terminate();
        assert_eq!(server.exit().await.code(), Some(0), "of node {}", self.number);
        begun.elapsed()
    }

    pub(crate) fn proxies(&self) -> impl Iterator<Item = &Proxy> {
        [Some(&self.front), self.store.as_ref(), self.bus.as_ref()].into_iter().flatten()
    }

    pub(crate) fn url(&self) -> Option<String> {
        self.server.lock().expect("unpoisoned").as_ref().map(|server| server.url.clone())
    }

    async fn is_ready(&self) -> bool {
        let Some(url) = self.url() else { return false };
        match timeout(CALL, reqwest::get(format!("{url}/readyz"))).await {
            Ok(Ok(answer)) => answer.json::<Value>().await.is_ok_and(|said| said["status"] == "ok"),
            _ => false,
        }
    }

    /// Resident KiB, now.
    pub(crate) fn resident(&self) -> Option<u64> {
        let pid = self.server.lock().expect("unpoisoned").as_ref().map(Server::pid)?;
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        line.trim().strip_suffix(" kB")?.trim().parse().ok()
    }

    /// Its peak, and about ten samples, in MiB.
    pub(crate) fn memory(&self) -> (u64, String) {
        let all = self.memory.lock().expect("unpoisoned");
        let most = all.iter().map(|(_, kib)| kib / 1024).max().unwrap_or_default();
        let some = all.iter().step_by(all.len().div_ceil(10).max(1));
        let some: Vec<_> = some.map(|(at, kib)| format!("{at:.0}s:{}", kib / 1024)).collect();
        (most, some.join(" "))
    }
}

async fn sample(node: std::sync::Weak<Node>) {
    let begun = Instant::now();
    while let Some(node) = node.upgrade() {
        if let Some(kib) = node.resident() {
            node.memory.lock().expect("unpoisoned").push((begun.elapsed().as_secs_f32(), kib));
        }
        drop(node);
        sleep(SAMPLE).await;
    }
}

/// What precedes the address in a URL, the address, and the rest.
fn parts(url: &str) -> (String, SocketAddr, String) {
    let (scheme, rest) = url.split_once("://").expect("a URL");
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, after) = rest.split_at(end);
    let (user, hosts) =
        authority.rsplit_once('@').map_or(("", authority), |(user, hosts)| (user, hosts));
    let host = hosts.split(',').next().unwrap_or_default().replace("localhost", "127.0.0.1");
    let at = if user.is_empty() { "" } else { "@" };
    let address = host.parse().unwrap_or_else(|_| panic!("{url}: no address with a port"));
    (format!("{scheme}://{user}{at}"), address, after.to_owned())
}
