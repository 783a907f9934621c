//! What is acknowledged survives a kill; a server that is asked to end does so cleanly.

use serde_json::json;
use tokio::{net::TcpListener, time::timeout};

use crate::support::{PATIENCE, Server, Worker, home::On, until};

#[tokio::test]
async fn what_was_acknowledged_survives_a_kill() {
    let server = Server::start();
    let ada = server.sign_up("ada").await;
    let (_, general, _) = ada.workspace().await;
    let mut socket = ada.connect().await;
    for n in 0..20 {
        socket.say(&general, &format!("message {n}")).await;
    }
    let server = server.crash_and_restart();
    let ada = ada.at(&server);
    let page = ada.get(&format!("/conversations/{general}/messages?after_seq=0&limit=200")).await;
    let items = page["items"].as_array().expect("items");
    let texts: Vec<_> =
        items.iter().map(|m| (m["seq"].as_u64(), m["text"].as_str().map(str::to_owned))).collect();
    let expected: Vec<_> = (0..20).map(|n| (Some(n + 1), Some(format!("message {n}")))).collect();
    assert_eq!(texts, expected);
    let again = ada
        .post(
            &format!("/conversations/{general}/messages"),
            json!({ "client_msg_id": "message 3", "text": "message 3" }),
        )
        .await;
    assert_eq!(again["duplicate"], true);
}

#[tokio::test]
async fn a_terminated_server_says_so_and_exits_cleanly() {
    let mut server = Server::start();
    let ada = server.sign_up("ada").await;
    let (mut socket, mut silent) = (ada.connect().await, ada.open().await);
    server.terminate();
    assert_eq!(silent.closed().await, 4000, "though it has not said hello");
    let draining = socket.event("server.draining").await;
    assert_eq!(draining["data"]["reconnect_after_ms"], 1_000, "{draining}");
    assert_eq!(socket.closed().await, 4000);
    assert_eq!(server.exit().await.code(), Some(0));
}

/// On services, a worker runs the jobs.
#[tokio::test]
async fn a_second_signal_ends_a_process_in_the_midst_of_a_job() {
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = silent.local_addr().expect("an address");
    let url = format!("smtp://{address}");
    let mail: &[_] = &[("PARLANCE_SMTP_URL", &*url)];
    let (mut server, mut worker) = match crate::ON {
        On::Embedded => (Server::start_with(mail), None),
        On::Services => {
            let server = Server::start_with(&[("PARLANCE_RUN_JOBS", "off")]);
            let worker = Worker::start_with(&server.home, mail);
            (server, Some(worker))
        }
    };
    server.sign_up("ada").await;
    let _job = timeout(PATIENCE, silent.accept()).await.expect("in time").expect("a connection");
    let mut status = None;
    // As often as it takes: two signals at once count as one.
    until("the process ends", async || {
        status = if let Some(worker) = &mut worker {
            worker.terminate();
            worker.ended()
        } else {
            server.terminate();
            server.ended()
        };
        status.is_some()
    })
    .await;
    assert_eq!(status.and_then(|status| status.code()), Some(1), "it would be 0 had it waited");
}
