//! What goes out on a socket. Queueing a frame marks the socket dirty; at the end of its turn, the worker writes a
//! round of dirty sockets, each with one call for all that is queued, then looks at what has come in. So adjacent
//! frames leave together, none waits for another to come, and nobody's command waits until a large channel has been
//! told.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    future::poll_fn,
    io::{self, IoSlice},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use actix_http::ws::{CloseCode, CloseReason, OpCode, Parser};
use bytes::{Bytes, BytesMut};
use parlance_application::{
    live::{Backlog, Pushed},
    ports::{Close, Urgency},
};
use tokio::{io::AsyncWrite, net::tcp::OwnedWriteHalf, time::Instant};

use crate::figures;

/// The most frames in one write.
const GATHERED: usize = 64;
/// How many sockets are written to before the worker looks at what has come in: about 100 µs. What has come leaves in
/// the same write for all that still wait, so the shorter the rounds, the fewer the writes, and the longer the last one
/// waits.
const ROUND: usize = 16;
/// Or one in this many of those that wait, if that is more: so they keep their share of a worker with much to read.
const SHARE: usize = 8;
/// Or one per this many bytes that have just come for each: making large writes fewer is not worth a wait.
const ENOUGH: usize = 1024;

/// The outbound queue of one socket. Belongs to one worker thread.
#[derive(Clone)]
pub(crate) struct Outbound(Rc<Socket>);

/// A worker's sockets with something to write, each listed once for all that is queued when its turn comes.
#[derive(Default)]
pub(crate) struct Flusher {
    /// A list for each [`Word`].
    dirty: RefCell<[VecDeque<Outbound>; 2]>,
    /// How many are still to be written to of those that waited to be told when all before them had been.
    left: Cell<usize>,
    worker: RefCell<Option<Waker>>,
}

/// How far the writing has got.
pub(in crate::ws) struct Flushed {
    /// Nothing is left.
    pub(in crate::ws) all: bool,
    /// Every socket that waited has been written to once since this was last true.
    pub(in crate::ws) each: bool,
}

struct Socket {
    queue: RefCell<Queue>,
    flusher: Rc<Flusher>,
}

struct Queue {
    backlog: Backlog,
    socket: OwnedWriteHalf,
    state: State,
    /// The node is shutting down, and the connection is to end once what its client has said is answered.
    leaving: bool,
    /// Which of the flusher's lists it is in.
    dirty: [bool; 2],
    /// The system takes no more for now; the connection's own task waits until it does.
    blocked: bool,
    /// When the system last took more after having blocked.
    taken_at: Option<Instant>,
    /// The connection's own task.
    driver: Option<Waker>,
    /// Who waits for the queue to drain, or for the connection to end.
    waiting: Vec<Waker>,
}

/// What makes a socket dirty, and so which list it waits in.
#[derive(Clone, Copy)]
enum Word {
    /// What its own client waits for: it may send the next message while others are still being told of the last.
    Answer,
    /// What others have done.
    Event,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Open,
    /// The close frame is queued; nothing may follow it.
    Closing,
    /// What is queued is still to be written, then the connection ends.
    Finished,
    /// The socket is gone.
    Gone,
}

impl Outbound {
    pub(in crate::ws) fn new(socket: OwnedWriteHalf, flusher: Rc<Flusher>) -> Self {
        let queue = RefCell::new(Queue {
            backlog: Backlog::default(),
            socket,
            state: State::Open,
            leaving: false,
            dirty: [false; 2],
            blocked: false,
            taken_at: None,
            driver: None,
            waiting: Vec::new(),
        });
        Self(Rc::new(Socket { queue, flusher }))
    }

    /// Queues one or several events in one piece, or does what `urgency` says if there is no room.
    pub(in crate::ws) fn tell(&self, frames: Bytes, urgency: Urgency) {
        self.push(frames, urgency, Word::Event);
    }

    /// Queues an answer, which this connection's client waits for.
    pub(in crate::ws) fn answer(&self, frame: Bytes) {
        self.push(frame, Urgency::Reliable, Word::Answer);
    }

    fn push(&self, frame: Bytes, urgency: Urgency, word: Word) {
        let mut queue = self.0.queue.borrow_mut();
        if queue.state != State::Open {
            return;
        }
        match queue.backlog.push(frame, urgency) {
            Pushed::Queued => self.mark(&mut queue, word),
            Pushed::Dropped => figures::frame_dropped(),
            Pushed::Overflowed => {
                figures::slow_consumer();
                self.end(&mut queue, of(Close::SlowConsumer));
            }
        }
    }

    /// Queues the answer to `hello`.
    pub(in crate::ws) fn welcome(&self, frame: Bytes) {
        let mut queue = self.0.queue.borrow_mut();
        if queue.state == State::Open {
            queue.backlog.welcome(frame);
            self.mark(&mut queue, Word::Answer);
        }
    }

    /// Queues a ping.
    pub(in crate::ws) fn ping(&self) {
        self.control(b"", OpCode::Ping);
    }

    /// Queues the answer to a ping.
    pub(in crate::ws) fn pong(&self, payload: &[u8]) {
        self.control(payload, OpCode::Pong);
    }

    /// Queues a close frame behind what is there. The peer has a moment to answer before [`Outbound::finish`].
    pub(in crate::ws) fn close(&self, close: Close) {
        self.end(&mut self.0.queue.borrow_mut(), of(close));
    }

    /// Answers the peer's close.
    pub(in crate::ws) fn close_normally(&self) {
        let reason = CloseReason { code: CloseCode::Normal, description: None };
        self.end(&mut self.0.queue.borrow_mut(), reason);
    }

    /// Ends the connection once all that is queued has been written.
    pub(in crate::ws) fn finish(&self) {
        let mut queue = self.0.queue.borrow_mut();
        if queue.state != State::Gone {
            queue.state = State::Finished;
            queue.wake();
        }
    }

    /// Asks the connection to end.
    pub(in crate::ws) fn leave(&self) {
        let mut queue = self.0.queue.borrow_mut();
        queue.leaving = true;
        queue.wake();
    }

    /// Returns when the connection is asked to end, or is already ending.
    pub(in crate::ws) async fn to_end(&self) {
        self.until(|queue| queue.leaving || queue.state != State::Open).await;
    }

    /// Returns when the connection is closing or gone.
    pub(in crate::ws) async fn ended(&self) {
        self.until(|queue| queue.state != State::Open).await;
    }

    /// Whether nothing can be written any more, not even a close frame.
    pub(in crate::ws) fn is_gone(&self) -> bool {
        self.0.queue.borrow().state == State::Gone
    }

    /// Returns when the queue has room for what can be held back, or the connection ends.
    pub(in crate::ws) async fn drained(&self) {
        self.until(|queue| queue.backlog.has_room() || queue.state != State::Open).await;
    }

    /// Whether the queue has room for what can be held back, such as replays.
    pub(in crate::ws) fn has_room(&self) -> bool {
        self.0.queue.borrow().backlog.has_room()
    }

    /// Whether anything waits to be written.
    #[cfg(test)]
    pub(in crate::ws) fn has_queued(&self) -> bool {
        !self.0.queue.borrow().backlog.is_empty()
    }

    /// When the peer last made room for more, if the connection has been full. This shows that it reads, although the
    /// pings it should answer wait behind all that is queued for it.
    pub(in crate::ws) fn taken_at(&self) -> Option<Instant> {
        self.0.queue.borrow().taken_at
    }

    /// Writes what the flusher could not, in the connection's own task. Returns when the connection is gone, or is
    /// finished with everything written.
    pub(in crate::ws) async fn written(&self) {
        poll_fn(|cx| self.poll_written(cx)).await;
    }

    /// Abandons what is still queued.
    pub(super) fn abandon(&self) {
        self.0.queue.borrow_mut().gone();
    }

    fn poll_written(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut queue = self.0.queue.borrow_mut();
        while queue.blocked {
            match queue.write(|socket, frames| Pin::new(socket).poll_write_vectored(cx, frames)) {
                Poll::Ready(()) => {}
                Poll::Pending => break,
            }
        }
        let done = queue.backlog.is_empty() && queue.state == State::Finished;
        if done || queue.state == State::Gone {
            return Poll::Ready(());
        }
        if !queue.driver.as_ref().is_some_and(|driver| driver.will_wake(cx.waker())) {
            queue.driver = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    async fn until(&self, condition: impl Fn(&Queue) -> bool) {
        poll_fn(|cx| {
            let mut queue = self.0.queue.borrow_mut();
            if condition(&queue) {
                return Poll::Ready(());
            }
            if !queue.waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
                queue.waiting.push(cx.waker().clone());
            }
            Poll::Pending
        })
        .await;
    }

    fn control(&self, payload: &[u8], opcode: OpCode) {
        let mut frame = BytesMut::new();
        Parser::write_message(&mut frame, payload, opcode, true, false);
        // Ephemeral: a client that pings but reads nothing must not fill the queue either.
        self.push(frame.freeze(), Urgency::Ephemeral, Word::Answer);
    }

    fn end(&self, queue: &mut Queue, reason: CloseReason) {
        if queue.state == State::Open {
            queue.state = State::Closing;
            let mut frame = BytesMut::new();
            Parser::write_close(&mut frame, Some(reason), false);
            queue.backlog.append(frame.freeze());
            self.mark(queue, Word::Event);
            queue.wake();
        }
    }

    fn mark(&self, queue: &mut Queue, word: Word) {
        let dirty = &mut queue.dirty[word as usize];
        // A blocked socket is written to by its connection's own task.
        if !*dirty && !queue.blocked {
            *dirty = true;
            self.0.flusher.add(self.clone(), word);
        }
    }
}

impl Flusher {
    /// What is queued from here on wakes nobody: the worker is about to write.
    pub(in crate::ws) fn begin(&self) {
        self.worker.take();
    }

    /// Writes a round of what is queued. The worker calls it at the end of each of its turns, and is woken for a turn
    /// when something is queued. Neither list holds up the other. `came` is the most bytes that one turn has brought
    /// since each socket was last written to.
    pub(in crate::ws) fn flush(&self, cx: &Context<'_>, came: usize) -> Flushed {
        let waiting = |word| self.dirty.borrow()[word as usize].len();
        self.round(Word::Answer, ROUND.max(waiting(Word::Answer) / SHARE));
        let waiting = waiting(Word::Event);
        let count = ROUND.max(waiting / SHARE).max(came / ENOUGH);
        self.round(Word::Event, count);
        let left = if self.left.get() == 0 { waiting } else { self.left.get() };
        self.left.set(left.saturating_sub(count));
        let all = self.dirty.borrow().iter().all(VecDeque::is_empty);
        if all {
            *self.worker.borrow_mut() = Some(cx.waker().clone());
        }
        Flushed { all, each: self.left.get() == 0 }
    }

    fn round(&self, word: Word, count: usize) {
        for _ in 0..count {
            let Some(outbound) = self.dirty.borrow_mut()[word as usize].pop_front() else { break };
            let mut queue = outbound.0.queue.borrow_mut();
            queue.dirty[word as usize] = false;
            queue.flush();
        }
    }

    fn add(&self, outbound: Outbound, word: Word) {
        self.dirty.borrow_mut()[word as usize].push_back(outbound);
        if let Some(worker) = self.worker.take() {
            worker.wake();
        }
    }
}

impl Queue {
    fn flush(&mut self) {
        while !self.backlog.is_empty() && !self.blocked {
            let written = self.write(|socket, frames| {
                let written = match frames {
                    [only] => socket.try_write(only),
                    several => socket.try_write_vectored(several),
                };
                match written {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
                    written => Poll::Ready(written),
                }
            });
            if written.is_pending() {
                self.blocked = true;
                self.driver.take().into_iter().for_each(Waker::wake);
            }
        }
        if self.state == State::Finished && self.backlog.is_empty() {
            self.wake();
        }
    }

    /// Writes once. Ready if something was written, or the socket turned out to be gone.
    fn write(
        &mut self,
        write: impl FnOnce(&mut OwnedWriteHalf, &[IoSlice<'_>]) -> Poll<io::Result<usize>>,
    ) -> Poll<()> {
        let mut slices = [IoSlice::new(&[]); GATHERED];
        let mut count = 0;
        for (slice, frame) in slices.iter_mut().zip(self.backlog.frames()) {
            *slice = IoSlice::new(frame);
            count += 1;
        }
        let outcome = write(&mut self.socket, &slices[..count]);
        match outcome {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Ok(bytes)) if bytes > 0 => {
                if self.blocked {
                    self.taken_at = Some(Instant::now());
                }
                let had_room = self.backlog.has_room();
                self.backlog.written(bytes);
                self.blocked &= !self.backlog.is_empty();
                // Those waiting for the end must not be woken by every write.
                if !had_room && self.backlog.has_room() {
                    self.waiting.drain(..).for_each(Waker::wake);
                }
            }
            Poll::Ready(_) => self.gone(),
        }
        Poll::Ready(())
    }

    fn gone(&mut self) {
        self.state = State::Gone;
        self.blocked = false;
        self.backlog.clear();
        self.wake();
    }

    fn wake(&mut self) {
        self.driver.take().into_iter().chain(self.waiting.drain(..)).for_each(Waker::wake);
    }
}

fn of(close: Close) -> CloseReason {
    CloseReason { code: CloseCode::Other(close.code()), description: Some(close.reason().into()) }
}
