//! The turns of one worker thread: it takes in what has come for its sockets, and writes to them in rounds.

use std::{
    cell::{Cell, RefCell},
    future::{Future as _, poll_fn},
    pin::pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use parlance_application::{
    live::HIGH_WATER,
    ports::{Close, ConnectionId, Urgency},
};
use rustc_hash::FxHashMap as HashMap;
use tokio::{
    sync::{mpsc, oneshot},
    task::yield_now,
};

use super::{Command, Control, Ended, Inbox, PIECE, Piece, Queued};
use crate::{
    figures,
    ws::wire::{Flusher, Outbound},
};

/// Events or commits that a worker takes in before it has written to each of its sockets.
const TURN: usize = 256;
/// The same in bytes per socket: taking in more could overflow the queue of a client that does read.
pub(super) const TURN_BYTES: usize = HIGH_WATER / 2;

/// The sockets of one worker thread.
#[derive(Clone)]
pub(crate) struct Worker {
    index: u32,
    next: Rc<Cell<u32>>,
    sockets: Rc<RefCell<HashMap<u32, Outbound>>>,
    inbox: Inbox,
    flusher: Rc<Flusher>,
    /// What has been taken in since each socket was last written to.
    taken: Rc<Cell<Taken>>,
    /// Set once all sockets were closed: those that open later are closed too.
    closing: Rc<Cell<Option<Close>>>,
}

#[derive(Default, Clone, Copy)]
struct Taken {
    commands: usize,
    bytes: usize,
    /// The most bytes that one turn has brought.
    at_once: usize,
}

/// Adjacent pieces for the same sockets.
struct Run {
    to: Arc<[ConnectionId]>,
    urgency: Urgency,
    pieces: Vec<Bytes>,
    len: usize,
}

impl Worker {
    /// Starts taking in and writing, on the calling thread. `ended` is dropped when that ends, even by a panic.
    pub(super) fn start(
        index: u32,
        inbox: Inbox,
        mut commands: mpsc::Receiver<Queued>,
        ended: Ended,
    ) -> Self {
        let worker = Self {
            index,
            next: Rc::default(),
            sockets: Rc::default(),
            inbox,
            flusher: Rc::default(),
            taken: Rc::default(),
            closing: Rc::default(),
        };
        let local = worker.clone();
        actix_web::rt::spawn(async move {
            let _ended = ended;
            poll_fn(|cx| local.poll_turn(&mut commands, cx)).await;
        });
        worker
    }

    /// Adds a socket, for as long as the guard lives.
    pub(in crate::ws) fn insert(&self, outbound: Outbound) -> Socket {
        let number = self.free_number();
        if let Some(close) = self.closing.get() {
            outbound.close(close);
        }
        self.sockets.borrow_mut().insert(number, outbound);
        figures::socket_opened();
        Socket { id: ConnectionId { worker: self.index, number }, worker: self.clone() }
    }

    /// The next number that no socket has; numbers wrap around after 2³².
    fn free_number(&self) -> u32 {
        loop {
            let number = self.next.get();
            self.next.set(number.wrapping_add(1));
            if !self.sockets.borrow().contains_key(&number) {
                return number;
            }
        }
    }

    /// Returns when all that was delivered before is in the sockets' queues.
    pub(in crate::ws) async fn flush(&self) {
        let (done, flushed) = oneshot::channel();
        self.inbox.send(Command::Control(Control::Flush(done))).await;
        let _ = flushed.await;
    }

    /// What writes the sockets' queues out.
    pub(in crate::ws) fn flusher(&self) -> Rc<Flusher> {
        self.flusher.clone()
    }

    /// Takes in what has come, then writes to a round of sockets. What comes meanwhile is taken in before the next
    /// round: sockets not written to yet get it in the same write. But none is given more than its queue has room for.
    fn poll_turn(&self, commands: &mut mpsc::Receiver<Queued>, cx: &mut Context<'_>) -> Poll<()> {
        let (mut run, mut taken) = (None::<Run>, self.taken.get());
        let mut came = 0;
        let mut more = true;
        self.flusher.begin();
        while more && taken.commands < TURN && taken.bytes + came < TURN_BYTES {
            taken.commands += 1;
            let (command, _room) = match commands.poll_recv(cx) {
                Poll::Ready(Some(queued)) => queued,
                Poll::Ready(None) => return Poll::Ready(()),
                Poll::Pending => {
                    more = false;
                    continue;
                }
            };
            came += command.weight();
            match command {
                Command::Deliver(piece, urgency) => self.take_in(&mut run, piece, urgency),
                Command::Together(pieces) => {
                    for piece in &*pieces {
                        self.take_in(&mut run, piece.clone(), Urgency::Reliable);
                    }
                }
                Command::Control(control) => {
                    self.deliver(run.take());
                    self.carry_out(control);
                }
            }
        }
        taken.bytes += came;
        taken.at_once = taken.at_once.max(came);
        self.deliver(run);
        let flushed = self.flusher.flush(cx, taken.at_once);
        self.taken.set(if flushed.each { Taken::default() } else { taken });
        if more || !flushed.all {
            // Goes on after the thread has read from its sockets.
            let _ = pin!(yield_now()).poll(cx);
        }
        Poll::Pending
    }

    /// Adds to the run what goes the same way, or delivers the run and starts another.
    fn take_in(&self, run: &mut Option<Run>, piece: Piece, urgency: Urgency) {
        let Piece { to, bytes } = piece;
        if let Some(run) = run.as_mut().filter(|run| run.takes(&to, &bytes, urgency)) {
            run.len += bytes.len();
            run.pieces.push(bytes);
        } else {
            let next = Run { to, urgency, len: bytes.len(), pieces: vec![bytes] };
            self.deliver(run.replace(next));
        }
    }

    fn deliver(&self, run: Option<Run>) {
        let Some(Run { to, urgency, pieces, len }) = run else { return };
        let piece = match <[Bytes; 1]>::try_from(pieces) {
            Ok([only]) => only,
            Err(pieces) => {
                let mut piece = BytesMut::with_capacity(len);
                for bytes in &pieces {
                    piece.extend_from_slice(bytes);
                }
                piece.freeze()
            }
        };
        let sockets = self.sockets.borrow();
        for connection in to.iter().filter(|connection| connection.worker == self.index) {
            if let Some(outbound) = sockets.get(&connection.number) {
                outbound.tell(piece.clone(), urgency);
            }
        }
    }

    fn carry_out(&self, control: Control) {
        let sockets = self.sockets.borrow();
        match control {
            Control::Flush(done) => {
                let _ = done.send(());
            }
            Control::CloseAll(close) => {
                self.closing.set(Some(close));
                sockets.values().for_each(|outbound| end(outbound, close));
            }
            Control::Close { connection, close } => {
                if let Some(outbound) = sockets.get(&connection.number) {
                    end(outbound, close);
                }
            }
            Control::Open(accepted) => {
                let worker = self.clone();
                actix_web::rt::spawn(async move { accepted.live(&worker).await });
            }
        }
    }
}

/// A client sent away because the node is shutting down is answered first; one closed for any other reason is told
/// nothing more.
fn end(outbound: &Outbound, close: Close) {
    match close {
        Close::Draining => outbound.leave(),
        close => outbound.close(close),
    }
}

impl Run {
    /// Whether the next piece goes the same way, and there is room for it. Lists of receivers are compared by address:
    /// a feed keeps its list until a listener comes or goes.
    fn takes(&self, to: &Arc<[ConnectionId]>, bytes: &Bytes, urgency: Urgency) -> bool {
        let same = Arc::ptr_eq(&self.to, to) && self.urgency == urgency;
        same && self.len + bytes.len() <= PIECE
    }
}

/// A socket's place in the hub.
pub(in crate::ws) struct Socket {
    pub(in crate::ws) id: ConnectionId,
    pub(in crate::ws) worker: Worker,
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.worker.sockets.borrow_mut().remove(&self.id.number);
        figures::socket_ended();
    }
}

#[cfg(test)]
mod tests;
