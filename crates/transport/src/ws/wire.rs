//! All socket I/O: the handshake, what comes in as bounded messages, what goes out as a bounded queue of ready-made frames.
//!
//! The handshake is a route like any other, and actix-ws's to check. actix-web never sees what follows: [`takeover`] takes the
//! TCP connection from it, [`inbound`] reads from it, and [`outbound`] writes to it from wherever a worker has something to say.

mod inbound;
mod outbound;
mod takeover;

use actix_http::ws::{OpCode, Parser};
use actix_web::{
    HttpMessage, HttpRequest, HttpResponse,
    body::BoxBody,
    error::ErrorBadRequest,
    http::{Version, header},
    web::Payload,
};
use bytes::{Bytes, BytesMut};
use futures::future::LocalBoxFuture;

pub(super) use inbound::Inbound;
pub(crate) use outbound::{Flusher, Outbound};
pub(crate) use takeover::Takeover;

/// The largest message that is taken in, in bytes.
pub(super) const INBOUND_LIMIT: usize = 64 * 1024;

/// The subprotocol that is selected where it is offered.
const SUBPROTOCOL: &str = "parlance.v1";

/// An answered handshake.
pub(super) struct Accepted {
    response: HttpResponse<BoxBody>,
    inbound: Inbound,
    outbound: Outbound,
}

/// What happens on a connection once the handshake is answered; travels with the response.
struct Life(LocalBoxFuture<'static, ()>);

/// Checks the handshake.
pub(super) fn accept(
    request: &HttpRequest,
    payload: Payload,
) -> Result<Accepted, actix_web::Error> {
    // RFC 6455, 4.2.1 and 11.3.1; actix-ws asks for neither.
    if request.version() < Version::HTTP_11 {
        return Err(ErrorBadRequest("a socket is opened by HTTP/1.1"));
    }
    if request.headers().get_all(header::SEC_WEBSOCKET_KEY).count() > 1 {
        return Err(ErrorBadRequest("Sec-WebSocket-Key may come only once"));
    }
    // Of actix-ws's three parts only the answer is wanted: its queue alone costs a connection 1.3 KiB.
    let (response, _, _) = actix_ws::handle_with_protocols(request, payload, &[SUBPROTOCOL])?;
    let mut left = request.extensions_mut();
    let (Some(inbound), Some(outbound)) = (left.remove::<Inbound>(), left.remove::<Outbound>())
    else {
        return Err(ErrorBadRequest("no connection to take over"));
    };
    Ok(Accepted { response: response.drop_body().map_into_boxed_body(), inbound, outbound })
}

impl Accepted {
    /// The response to be returned, after which `life` goes on.
    pub(super) fn then(
        self,
        life: impl FnOnce(Inbound, Outbound) -> LocalBoxFuture<'static, ()>,
    ) -> HttpResponse {
        let Self { mut response, inbound, outbound } = self;
        response.extensions_mut().insert(Life(life(inbound, outbound)));
        response
    }
}

/// A text frame, ready for any number of sockets.
pub(super) fn text_frame(json: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(json.len() + 10);
    append_text_frame(&mut frame, json);
    frame.freeze()
}

/// The same, behind what is there.
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
