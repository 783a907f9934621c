//! From the acknowledgement of an end on, not only once its sockets are closed.

use reqwest::Method;
use serde_json::{Value, json};

use super::{
    scene::{Bus, Scene, nothing_after},
    with_and_without_the_bus,
};

with_and_without_the_bus! {
    an_ended_session_is_deaf_at_the_other_node
    who_resumes_while_leaving_a_public_channel_gets_no_more_of_it
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

/// As far as it was committed after the leave was acknowledged, though a guest may ask for it.
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
