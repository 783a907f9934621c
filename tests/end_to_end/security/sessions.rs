//! Ends of sessions, with the bus and without it: the session's sockets close at every node, and it can do nothing
//! more.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{
    scene::{Bus, Scene, nothing_after},
    with_and_without_the_bus,
};
use crate::support::{Person, text};

/// How long a socket may outlive its session, whatever has become of the bus: the contract says 5 s, this is for a busy
/// machine.
const CLOSES_WITHIN: Duration = Duration::from_secs(10);

with_and_without_the_bus! {
    revoked
    signed_out
    after_a_change_of_password
    after_a_reuse_of_its_refresh_token
}

async fn revoked(bus: Bus) {
    let mut scene = scene(bus).await;
    let other = scene.bob[0].sign_in("bob@example.org").await;
    let session = text(&scene.bobs[0].hello["session_id"]);
    scene
        .end(async |_| {
            call(&other, Method::DELETE, &format!("/auth/sessions/{session}"), Value::Null).await;
        })
        .await;
    ended(&mut scene).await;
    assert_eq!(other.get("/users/me").await["id"], other.id.as_str(), "the other one lives");
}

async fn signed_out(bus: Bus) {
    let mut scene = scene(bus).await;
    scene
        .end(async |scene| {
            call(&scene.bob[0], Method::POST, "/auth/signout", Value::Null).await;
        })
        .await;
    ended(&mut scene).await;
}

async fn after_a_change_of_password(bus: Bus) {
    let mut scene = scene(bus).await;
    let other = scene.bob[0].sign_in("bob@example.org").await;
    let kept = other.clone().at(&scene.nodes[1]);
    let mut kept = [other.connect().await, kept.connect().await];
    scene
        .end(async |_| {
            let body =
                json!({ "current_password": "correct horse", "new_password": "staple battery" });
            call(&other, Method::POST, "/users/me/password", body).await;
        })
        .await;
    ended(&mut scene).await;
    for socket in &mut kept {
        socket.until_texts(&["after one", "after two"]).await;
    }
}

async fn after_a_reuse_of_its_refresh_token(bus: Bus) {
    let mut scene = scene(bus).await;
    let bob = scene.bob[0].clone();
    let refresh = async |token: Value| {
        bob.call(Method::POST, "/auth/refresh", json!({ "refresh_token": token })).await
    };
    let (_, second) = refresh(json!(bob.refresh)).await;
    assert_eq!(refresh(second["refresh_token"].clone()).await.0, StatusCode::OK);
    scene
        .end(async |_| {
            assert_eq!(refresh(json!(bob.refresh)).await.0, StatusCode::UNAUTHORIZED);
        })
        .await;
    ended(&mut scene).await;
}

async fn scene(bus: Bus) -> Scene {
    let mut scene = Scene::set(bus).await;
    let general = scene.general.clone();
    scene.connect(&general).await;
    scene
}

async fn call(person: &Person, method: Method, path: &str, body: Value) {
    let (status, answer) = person.call(method, path, body).await;
    assert!(matches!(status, StatusCode::OK | StatusCode::NO_CONTENT), "{status} {answer}");
}

/// The sockets are closed at both nodes; neither accepts anything any more, and the one that ended it sends nothing
/// more.
async fn ended(scene: &mut Scene) {
    let general = scene.general.clone();
    let begun = [scene.go_on(0).await, scene.go_on(1).await];
    let closing = timeout(CLOSES_WITHIN, async {
        for (ada, text) in scene.adas.iter_mut().zip(["after one", "after two"]) {
            ada.say(&general, text).await;
        }
        let mut ends = vec![];
        for socket in &mut scene.bobs {
            ends.push(socket.rest().await);
        }
        ends
    });
    let ends = closing.await.expect("all sockets close in time");
    for (n, (frames, code)) in ends.iter().enumerate() {
        assert_eq!(*code, 4502, "socket {n}: {frames:?}");
    }
    for (frames, _) in &ends[..2] {
        assert!(frames.iter().any(|frame| frame["type"] == "session.revoked"), "{frames:?}");
    }
    for (frames, _) in ends.iter().step_by(2) {
        nothing_after(frames);
    }
    for ((frames, _), begun) in ends.iter().zip(begun) {
        // The other node may not know of the end yet; the commit does. Or it does know, and closes before it answers.
        let answer = frames.iter().find(|frame| frame["id"] == begun);
        let code = answer.map(|answer| answer["error"]["code"].as_str());
        assert!(matches!(code, None | Some(Some("unauthenticated"))), "went on: {answer:?}");
    }
    for bob in &scene.bob {
        let (status, _) = bob.call(Method::GET, "/users/me", Value::Null).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED);
    }
}
