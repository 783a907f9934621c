//! All socket I/O: the handshake, what comes in as bounded messages, what goes out as a bounded queue of ready-made frames.
//!
//! A frame is encoded for the wire once and shared; the response body hands the queue to actix, which puts neighbouring
//! frames into one write.

use std::{
    cell::RefCell,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use actix_http::ws::{CloseCode, CloseReason, OpCode, Parser};
use actix_web::{
    HttpRequest, HttpResponse,
    body::{BodySize, BoxBody, MessageBody},
    web::Payload,
};
use actix_ws::AggregatedMessageStream;
use bytes::{Bytes, BytesMut};
use parlance_application::{
    live::{Backlog, Pushed},
    ports::{Close, Urgency},
};

/// The largest message that is taken in, in bytes.
pub(super) const INBOUND_LIMIT: usize = 64 * 1024;

/// The subprotocol that is selected where it is offered.
const SUBPROTOCOL: &str = "parlance.v1";

/// Answers the handshake. The response is to be returned at once; the stream and the queue live on.
pub(super) fn accept(
    request: &HttpRequest,
    payload: Payload,
) -> Result<(HttpResponse, AggregatedMessageStream, Outbound), actix_web::Error> {
    let (response, _, stream) = actix_ws::handle_with_protocols(request, payload, &[SUBPROTOCOL])?;
    let stream = stream
        .max_frame_size(INBOUND_LIMIT)
        .aggregate_continuations()
        .max_continuation_size(INBOUND_LIMIT);
    let outbound = Outbound::default();
    let queue = outbound.clone();
    let response =
        response.map_body(|_, handshake| BoxBody::new(Body { queue, _handshake: handshake }));
    Ok((response, stream, outbound))
}

/// A text frame, ready for any number of sockets.
pub(super) fn text_frame(json: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(json.len() + 10);
    Parser::write_message(&mut frame, json, OpCode::Text, true, false);
    frame.freeze()
}

/// The outbound queue of one socket. Belongs to one worker thread.
#[derive(Clone, Default)]
pub(crate) struct Outbound(Rc<RefCell<Queue>>);

#[derive(Default)]
struct Queue {
    backlog: Backlog,
    state: State,
    /// Who writes to the socket.
    writer: Option<Waker>,
    /// Who waits for the queue to drain, or for the connection to end.
    waiting: Vec<Waker>,
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
    /// Queues a frame, or does what `urgency` says when there is no room.
    pub(super) fn push(&self, frame: Bytes, urgency: Urgency) {
        let mut queue = self.0.borrow_mut();
        if queue.state != State::Open {
            return;
        }
        match queue.backlog.push(frame, urgency) {
            Pushed::Queued => queue.write(),
            Pushed::Dropped => metrics::counter!("parlance_dropped_frames_total").increment(1),
            Pushed::Overflowed => {
                metrics::counter!("parlance_slow_consumers_total").increment(1);
                queue.close(Close::SlowConsumer);
            }
        }
    }

    /// Queues the answer to `hello`.
    pub(super) fn welcome(&self, frame: Bytes) {
        let mut queue = self.0.borrow_mut();
        if queue.state == State::Open {
            queue.backlog.welcome(frame);
            queue.write();
        }
    }

    /// Queues a ping.
    pub(super) fn ping(&self) {
        self.control(b"", OpCode::Ping);
    }

    /// Queues the answer to a ping.
    pub(super) fn pong(&self, payload: &[u8]) {
        self.control(payload, OpCode::Pong);
    }

    /// Queues a close frame behind what is there. The peer has a moment to answer before [`Outbound::finish`].
    pub(super) fn close(&self, close: Close) {
        self.0.borrow_mut().close(close);
    }

    /// Answers the peer's close.
    pub(super) fn close_normally(&self) {
        self.0.borrow_mut().close_with(CloseReason { code: CloseCode::Normal, description: None });
    }

    /// Ends the connection once all that is queued has been written.
    pub(super) fn finish(&self) {
        let mut queue = self.0.borrow_mut();
        if queue.state != State::Gone {
            queue.state = State::Finished;
            queue.wake();
        }
    }

    /// Returns when the connection is closing or gone.
    pub(super) async fn ended(&self) {
        self.until(|queue| queue.state != State::Open).await;
    }

    /// Returns when the queue has room for more that can wait, or the connection ends.
    pub(super) async fn drained(&self) {
        self.until(|queue| queue.backlog.has_room() || queue.state != State::Open).await;
    }

    /// Whether the queue has room for more that can wait.
    pub(super) fn has_room(&self) -> bool {
        self.0.borrow().backlog.has_room()
    }

    async fn until(&self, condition: impl Fn(&Queue) -> bool) {
        std::future::poll_fn(|cx| {
            let mut queue = self.0.borrow_mut();
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
        // A reader that does not read, but pings, must not fill the queue either.
        self.push(frame.freeze(), Urgency::Ephemeral);
    }
}

impl Queue {
    fn write(&mut self) {
        if let Some(writer) = self.writer.take() {
            writer.wake();
        }
    }

    fn close(&mut self, close: Close) {
        let code = CloseCode::Other(close.code());
        self.close_with(CloseReason { code, description: Some(close.reason().into()) });
    }

    fn close_with(&mut self, reason: CloseReason) {
        if self.state == State::Open {
            self.state = State::Closing;
            let mut frame = BytesMut::new();
            Parser::write_close(&mut frame, Some(reason), false);
            self.backlog.append(frame.freeze());
            self.wake();
        }
    }

    fn wake(&mut self) {
        self.writer.take().into_iter().chain(self.waiting.drain(..)).for_each(Waker::wake);
    }
}

struct Body {
    queue: Outbound,
    /// Its end tells the inbound stream that the connection is gone.
    _handshake: BoxBody,
}

impl MessageBody for Body {
    type Error = std::io::Error;

    fn size(&self) -> BodySize {
        BodySize::Stream
    }

    fn poll_next(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        let mut queue = self.queue.0.borrow_mut();
        if let Some(frame) = queue.backlog.pop() {
            if queue.backlog.has_room() && !queue.waiting.is_empty() {
                queue.waiting.drain(..).for_each(Waker::wake);
            }
            return Poll::Ready(Some(Ok(frame)));
        }
        if queue.state == State::Finished {
            return Poll::Ready(None);
        }
        queue.writer = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        let mut queue = self.queue.0.borrow_mut();
        queue.state = State::Gone;
        queue.backlog.clear();
        queue.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queued(outbound: &Outbound) -> Vec<Bytes> {
        std::iter::from_fn(|| outbound.0.borrow_mut().backlog.pop()).collect()
    }

    /// RFC 6455, 5.2: a server's text frame is final, unmasked, with the shortest form of its length.
    #[test]
    fn a_text_frame_has_the_header_of_its_length() {
        for (length, header) in [
            (5, vec![0x81, 5]),
            (125, vec![0x81, 125]),
            (126, vec![0x81, 126, 0, 126]),
            (65_535, vec![0x81, 126, 0xff, 0xff]),
            (65_536, vec![0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            let frame = text_frame(&vec![b'x'; length]);
            assert_eq!((&frame[..header.len()], frame.len()), (&header[..], header.len() + length));
        }
    }

    #[test]
    fn a_slow_consumer_is_told_so_and_nothing_else() {
        let outbound = Outbound::default();
        for _ in 0..11 {
            outbound.push(vec![0; 100 * 1024].into(), Urgency::Reliable);
        }
        let left = queued(&outbound);
        assert_eq!(left.len(), 1);
        assert_eq!(&left[0][..4], [0x88, 15, 0x0f, 0xa1], "a close frame with code 4001");
    }

    #[test]
    fn nothing_follows_a_close_frame() {
        let outbound = Outbound::default();
        outbound.close(Close::Draining);
        outbound.push(Bytes::from_static(b"late"), Urgency::Reliable);
        outbound.close(Close::BadToken);
        assert_eq!(queued(&outbound).len(), 1);
    }
}
