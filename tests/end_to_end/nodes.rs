//! Two nodes on one store: what happens at one is seen at the other, even without a bus. Needs the services of
//! `services.py`.

use std::sync::Arc;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{Person, Server, Socket, home::Home, run, until};

/// Ada at one node, Bob at another, both in `general`.
struct Scene {
    one: Server,
    two: Server,
    ada: Person,
    bob: Person,
    workspace: String,
    general: String,
}

async fn scene() -> Scene {
    let one = Server::start();
    let two = Server::beside(&one, 1);
    let (ada, bob) = (one.sign_up("ada").await, two.sign_up("bob").await);
    let (workspace, general, code) = ada.workspace().await;
    bob.join(&code).await;
    Scene { one, two, ada, bob, workspace, general }
}

/// The next message of a conversation, live or inside a replay.
async fn next_texts(socket: &mut Socket) -> Vec<String> {
    let frame = socket.event_of(&["message.created", "replay"]).await;
    let messages = match frame["type"].as_str() {
        Some("replay") => frame["data"]["messages"].as_array().cloned().unwrap_or_default(),
        _ => vec![frame["data"]["message"].clone()],
    };
    messages.iter().filter_map(|m| m["text"].as_str().map(str::to_owned)).collect()
}

async fn hear(socket: &mut Socket, count: usize) -> Vec<String> {
    let mut texts = Vec::new();
    while texts.len() < count {
        texts.extend(next_texts(socket).await);
    }
    texts
}

#[tokio::test]
async fn what_is_sent_at_one_node_arrives_at_the_other_in_order() {
    let scene = scene().await;
    let (mut ada, mut bob) = (scene.ada.connect().await, scene.bob.connect().await);
    for n in 0..20 {
        let (socket, name) = if n % 2 == 0 { (&mut ada, "ada") } else { (&mut bob, "bob") };
        socket.say(&scene.general, &format!("{name} {n}")).await;
    }
    let heard = hear(&mut ada, 20).await;
    assert_eq!(heard.len(), 20);
    assert_eq!(hear(&mut bob, 20).await, heard, "one order for both");
    let mut sorted = heard.clone();
    sorted.sort_by_key(|text| text.split(' ').nth(1).and_then(|n| n.parse::<u32>().ok()));
    assert_eq!(heard, sorted, "the order of the acknowledgements");
}

#[tokio::test]
async fn typing_is_seen_at_the_other_node() {
    let scene = scene().await;
    let (mut ada, mut bob) = (scene.ada.connect().await, scene.bob.connect().await);
    // One message each way: after that both nodes listen to the conversation.
    ada.say(&scene.general, "hello").await;
    hear(&mut bob, 1).await;
    bob.say(&scene.general, "hello, Ada").await;
    hear(&mut ada, 2).await;
    ada.begin("typing.start", json!({ "conversation_id": scene.general })).await;
    assert_eq!(bob.event("typing.started").await["data"]["user_id"], scene.ada.id.as_str());
}

#[tokio::test]
async fn who_was_removed_at_one_node_hears_nothing_more_at_the_other() {
    let scene = scene().await;
    let (mut ada, mut bob) = (scene.ada.connect().await, scene.bob.connect().await);
    ada.say(&scene.general, "before").await;
    assert_eq!(hear(&mut bob, 1).await, ["before"]);
    let path = format!("/workspaces/{}/members/{}", scene.workspace, scene.bob.id);
    let (status, _) = scene.ada.call(Method::DELETE, &path, Value::Null).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    ada.say(&scene.general, "among ourselves").await;
    let until_left = bob.until_texts(&["conversation.left"]).await;
    let later = bob.settled().await;
    assert!(
        later.iter().all(|e| e["type"] != "message.created" && e["type"] != "replay"),
        "{later:?}"
    );
    let told = until_left.iter().any(|frame| frame.to_string().contains("among ourselves"));
    assert!(!told, "{until_left:?}");
}

#[tokio::test]
async fn a_session_that_ends_at_one_node_closes_its_sockets_at_the_other() {
    let scene = scene().await;
    let mut bob = scene.bob.connect().await;
    let (status, _) = scene.bob.at(&scene.one).call(Method::POST, "/auth/signout", json!({})).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    assert_eq!(bob.closed().await, 4502);
    drop(scene.two);
}

#[tokio::test]
async fn without_redis_all_is_kept_and_arrives_in_the_end() {
    let scene = scene().await;
    let (mut ada, mut bob) = (scene.ada.connect().await, scene.bob.connect().await);
    assert_eq!(scene.one.ready().await["status"], "ok");
    let redis = &scene.one.home.services().redis;
    redis.kill();
    until("degraded", async || scene.one.ready().await["status"] == "degraded").await;
    for n in 0..5 {
        ada.say(&scene.general, &format!("alone {n}")).await;
    }
    let expected: Vec<_> = (0..5).map(|n| format!("alone {n}")).collect();
    assert_eq!(hear(&mut ada, 5).await, expected);
    assert_eq!(hear(&mut bob, 5).await, expected, "found in the store");
    redis.start_again();
    until("well again", async || scene.two.ready().await["status"] == "ok").await;
    bob.say(&scene.general, "together").await;
    assert_eq!(hear(&mut ada, 1).await, ["together"]);
}

#[tokio::test]
async fn what_a_node_acknowledged_before_it_was_killed_arrives_at_the_other() {
    let mut scene = scene().await;
    let (mut ada, mut bob) = (scene.ada.connect().await, scene.bob.connect().await);
    for n in 0..10 {
        ada.say(&scene.general, &format!("last words {n}")).await;
    }
    scene.one.kill();
    let expected: Vec<_> = (0..10).map(|n| format!("last words {n}")).collect();
    assert_eq!(hear(&mut bob, 10).await, expected);
    let ada = scene.ada.at(&scene.two);
    let again = json!({ "client_msg_id": "last words 9", "text": "last words 9" });
    let again = ada.post(&format!("/conversations/{}/messages", scene.general), again).await;
    assert_eq!(again["duplicate"], true);
}

#[tokio::test]
async fn a_store_that_is_migrated_by_hand_is_waited_for() {
    let home = Arc::new(Home::new(crate::ON));
    let by_hand = ("PARLANCE_AUTO_MIGRATE", "off");
    let (well, said) = run(&home, "serve", &[by_hand]);
    assert!(!well && said.contains("parlance migrate") && said.contains("0001_schema"), "{said}");
    let (well, said) = run(&home, "migrate", &[]);
    assert!(well && said.starts_with("applied 0001_schema, 0002_traces, "), "{said}");
    assert_eq!(run(&home, "migrate", &[]), (true, "the schema is up to date\n".to_owned()));
    Server::start_in(home, 0, &[by_hand]).sign_up("ada").await;
}

#[tokio::test]
async fn what_cannot_work_is_refused_with_a_reason() {
    let home = Home::new(crate::ON);
    for (command, setting, reason) in [
        ("serve", ("PARLANCE_MONGODB_URI", "mongodb://127.0.0.1:9/none"), "PARLANCE_MONGODB_URI"),
        ("serve", ("PARLANCE_MONGODB_URI", "postgres://127.0.0.1"), "PARLANCE_MONGODB_URI"),
        ("serve", ("PARLANCE_REDIS_URL", "http://127.0.0.1"), "PARLANCE_REDIS_URL"),
        ("serve", ("PARLANCE_SMTP_URL", "http://127.0.0.1"), "PARLANCE_SMTP_URL"),
        ("serve", ("PARLANCE_JWT_SECRET", ""), "PARLANCE_JWT_SECRET"),
        ("worker", ("PARLANCE_REDIS_URL", ""), "PARLANCE_REDIS_URL"),
    ] {
        let (well, said) = run(&home, command, &[setting]);
        assert!(!well && said.contains(reason), "{setting:?}: {said}");
    }
}
