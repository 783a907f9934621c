//! Tokens end before their users do.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parlance_client::{NoToken, Stopped};
use serde_json::json;
use tokio::time::Instant;

use crate::script::{Nodes, hello};

/// `old`, and `new` for whoever has that.
async fn two(stale: Option<String>) -> Result<String, NoToken> {
    Ok(if stale.is_some() { "new" } else { "old" }.to_owned())
}

#[tokio::test(start_paused = true)]
async fn a_token_is_renewed_before_it_ends() {
    let mut nodes = Nodes::with(two);
    let _client = nodes.client();
    let mut reply = hello(10);
    reply["token_expires_in_ms"] = 20_000.into();
    let (mut peer, _) = nodes.welcome(reply).await;
    let since = Instant::now();
    let refresh = peer.command("auth.refresh").await;
    assert_eq!((since.elapsed().as_secs(), &refresh["data"]), (16, &json!({ "token": "new" })));
    // Refused: once more, while there is time.
    peer.refuse(&refresh, json!({ "code": "unavailable" })).await;
    let refresh = peer.command("auth.refresh").await;
    assert_eq!(since.elapsed().as_secs(), 18);
    peer.ok(&refresh, json!({ "token_expires_in_ms": 900_000 })).await;
    // Now it is the current one, and the source has no other.
    while let Some(frame) = peer.frame().await {
        assert_eq!(frame["type"], "ping", "{frame}");
        peer.ok(&frame, json!({})).await;
        if since.elapsed() > Duration::from_secs(950) {
            return;
        }
    }
    panic!("the connection ended");
}

#[tokio::test(start_paused = true)]
async fn a_refused_token_is_replaced_or_the_client_stops() {
    for code in [4500, 4501] {
        let mut nodes = Nodes::with(two);
        let _client = nodes.client();
        let (peer, first) = nodes.welcome(hello(10)).await;
        peer.close(code).await;
        let (_peer, second) = nodes.welcome(hello(10)).await;
        assert_eq!((&first["token"], &second["token"]), (&json!("old"), &json!("new")), "{code}");

        let mut nodes = Nodes::new();
        let client = nodes.client();
        let (peer, _) = nodes.welcome(hello(10)).await;
        peer.close(code).await;
        assert!(nodes.quiet().await, "{code}");
        assert_eq!(client.stopped(), Some(Stopped::NoToken));
    }
}

#[tokio::test(start_paused = true)]
async fn a_hello_that_is_refused_for_its_token_asks_for_another_even_without_a_close_code() {
    let mut nodes = Nodes::with(two);
    let _client = nodes.client();
    let mut peer = nodes.accept().await;
    let command = peer.command("hello").await;
    peer.refuse(&command, json!({ "code": "unauthenticated", "message": "" })).await;
    drop(peer);
    let (_peer, second) = nodes.welcome(hello(10)).await;
    assert_eq!(second["token"], "new");
}

#[tokio::test(start_paused = true)]
async fn a_source_without_a_token_is_asked_again_or_never() {
    let ready = Arc::new(AtomicBool::new(false));
    let asked = ready.clone();
    let mut nodes = Nodes::with(move |_| {
        let ready = asked.load(Ordering::Relaxed);
        async move { if ready { Ok("late".to_owned()) } else { Err(NoToken::ForNow) } }
    });
    let client = nodes.client();
    assert!(nodes.quiet().await);
    assert_eq!(client.stopped(), None);
    ready.store(true, Ordering::Relaxed);
    let (_peer, first) = nodes.welcome(hello(10)).await;
    assert_eq!(first["token"], "late");

    let mut nodes = Nodes::with(|_| async { Err(NoToken::ForGood) });
    let client = nodes.client();
    assert!(nodes.quiet().await);
    assert_eq!(client.stopped(), Some(Stopped::NoToken));
}
