//! What a signal ends at once, and what it waits for.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::support::{PATIENCE, Server, until};

/// A request whose body is still to come.
async fn begin(server: &Server) -> TcpStream {
    let address = server.url.trim_start_matches("http://");
    let mut client = TcpStream::connect(address).await.expect("connects");
    let head = "POST /api/v1/auth/signin HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
         content-length: 2\r\nexpect: 100-continue\r\n\r\n";
    client.write_all(head.as_bytes()).await.expect("written");
    let mut heard = [0; 25];
    timeout(PATIENCE, client.read_exact(&mut heard)).await.expect("in time").expect("read");
    assert_eq!(&heard, b"HTTP/1.1 100 Continue\r\n\r\n");
    client
}

#[tokio::test]
async fn a_request_that_has_begun_is_answered_before_the_end() {
    let mut server = Server::start();
    let mut client = begin(&server).await;
    server.terminate();
    until("new connections are refused", || async { refused(&server).await }).await;
    client.write_all(b"{}").await.expect("written");
    let mut heard = String::new();
    timeout(PATIENCE, client.read_to_string(&mut heard)).await.expect("in time").expect("read");
    assert!(heard.starts_with("HTTP/1.1 400 "), "{heard}");
    assert_eq!(server.exit().await.code(), Some(0));
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let mut server = Server::start();
    let _client = begin(&server).await;
    server.terminate();
    until("new connections are refused", || async { refused(&server).await }).await;
    server.terminate();
    assert_eq!(server.exit().await.code(), Some(1));
}

async fn refused(server: &Server) -> bool {
    TcpStream::connect(server.url.trim_start_matches("http://")).await.is_err()
}
