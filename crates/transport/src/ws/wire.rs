//! All socket I/O: the handshake, bounded messages in, a bounded queue of ready-made frames out.
//!
//! The handshake is a route like any other, checked by actix-ws. actix-web never sees what follows: [`takeover`] takes
//! over the TCP connection, [`inbound`] reads from it, and [`outbound`] writes to it whenever a worker has something to
//! say.

mod inbound;
mod outbound;
mod takeover;

use actix_http::ws::{OpCode, Parser};
use actix_web::{
    HttpMessage, HttpRequest, HttpResponse,
    error::ErrorBadRequest,
    http::{Version, header},
    web::Payload,
};
use bytes::{Bytes, BytesMut};
use futures::future::LocalBoxFuture;

pub(super) use inbound::Inbound;
pub(crate) use outbound::{Flusher, Outbound};
pub(super) use takeover::Accepted;
pub(crate) use takeover::Takeover;

use super::Worker;

/// The largest message accepted, in bytes.
pub(super) const INBOUND_LIMIT: usize = 64 * 1024;

/// The subprotocol, selected if offered.
const SUBPROTOCOL: &str = "parlance.v1";

/// Starts a connection's life once its handshake is answered, on the thread it is given to. Travels with the response.
struct Life(Box<Begin>);

type Begin = dyn FnOnce(&Worker, Inbound, Outbound) -> LocalBoxFuture<'static, ()> + Send;

/// Marks a request whose connection can be taken over.
struct Takeable;

/// Checks the handshake, and returns its response, after which `life` takes over.
pub(super) fn accept(
    request: &HttpRequest,
    payload: Payload,
    life: impl FnOnce(&Worker, Inbound, Outbound) -> LocalBoxFuture<'static, ()> + Send + 'static,
) -> Result<HttpResponse, actix_web::Error> {
    // RFC 6455, 4.2.1 and 11.3.1; actix-ws checks neither.
    if request.version() < Version::HTTP_11 {
        return Err(ErrorBadRequest("a socket is opened by HTTP/1.1"));
    }
    if request.headers().get_all(header::SEC_WEBSOCKET_KEY).count() > 1 {
        return Err(ErrorBadRequest("Sec-WebSocket-Key may come only once"));
    }
    // Of actix-ws's three parts, only the response is used: its queue alone costs a connection 1.3 KiB.
    let (response, _, _) = actix_ws::handle_with_protocols(request, payload, &[SUBPROTOCOL])?;
    if request.extensions_mut().remove::<Takeable>().is_none() {
        return Err(ErrorBadRequest("no connection to take over"));
    }
    let mut response = response.drop_body().map_into_boxed_body();
    response.extensions_mut().insert(Life(Box::new(life)));
    Ok(response)
}

/// A text frame, ready for any number of sockets.
pub(super) fn text_frame(json: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(json.len() + 10);
    append_text_frame(&mut frame, json);
    frame.freeze()
}

/// The same, appended to a piece.
pub(super) fn append_text_frame(piece: &mut BytesMut, json: &[u8]) {
    Parser::write_message(piece, json, OpCode::Text, true, false);
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
