//! From the acknowledgement of an end on, not only once the sockets are closed.

use reqwest::Method;
use serde_json::{Value, json};

use super::{
    scene::{Bus, Scene, nothing_after},
    with_and_without_the_bus,
};
use crate::support::text;

with_and_without_the_bus! {
    an_ended_session_is_deaf_at_the_other_node
    who_resumes_while_leaving_a_public_channel_gets_no_more_of_it
    who_was_removed_from_the_workspace_hears_of_no_change_of_it
    who_was_removed_from_a_channel_does_not_hear_who_comes
    an_ended_session_hears_of_no_change
}

/// Whatever the node has heard of the end.
async fn an_ended_session_is_deaf_at_the_other_node(bus: Bus) {
    let mut scene = Scene::set(bus).await;
    let general = scene.general.clone();
    scene.connect(&general).await;
    scene
        .end(async |scene| {
            scene.bob[0].call(Method::POST, "/auth/signout", Value::Null).await;
        })
        .await;
    for (ada, text) in scene.adas.iter_mut().zip(["after one", "after two"]) {
        ada.say(&general, text).await;
    }
    let (frames, _) = scene.bobs[1].rest().await;
    nothing_after(&frames);
}

/// What was committed after the leave was acknowledged, though a guest may request it.
async fn who_resumes_while_leaving_a_public_channel_gets_no_more_of_it(bus: Bus) {
    for _ in 0..5 {
        let mut scene = Scene::set(bus).await;
        let place = scene.channel("news", false).await;
        scene.connect(&place).await;
        scene
            .end(async |scene| {
                let path = format!("/channels/{place}/leave");
                scene.bob[0].call(Method::POST, &path, json!({})).await;
            })
            .await;
        scene.say_after(&place).await;
        scene.heard().await;
    }
}

/// Neither of its name nor of who comes, from the acknowledgement on.
async fn who_was_removed_from_the_workspace_hears_of_no_change_of_it(bus: Bus) {
    let mut scene = Scene::set(bus).await;
    let general = scene.general.clone();
    scene.connect(&general).await;
    let eve = scene.nodes[1].sign_up("eve").await;
    let code =
        text(&scene.ada[0].get(&format!("/workspaces/{}", scene.workspace)).await["join_code"]);
    scene
        .end(async |scene| {
            let path = format!("/workspaces/{}/members/{}", scene.workspace, scene.bob[0].id);
            scene.ada_calls(Method::DELETE, &path, Value::Null).await;
            scene.rename(1, "after one").await;
            eve.join(&code).await;
            scene.rename(0, "after two").await;
        })
        .await;
    for ada in &mut scene.adas {
        while ada.event("workspace.updated").await["data"]["workspace"]["name"] != "after two" {}
    }
    let heard = scene.heard().await;
    let of_eve = |frame: &Value| frame.to_string().contains(&eve.id);
    assert!(!heard.iter().flatten().any(of_eve), "{heard:?}");
    scene.told(&[&general], heard, &["conversation.left"]).await;
}

/// Nor who goes.
async fn who_was_removed_from_a_channel_does_not_hear_who_comes(bus: Bus) {
    let mut scene = Scene::set(bus).await;
    let place = scene.channel("secret", true).await;
    scene.connect(&place).await;
    let eve = scene.nodes[1].sign_up("eve").await;
    let code =
        text(&scene.ada[0].get(&format!("/workspaces/{}", scene.workspace)).await["join_code"]);
    eve.join(&code).await;
    let members = format!("/channels/{place}/members");
    scene
        .end(async |scene| {
            let path = format!("{members}/{}", scene.bob[0].id);
            scene.ada_calls(Method::DELETE, &path, Value::Null).await;
            scene.ada_calls_for(1, Method::POST, &members, json!({ "user_id": eve.id })).await;
        })
        .await;
    for ada in &mut scene.adas {
        while ada.event("conversation.member_joined").await["data"]["user_id"] != eve.id.as_str() {}
    }
    let of_eve = |frame: &Value| {
        frame["conversation_id"] == place.as_str() && frame.to_string().contains(&eve.id)
    };
    let heard = scene.heard().await;
    assert!(!heard.iter().flatten().any(of_eve), "{heard:?}");
    scene.told(&[&place], heard, &["conversation.left"]).await;
}

/// Of the workspace, nor what its own person does with another session.
async fn an_ended_session_hears_of_no_change(bus: Bus) {
    let mut scene = Scene::set(bus).await;
    let (general, open) = (scene.general.clone(), scene.channel("news", false).await);
    scene.bob[0].post(&format!("/channels/{open}/leave"), json!({})).await;
    scene.connect(&general).await;
    let other = scene.bob[0].sign_in("bob@example.org").await.at(&scene.nodes[1]);
    let mut living = other.connect().await;
    scene
        .end(async |scene| {
            scene.bob[0].call(Method::POST, "/auth/signout", Value::Null).await;
            scene.rename(1, "after one").await;
            other.post(&format!("/channels/{open}/join"), json!({})).await;
        })
        .await;
    while living.event("workspace.updated").await["data"]["workspace"]["name"] != "after one" {}
    living.event("conversation.joined").await;
    for socket in &mut scene.bobs {
        let (frames, _) = socket.rest().await;
        nothing_after(&frames);
        let joined = |frame: &Value| frame["type"] == "conversation.joined";
        assert!(!frames.iter().any(joined), "{frames:?}");
    }
}
