//! Deletions, with the bus and without it (`scene.rs`): nothing can be read or written at any node afterwards.

use reqwest::Method;
use serde_json::{Value, json};

use super::{
    scene::{Bus, Scene},
    with_and_without_the_bus,
};

/// Without the bus, a node learns from the store that somebody may no longer read a conversation, but not why.
const ENDED: &[&str] = &["conversation.deleted", "conversation.left"];

with_and_without_the_bus! {
    a_deleted_channel
    a_deleted_workspace
}

async fn a_deleted_channel(bus: Bus) {
    let mut scene = Scene::set(bus).await;
    let place = scene.channel("news", false).await;
    scene.connect(&place).await;
    scene
        .end(async |scene| {
            scene.ada_calls(Method::DELETE, &format!("/channels/{place}"), Value::Null).await;
        })
        .await;
    gone(&mut scene, &[&place]).await;
}

async fn a_deleted_workspace(bus: Bus) {
    let mut scene = Scene::set(bus).await;
    let (place, general) = (scene.channel("news", false).await, scene.general.clone());
    scene.connect(&place).await;
    scene
        .end(async |scene| {
            let path = format!("/workspaces/{}", scene.workspace);
            scene.ada_calls(Method::DELETE, &path, Value::Null).await;
        })
        .await;
    gone(&mut scene, &[&place, &general]).await;
}

/// Nobody can do anything there at any node, and everybody has been told.
async fn gone(scene: &mut Scene, places: &[&str]) {
    for (node, socket) in scene.adas.iter_mut().enumerate() {
        for place in places {
            let send =
                json!({ "conversation_id": place, "client_msg_id": "x", "text": "after all" });
            let reply = socket.command("message.send", send).await;
            assert_eq!(reply["error"]["code"], "not_found", "at {node}: {reply}");
        }
    }
    let heard = scene.heard().await;
    let kinds = if scene.bus == Bus::There { &ENDED[..1] } else { ENDED };
    scene.told(places, heard, kinds).await;
    for place in places {
        scene.refused(place, [Some("not_found"); 3]).await;
    }
}
