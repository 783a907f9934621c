//! Clients that read slowly, or not at all.

use serde_json::json;

use crate::support::{Server, Socket, text, until};

/// Sends nearly as much as a message may hold.
async fn say_at_length(socket: &mut Socket, place: &str, n: usize) {
    let long = format!("{n} {}", "x".repeat(3_900));
    let send = json!({ "conversation_id": place, "client_msg_id": n.to_string(), "text": long });
    let reply = socket.command("message.send", send).await;
    assert_eq!(reply["type"], "ok", "{reply}");
}

#[tokio::test]
async fn answers_come_behind_the_replay() {
    let server = Server::start();
    let ada = server.sign_up("ada").await;
    let (_, general, _) = ada.workspace().await;
    let mut socket = ada.connect().await;
    let epoch = socket.hello["epoch"].clone();
    for n in 0..100 {
        say_at_length(&mut socket, &general, n).await;
    }
    let resume = json!({ "epoch": epoch, "cursors": { general.clone(): 0 } });
    let mut back = ada.knock(resume).await;
    let ping = back.begin("ping", json!({})).await;
    let mut kinds = vec![];
    loop {
        let frame = back.frame().await;
        kinds.push(text(&frame["type"]));
        if frame["id"] == ping {
            break;
        }
    }
    assert_eq!(kinds, ["ok", "replay", "replay", "ok"]);
}

/// Its queries wait with it, so that their answers never fill its queue.
#[tokio::test]
async fn who_takes_no_answers_is_asked_for_no_more_questions() {
    const QUESTIONS: usize = 100;
    let server = Server::without_limits();
    let ada = server.sign_up("ada").await;
    let (_, general, _) = ada.workspace().await;
    let mut socket = ada.connect().await;
    for n in 0..60 {
        say_at_length(&mut socket, &general, n).await;
    }
    // A quarter of a MiB each: far more than the systems in between buffer.
    let mut idle = ada.connect().await;
    for _ in 0..QUESTIONS {
        idle.begin("sync", json!({ "conversation_id": general, "from_rev": 0 })).await;
    }
    // By the time others have had their answers for a while, the server has done all that it is going to do for it.
    let mut seq = 0;
    until("others go on", async || {
        seq += 1;
        socket.say(&general, &format!("on {seq}")).await;
        seq == 200
    })
    .await;
    idle.answers(QUESTIONS).await;
}

/// As many sends as may be in flight, as long as they may be: each comes back in its answer, and again as an event.
#[tokio::test]
async fn who_sends_at_full_length_is_no_slow_consumer() {
    const IN_FLIGHT: usize = 64;
    let server = Server::without_limits();
    let ada = server.sign_up("ada").await;
    let (_, general, _) = ada.workspace().await;
    let mut socket = ada.connect().await;
    let long = "😀".repeat(4_000);
    for round in 0..5 {
        for n in 0..IN_FLIGHT {
            let id = format!("{round}-{n}");
            let data = json!({ "conversation_id": general, "client_msg_id": id, "text": long });
            socket.begin("message.send", data).await;
        }
        socket.answers(IN_FLIGHT).await;
    }
}

#[tokio::test]
async fn who_reads_nothing_is_closed_as_a_slow_consumer() {
    let server = Server::without_limits();
    let ada = server.sign_up("ada").await;
    let (_, general, _) = ada.workspace().await;
    let (mut deaf, mut socket) = (ada.connect().await, ada.connect().await);
    let (mut n, metrics) = (0, format!("{}/metrics", server.url));
    // However much of it the systems in between buffer.
    until("is too slow", async || {
        for _ in 0..20 {
            n += 1;
            say_at_length(&mut socket, &general, n).await;
        }
        let figures = reqwest::get(&metrics).await.expect("an answer").text().await;
        figures.expect("text").contains("parlance_slow_consumers_total 1")
    })
    .await;
    assert_eq!(deaf.closed().await, 4001);
    assert_eq!(socket.command("ping", json!({})).await["type"], "ok", "the others go on");
}
