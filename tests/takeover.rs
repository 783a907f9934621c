//! The moment in which a connection stops being HTTP's: raw bytes, because no client library sends them so.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
};

use crate::support::{PATIENCE, Server};

const HANDSHAKE: &str = "GET /api/v1/ws HTTP/1.1\r\nHost: parlance\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// A masked text frame, with a mask of zeros.
fn frame(text: &str) -> Vec<u8> {
    let length = u8::try_from(text.len()).expect("short");
    [&[0x81, 0x80 | length, 0, 0, 0, 0], text.as_bytes()].concat()
}

fn connect(server: &Server) -> TcpStream {
    let address = server.url.trim_start_matches("http://");
    let socket = TcpStream::connect(address).expect("connects");
    socket.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    socket
}

fn read_until(socket: &mut TcpStream, end: &str) -> String {
    let (mut all, mut some) = (Vec::new(), [0; 4096]);
    loop {
        let text = String::from_utf8_lossy(&all);
        if text.contains(end) {
            return text.into_owned();
        }
        let count = socket.read(&mut some).expect("reads");
        assert_ne!(count, 0, "ended after {text}");
        all.extend_from_slice(&some[..count]);
    }
}

/// A connection that has answered a request is taken over, with the frame that came in one segment with the handshake.
#[tokio::test(flavor = "multi_thread")]
async fn what_comes_with_the_handshake_is_not_lost() {
    let server = Server::start();
    let mut socket = connect(&server);
    socket.write_all(b"GET /readyz HTTP/1.1\r\nHost: parlance\r\n\r\n").expect("writes");
    assert!(read_until(&mut socket, "}").starts_with("HTTP/1.1 200 OK"));
    let early = frame(r#"{"id":7,"type":"ping","data":{}}"#);
    socket.write_all(&[HANDSHAKE.as_bytes(), &early].concat()).expect("writes");
    let answers = read_until(&mut socket, r#""unauthenticated""#);
    assert!(answers.starts_with("HTTP/1.1 101 Switching Protocols"), "{answers}");
    let place = |what: &str| answers.find(what).unwrap_or_else(|| panic!("no {what} in {answers}"));
    assert!(place("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=") < place(r#""id":7"#));
}

/// Whoever is refused gets a whole answer, and the end of the connection, for nothing can follow it.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_handshake_is_answered_and_closed() {
    let server = Server::start();
    for (changed, status) in [
        (HANDSHAKE.replace("Version: 13", "Version: 12"), "HTTP/1.1 400 "),
        (HANDSHAKE.replace("/api/v1/ws", "/api/v1/nowhere"), "HTTP/1.1 404 "),
        (HANDSHAKE.replace("Host:", "Origin: https://evil.example\r\nHost:"), "HTTP/1.1 403 "),
        (HANDSHAKE.replace("GET", "POST"), "HTTP/1.1 405 "),
    ] {
        let mut socket = connect(&server);
        socket.write_all(changed.as_bytes()).expect("writes");
        let mut answer = String::new();
        socket.read_to_string(&mut answer).expect("an answer, then the end");
        assert!(answer.starts_with(status), "{status}: {answer}");
        assert!(answer.contains("application/problem+json"), "{answer}");
        assert!(answer.ends_with('}'), "cut off: {answer}");
    }
}
