//! Holds this node's sockets: a table for each worker thread that has any, fed by one message for all events that leave
//! together. Also hosts the live actor on one of those threads.

mod worker;

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError, RwLock,
    atomic::{AtomicUsize, Ordering},
};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::future::join_all;
use parlance_application::{
    live::Frame,
    ports::{Close, ConnectionId, Delivery, Fanout, Urgency},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};

use self::worker::TURN_BYTES;
use super::wire::{Accepted, append_text_frame, text_frame};

pub(super) use self::worker::{Socket, Worker};

/// Events, and connections to open, that may wait for a worker; beyond that, senders wait.
const INBOX: usize = 1_024;
/// Likewise the bytes of events: twice what a worker takes in at a time. So senders cannot get far ahead of receivers.
const INBOX_BYTES: usize = 2 * TURN_BYTES;
/// Up to this many sockets, finding out which workers have them costs less than waking a worker that has none.
const FEW: usize = 16;
/// The most bytes of a piece that adjacent frames for the same sockets are joined into.
const PIECE: usize = 64 * 1024;

/// All workers' sockets. Cheap to clone.
#[derive(Clone)]
pub struct Hub(Arc<Shared>);

struct Shared {
    workers: RwLock<Vec<Inbox>>,
    /// How many of the workers have sockets. They get new ones in turn.
    holders: usize,
    turn: AtomicUsize,
    /// What the first worker is to start with.
    guest: Mutex<Option<Guest>>,
    /// How many connections there are.
    open: watch::Sender<usize>,
    /// A worker has ended.
    failed: watch::Sender<bool>,
}

type Guest = Box<dyn FnOnce() + Send>;

/// The way to a worker. Cheap to clone.
#[derive(Clone)]
struct Inbox {
    commands: mpsc::Sender<Queued>,
    /// Bytes.
    room: Arc<Semaphore>,
}

/// A command, and the room it occupies until it is taken in.
type Queued = (Command, Option<OwnedSemaphorePermit>);

enum Command {
    Deliver(Piece, Urgency),
    /// Several pieces, told reliably and in one turn.
    Together(Arc<[Piece]>),
    /// Carried out after what was delivered before.
    Control(Control),
}

enum Control {
    Close {
        connection: ConnectionId,
        close: Close,
    },
    CloseAll(Close),
    /// Signals when all that came before is in the sockets' queues.
    Flush(oneshot::Sender<()>),
    /// Makes the connection live on this worker's thread.
    Open(Box<Accepted>),
}

/// Counts a connection for as long as it is open.
pub(super) struct Counted(Hub);

/// On drop, reports that a worker has ended.
struct Ended(Hub);

/// One or several frames.
#[derive(Clone)]
struct Piece {
    to: Arc<[ConnectionId]>,
    bytes: Bytes,
}

impl Hub {
    /// With sockets on `holders` of the worker threads, at least one.
    pub fn new(holders: usize) -> Self {
        Self(Arc::new(Shared {
            workers: RwLock::default(),
            holders: holders.max(1),
            turn: AtomicUsize::new(0),
            guest: Mutex::default(),
            open: watch::Sender::new(0),
            failed: watch::Sender::new(false),
        }))
    }

    /// Calls `guest` on the first worker's thread as soon as there is one: what it spawns runs beside sockets. Call
    /// this before there are any workers.
    pub fn host(&self, guest: impl FnOnce() + Send + 'static) {
        *self.guest() = Some(Box::new(guest));
    }

    /// Adds the calling worker thread.
    pub(crate) fn add_worker(&self) -> Worker {
        let (inbox, commands) = Inbox::new();
        let mut workers = self.0.workers.write().unwrap_or_else(PoisonError::into_inner);
        let index = u32::try_from(workers.len()).unwrap_or(u32::MAX);
        workers.push(inbox.clone());
        drop(workers);
        let worker = Worker::start(index, inbox, commands, Ended(self.clone()));
        // Workers start concurrently, and not all of them get sockets.
        let guest = if index == 0 { self.guest().take() } else { None };
        if let Some(guest) = guest {
            guest();
        }
        worker
    }

    /// Ends every socket, including those that have not said hello yet and those still to open.
    pub async fn close_all(&self, close: Close) {
        for worker in self.holders() {
            worker.send(Command::Control(Control::CloseAll(close))).await;
        }
    }

    /// Returns when a worker has ended before its thread was stopped, by a panic: its sockets would stay open and hear
    /// nothing.
    pub async fn failed(&self) {
        // It cannot fail: the sender is in `self`.
        let _ = self.0.failed.subscribe().wait_for(|failed| *failed).await;
    }

    /// Returns when every connection is over, its last bytes included.
    pub async fn all_over(&self) {
        // It cannot fail: the sender is in `self`.
        let _ = self.0.open.subscribe().wait_for(|open| *open == 0).await;
    }

    /// Counts a connection that may become a socket.
    pub(super) fn counted(&self) -> Counted {
        self.0.open.send_modify(|open| *open += 1);
        Counted(self.clone())
    }

    /// Gives a connection to one of the workers that have sockets.
    pub(super) async fn open(&self, accepted: Accepted) {
        let holders = self.holders();
        let turn = self.0.turn.fetch_add(1, Ordering::Relaxed);
        let Some(holder) = holders.get(turn % holders.len().max(1)) else { return };
        // If the worker is gone, the connection ends with it.
        holder.send(Command::Control(Control::Open(Box::new(accepted)))).await;
    }

    /// The workers that have sockets: the first ones still running.
    fn holders(&self) -> Vec<Inbox> {
        let workers = self.0.workers.read().unwrap_or_else(PoisonError::into_inner);
        let running = workers.iter().filter(|worker| !worker.commands.is_closed());
        running.take(self.0.holders).cloned().collect()
    }

    fn guest(&self) -> MutexGuard<'_, Option<Guest>> {
        self.0.guest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn worker(&self, index: u32) -> Option<Inbox> {
        let workers = self.0.workers.read().unwrap_or_else(PoisonError::into_inner);
        workers.get(usize::try_from(index).ok()?).cloned()
    }
}

#[async_trait]
impl Fanout for Hub {
    async fn deliver(&self, to: Arc<[ConnectionId]>, frame: Frame, urgency: Urgency) {
        let bytes = text_frame(frame.bytes());
        let piece = Piece { to: to.clone(), bytes };
        self.send(self.concerned(&to), || Command::Deliver(piece.clone(), urgency)).await;
    }

    async fn deliver_all(&self, deliveries: Vec<Delivery>) {
        let (mut pieces, mut weight) = (Vec::with_capacity(deliveries.len()), 0);
        for Delivery { to, frames } in deliveries {
            let mut piece = BytesMut::new();
            for frame in frames {
                if !piece.is_empty() && piece.len() + frame.bytes().len() > PIECE {
                    let bytes = piece.split().freeze();
                    weight += bytes.len();
                    pieces.push(Piece { to: to.clone(), bytes });
                }
                // A worker is sent no more at once than it takes in at once.
                if weight + piece.len() > TURN_BYTES {
                    self.send_together(std::mem::take(&mut pieces)).await;
                    weight = 0;
                }
                append_text_frame(&mut piece, frame.bytes());
            }
            weight += piece.len();
            pieces.push(Piece { to, bytes: piece.freeze() });
        }
        self.send_together(pieces).await;
    }

    async fn close(&self, connection: ConnectionId, close: Close) {
        if let Some(worker) = self.worker(connection.worker) {
            worker.send(Command::Control(Control::Close { connection, close })).await;
        }
    }
}

impl Hub {
    async fn send_together(&self, pieces: Vec<Piece>) {
        let pieces: Arc<[Piece]> = pieces.into();
        let [Piece { to, .. }, ..] = &*pieces else { return };
        let same = pieces.iter().all(|piece| Arc::ptr_eq(&piece.to, to));
        let workers = if same { self.concerned(to) } else { self.holders() };
        self.send(workers, || Command::Together(pieces.clone())).await;
    }

    /// Workers that may have some of these sockets.
    fn concerned(&self, to: &[ConnectionId]) -> Vec<Inbox> {
        if to.len() > FEW {
            return self.holders();
        }
        let mut indices: Vec<_> = to.iter().map(|connection| connection.worker).collect();
        indices.sort_unstable();
        indices.dedup();
        indices.into_iter().filter_map(|index| self.worker(index)).collect()
    }

    /// Hands a command to workers. None of them waits for another without room.
    async fn send(&self, workers: Vec<Inbox>, command: impl Fn() -> Command) {
        match &*workers {
            [only] => only.send(command()).await,
            several => {
                join_all(several.iter().map(|worker| worker.send(command()))).await;
            }
        }
    }
}

impl Inbox {
    fn new() -> (Self, mpsc::Receiver<Queued>) {
        let (commands, receiver) = mpsc::channel(INBOX);
        (Self { commands, room: Arc::new(Semaphore::new(INBOX_BYTES)) }, receiver)
    }

    /// Returns once there was room, and the command is queued for the worker. One that is gone took its sockets with
    /// it.
    async fn send(&self, command: Command) {
        let room = match u32::try_from(command.weight().min(INBOX_BYTES)) {
            // A command without weight does not wait for room.
            Err(_) | Ok(0) => None,
            Ok(weight) => self.room.clone().acquire_many_owned(weight).await.ok(),
        };
        let _ = self.commands.send((command, room)).await;
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.0.open.send_modify(|open| *open -= 1);
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.0.failed.send_replace(true);
    }
}

impl Command {
    /// What it weighs in an inbox, and in a turn's bytes.
    fn weight(&self) -> usize {
        match self {
            // What goes to one socket is usually a page it has room for: it weighs nothing, so that it does not hold up
            // others.
            Self::Deliver(piece, _) if piece.to.len() == 1 => 0,
            Self::Deliver(piece, _) => piece.bytes.len(),
            Self::Together(pieces) => pieces.iter().map(|piece| piece.bytes.len()).sum(),
            Self::Control(_) => 0,
        }
    }
}
