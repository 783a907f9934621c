//! The log, for operators: what is in it, and what becomes of a process that cannot write it.

use std::{
    ffi::OsStr,
    fs::File,
    io::{BufRead as _, BufReader, Read as _},
    os::unix::ffi::OsStrExt as _,
    path::Path,
    process::Stdio,
};

use tokio::{
    io::{self, AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    process::{Child, Command},
    task::spawn_blocking,
    time::timeout,
};

use crate::support::PATIENCE;

/// A server that logs to this file, as much as this filter says, and its address.
async fn logging(home: &Path, filter: &str, log: File) -> (Child, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_parlance"))
        .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(home)
        .env("RUST_LOG", filter)
        .stdout(Stdio::piped())
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .expect("starts");
    let mut lines = io::BufReader::new(child.stdout.take().expect("stdout")).lines();
    let line = timeout(PATIENCE, lines.next_line()).await.expect("in time").expect("reads");
    let line = line.expect("a line");
    let address = line.strip_prefix("parlance listening on http://").expect("an address");
    (child, address.to_owned())
}

async fn ends_well(mut child: Child) {
    let pid = child.id().expect("runs").to_string();
    let killed = Command::new("kill").args(["-TERM", &pid]).status().await.expect("kill");
    assert!(killed.success());
    let ended = timeout(PATIENCE, child.wait()).await.expect("in time").expect("ends");
    assert_eq!(ended.code(), Some(0));
}

/// As when a collector of logs is restarted, or the log's disk is full.
#[tokio::test]
async fn a_log_that_nobody_takes_ends_nothing() {
    let home = tempfile::tempdir().expect("a directory");
    let full = File::options().write(true).open("/dev/full").expect("a full disk");
    let (child, address) = logging(home.path(), "debug", full).await;
    for _ in 0..3 {
        let answer = reqwest::get(format!("http://{address}/readyz")).await.expect("an answer");
        assert_eq!(answer.status(), 200);
    }
    ends_well(child).await;
}

/// As when a collector of all its output hangs, or somebody has pressed Ctrl-S.
#[tokio::test]
async fn a_log_that_nobody_reads_holds_nothing_up() {
    let home = tempfile::tempdir().expect("a directory");
    let (mut unread, said) = std::io::pipe().expect("a pipe");
    let child = Command::new(env!("CARGO_BIN_EXE_parlance"))
        .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(home.path())
        .env("RUST_LOG", "trace")
        .stdout(said.try_clone().expect("another end"))
        .stderr(said)
        .kill_on_drop(true)
        .spawn()
        .expect("starts");
    let address = spawn_blocking(move || {
        let (mut heard, mut byte) = (Vec::new(), [0]);
        while !heard.ends_with(b"parlance listening on http://") {
            unread.read_exact(&mut byte).expect("reads");
            heard.extend(byte);
        }
        let rest = BufReader::with_capacity(1, &unread).lines().next().expect("a line");
        // The log says it too, in JSON, and may be first.
        let address = rest.expect("reads").split('"').next().expect("an address").to_owned();
        (address, unread)
    });
    let (address, _unread) = address.await.expect("no panic");
    // A pipe takes 64 KiB, and these are more lines than are queued for it.
    let client = reqwest::Client::new();
    for _ in 0..2_000 {
        let answer = client.get(format!("http://{address}/nowhere")).send();
        let answer = timeout(PATIENCE, answer).await.expect("in time").expect("an answer");
        assert_eq!(answer.status(), 404);
    }
    let page = client.get(format!("http://{address}/metrics")).send().await.expect("an answer");
    let page = page.text().await.expect("a page");
    let dropped = page.lines().find_map(|l| l.strip_prefix("parlance_dropped_log_lines_total "));
    let dropped: u64 = dropped.expect("they are counted").parse().expect("a number");
    assert!(dropped > 0);
    ends_well(child).await;
}

/// Otherwise, whoever looks for errors would find every port scanner.
#[tokio::test]
async fn what_is_no_http_is_no_error_of_the_server() {
    let home = tempfile::tempdir().expect("a directory");
    let path = home.path().join("log");
    let log = File::create(&path).expect("a file");
    let (child, address) = logging(home.path(), "", log).await;
    let mut stranger = TcpStream::connect(&address).await.expect("connects");
    stranger.write_all(b"no HTTP\r\n\r\n").await.expect("sends");
    let mut answer = Vec::new();
    timeout(PATIENCE, stranger.read_to_end(&mut answer)).await.expect("in time").expect("reads");
    assert!(answer.starts_with(b"HTTP/1.1 400 "), "{}", String::from_utf8_lossy(&answer));
    ends_well(child).await;
    let log = std::fs::read_to_string(&path).expect("a log");
    assert!(log.contains("stopped"), "{log}");
    assert!(!log.contains("ERROR"), "{log}");
}

/// Whoever is paged for errors would be by every restart that meets a connection. Whether it does is chance, hence
/// several tries.
#[tokio::test]
async fn an_end_amid_new_connections_is_no_error() {
    for _ in 0..8 {
        let home = tempfile::tempdir().expect("a directory");
        let path = home.path().join("log");
        let (child, address) = logging(home.path(), "", File::create(&path).expect("a file")).await;
        let knocking = tokio::spawn(async move {
            let mut knocks = 0;
            while TcpStream::connect(&address).await.is_ok() {
                knocks += 1;
            }
            knocks
        });
        ends_well(child).await;
        let knocks = timeout(PATIENCE, knocking).await.expect("in time").expect("no panic");
        assert!(knocks > 0, "nobody came");
        let log = std::fs::read_to_string(&path).expect("a log");
        assert!(log.contains("stopped"), "{log}");
        assert!(!log.contains("ERROR"), "{log}");
    }
}

/// If it were ignored, another store would be created in the default place.
#[tokio::test]
async fn a_setting_that_cannot_be_read_is_named() {
    let home = tempfile::tempdir().expect("a directory");
    let refused = Command::new(env!("CARGO_BIN_EXE_parlance"))
        .args(["serve", "--listen", "127.0.0.1:0"])
        .current_dir(&home)
        .env("PARLANCE_DATA_DIR", OsStr::from_bytes(b"d\xe9j\xe0"))
        .kill_on_drop(true)
        .output();
    let output = timeout(PATIENCE, refused).await.expect("in time").expect("runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(said.contains("PARLANCE_DATA_DIR is not UTF-8"), "{said}");
}
