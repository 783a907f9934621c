//! Opening, resuming, catching up.

use std::time::Duration;

use parlance_client::{Client, Config, FixedToken, Update};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::broadcast::error::RecvError};
use tokio_tungstenite::accept_async;

use crate::script::{Nodes, Peer, created, hello, message, page, until};

fn at(rev: u64) -> impl FnMut(&parlance_client::Cache) -> bool {
    move |cache| cache.cursor("c") == Some(rev)
}

#[tokio::test(start_paused = true)]
async fn says_hello_and_comes_back_with_what_it_has() {
    let mut nodes = Nodes::new();
    let client = nodes.client();
    let (mut peer, first) = nodes.welcome(hello(10)).await;
    assert_eq!((&first["token"], &first["client"]["name"]), (&json!("token"), &json!("test")));
    assert_eq!(first.get("resume"), None);
    peer.say(created(11)).await;
    until(&client, at(11)).await;
    drop(peer);
    let (mut peer, second) = nodes.welcome(hello(13)).await;
    assert_eq!(second["resume"], json!({ "epoch": "one", "cursors": { "c": 11 } }));
    let mut replay = page(11, 13);
    (replay["type"], replay["data"]) = (json!("replay"), page(11, 13));
    peer.say(replay).await;
    until(&client, at(13)).await;
    assert_eq!(client.with_cache(|cache| cache.messages("c").count()), 3);
    // Again, since one never knows.
    peer.say(created(13)).await;
    peer.say(created(14)).await;
    until(&client, at(14)).await;
    let stats = client.stats();
    assert_eq!((stats.connections, stats.reconnects, stats.duplicates_dropped), (2, 1, 1));
    assert_eq!(stats.closes, [(1006, 1)].into());
}

#[tokio::test(start_paused = true)]
async fn an_ok_moves_no_cursor() {
    let mut nodes = Nodes::new();
    let client = nodes.client();
    let (mut peer, _) = nodes.welcome(hello(10)).await;
    let send = client.send("c", "text");
    let (command, _) = peer.sent().await;
    peer.ok(&command, json!({ "message": message(11), "duplicate": false })).await;
    assert_eq!(send.await.unwrap()["seq"], 11);
    peer.close(4001).await;
    let (_, again) = nodes.welcome(hello(11)).await;
    assert_eq!(again["resume"]["cursors"], json!({ "c": 10 }));
}

#[tokio::test(start_paused = true)]
async fn a_hole_is_synced_and_what_came_meanwhile_too() {
    let mut nodes = Nodes::new();
    let client = nodes.client();
    let (mut peer, _) = nodes.welcome(hello(10)).await;
    for rev in [12, 13] {
        peer.say(created(rev)).await;
    }
    let sync = peer.command("sync").await;
    assert_eq!(sync["data"], json!({ "conversation_id": "c", "from_rev": 10 }));
    peer.ok(&sync, page(10, 12)).await;
    let sync = peer.command("sync").await;
    assert_eq!(sync["data"]["from_rev"], 12);
    // Overloaded, then not.
    peer.refuse(&sync, json!({ "code": "unavailable", "retry_after_ms": 900 })).await;
    assert!(peer.silent(Duration::from_millis(899)).await);
    let sync = peer.command("sync").await;
    peer.ok(&sync, page(12, 13)).await;
    until(&client, at(13)).await;
    assert_eq!(client.stats().syncs, 3);
}

#[tokio::test(start_paused = true)]
async fn what_is_behind_is_synced_a_few_at_a_time() {
    let mut nodes = Nodes::new();
    let client = nodes.client();
    let summaries = |rev| -> Vec<Value> {
        let of = |id| {
            let mut summary = hello(rev)["conversations"][0].clone();
            summary["id"] = json!(id);
            summary
        };
        ["c", "d", "e", "f"].map(of).into()
    };
    let mut reply = hello(0);
    reply["conversations"] = summaries(10).into();
    let (peer, _) = nodes.welcome(reply.clone()).await;
    until(&client, at(10)).await;
    drop(peer);
    (reply["conversations"], reply["behind"]) = (summaries(12).into(), json!(["c", "d", "e", "f"]));
    let (mut peer, _) = nodes.welcome(reply).await;
    let c = peer.command("sync").await;
    let d = peer.command("sync").await;
    assert!(peer.silent(Duration::from_secs(1)).await, "the answers are large");
    peer.refuse(&d, json!({ "code": "not_found" })).await;
    let e = peer.command("sync").await;
    peer.ok(&c, page(10, 12)).await;
    let f = peer.command("sync").await;
    for command in [&e, &f] {
        peer.refuse(command, json!({ "code": "not_found" })).await;
    }
    let ids = [c, d, e, f].map(|it| it["data"]["conversation_id"].as_str().unwrap().to_owned());
    assert_eq!(ids, ["c", "d", "e", "f"]);
    until(&client, at(12)).await;
    // What was refused is forgotten, and asked for when there is news.
    let mut event = created(13);
    event["conversation_id"] = "d".into();
    peer.say(event).await;
    let again = peer.command("sync").await;
    assert_eq!(again["data"], json!({ "conversation_id": "d", "from_rev": 10 }));
}

#[tokio::test(start_paused = true)]
async fn updates_tell_what_happens_and_a_slow_consumer_how_much_it_missed() {
    let mut nodes = Nodes::new();
    let client = nodes.client();
    let (mut quick, mut slow) = (client.updates(), client.updates());
    let (mut peer, _) = nodes.welcome(hello(10)).await;
    peer.say(created(11)).await;
    assert_eq!(quick.recv().await, Ok(Update::Connected { url: "ws://one".into() }));
    let Ok(Update::Applied(applied)) = quick.recv().await else { panic!("no change") };
    assert_eq!(&*applied.created[0].id, "m11");
    for rev in 12..2_000 {
        peer.say(created(rev)).await;
    }
    until(&client, at(1_999)).await;
    assert!(matches!(slow.recv().await, Err(RecvError::Lagged(missed)) if missed > 900));
    peer.close(4000).await;
    let mut seen = slow.recv().await;
    while matches!(seen, Ok(Update::Applied(_))) {
        seen = slow.recv().await;
    }
    assert_eq!(seen, Ok(Update::Disconnected { code: 4000 }));
}

/// The only test on a network.
#[tokio::test]
async fn over_tcp() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}/", listener.local_addr().unwrap());
    let accept = async || {
        let socket = accept_async(listener.accept().await.unwrap().0).await.unwrap();
        Peer { url: url.clone(), socket }
    };
    let client = Client::connect(Config::new([url.as_str()], FixedToken("token".into())));
    let mut peer = accept().await;
    peer.welcome(hello(10)).await;
    let send = client.send("c", "text");
    let (first, _) = peer.sent().await;
    drop(peer);
    let mut peer = accept().await;
    assert_eq!(peer.welcome(hello(10)).await["resume"]["cursors"], json!({ "c": 10 }));
    let (second, _) = peer.sent().await;
    assert_eq!(first["data"], second["data"]);
    peer.say(created(11)).await;
    peer.ok(&second, json!({ "message": message(11), "duplicate": true })).await;
    assert_eq!(send.await.unwrap()["id"], "m11");
    until(&client, at(11)).await;
    // Frames may be large.
    let mut large = created(12);
    large["data"]["message"]["text"] = "x".repeat(1_000_000).into();
    peer.say(large).await;
    until(&client, at(12)).await;
    let (closed, ()) = tokio::join!(peer.frame(), client.close());
    assert_eq!(closed, None);
}
