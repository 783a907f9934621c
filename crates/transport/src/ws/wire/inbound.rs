//! What comes in on a socket: whole messages, each bounded. A silent connection holds no buffer for it.

use std::{
    cell::RefCell,
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use actix_codec::Decoder;
use actix_http::ws::{Codec, Frame, Item, OpCode, ProtocolError};
use actix_ws::AggregatedMessage;
use bytes::{Bytes, BytesMut};
use futures::Stream;
use tokio::{
    io::{AsyncRead, ReadBuf},
    net::tcp::OwnedReadHalf,
};

use super::INBOUND_LIMIT;

/// The most that is read at a time.
const CHUNK: usize = 16 * 1024;

thread_local! {
    /// What a worker reads into, from all its connections.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; CHUNK].into());
}

/// The messages of one connection, up to its end or the first that breaks the protocol.
pub(in crate::ws) struct Inbound {
    socket: OwnedReadHalf,
    codec: Codec,
    /// What has come but is not decoded yet.
    unread: BytesMut,
    /// What has come of a fragmented message.
    fragments: Option<Fragments>,
    /// There may be more to read, but others take their turn first.
    more: bool,
    end: Option<End>,
}

/// Why there are no more messages.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// The peer has ended the connection.
    Said,
    /// It has broken the protocol. What it still sends is read and discarded: closing a socket with unread data resets
    /// the connection, and the peer would not see why it was closed.
    Broken,
}

struct Fragments {
    text: bool,
    payload: BytesMut,
}

impl Inbound {
    /// `early` is what had come with the handshake.
    pub(in crate::ws) fn new(early: BytesMut, socket: OwnedReadHalf) -> Self {
        let codec = Codec::new().max_size(INBOUND_LIMIT);
        Self { socket, codec, unread: early, fragments: None, more: false, end: None }
    }

    /// Returns when the peer is gone, or says that it goes, and has said nothing else since the last message. What it
    /// says meanwhile is kept for later; if that is much, it is not noticed whether the peer is gone.
    pub(in crate::ws) async fn gone(&mut self) {
        poll_fn(|cx| self.poll_gone(cx)).await;
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let goes = |head: &u8| OpCode::from(head & 0x0f) == OpCode::Close;
            if self.unread.first().is_some_and(goes) {
                return Poll::Ready(());
            }
            if self.unread.len() >= CHUNK {
                return Poll::Pending;
            }
            match ready!(self.poll_chunk(cx)) {
                Ok(read) if read > 0 => {}
                _ if self.unread.is_empty() => return Poll::Ready(()),
                _ => return Poll::Pending,
            }
        }
    }

    fn poll_message(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<AggregatedMessage>, ProtocolError>> {
        loop {
            while let Some(frame) = self.codec.decode(&mut self.unread)? {
                if let Some(message) = self.take(frame)? {
                    return Poll::Ready(Ok(Some(message)));
                }
            }
            // The codec would refuse it too, but only once it has come, and been buffered, whole.
            if announced(&self.unread) > INBOUND_LIMIT as u64 {
                return Poll::Ready(Err(ProtocolError::Overflow));
            }
            if self.unread.is_empty() {
                self.unread = BytesMut::new();
            }
            if std::mem::take(&mut self.more) {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            if ready!(self.poll_chunk(cx))? == 0 {
                return Poll::Ready(Ok(None));
            }
        }
    }

    /// Reads once, and returns how much has come.
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        SCRATCH.with_borrow_mut(|scratch| {
            let mut chunk = ReadBuf::new(scratch);
            ready!(Pin::new(&mut self.socket).poll_read(cx, &mut chunk))?;
            self.more = chunk.remaining() == 0;
            self.unread.extend_from_slice(chunk.filled());
            Poll::Ready(Ok(chunk.filled().len()))
        })
    }

    /// Reads and discards until the peer ends the connection.
    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            self.unread = BytesMut::new();
            if std::mem::take(&mut self.more) {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            if ready!(self.poll_chunk(cx)).is_ok_and(|read| read > 0) {
                continue;
            }
            return Poll::Ready(());
        }
    }

    /// A frame's message, if it is whole.
    fn take(&mut self, frame: Frame) -> Result<Option<AggregatedMessage>, ProtocolError> {
        Ok(Some(match frame {
            Frame::Text(payload) => whole(true, payload)?,
            Frame::Binary(payload) => whole(false, payload)?,
            Frame::Ping(payload) => AggregatedMessage::Ping(payload),
            Frame::Pong(payload) => AggregatedMessage::Pong(payload),
            Frame::Close(reason) => AggregatedMessage::Close(reason),
            Frame::Continuation(item) => return self.join(item),
        }))
    }

    fn join(&mut self, item: Item) -> Result<Option<AggregatedMessage>, ProtocolError> {
        let (first, last, fragment) = match item {
            Item::FirstText(fragment) => (Some(true), false, fragment),
            Item::FirstBinary(fragment) => (Some(false), false, fragment),
            Item::Continue(fragment) => (None, false, fragment),
            Item::Last(fragment) => (None, true, fragment),
        };
        if let Some(text) = first {
            self.fragments = Some(Fragments { text, payload: BytesMut::new() });
        }
        let fragments = self.fragments.as_mut().ok_or(ProtocolError::ContinuationNotStarted)?;
        if fragments.payload.len() + fragment.len() > INBOUND_LIMIT {
            return Err(ProtocolError::Overflow);
        }
        fragments.payload.extend_from_slice(&fragment);
        let whole_now = self.fragments.take_if(|_| last);
        whole_now.map(|all| whole(all.text, all.payload.freeze())).transpose()
    }
}

impl Stream for Inbound {
    type Item = Result<AggregatedMessage, ProtocolError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match self.end {
            None => {}
            Some(End::Said) => return Poll::Ready(None),
            Some(End::Broken) => return self.poll_rest(cx).map(|()| None),
        }
        let message = ready!(self.poll_message(cx)).transpose();
        self.end = match message {
            None | Some(Ok(AggregatedMessage::Close(_))) => Some(End::Said),
            Some(Err(_)) => Some(End::Broken),
            Some(Ok(_)) => None,
        };
        Poll::Ready(message)
    }
}

/// The payload length of the frame that begins here, if it is given in 64 bits that have come (RFC 6455, section 5.2).
/// A length given in fewer bits is never too long.
fn announced(unread: &[u8]) -> u64 {
    const { assert!(INBOUND_LIMIT >= u16::MAX as usize) };
    match unread {
        [_, length, rest @ ..] if length & 0x7f == 127 => {
            rest.first_chunk().map_or(0, |length| u64::from_be_bytes(*length))
        }
        _ => 0,
    }
}

fn whole(text: bool, payload: Bytes) -> Result<AggregatedMessage, ProtocolError> {
    Ok(if text {
        AggregatedMessage::Text(payload.try_into().map_err(io::Error::other)?)
    } else {
        AggregatedMessage::Binary(payload)
    })
}

#[cfg(test)]
mod tests;
