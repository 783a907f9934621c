//! Ends of memberships and powers, with the bus and without it: nothing that follows reaches the person at any node.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::{
    scene::{Bus, Scene},
    with_and_without_the_bus,
};
use crate::support::text;

const NOT_FOUND: [Option<&str>; 3] = [Some("not_found"); 3];

with_and_without_the_bus! {
    removed_from_a_channel
    left_a_channel
    removed_from_the_workspace
    left_the_workspace
    demoted
    a_dm_partner_left
}

async fn removed_from_a_channel(bus: Bus) {
    let mut scene = Scene::set(bus).await;
    let place = scene.channel("secret", true).await;
    scene.connect(&place).await;
    scene
        .end(async |scene| {
            let path = format!("/channels/{place}/members/{}", scene.bob[0].id);
            scene.ada_calls(Method::DELETE, &path, Value::Null).await;
        })
        .await;
    scene.say_after(&place).await;
    let heard = scene.heard().await;
    scene.told(&[&place], heard, &["conversation.left"]).await;
    scene.refused(&place, NOT_FOUND).await;
}

/// A public channel stays readable, but is no longer pushed.
async fn left_a_channel(bus: Bus) {
    let mut scene = Scene::set(bus).await;
    let place = scene.channel("news", false).await;
    scene.connect(&place).await;
    // Whoever resumes at this moment may get a replay of what they may read as a guest.
    scene.held = Value::Null;
    scene
        .end(async |scene| {
            scene.bob_leaves(&format!("/channels/{place}")).await;
        })
        .await;
    scene.say_after(&place).await;
    let heard = scene.heard().await;
    scene.told(&[&place], heard, &["conversation.left"]).await;
    scene.refused(&place, [None, Some("forbidden"), Some("forbidden")]).await;
}

async fn removed_from_the_workspace(bus: Bus) {
    let mut scene = Scene::set(bus).await;
    let place = scene.channel("secret", true).await;
    scene.connect(&place).await;
    scene
        .end(async |scene| {
            let path = format!("/workspaces/{}/members/{}", scene.workspace, scene.bob[0].id);
            scene.ada_calls(Method::DELETE, &path, Value::Null).await;
        })
        .await;
    out_of_the_workspace(scene, &place).await;
}

async fn left_the_workspace(bus: Bus) {
    let mut scene = Scene::set(bus).await;
    let place = scene.channel("news", false).await;
    scene.connect(&place).await;
    scene
        .end(async |scene| {
            scene.bob_leaves(&format!("/workspaces/{}", scene.workspace)).await;
        })
        .await;
    out_of_the_workspace(scene, &place).await;
}

async fn out_of_the_workspace(mut scene: Scene, place: &str) {
    scene.say_after(place).await;
    let heard = scene.heard().await;
    let general = scene.general.clone();
    scene.told(&[place, &general], heard, &["conversation.left"]).await;
    for conversation in [place, &general] {
        scene.refused(conversation, NOT_FOUND).await;
    }
}

/// Powers are checked with the store, whatever the nodes have heard.
async fn demoted(bus: Bus) {
    let mut scene = Scene::set(bus).await;
    let (workspace, general) = (scene.workspace.clone(), scene.general.clone());
    let role = format!("/workspaces/{workspace}/members/{}", scene.bob[0].id);
    scene.ada_calls(Method::PATCH, &role, json!({ "role": "admin" })).await;
    let message = scene.ada[0].connect().await.say(&general, "mine").await;
    scene.connect(&general).await;
    for node in &scene.bob {
        let shown = node.get(&format!("/workspaces/{workspace}")).await;
        assert!(shown["join_code"].is_string(), "an admin: {shown}");
    }
    scene
        .end(async |scene| {
            scene.ada_calls(Method::PATCH, &role, json!({ "role": "member" })).await;
        })
        .await;
    let ada = scene.ada[0].id.clone();
    for bob in &scene.bob {
        for (method, path, body) in [
            (Method::PATCH, format!("/workspaces/{workspace}"), json!({ "name": "Mine" })),
            (Method::POST, format!("/workspaces/{workspace}/join-code"), json!({})),
            (Method::DELETE, format!("/workspaces/{workspace}/members/{ada}"), Value::Null),
            (Method::PATCH, role.clone(), json!({ "role": "admin" })),
            (Method::PATCH, format!("/channels/{general}"), json!({ "topic": "Mine" })),
            (Method::DELETE, format!("/messages/{}", text(&message["id"])), Value::Null),
            (Method::DELETE, format!("/workspaces/{workspace}"), Value::Null),
        ] {
            let (status, answer) = bob.call(method.clone(), &path, body).await;
            assert_eq!(status, StatusCode::FORBIDDEN, "{method} {path}: {answer}");
        }
        let shown = bob.get(&format!("/workspaces/{workspace}")).await;
        assert_eq!((&shown["role"], &shown["join_code"]), (&json!("member"), &Value::Null));
    }
    let bob = scene.bob[0].id.clone();
    for socket in &mut scene.bobs[..2] {
        let delete = json!({ "message_id": message["id"] });
        let reply = socket.command("message.delete", delete).await;
        assert_eq!(reply["error"]["code"], "forbidden", "{reply}");
        if scene.bus == Bus::There {
            // That Bob became an admin may still have been in flight when the socket was opened.
            let is_told = |event: &Value| {
                let member = &event["data"]["member"];
                member["user_id"] == bob && member["role"] == "member"
            };
            while !is_told(&socket.event("member.updated").await) {}
        }
    }
}

/// Whoever stays can read on but not write; whoever left gets nothing.
async fn a_dm_partner_left(bus: Bus) {
    let mut scene = Scene::set(bus).await;
    let path = format!("/workspaces/{}/dms", scene.workspace);
    let place = text(&scene.ada[0].post(&path, json!({ "user_id": scene.bob[0].id })).await["id"]);
    scene.connect(&place).await;
    scene
        .end(async |scene| {
            scene.bob_leaves(&format!("/workspaces/{}", scene.workspace)).await;
        })
        .await;
    for (person, socket) in scene.ada.iter().zip(&mut scene.adas) {
        let send = json!({ "conversation_id": place, "client_msg_id": "x", "text": "after all" });
        for (command, data) in
            [("message.send", send), ("typing.start", json!({ "conversation_id": place }))]
        {
            let reply = socket.command(command, data).await;
            assert_eq!(reply["error"]["code"], "forbidden", "{command}: {reply}");
        }
        let sync = json!({ "conversation_id": place, "from_rev": 0 });
        let page = socket.command("sync", sync).await;
        assert_eq!(page["data"]["messages"].as_array().map(Vec::len), Some(2), "{page}");
        let summary = person.get(&format!("/conversations/{place}")).await;
        assert_eq!(summary["can_post"], false, "{summary}");
        let hello = person.connect().await.hello;
        let known = hello["conversations"].as_array().expect("conversations");
        let dm = known.iter().find(|known| known["id"] == place.as_str()).expect("the DM");
        assert_eq!(dm["can_post"], false, "{dm}");
    }
    let heard = scene.heard().await;
    scene.told(&[&place], heard, &["conversation.left"]).await;
    scene.refused(&place, NOT_FOUND).await;
}
