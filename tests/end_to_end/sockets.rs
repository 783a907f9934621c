//! What one socket may and may not do, from its handshake on.

use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::{
    Message,
    protocol::{CloseFrame, frame::coding::CloseCode},
};

use crate::support::{Server, text};

const LISTED: &str = "https://app.example.org";

#[tokio::test]
async fn only_listed_origins_open_sockets() {
    let server = Server::start_with(&[("PARLANCE_ALLOWED_ORIGINS", LISTED)]);
    let ada = server.sign_up("ada").await;
    let own = server.url.clone();
    for (origin, status) in [
        (LISTED, 101),
        (own.as_str(), 101),
        ("https://app.example.org:444", 403),
        ("https://evil.example.org", 403),
        ("null", 403),
    ] {
        let (got, _) = ada.handshake(&[("origin", origin)]).await;
        assert_eq!(got, status, "{origin}");
    }
}

#[tokio::test]
async fn the_offered_subprotocol_is_selected() {
    let server = Server::start();
    let ada = server.sign_up("ada").await;
    let (status, selected) =
        ada.handshake(&[("sec-websocket-protocol", "other.v2, parlance.v1")]).await;
    assert_eq!((status, selected.as_deref()), (101, Some("parlance.v1")));
    assert_eq!(ada.handshake(&[]).await, (101, None));
}

#[tokio::test]
async fn a_bearer_on_the_upgrade_says_who_it_is() {
    let server = Server::start();
    let ada = server.sign_up("ada").await;
    let bearer = format!("Bearer {}", ada.token);
    let mut socket = ada.open_with(&[("authorization", &bearer)]).await;
    let hello = socket.command("hello", json!({})).await;
    assert_eq!(hello["data"]["user"]["id"], ada.id.as_str(), "{hello}");
    assert_eq!(ada.handshake(&[("authorization", "Bearer nonsense")]).await.0, 401);

    let mut nobody = ada.open().await;
    let hello = nobody.command("hello", json!({})).await;
    assert_eq!(hello["error"]["code"], "unauthenticated", "{hello}");
    let hello = nobody.command("hello", json!({ "token": ada.token })).await;
    assert_eq!(hello["type"], "ok", "and may try again: {hello}");
}

#[tokio::test]
async fn a_socket_is_extended_by_its_own_session_only() {
    let server = Server::start();
    let (ada, bob) = (server.sign_up("ada").await, server.sign_up("bob").await);
    let other = ada.sign_in("ada@example.org").await;
    let mut socket = ada.connect().await;
    for (whose, token) in [("another session's", &other.token), ("another's", &bob.token)] {
        let reply = socket.command("auth.refresh", json!({ "token": token })).await;
        assert_eq!(reply["error"]["code"], "forbidden", "{whose}: {reply}");
    }
    let reply = socket.command("auth.refresh", json!({ "token": "nonsense" })).await;
    assert_eq!(reply["error"]["code"], "unauthenticated", "{reply}");
    let (_, renewed) =
        ada.call(Method::POST, "/auth/refresh", json!({ "refresh_token": ada.refresh })).await;
    let reply = socket.command("auth.refresh", json!({ "token": renewed["access_token"] })).await;
    let lasts = reply["data"]["token_expires_in_ms"].as_u64();
    assert!(lasts.is_some_and(|ms| ms > 800_000), "{reply}");
    // None of the refusals has ended it.
    assert_eq!(socket.command("ping", json!({})).await["type"], "ok");
}

#[tokio::test]
async fn what_is_no_good_command_is_refused_and_ends_nothing() {
    let server = Server::start();
    let ada = server.sign_up("ada").await;
    let (_, general, _) = ada.workspace().await;
    let mut socket = ada.connect().await;
    let send = |more: Value| {
        let mut data = json!({ "conversation_id": general, "client_msg_id": "1", "text": "x" });
        let fields = data.as_object_mut().expect("an object");
        fields.extend(more.as_object().expect("an object").clone());
        data
    };
    for (kind, data, code) in [
        ("hello", json!({ "token": ada.token }), "bad_request"),
        ("message.send", send(json!({ "colour": "red" })), "bad_request"),
        ("message.send", send(json!({ "conversation_id": "7" })), "bad_request"),
        ("message.send", json!({ "conversation_id": general, "text": "x" }), "bad_request"),
        ("message.send", send(json!({ "client_msg_id": "x".repeat(65) })), "validation_failed"),
        ("message.send", send(json!({ "thread_root_id": general })), "validation_failed"),
        ("message.send", send(json!({ "text": "\u{7}" })), "validation_failed"),
        ("message.edit", json!({ "message_id": general, "text": "x" }), "not_found"),
        ("read.mark", json!({ "conversation_id": general, "seq": "1" }), "bad_request"),
        ("read.mark", json!({ "conversation_id": general, "seq": 1.5 }), "bad_request"),
        ("read.mark", json!({ "conversation_id": general, "seq": -1 }), "validation_failed"),
        (
            "read.mark",
            json!({ "conversation_id": general, "seq": 1_u64 << 53 }),
            "validation_failed",
        ),
        ("sync", json!({ "conversation_id": general, "from_rev": -1 }), "validation_failed"),
        ("sync", json!({ "conversation_id": general, "from_rev": u64::MAX }), "validation_failed"),
        ("presence.subscribe", json!({ "user_ids": [] }), "unknown_type"),
    ] {
        let reply = socket.command(kind, data).await;
        assert_eq!(reply["error"]["code"], code, "{kind}: {reply}");
    }
    assert_eq!(ada.get(&format!("/conversations/{general}")).await["last_seq"], 0);
    // Still commands, perhaps of a client that is newer than the server: not a handful of nonsense.
    for _ in 0..3 {
        for frame in [r#"{"type":"ping"}"#, r#"{"type":"ping","id":1,"trace":"x"}"#] {
            socket.send_raw(Message::text(frame)).await;
            assert_eq!(socket.frame().await["error"]["code"], "bad_request", "{frame}");
        }
    }
    assert_eq!(socket.command("ping", json!({})).await["type"], "ok");
}

#[tokio::test]
async fn bad_frames_are_answered_and_a_handful_ends_the_connection() {
    let server = Server::start();
    let ada = server.sign_up("ada").await;
    let mut socket = ada.connect().await;
    assert_eq!(socket.command("no.such", json!({})).await["error"]["code"], "unknown_type");
    for _ in 0..5 {
        socket.send_raw(Message::text("no json")).await;
    }
    assert_eq!(socket.closed().await, 4503);
    let mut socket = ada.connect().await;
    socket.send_raw(Message::binary(vec![1, 2, 3])).await;
    assert_eq!(socket.closed().await, 4503);
}

/// It is sent whole, by a client that reads nothing until it has been sent: a server that hung up meanwhile would reset
/// the connection, and the client would never learn why.
#[tokio::test]
async fn an_oversize_frame_is_taken_in_and_ends_the_connection() {
    let server = Server::start();
    let ada = server.sign_up("ada").await;
    let (mut known, unknown) = (ada.open_narrow().await, ada.open_narrow().await);
    let hello = known.command("hello", json!({ "token": ada.token })).await;
    assert_eq!(hello["type"], "ok", "{hello}");
    for mut socket in [known, unknown] {
        socket.send_raw(Message::text("x".repeat(300_000))).await;
        assert_eq!(socket.closed().await, 4503);
    }
    let mut socket = ada.connect().await;
    socket.send_raw(Message::text("x".repeat(64 * 1024 + 1))).await;
    assert_eq!(socket.closed().await, 4503, "a byte too many");
    let mut socket = ada.connect().await;
    socket.send_raw(Message::text(" ".repeat(64 * 1024))).await;
    assert_eq!(socket.frame().await["error"]["code"], "bad_request", "no byte too many");
}

#[tokio::test]
async fn a_goodbye_is_answered() {
    let server = Server::start();
    let mut socket = server.sign_up("ada").await.connect().await;
    let frame = CloseFrame { code: CloseCode::Normal, reason: "".into() };
    socket.send_raw(Message::Close(Some(frame))).await;
    assert_eq!(socket.closed().await, 1000);
}

#[tokio::test]
async fn a_thousand_cursors_are_taken_and_no_more() {
    let server = Server::start();
    let ada = server.sign_up("ada").await;
    let resume = |count: u64, rev: i64| {
        let cursor = |n: u64| (format!("0190f3a0-7c3e-7b5a-9d2f-{n:012x}"), json!(rev));
        let cursors: serde_json::Map<_, _> = (0..count).map(cursor).collect();
        json!({ "token": ada.token, "resume": { "epoch": "any", "cursors": cursors } })
    };
    let mut socket = ada.open().await;
    for out in [resume(1_001, 0), resume(1, -1), resume(1, 1 << 53)] {
        let reply = socket.command("hello", out).await;
        assert_eq!(reply["error"]["errors"][0]["field"], "resume.cursors", "{reply}");
    }
    assert_eq!(socket.command("hello", resume(1_000, 0)).await["type"], "ok");
}

#[tokio::test]
async fn a_ping_is_answered_with_what_it_carries() {
    let server = Server::start();
    let mut socket = server.sign_up("ada").await.connect().await;
    socket.send_raw(Message::Ping("are you there".into())).await;
    assert_eq!(socket.control().await, Message::Pong("are you there".into()));
}

#[tokio::test]
async fn hello_tells_the_limits() {
    let server = Server::start();
    let hello = server.sign_up("ada").await.connect().await.hello;
    let limits = json!({
        "frame_bytes": 65_536, "text_chars": 4_000, "resume_cursors": 1_000, "sends_in_flight": 64,
    });
    assert_eq!((&hello["heartbeat_ms"], &hello["limits"]), (&json!(25_000), &limits));
    let lasts = hello["token_expires_in_ms"].as_u64();
    assert!(lasts.is_some_and(|ms| (800_000..=900_000).contains(&ms)), "{hello}");
}

/// The slow one of these tests: it waits as long as the contract says.
#[tokio::test]
async fn a_silent_client_is_pinged_and_one_without_a_hello_is_closed() {
    let server = Server::start();
    let ada = server.sign_up("ada").await;
    let (mut idle, mut silent) = (ada.connect().await, ada.open().await);
    // Anything other than a hello does not count.
    assert_eq!(silent.command("ping", json!({})).await["error"]["code"], "unauthenticated");
    let begun = Instant::now();
    let closed = async { (silent.closed().await, begun.elapsed().as_secs()) };
    let pinged = async { (idle.control().await, begun.elapsed().as_secs()) };
    let ((code, closed), (ping, pinged)) = tokio::join!(closed, pinged);
    assert_eq!(code, 4004);
    assert!((9..20).contains(&closed), "after {closed} s");
    assert!(matches!(ping, Message::Ping(_)) && (24..35).contains(&pinged), "after {pinged} s");
}

#[tokio::test]
async fn reactions_and_typing_come_and_go() {
    let server = Server::start();
    let (ada, bob, _, general) = server.ada_and_bob().await;
    let (mut adas, mut bobs) = (ada.connect().await, bob.connect().await);
    let message = adas.say(&general, "hello").await;
    let reaction = json!({ "message_id": message["id"], "emoji": "👍" });
    for (kind, change, users) in [
        ("reaction.add", "reaction_added", json!([ada.id])),
        ("reaction.remove", "reaction_removed", Value::Null),
    ] {
        assert_eq!(adas.command(kind, reaction.clone()).await["type"], "ok");
        let told = bobs.event("message.updated").await;
        assert_eq!(told["data"]["change"]["kind"], change, "{told}");
        assert_eq!(told["data"]["message"]["reactions"][0]["user_ids"], users, "{told}");
    }
    // Told at once, not when it times out.
    let place = json!({ "conversation_id": general });
    for kind in ["typing.start", "typing.stop", "typing.start"] {
        adas.command(kind, place.clone()).await;
    }
    let mut told = vec![];
    for _ in 0..3 {
        let event = bobs.event_of(&["typing.started", "typing.stopped"]).await;
        told.push(text(&event["type"]));
    }
    assert_eq!(told, ["typing.started", "typing.stopped", "typing.started"]);
}

/// The one whose client has been silent longest, whenever it was opened.
#[tokio::test]
async fn of_too_many_sockets_the_longest_silent_gives_way() {
    let server = Server::start();
    let ada = server.sign_up("ada").await;
    let mut sockets = vec![];
    for _ in 0..100 {
        sockets.push(ada.connect().await);
    }
    for (n, socket) in sockets.iter_mut().enumerate().filter(|(n, _)| *n != 50) {
        assert_eq!(socket.command("ping", json!({})).await["type"], "ok", "socket {n}");
    }
    let mut new = ada.connect().await;
    assert_eq!(sockets.remove(50).closed().await, 4504);
    for socket in sockets.iter_mut().chain([&mut new]) {
        assert_eq!(socket.command("ping", json!({})).await["type"], "ok");
    }
}
