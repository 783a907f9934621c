//! What a signal ends at once, even a start, and what it waits for.

use std::{
    fs::{self, File},
    io::Write as _,
    path::Path,
    process::Command,
};

use rustix::fs::{CWD, Mode, OFlags};
use serde_json::json;
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
    let request = "POST /api/v1/auth/signin HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
         content-length: 2\r\nexpect: 100-continue\r\n\r\n";
    client.write_all(request.as_bytes()).await.expect("written");
    let mut heard = [0; 25];
    timeout(PATIENCE, client.read_exact(&mut heard)).await.expect("in time").expect("read");
    assert_eq!(&heard, b"HTTP/1.1 100 Continue\r\n\r\n");
    client
}

/// Completes the request, and reads what is wrong with it.
async fn is_answered(mut client: TcpStream) {
    client.write_all(b"{}").await.expect("written");
    let mut heard = String::new();
    timeout(PATIENCE, client.read_to_string(&mut heard)).await.expect("in time").expect("read");
    assert!(heard.starts_with("HTTP/1.1 400 "), "{heard}");
}

#[tokio::test]
async fn a_request_that_has_begun_is_answered_before_the_end() {
    let mut server = Server::start();
    let client = begin(&server).await;
    server.terminate();
    until("new connections are refused", || async { refused(&server).await }).await;
    is_answered(client).await;
    assert_eq!(server.exit().await.code(), Some(0));
    let log = std::fs::metadata(server.home.data(0).join("parlance.db-wal"));
    assert_eq!(log.map_or(0, |log| log.len()), 0, "the database is whole without its log");
}

/// `timeout` signals its child, and then its group.
#[tokio::test]
async fn a_signal_that_comes_twice_at_once_is_one() {
    let mut server = Server::start();
    let client = begin(&server).await;
    let twice = format!("kill -TERM {0}; kill -INT {0}", server.pid());
    assert!(Command::new("sh").args(["-c", &twice]).status().expect("sh runs").success());
    until("new connections are refused", || async { refused(&server).await }).await;
    is_answered(client).await;
    assert_eq!(server.exit().await.code(), Some(0));
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let mut server = Server::start();
    let _client = begin(&server).await;
    server.terminate();
    until("new connections are refused", || async { refused(&server).await }).await;
    // Signals right after the first belong to it.
    until("it has ended", async || {
        server.terminate();
        server.ended().is_some()
    })
    .await;
    assert_eq!(server.exit().await.code(), Some(1));
}

/// A start that reads a copy as a whole, or migrates it, takes minutes. Here it takes forever, in the middle of its
/// opening.
#[tokio::test]
async fn a_signal_ends_a_start() {
    let mut server = Server::start();
    let ada = server.sign_up("ada").await;
    server.kill();
    let home = server.home.clone();
    let opened = home.data(0).join("parlance.opened");
    let said = fs::read(&opened).expect("reads");
    fs::remove_file(&opened).expect("removes");
    rustix::fs::mkfifoat(CWD, &opened, Mode::RUSR | Mode::WUSR).expect("a pipe");

    let mut server = Server::starting(home.clone());
    let mut pipe = None;
    until("the start reads what the last one noted", async || {
        pipe = writer(&opened);
        pipe.is_some()
    })
    .await;
    // It reads once before it opens the database, which is answered, and once more after that.
    pipe.expect("a pipe").write_all(&said).expect("written");
    server.terminate();
    assert_eq!(server.exit().await.code(), Some(0));
    assert_eq!(server.said(), "", "nothing was served");

    fs::remove_file(&opened).expect("removes");
    let server = Server::start_in(home, 0, &[]);
    assert_eq!(ada.at(&server).get("/users/me").await["display_name"], "ada");
}

/// The end of a pipe to write to, once somebody reads from it.
fn writer(pipe: &Path) -> Option<File> {
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    rustix::fs::open(pipe, flags, Mode::empty()).ok().map(File::from)
}

async fn refused(server: &Server) -> bool {
    TcpStream::connect(server.url.trim_start_matches("http://")).await.is_err()
}

/// After a restart nobody is left to ask again for what was committed.
#[tokio::test]
async fn what_is_committed_at_the_end_is_answered() {
    const SENDS: usize = 40;
    let mut server = Server::start();
    let ada = server.sign_up("ada").await;
    let (_, general, _) = ada.workspace().await;
    let mut socket = ada.connect().await;
    for n in 0..SENDS {
        let data =
            json!({ "conversation_id": general, "client_msg_id": n.to_string(), "text": "x" });
        socket.begin("message.send", data).await;
    }
    server.terminate();
    let (frames, code) = socket.rest().await;
    assert_eq!(code, 4000);
    let answered = frames.iter().filter(|frame| frame["type"] == "ok").count();
    assert_eq!(server.exit().await.code(), Some(0));

    let server = Server::start_in(server.home.clone(), 0, &[]);
    let ada = ada.at(&server);
    let page = ada.get(&format!("/conversations/{general}/messages?limit=200")).await;
    assert_eq!(page["items"].as_array().map(Vec::len), Some(answered));
}
