//! A TCP proxy that misbehaves on command: on open links, on new ones, in either direction. Its randomness comes from a
//! seed.

mod link;
mod tests;

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{AbortHandle, JoinSet},
    time::timeout,
};

use self::link::{carry, reset};
use crate::{dice::Dice, support::PATIENCE};

/// How long the far side may take to accept.
const CONNECT: Duration = Duration::from_secs(5);

/// What happens to the bytes of one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Pass,
    /// Takes what fits into the system's buffers and forwards nothing until the stall ends.
    Stall,
    /// Forwards this many bytes a second.
    Slow(usize),
    /// Random bytes *between* the right ones, in one chunk of this many. None is flipped: TCP would not let that
    /// through, and a changed letter makes another text, which nobody could tell from a lost one.
    Garbage(u64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// From the side that connected to the proxy.
    Up,
    /// To the side that connected.
    Down,
    Both,
}

/// One of a link's two ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// The side that connected to the proxy.
    Client,
    /// The side that the proxy connects to.
    Target,
}

pub(crate) struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: AbortHandle,
}

pub(crate) struct Shared {
    state: Mutex<State>,
    pub(crate) dice: Dice,
}

struct State {
    target: SocketAddr,
    refusing: bool,
    /// For new links.
    up: Mode,
    down: Mode,
    links: HashMap<u64, Link>,
    next: u64,
    watched: Option<Watched>,
}

/// A request that a test waits for.
struct Watched {
    words: Vec<Vec<u8>>,
    /// All links stall downwards once it has been made.
    stalls: bool,
    answered: Answered,
}

/// Whether its answer has come.
pub(crate) type Answered = Arc<watch::Sender<bool>>;

/// A link that is open.
struct Link {
    up: watch::Sender<Mode>,
    down: watch::Sender<Mode>,
    end: watch::Sender<Option<End>>,
}

/// How a link ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// Both sides are reset.
    Cut,
    /// This side is kept open, and hears nothing more; the other side is closed.
    Keep(Side),
}

impl Proxy {
    pub(crate) async fn start(target: SocketAddr, seed: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let state = State {
            target,
            refusing: false,
            up: Mode::Pass,
            down: Mode::Pass,
            links: HashMap::new(),
            next: 0,
            watched: None,
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), dice: Dice::new(seed) });
        let accepting = tokio::spawn(accept(listener, shared.clone())).abort_handle();
        Self { address, shared, accepting }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sets where new links go.
    pub(crate) fn aim(&self, target: SocketAddr) {
        self.shared.lock().target = target;
    }

    /// Sets the mode of all links, open and new.
    pub(crate) fn set(&self, way: Way, mode: Mode) {
        self.set_new(way, mode);
        self.set_open(way, mode);
    }

    /// Sets the mode of new links.
    pub(crate) fn set_new(&self, way: Way, mode: Mode) {
        self.shared.lock().set_new(way, mode);
    }

    /// Sets the mode of open links.
    pub(crate) fn set_open(&self, way: Way, mode: Mode) {
        self.shared.lock().set_open(way, mode);
    }

    /// Resets all open links, on both sides.
    pub(crate) fn cut(&self) {
        self.end(End::Cut);
    }

    /// Closes the other side of all open links; this one stays open and hears nothing more, not even of the closing.
    pub(crate) fn keep_only(&self, side: Side) {
        self.end(End::Keep(side));
    }

    /// Sets whether new links are reset at once.
    pub(crate) fn refuse(&self, refusing: bool) {
        self.shared.lock().refusing = refusing;
    }

    /// Heals all links: stalled ones continue, those that may be corrupt or deaf are reset.
    pub(crate) fn heal(&self) {
        self.shared.lock().watched = None;
        self.refuse(false);
        self.cut();
        self.set(Way::Both, Mode::Pass);
    }

    pub(crate) fn open_links(&self) -> usize {
        self.shared.lock().links.len()
    }

    /// Resolves once the target has got a request that contains all of these words, and its answer has reached the
    /// proxy. The request must fit into one read.
    pub(crate) fn answer_to(&self, words: &[&[u8]]) -> impl Future<Output = ()> + use<> {
        self.watch(words, false)
    }

    /// The same; from the moment the target gets it nothing more comes back on any link, this answer included.
    pub(crate) fn stalled_answer_to(&self, words: &[&[u8]]) -> impl Future<Output = ()> + use<> {
        self.watch(words, true)
    }

    fn watch(&self, words: &[&[u8]], stalls: bool) -> impl Future<Output = ()> + use<> {
        let (answered, mut come) = watch::channel(false);
        self.shared.lock().watched = Some(Watched {
            words: words.iter().map(|word| word.to_vec()).collect(),
            stalls,
            answered: Arc::new(answered),
        });
        async move {
            let come = timeout(PATIENCE, come.wait_for(|answered| *answered)).await;
            assert!(
                come.is_ok_and(|come| come.is_ok()),
                "the target was not asked, or did not answer"
            );
        }
    }

    fn end(&self, end: End) {
        for link in self.shared.lock().links.values() {
            link.end.send_replace(Some(end));
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut();
    }
}

impl Shared {
    /// Where to report the answer, if this is the request that a test waits for. Stalls what comes back, if the test
    /// wants that.
    pub(crate) fn asks(&self, chunk: &[u8]) -> Option<Answered> {
        let mut state = self.lock();
        let contains = |word: &Vec<u8>| chunk.windows(word.len()).any(|bytes| bytes == word);
        let asked = state.watched.take_if(|watched| watched.words.iter().all(contains))?;
        if asked.stalls {
            state.set_new(Way::Down, Mode::Stall);
            state.set_open(Way::Down, Mode::Stall);
        }
        Some(asked.answered)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn set_new(&mut self, way: Way, mode: Mode) {
        if way != Way::Down {
            self.up = mode;
        }
        if way != Way::Up {
            self.down = mode;
        }
    }

    fn set_open(&self, way: Way, mode: Mode) {
        for link in self.links.values() {
            if way != Way::Down {
                link.up.send_replace(mode);
            }
            if way != Way::Up {
                link.down.send_replace(mode);
            }
        }
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    // The links end with this task.
    let mut links = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = links.join_next() => continue,
        };
        let Ok((client, _)) = accepted else { continue };
        if shared.lock().refusing {
            reset(&client);
            continue;
        }
        links.spawn(serve(client, shared.clone()));
    }
}

async fn serve(client: TcpStream, shared: Arc<Shared>) {
    // Registered from the start: a command to all links includes this one.
    let (end, mut ended) = watch::channel(None);
    let (id, target, up, down) = {
        let mut state = shared.lock();
        let (up_mode, up) = watch::channel(state.up);
        let (down_mode, down) = watch::channel(state.down);
        let id = state.next;
        state.next += 1;
        state.links.insert(id, Link { up: up_mode, down: down_mode, end });
        (id, state.target, up, down)
    };
    let connected = tokio::select! {
        connected = timeout(CONNECT, TcpStream::connect(target)) => connected.ok().and_then(Result::ok),
        _ = ended.wait_for(Option::is_some) => None,
    };
    match connected {
        Some(target) => carry((client, target), (up, down), &mut ended, &shared).await,
        None => reset(&client),
    }
    shared.lock().links.remove(&id);
}
