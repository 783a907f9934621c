//! How connections end, and when and where the client comes back.

use std::{sync::Arc, time::Duration};

use futures::{SinkExt, StreamExt};
use parlance_client::{Randomness, SendError, Stopped};
use serde_json::json;
use tokio::{io::AsyncWriteExt, time::Instant};
use tokio_tungstenite::tungstenite::Message;

use crate::script::{HEARTBEAT, Nodes, created, hello, until};

#[tokio::test(start_paused = true)]
async fn a_network_that_is_gone_without_a_word_is_noticed() {
    let mut nodes = Nodes::new();
    let client = nodes.client();
    let (mut peer, _) = nodes.welcome(hello(10)).await;
    let since = Instant::now();
    let ping = peer.command("ping").await;
    assert_eq!(since.elapsed(), HEARTBEAT);
    // An answer keeps it alive.
    peer.ok(&ping, json!({})).await;
    peer.command("ping").await;
    assert_eq!(since.elapsed(), HEARTBEAT * 2);
    // The server says nothing, and its side of the connection stays.
    let (mut peer, _) = nodes.welcome(hello(10)).await;
    let gone = since.elapsed();
    assert!(gone >= HEARTBEAT * 3 && gone < HEARTBEAT * 3 + Duration::from_secs(1), "{gone:?}");
    until(&client, |cache| cache.epoch().is_some()).await;
    let stats = client.stats();
    assert_eq!(stats.closes, [(1006, 1)].into());
    assert!(stats.longest_gap < Duration::from_secs(1));
    // A ping of the server's is answered, and is a word.
    peer.socket.send(Message::Ping("x".into())).await.unwrap();
    let answer = peer.socket.next().await.unwrap().unwrap();
    assert_eq!(answer, Message::Pong("x".into()));
}

#[tokio::test(start_paused = true)]
async fn nodes_are_tried_in_turn() {
    let mut nodes = Nodes::new();
    nodes.config.urls =
        ["ws://down", "ws://mute", "ws://deaf", "ws://good"].map(String::from).into();
    nodes.take_down("ws://down");
    let client = nodes.client();
    let since = Instant::now();
    // Takes the connection, but does not upgrade it.
    let (url, _open) = nodes.dialled().await;
    assert_eq!(url, "ws://mute");
    // Upgrades, but does not answer `hello`.
    let deaf = nodes.accept().await;
    assert_eq!(deaf.url, "ws://deaf");
    assert!(since.elapsed() >= Duration::from_secs(5));
    let (good, _) = nodes.welcome(hello(10)).await;
    assert_eq!(good.url, "ws://good");
    let passed = since.elapsed();
    assert!((15..18).contains(&passed.as_secs()), "{passed:?}");
    until(&client, |cache| cache.epoch().is_some()).await;
    let stats = client.stats();
    assert_eq!((stats.connections, stats.reconnects, stats.failed_attempts), (1, 0, 3));
    assert_eq!(stats.longest_gap, Duration::ZERO, "there was no connection before");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_drains_is_left_for_another_when_it_says() {
    let mut nodes = Nodes::new();
    nodes.config.urls.push("ws://two".into());
    let client = nodes.client();
    let (mut peer, _) = nodes.welcome(hello(10)).await;
    peer.say(json!({ "type": "server.draining", "data": { "reconnect_after_ms": 4_000 } })).await;
    let since = Instant::now();
    peer.close(4000).await;
    let (peer, _) = nodes.welcome(hello(10)).await;
    let passed = since.elapsed();
    assert!((4_000..=8_000).contains(&passed.as_millis()), "{passed:?}");
    assert_eq!(peer.url, "ws://two");
    until(&client, |cache| cache.epoch().is_some()).await;
    let stats = client.stats();
    assert_eq!(stats.closes, [(4000, 1)].into());
    assert!(stats.longest_gap >= Duration::from_secs(4));
}

#[tokio::test(start_paused = true)]
async fn a_server_with_too_much_to_do_says_when_to_come_back() {
    let mut nodes = Nodes::new();
    let client = nodes.client();
    let mut peer = nodes.accept().await;
    let command = peer.command("hello").await;
    let since = Instant::now();
    peer.refuse(&command, json!({ "code": "unavailable", "message": "", "retry_after_ms": 6_000 }))
        .await;
    peer.close(4003).await;
    // Before the upgrade, it may say so by HTTP.
    let (_, mut stream) = nodes.dialled().await;
    assert!(since.elapsed() >= Duration::from_secs(6));
    let since = Instant::now();
    stream
        .write_all(
            b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 20\r\nContent-Length: 0\r\n\r\n",
        )
        .await
        .unwrap();
    let (_peer, _) = nodes.welcome(hello(10)).await;
    assert!(since.elapsed() >= Duration::from_secs(20));
    until(&client, |cache| cache.epoch().is_some()).await;
    assert_eq!(client.stats().closes, [(1006, 1), (4003, 1)].into());
}

/// Jitter that is always the most.
struct Most;

impl Randomness for Most {
    fn next(&self) -> u64 {
        u64::MAX
    }
}

#[tokio::test(start_paused = true)]
async fn waits_grow_until_a_connection_has_lived() {
    let mut nodes = Nodes::new();
    nodes.config.random = Arc::new(Most);
    let _client = nodes.client();
    let mut waits = vec![];
    let (mut peer, _) = nodes.welcome(hello(10)).await;
    for lives in [0, 9, 0, 11, 0] {
        assert!(peer.silent(Duration::from_secs(lives)).await);
        let since = Instant::now();
        peer.close(1011).await;
        (peer, _) = nodes.welcome(hello(10)).await;
        waits.push(since.elapsed().as_millis() / 240 * 240);
    }
    assert_eq!(waits, [240, 480, 960, 240, 480]);
}

#[tokio::test(start_paused = true)]
async fn there_are_closes_after_which_one_does_not_come_back() {
    for code in [4502, 4503, 4504, 4999] {
        let mut nodes = Nodes::new();
        let client = nodes.client();
        let (peer, _) = nodes.welcome(hello(10)).await;
        let send = client.send("c", "text");
        peer.close(code).await;
        assert_eq!(send.await, Err(SendError::Stopped(Stopped::SentAway(code))));
        assert_eq!(client.stopped(), Some(Stopped::SentAway(code)));
        assert_eq!(
            client.send("c", "text").await,
            Err(SendError::Stopped(Stopped::SentAway(code)))
        );
        assert!(nodes.quiet().await, "{code}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_ends_the_connection_and_is_read_again() {
    let mut nodes = Nodes::new();
    let client = nodes.client();
    let (mut peer, _) = nodes.welcome(hello(10)).await;
    let mut broken = created(11);
    broken["data"]["message"]["seq"] = json!(null);
    peer.say(broken).await;
    assert_eq!(peer.frame().await, None);
    let (peer, again) = nodes.welcome(json!({ "epoch": "one" })).await;
    assert_eq!(again["resume"]["cursors"], json!({ "c": 10 }));
    drop(peer);
    let (_peer, _) = nodes.welcome(hello(10)).await;
    until(&client, |cache| cache.cursor("c") == Some(10)).await;
    assert_eq!(client.stats().unreadable, 2);
}

#[tokio::test(start_paused = true)]
async fn closes_when_told_and_when_nobody_is_left() {
    for told in [true, false] {
        let mut nodes = Nodes::new();
        let client = nodes.client();
        let (mut peer, _) = nodes.welcome(hello(10)).await;
        let send = client.send("c", "text");
        peer.sent().await;
        if told {
            tokio::spawn(async move { client.close().await });
        } else {
            drop(client.clone());
            assert!(peer.silent(Duration::from_secs(1)).await);
            drop(client);
        }
        let Some(Ok(Message::Close(Some(frame)))) = peer.socket.next().await else {
            panic!("not closed")
        };
        assert_eq!(u16::from(frame.code), 1000);
        drop(peer);
        assert_eq!(send.await, Err(SendError::Stopped(Stopped::Closed)));
        assert!(nodes.quiet().await);
    }
}
