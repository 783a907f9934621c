//! Sends until they have an answer; commands once.

use std::time::Duration;

use parlance_client::{CommandError, NotTaken, SendError, Stopped};
use serde_json::json;
use tokio::time::Instant;

use crate::script::{Nodes, hello, message, until};

#[tokio::test(start_paused = true)]
async fn a_lost_connection_repeats_a_send_with_its_id_and_holds_the_later_ones() {
    let mut nodes = Nodes::new();
    let client = nodes.client();
    // Queued in this order, although the second is polled first.
    let (first, second) = (client.send("c", "first"), tokio::spawn(client.send("c", "second")));
    let elsewhere = client.send("d", "elsewhere");
    let (mut peer, _) = nodes.welcome(hello(10)).await;
    let (before, text) = peer.sent().await;
    assert_eq!(text, "first");
    assert_eq!(peer.sent().await.1, "elsewhere");
    assert!(peer.silent(Duration::from_secs(1)).await, "the second waits");
    drop(peer);
    let (mut peer, _) = nodes.welcome(hello(10)).await;
    let (again, _) = peer.sent().await;
    assert_eq!(again["data"], before["data"]);
    let (d, _) = peer.sent().await;
    peer.ok(&d, json!({ "message": message(3), "duplicate": true })).await;
    assert!(peer.silent(Duration::from_secs(1)).await, "the second still waits");
    peer.ok(&again, json!({ "message": message(11), "duplicate": true })).await;
    let (next, text) = peer.sent().await;
    assert_eq!(text, "second");
    assert_ne!(next["data"]["client_msg_id"], before["data"]["client_msg_id"]);
    peer.ok(&next, json!({ "message": message(12), "duplicate": false })).await;
    assert_eq!(first.await.unwrap()["id"], "m11");
    assert_eq!(second.await.unwrap().unwrap()["id"], "m12");
    assert_eq!(elsewhere.await.unwrap()["id"], "m3");
}

#[tokio::test(start_paused = true)]
async fn a_send_whose_outcome_is_unknown_is_repeated_and_not_overtaken() {
    for (code, hint) in
        [("unavailable", Some(800)), ("rate_limited", Some(3_000)), ("internal", None)]
    {
        let mut nodes = Nodes::new();
        let client = nodes.client();
        let (mut peer, _) = nodes.welcome(hello(10)).await;
        let _first = client.send_as("c", "mine", "first");
        let _second = client.send("c", "second");
        let (before, _) = peer.sent().await;
        assert_eq!(before["data"]["client_msg_id"], "mine");
        let refused_at = Instant::now();
        peer.refuse(&before, json!({ "code": code, "message": "", "retry_after_ms": hint })).await;
        let (again, _) = peer.sent().await;
        assert_eq!(again["data"], before["data"], "{code}");
        assert_ne!(again["id"], before["id"], "a command's id is used once");
        assert!(refused_at.elapsed() >= Duration::from_millis(hint.unwrap_or(0)), "{code}");
        peer.ok(&again, json!({ "message": message(11), "duplicate": false })).await;
        assert_eq!(peer.sent().await.1, "second", "{code}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_send_fails_and_the_next_goes() {
    let mut nodes = Nodes::new();
    let client = nodes.client();
    let (mut peer, _) = nodes.welcome(hello(10)).await;
    let (first, _second) = (client.send("c", "first"), client.send("c", "second"));
    let (command, _) = peer.sent().await;
    let error = json!({ "code": "conflict", "message": "another text", "message_id": "m1" });
    peer.refuse(&command, error).await;
    let Err(SendError::Refused(refusal)) = first.await else { panic!("not refused") };
    assert_eq!((&*refusal.code, &refusal.body["message_id"]), ("conflict", &json!("m1")));
    assert_eq!(peer.sent().await.1, "second");
}

#[tokio::test(start_paused = true)]
async fn too_many_sends_are_not_taken() {
    let mut nodes = Nodes::new();
    nodes.config.sends_waiting = 2;
    let client = nodes.client();
    let _first = client.send_as("c", "1", "text");
    let repeated = client.send_as("c", "1", "text").await;
    assert_eq!(repeated, Err(SendError::NotTaken(NotTaken::Repeated)));
    drop(client.send("c", "goes on without a caller"));
    assert_eq!(client.send("d", "text").await, Err(SendError::NotTaken(NotTaken::Full(2))));
    let (mut peer, _) = nodes.welcome(hello(10)).await;
    let (command, _) = peer.sent().await;
    peer.ok(&command, json!({ "message": message(11), "duplicate": false })).await;
    assert_eq!(peer.sent().await.1, "goes on without a caller");
}

#[tokio::test(start_paused = true)]
async fn a_command_has_one_attempt() {
    let mut nodes = Nodes::new();
    let client = nodes.client();
    assert_eq!(client.command("ping", json!({})).await, Err(CommandError::NotConnected));
    let (mut peer, _) = nodes.welcome(hello(10)).await;
    until(&client, |cache| cache.epoch().is_some()).await;
    let ask = |kind: &'static str| {
        let client = client.clone();
        tokio::spawn(async move { client.command(kind, json!({ "seq": 3 })).await })
    };
    let answer = ask("read.mark");
    let command = peer.command("read.mark").await;
    assert_eq!(command["data"], json!({ "seq": 3 }));
    peer.ok(&command, json!({ "read_seq": 3 })).await;
    assert_eq!(answer.await.unwrap(), Ok(json!({ "read_seq": 3 })));
    let answer = ask("message.edit");
    let command = peer.command("message.edit").await;
    peer.refuse(&command, json!({ "code": "forbidden", "message": "not yours" })).await;
    let Err(CommandError::Refused(refusal)) = answer.await.unwrap() else { panic!("not refused") };
    assert_eq!(refusal.to_string(), "forbidden: not yours");
    let answer = ask("typing.start");
    peer.command("typing.start").await;
    drop(peer);
    assert_eq!(answer.await.unwrap(), Err(CommandError::Lost));
    client.close().await;
    assert_eq!(
        client.command("ping", json!({})).await,
        Err(CommandError::Stopped(Stopped::Closed))
    );
}
