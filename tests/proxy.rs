//! A TCP proxy that misbehaves as it is told, from one moment to the next: on the links that are open, on those that come, in
//! either direction. What chance decides comes from a seed.

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::{AbortHandle, JoinSet},
    time::{sleep, timeout},
};

const CHUNK: usize = 16 * 1024;
/// How long the far side may take to accept.
const CONNECT: Duration = Duration::from_secs(5);
/// How often a slow link lets something through.
const BREATH: Duration = Duration::from_millis(50);

/// What happens to the bytes of one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Pass,
    /// Takes what fits the buffers of the system and forwards nothing; what was taken is forwarded when the stall ends.
    Stall,
    /// As many bytes a second.
    Slow(usize),
    /// Random bytes *between* the right ones, in one of so many chunks. None is flipped: TCP would not let that through, and
    /// another letter in a text is another text, which nobody could tell from a lost one.
    Garbage(u64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// From whoever connected to the proxy.
    Up,
    /// To them.
    Down,
    Both,
}

/// One of a link's two ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// Whoever connected to the proxy.
    Client,
    /// Where the proxy connects to.
    Target,
}

pub(crate) struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: AbortHandle,
}

struct Shared {
    state: Mutex<State>,
    dice: Dice,
}

struct State {
    target: SocketAddr,
    refusing: bool,
    /// Of links that come.
    up: Mode,
    down: Mode,
    links: HashMap<u64, Link>,
    next: u64,
}

/// A link that is open.
struct Link {
    up: watch::Sender<Mode>,
    down: watch::Sender<Mode>,
    end: watch::Sender<Option<End>>,
}

/// How a link ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
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
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), dice: Dice::new(seed) });
        let accepting = tokio::spawn(accept(listener, shared.clone())).abort_handle();
        Self { address, shared, accepting }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where new links go, from now on.
    pub(crate) fn aim(&self, target: SocketAddr) {
        self.shared.lock().target = target;
    }

    /// All links, open and to come.
    pub(crate) fn set(&self, way: Way, mode: Mode) {
        self.set_new(way, mode);
        self.set_open(way, mode);
    }

    /// Links to come.
    pub(crate) fn set_new(&self, way: Way, mode: Mode) {
        let mut state = self.shared.lock();
        if way != Way::Down {
            state.up = mode;
        }
        if way != Way::Up {
            state.down = mode;
        }
    }

    /// Open links.
    pub(crate) fn set_open(&self, way: Way, mode: Mode) {
        for link in self.shared.lock().links.values() {
            if way != Way::Down {
                link.up.send_replace(mode);
            }
            if way != Way::Up {
                link.down.send_replace(mode);
            }
        }
    }

    /// Resets all open links, on both sides.
    pub(crate) fn cut(&self) {
        self.end(End::Cut);
    }

    /// Closes the other side of all open links; this one stays open and hears nothing more, not even that.
    pub(crate) fn keep_only(&self, side: Side) {
        self.end(End::Keep(side));
    }

    /// Whether links to come are reset at once.
    pub(crate) fn refuse(&self, refusing: bool) {
        self.shared.lock().refusing = refusing;
    }

    /// Well again: what stood still goes on, what could be corrupt or deaf is reset.
    pub(crate) fn heal(&self) {
        self.refuse(false);
        self.cut();
        self.set(Way::Both, Mode::Pass);
    }

    pub(crate) fn open_links(&self) -> usize {
        self.shared.lock().links.len()
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
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    // With this task go its links.
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
    // Known from its first moment: who tells the links something means this one too.
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
        Some(target) => carry((client, target), (up, down), &mut ended, &shared.dice).await,
        None => reset(&client),
    }
    shared.lock().links.remove(&id);
}

/// Until one of the ends, or somebody else, ends it.
async fn carry(
    (client, target): (TcpStream, TcpStream),
    (up, down): (watch::Receiver<Mode>, watch::Receiver<Mode>),
    ended: &mut watch::Receiver<Option<End>>,
    dice: &Dice,
) {
    let _ = (client.set_nodelay(true), target.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_target, to_target) = target.into_split();
    let (mut up, mut down) = (
        Pump { from: from_client, to: to_target, mode: up },
        Pump { from: from_target, to: to_client, mode: down },
    );
    let end = tokio::select! {
        // Whichever fails ends both.
        done = async { tokio::try_join!(up.run(dice), down.run(dice)) } => done.err().map(|_| End::Cut),
        end = ended.wait_for(Option::is_some) => end.ok().and_then(|end| *end),
    };
    let (client, target) = (joined(up.from, down.to), joined(down.from, up.to));
    match end {
        Some(End::Keep(side)) => {
            let (kept, dropped) =
                if side == Side::Client { (client, target) } else { (target, client) };
            drop(dropped);
            let _ = ended.wait_for(|end| *end == Some(End::Cut)).await;
            reset(&kept);
        }
        Some(End::Cut) => {
            reset(&client);
            reset(&target);
        }
        None => {}
    }
}

fn joined(read: OwnedReadHalf, write: OwnedWriteHalf) -> TcpStream {
    read.reunite(write).expect("halves of one stream")
}

/// A reset, not an orderly end, when it is dropped.
fn reset(stream: &TcpStream) {
    let _ = stream.set_zero_linger();
}

/// One direction of a link.
struct Pump {
    from: OwnedReadHalf,
    to: OwnedWriteHalf,
    mode: watch::Receiver<Mode>,
}

impl Pump {
    /// Until the sender's end, which is passed on.
    async fn run(&mut self, dice: &Dice) -> io::Result<()> {
        let mut chunk = vec![0; CHUNK];
        loop {
            let mode = *self.mode.borrow_and_update();
            let limit = match mode {
                Mode::Stall => {
                    // The other end of the channel lives as long as the link.
                    let _ = self.mode.changed().await;
                    continue;
                }
                Mode::Slow(rate) => (rate / 20).clamp(1, CHUNK),
                Mode::Pass | Mode::Garbage(_) => CHUNK,
            };
            let read = tokio::select! {
                read = self.from.read(&mut chunk[..limit]) => read?,
                _ = self.mode.changed() => continue,
            };
            if read == 0 {
                return self.to.shutdown().await;
            }
            // The link stalled while these came.
            let _ = self.mode.wait_for(|mode| *mode != Mode::Stall).await;
            match mode {
                Mode::Garbage(one_of) if dice.roll(one_of) == 0 => {
                    let at = dice.below(read);
                    self.to.write_all(&chunk[..at]).await?;
                    self.to.write_all(&dice.bytes(1 + dice.below(16))).await?;
                    self.to.write_all(&chunk[at..read]).await?;
                }
                _ => self.to.write_all(&chunk[..read]).await?,
            }
            if let Mode::Slow(_) = mode {
                sleep(BREATH).await;
            }
        }
    }
}

/// Chance that can be had again: `SplitMix64`.
pub(crate) struct Dice(AtomicU64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    pub(crate) fn next(&self) -> u64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut z = self.0.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// 0 to `sides` - 1.
    pub(crate) fn roll(&self, sides: u64) -> u64 {
        self.next() % sides.max(1)
    }

    pub(crate) fn below(&self, length: usize) -> usize {
        usize::try_from(self.roll(length as u64)).unwrap_or_default()
    }

    pub(crate) fn of<'a, T>(&self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }

    /// A time around this one, from a half to one and a half of it.
    pub(crate) fn around(&self, time: Duration) -> Duration {
        time / 2 + time * u32::try_from(self.roll(1_001)).unwrap_or_default() / 1_000
    }

    fn bytes(&self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next().to_le_bytes()[0]).collect()
    }
}
