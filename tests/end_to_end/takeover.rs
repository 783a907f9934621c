//! The moment at which a connection stops being HTTP: raw bytes, because no client library sends them so.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::support::{PATIENCE, Person, Server, until};

const HANDSHAKE: &str = "GET /api/v1/ws HTTP/1.1\r\nHost: parlance\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// A close frame with 1000, masked likewise.
const CLOSE: [u8; 8] = [0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8];

/// A masked text frame, with a mask of zeros and a length of two bytes.
fn frame(text: &str) -> Vec<u8> {
    let [high, low] = u16::try_from(text.len()).expect("less than 64 KiB").to_be_bytes();
    [&[0x81, 0xfe, high, low, 0, 0, 0, 0], text.as_bytes()].concat()
}

fn command(id: u64, kind: &str, data: &Value) -> Vec<u8> {
    frame(&json!({ "id": id, "type": kind, "data": data }).to_string())
}

/// A connection that has said hello.
fn welcome(server: &Server, person: &Person) -> TcpStream {
    let mut socket = connect(server);
    let hello = command(1, "hello", &json!({ "token": person.token }));
    socket.write_all(&[HANDSHAKE.as_bytes(), &hello].concat()).expect("writes");
    read_until(&mut socket, r#""heartbeat_ms""#);
    socket
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

/// A connection that has already served a request is taken over, along with a frame in the same segment as the
/// handshake.
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

/// A refused client gets a complete answer and the end of the connection, since nothing can follow it.
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

#[tokio::test(flavor = "multi_thread")]
async fn what_follows_a_close_frame_is_not_done() {
    let server = Server::start();
    let ada = server.sign_up("ada").await;
    let (_, general, _) = ada.workspace().await;
    let mut socket = welcome(&server, &ada);
    let send = |id: u64, text: &str| {
        let data = json!({ "conversation_id": general, "client_msg_id": text, "text": text });
        command(id, "message.send", &data)
    };
    let all = [send(2, "before"), CLOSE.to_vec(), send(3, "behind")].concat();
    socket.write_all(&all).expect("writes");
    socket.read_to_end(&mut Vec::new()).expect("the end");
    // Nothing shows that a send has not been done; one from another connection comes after it.
    ada.connect().await.say(&general, "later").await;
    let history = format!("/conversations/{general}/messages");
    until("the send before it is done", async || {
        let page = ada.get(&history).await;
        let messages = page["items"].as_array().expect("a page");
        assert!(messages.iter().all(|message| message["text"] != "behind"), "{page}");
        messages.len() == 2
    })
    .await;
}

/// The slowest of all tests: it waits as long as the contract says.
#[tokio::test(flavor = "multi_thread")]
async fn who_answers_no_ping_is_closed() {
    let server = Server::start();
    let mut socket = welcome(&server, &server.sign_up("ada").await);
    let begun = Instant::now();
    socket.set_read_timeout(Some(Duration::from_secs(90))).expect("a time-out");
    let mut all = Vec::new();
    socket.read_to_end(&mut all).expect("the end");
    let silent = begun.elapsed().as_secs();
    assert!((59..75).contains(&silent), "after {silent} s");
    let close = all.windows(4).find(|frame| matches!(frame, [0x88, _, 0x0f, 0xa2]));
    assert!(close.is_some(), "no 4002 in {all:?}");
}
