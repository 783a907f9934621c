use std::{
    cell::RefCell,
    pin::Pin,
    task::{Context, Poll, ready},
};

use actix_http::error::PayloadError;
use bytes::Bytes;
use futures::Stream;
use tokio::{
    io::{AsyncRead, ReadBuf},
    net::tcp::OwnedReadHalf,
};

/// The most that is read at a time.
const CHUNK: usize = 16 * 1024;

thread_local! {
    /// What a worker reads into, so that a silent connection needs no buffer of its own.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; CHUNK].into());
}

/// The bytes that come in on a socket.
pub(super) struct Inbound {
    /// What had come with the handshake.
    early: Bytes,
    socket: OwnedReadHalf,
    /// There is more to read, and it is somebody else's turn: actix-ws takes all there is, however much it is.
    more: bool,
}

impl Inbound {
    pub(super) fn new(early: Bytes, socket: OwnedReadHalf) -> Self {
        Self { early, socket, more: false }
    }
}

impl Stream for Inbound {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if !self.early.is_empty() {
            return Poll::Ready(Some(Ok(std::mem::take(&mut self.early))));
        }
        if std::mem::take(&mut self.more) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        SCRATCH.with_borrow_mut(|scratch| {
            let mut chunk = ReadBuf::new(scratch);
            ready!(Pin::new(&mut self.socket).poll_read(cx, &mut chunk))?;
            self.more = chunk.remaining() == 0;
            let read = chunk.filled();
            Poll::Ready((!read.is_empty()).then(|| Ok(Bytes::copy_from_slice(read))))
        })
    }
}
