//! The turns of one worker thread: it takes in what has come for its sockets, and writes them in rounds.

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

/// Events or commits that a worker takes in before it has written each of its sockets.
const TURN: usize = 256;
/// The same in bytes for one socket: taking in more could overflow the queue of a client that does read.
pub(super) const TURN_BYTES: usize = HIGH_WATER / 2;

/// The sockets of one worker thread.
#[derive(Clone)]
pub(crate) struct Worker {
    index: u32,
    next: Rc<Cell<u32>>,
    sockets: Rc<RefCell<HashMap<u32, Outbound>>>,
    inbox: Inbox,
    flusher: Rc<Flusher>,
    /// What has been taken in since each socket was written.
    taken: Rc<Cell<Taken>>,
    /// Set once all sockets were closed: those that open later are closed, too.
    closing: Rc<Cell<Option<Close>>>,
}

#[derive(Default, Clone, Copy)]
struct Taken {
    commands: usize,
    bytes: usize,
}

/// Neighbouring pieces for the same sockets.
struct Run {
    to: Arc<[ConnectionId]>,
    urgency: Urgency,
    pieces: Vec<Bytes>,
    len: usize,
}

impl Worker {
    /// Begins to take in and to write, on the calling thread. `ended` is dropped when that ends, by a panic too.
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

    /// The next number that no socket has: after 2³² of them they begin anew.
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

    /// Takes in what has come, then writes a round of sockets. What comes meanwhile is taken in before the next round: sockets
    /// that were not written yet get it in the same write. But none is given more than its queue has room for.
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
        self.deliver(run);
        let flushed = self.flusher.flush(cx, came);
        self.taken.set(if flushed.each { Taken::default() } else { taken });
        if more || !flushed.all {
            // Goes on after the thread has read from its sockets.
            let _ = pin!(yield_now()).poll(cx);
        }
        Poll::Pending
    }

    /// Adds to the run what goes the same way, or delivers the run and begins another.
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

/// Who is sent away because the node ends is answered first; who has lost their right to be here is told nothing more.
fn end(outbound: &Outbound, close: Close) {
    match close {
        Close::Draining => outbound.leave(),
        close => outbound.close(close),
    }
}

impl Run {
    /// Whether the next piece goes the same way, and there is room for it. Lists of receivers are compared by their address: a
    /// feed keeps its list until a listener comes or goes.
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
mod tests {
    use std::{net, thread};

    use parlance_application::{
        live::Frame,
        ports::{Delivery, Fanout as _},
    };

    use parlance_testkit::PATIENCE;
    use tokio::{
        net::{TcpListener, TcpStream},
        time::timeout,
    };

    use super::*;
    use crate::ws::{hub::Hub, wire::text_frame};

    /// Sockets of the worker, and their other sides.
    async fn sockets(worker: &Worker, count: usize) -> Vec<(Socket, Outbound, net::TcpStream)> {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let address = listener.local_addr().expect("bound");
        let mut sockets = Vec::new();
        for _ in 0..count {
            let (theirs, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
            let writing = accepted.expect("accepts").0.into_split().1;
            let outbound = Outbound::new(writing, worker.flusher());
            let theirs = theirs.expect("connects").into_std().expect("a socket");
            sockets.push((worker.insert(outbound.clone()), outbound, theirs));
        }
        sockets
    }

    /// Delivers more than anybody has room for, and watches the queues.
    async fn all_have_room(together: bool) {
        let hub = Hub::new(1);
        let worker = hub.add_worker();
        let sockets = sockets(&worker, 300).await;
        let to: Arc<[_]> = sockets.iter().map(|(socket, ..)| socket.id).collect();
        let frames = vec![Frame::from_encoded(Bytes::from(vec![b'x'; 4_000])); 100];
        if together {
            hub.deliver_all(vec![Delivery { to, frames }]).await;
        } else {
            for frame in frames {
                hub.deliver(to.clone(), frame, Urgency::Reliable).await;
            }
        }
        let (done, mut taken_in) = oneshot::channel();
        worker.inbox.send(Command::Control(Control::Flush(done))).await;
        let mut all = false;
        while !all {
            all = taken_in.try_recv().is_ok();
            assert!(sockets.iter().all(|(_, outbound, _)| outbound.has_room()));
            yield_now().await;
        }
    }

    /// What was taken in for many rounds would have no room in anybody's queue.
    #[actix_web::test]
    async fn nobody_is_given_more_than_has_room_before_their_turn() {
        all_have_room(false).await;
    }

    #[actix_web::test]
    async fn nor_is_it_given_to_them_at_once_because_it_came_about_together() {
        all_have_room(true).await;
    }

    /// Senders wait for those who are told, but what is for one alone waits for nobody.
    #[actix_web::test]
    async fn what_goes_to_several_waits_until_there_is_room() {
        let hub = Hub::new(1);
        let worker = hub.add_worker();
        let sockets = sockets(&worker, 2).await;
        let all: Arc<[_]> = sockets.iter().map(|(socket, ..)| socket.id).collect();
        let one: Arc<[_]> = Arc::new([sockets[0].0.id]);
        let large = Frame::from_encoded(Bytes::from(vec![b'x'; TURN_BYTES / 2]));
        let tell = |to: &Arc<[_]>| hub.deliver(to.clone(), large.clone(), Urgency::Reliable);
        assert!(futures::poll!(tell(&all)).is_ready());
        let mut second = pin!(tell(&all));
        assert!(futures::poll!(second.as_mut()).is_pending());
        assert!(futures::poll!(tell(&one)).is_ready());
        timeout(PATIENCE, second).await.expect("the worker has taken the first in");
    }

    fn has_heard(theirs: &net::TcpStream) -> bool {
        theirs.peek(&mut [0]).is_ok()
    }

    #[actix_web::test]
    async fn the_first_worker_begins_with_the_guest() {
        let hub = Hub::new(1);
        let (tell, told) = std::sync::mpsc::channel();
        hub.host(move || {
            drop(actix_web::rt::spawn(async {}));
            let _ = tell.send(thread::current().id());
        });
        assert!(told.try_recv().is_err(), "there is no worker yet");
        let _workers = [(); 2].map(|()| hub.add_worker());
        assert_eq!(told.try_iter().collect::<Vec<_>>(), [thread::current().id()]);
    }

    #[actix_web::test]
    async fn a_worker_that_is_gone_is_followed_by_the_next() {
        let hub = Hub::new(1);
        let gone = Inbox::new().0;
        hub.0.workers.write().expect("not poisoned").push(gone);
        let worker = hub.add_worker();
        let sockets = sockets(&worker, 2).await;
        let to: Arc<[_]> = sockets.iter().map(|(socket, ..)| socket.id).collect();
        hub.deliver(to, Frame::from_encoded(Bytes::from_static(b"{}")), Urgency::Reliable).await;
        while !sockets.iter().all(|(.., theirs)| has_heard(theirs)) {
            yield_now().await;
        }
    }

    #[actix_web::test]
    #[expect(clippy::await_holding_refcell_ref, reason = "the worker is to stumble over it")]
    async fn a_worker_that_panics_is_told_of() {
        let hub = Hub::new(1);
        let worker = hub.add_worker();
        let sockets = sockets(&worker, 1).await;
        let mut failed = pin!(hub.failed());
        assert!(futures::poll!(failed.as_mut()).is_pending());
        let held = worker.sockets.borrow_mut();
        hub.close(sockets[0].0.id, Close::Draining).await;
        timeout(PATIENCE, failed).await.expect("in time");
        drop(held);
    }

    #[actix_web::test]
    async fn numbers_that_begin_anew_pass_over_those_that_are_in_use() {
        let worker = Hub::new(1).add_worker();
        let before = sockets(&worker, 2).await;
        worker.next.set(u32::MAX);
        let after = sockets(&worker, 2).await;
        let numbers = before.iter().chain(&after).map(|(socket, ..)| socket.id.number);
        assert_eq!(numbers.collect::<Vec<_>>(), [0, 1, u32::MAX, 2]);
    }

    /// Has a frame of this length told to 300 sockets, until the worker looks up for the first time.
    async fn begun(hub: &Hub, sockets: &[(Socket, Outbound, net::TcpStream)], len: usize) {
        let to: Arc<[_]> = sockets.iter().map(|(socket, ..)| socket.id).collect();
        let frame = Frame::from_encoded(Bytes::from(vec![b'x'; len]));
        hub.deliver(to, frame, Urgency::Reliable).await;
        while told(sockets) == 0 {
            yield_now().await;
        }
    }

    fn told(sockets: &[(Socket, Outbound, net::TcpStream)]) -> usize {
        sockets.iter().filter(|(.., theirs)| has_heard(theirs)).count()
    }

    /// Who has just been answered may send the next message while others are still told of the last.
    #[actix_web::test]
    async fn an_answer_does_not_wait_until_all_are_told() {
        let hub = Hub::new(1);
        let worker = hub.add_worker();
        let sockets = sockets(&worker, 300).await;
        begun(&hub, &sockets, 2).await;
        assert_eq!(told(&sockets), 300 / 8, "the worker looks up after a part of them");
        let (_, last, theirs) = sockets.last().expect("a socket");
        last.answer(text_frame(b"{}"));
        while !has_heard(theirs) {
            yield_now().await;
        }
        assert!(told(&sockets) < 299, "it is answered before the others are told");
        while told(&sockets) < 300 {
            yield_now().await;
        }
    }

    #[actix_web::test]
    async fn a_round_is_longer_where_much_has_come() {
        let hub = Hub::new(1);
        let worker = hub.add_worker();
        let sockets = sockets(&worker, 300).await;
        begun(&hub, &sockets, 50 * 1024).await;
        assert_eq!(told(&sockets), 50);
    }
}
