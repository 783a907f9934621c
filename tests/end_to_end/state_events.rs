//! State events at the other of two nodes: from the store without the bus, and once each with it.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use crate::support::{Person, Server, Socket, text};

/// How long the store may take to reveal what the bus did not: the contract says 5 s, this is for a busy machine.
const TOLD_WITHIN: Duration = Duration::from_secs(10);
/// A few looks, one a second, each of which finds again what the bus has told.
const LOOKED_AT: Duration = Duration::from_secs(4);

/// Ada, who changes things at the one node; Bob, who listens at the other. Eve has joined nothing yet.
struct Scene {
    one: Server,
    two: Server,
    ada: Person,
    bob: Person,
    eve: Person,
    workspace: String,
    general: String,
    channel: String,
    code: String,
    socket: Socket,
}

async fn scene() -> Scene {
    let one = Server::start();
    let two = Server::beside(&one, 1);
    let (ada, bob, eve) =
        (one.sign_up("ada").await, one.sign_up("bob").await, one.sign_up("eve").await);
    let (workspace, general, code) = ada.workspace().await;
    bob.join(&code).await;
    let path = format!("/workspaces/{workspace}/channels");
    let channel = text(&ada.post(&path, json!({ "name": "news" })).await["id"]);
    bob.post(&format!("/channels/{channel}/join"), json!({})).await;
    let mut socket = bob.clone().at(&two).connect().await;
    // Earlier events have been told, and the bus carries the next ones.
    let mut ada_there = ada.connect().await;
    for place in [&general, &channel] {
        ada_there.say(place, "hello").await;
        socket.event_of(&["message.created", "replay"]).await;
    }
    Scene { one, two, ada, bob, eve, workspace, general, channel, code, socket }
}

impl Scene {
    async fn without_redis() -> Self {
        let scene = scene().await;
        scene.one.home.services().redis.kill();
        scene
    }

    async fn call(person: &Person, method: Method, path: &str, body: Value) {
        let (status, answer) = person.call(method, path, body).await;
        assert!(status.is_success(), "{status} {answer}");
    }

    async fn set_role(&self, role: &str) {
        let path = format!("/workspaces/{}/members/{}", self.workspace, self.bob.id);
        Self::call(&self.ada, Method::PATCH, &path, json!({ "role": role })).await;
    }

    async fn enter(&self) {
        self.eve.join(&self.code).await;
    }

    async fn remove_eve(&self) {
        let path = format!("/workspaces/{}/members/{}", self.workspace, self.eve.id);
        Self::call(&self.ada, Method::DELETE, &path, Value::Null).await;
    }

    async fn rename(&self) {
        let path = format!("/workspaces/{}", self.workspace);
        Self::call(&self.ada, Method::PATCH, &path, json!({ "name": "Crew" })).await;
    }

    async fn rename_ada(&self) {
        Self::call(&self.ada, Method::PATCH, "/users/me", json!({ "display_name": "Countess" }))
            .await;
    }

    async fn in_channel(&self, what: &str) {
        let path = format!("/channels/{}/{what}", self.channel);
        self.eve.post(&path, json!({})).await;
    }

    async fn read(&self) {
        let path = format!("/conversations/{}/read", self.general);
        Self::call(&self.bob, Method::PUT, &path, json!({ "seq": 1 })).await;
    }

    /// The next event of a type that Bob is told, in time.
    async fn told(&mut self, kind: &str) -> Value {
        let told = timeout(TOLD_WITHIN, async {
            loop {
                let event = self.socket.event(kind).await;
                if !self.is_early(&event) {
                    break event["data"].clone();
                }
            }
        });
        told.await.unwrap_or_else(|_| panic!("no {kind} in time"))
    }

    /// Waits until Bob has been told something of each of these types; adds all that he is told to the list.
    async fn hears(&mut self, kinds: &[&str], told: &mut Vec<Value>) {
        let mut awaited = kinds.to_vec();
        while !awaited.is_empty() {
            let event = self.socket.next_event().await;
            if !self.is_early(&event) {
                awaited.retain(|kind| event["type"] != *kind);
                told.push(event);
            }
        }
    }

    /// Whether it tells of an entry before Eve's: a node that did not listen yet may tell of those who have just come.
    fn is_early(&self, event: &Value) -> bool {
        let kind = event["type"].as_str().unwrap_or_default();
        kind.ends_with("joined") && event["data"]["user_id"] != self.eve.id.as_str()
    }
}

#[tokio::test]
async fn without_redis_a_new_role_is_told() {
    let mut scene = Scene::without_redis().await;
    scene.set_role("admin").await;
    let told = scene.told("member.updated").await;
    assert_eq!(
        (&told["user_id"], &told["member"]["role"]),
        (&json!(scene.bob.id), &json!("admin"))
    );
}

#[tokio::test]
async fn without_redis_a_new_member_is_told() {
    let mut scene = Scene::without_redis().await;
    scene.enter().await;
    let told = scene.told("member.joined").await;
    assert_eq!(told["member"]["user"]["display_name"], "eve", "{told}");
}

#[tokio::test]
async fn without_redis_who_comes_in_is_told_of_the_workspace() {
    let mut scene = Scene::without_redis().await;
    let mut eve = scene.eve.clone().at(&scene.two).connect().await;
    scene.enter().await;
    let told = timeout(TOLD_WITHIN, eve.event("workspace.updated")).await;
    let told = told.expect("eve is told of the workspace in time");
    assert_eq!(told["data"]["workspace"]["id"], scene.workspace.as_str());
    // They are in it now.
    scene.told("member.joined").await;
    scene.rename().await;
    let told = timeout(TOLD_WITHIN, eve.event("workspace.updated")).await;
    let told = told.expect("eve is told of the new name in time");
    assert_eq!(told["data"]["workspace"]["name"], "Crew");
}

#[tokio::test]
async fn without_redis_a_member_who_left_is_told() {
    let mut scene = scene().await;
    scene.enter().await;
    scene.told("member.joined").await;
    scene.one.home.services().redis.kill();
    scene.remove_eve().await;
    let told = scene.told("member.left").await;
    assert_eq!(told["user_id"], scene.eve.id.as_str(), "{told}");
}

#[tokio::test]
async fn without_redis_who_was_removed_is_told_too() {
    let mut scene = Scene::without_redis().await;
    let path = format!("/workspaces/{}/members/{}", scene.workspace, scene.bob.id);
    Scene::call(&scene.ada, Method::DELETE, &path, Value::Null).await;
    let told = scene.told("member.left").await;
    assert_eq!(told["user_id"], scene.bob.id.as_str(), "{told}");
    let mut adas = scene.ada.clone().at(&scene.two).connect().await;
    scene.rename().await;
    // The node tells everybody concerned in one go.
    let told = timeout(TOLD_WITHIN, adas.event("workspace.updated")).await;
    told.expect("ada is told of the new name in time");
    let later = scene.socket.settled().await;
    assert!(later.iter().all(|event| event["type"] != "workspace.updated"), "{later:?}");
}

#[tokio::test]
async fn without_redis_the_end_of_a_channel_is_told() {
    let mut scene = Scene::without_redis().await;
    let path = format!("/channels/{}", scene.channel);
    Scene::call(&scene.ada, Method::DELETE, &path, Value::Null).await;
    let told = timeout(TOLD_WITHIN, scene.socket.event("conversation.deleted")).await;
    let told = told.expect("the end is told in time");
    assert_eq!(told["conversation_id"], scene.channel.as_str());
}

#[tokio::test]
async fn without_redis_a_new_name_is_told() {
    let mut scene = Scene::without_redis().await;
    scene.rename().await;
    let told = scene.told("workspace.updated").await;
    assert_eq!(told["workspace"]["name"], "Crew", "{told}");
    assert!(told["workspace"].get("join_code").is_none(), "{told}");
}

#[tokio::test]
async fn without_redis_a_persons_new_name_is_told() {
    let mut scene = Scene::without_redis().await;
    scene.rename_ada().await;
    let told = scene.told("member.updated").await;
    assert_eq!(told["member"]["user"]["display_name"], "Countess", "{told}");
}

#[tokio::test]
async fn without_redis_the_end_of_a_workspace_is_told() {
    let mut scene = Scene::without_redis().await;
    let path = format!("/workspaces/{}", scene.workspace);
    Scene::call(&scene.ada, Method::DELETE, &path, Value::Null).await;
    assert_eq!(scene.told("workspace.deleted").await["workspace_id"], scene.workspace.as_str());
}

#[tokio::test]
async fn without_redis_who_comes_into_a_channel_and_goes_is_told() {
    let mut scene = scene().await;
    scene.enter().await;
    scene.told("conversation.member_joined").await;
    scene.one.home.services().redis.kill();
    scene.in_channel("join").await;
    let expected = json!({ "conversation_id": scene.channel, "user_id": scene.eve.id });
    assert_eq!(scene.told("conversation.member_joined").await, expected);
    scene.in_channel("leave").await;
    assert_eq!(scene.told("conversation.member_left").await, expected);
}

#[tokio::test]
async fn without_redis_a_read_mark_is_told_to_ones_own() {
    let mut scene = Scene::without_redis().await;
    scene.read().await;
    let told = scene.told("read.updated").await;
    assert_eq!((&told["read_seq"], &told["unread_count"]), (&json!(1), &json!(0)), "{told}");
}

#[tokio::test]
async fn with_redis_each_is_told_once() {
    let mut scene = scene().await;
    let mut told = vec![];
    // One at a time: a node tells the current state, and nothing of what is already past.
    scene.set_role("admin").await;
    scene.hears(&["member.updated"], &mut told).await;
    scene.enter().await;
    scene.hears(&["member.joined", "conversation.member_joined"], &mut told).await;
    scene.in_channel("join").await;
    scene.hears(&["conversation.member_joined"], &mut told).await;
    scene.in_channel("leave").await;
    scene.hears(&["conversation.member_left"], &mut told).await;
    scene.remove_eve().await;
    scene.hears(&["member.left", "conversation.member_left"], &mut told).await;
    scene.rename().await;
    scene.hears(&["workspace.updated"], &mut told).await;
    scene.rename_ada().await;
    scene.hears(&["member.updated"], &mut told).await;
    scene.read().await;
    scene.hears(&["read.updated"], &mut told).await;
    // Nothing happens a second time, however often the store is checked: there is no condition to wait for.
    sleep(LOOKED_AT).await;
    let again = scene.socket.settled().await;
    told.extend(again.into_iter().filter(|event| !scene.is_early(event)));
    let kind = |event: &Value| event["type"].as_str().unwrap_or_default().to_owned();
    let mut kinds: Vec<_> = told.iter().map(kind).collect();
    kinds.retain(|kind| !kind.starts_with("message.") && kind != "replay");
    kinds.sort_unstable();
    let in_general_and_news = ["conversation.member_joined"; 2].into_iter();
    let expected = in_general_and_news.chain(["conversation.member_left"; 2]).chain([
        "member.joined",
        "member.left",
        "member.updated",
        "member.updated",
        "read.updated",
        "workspace.updated",
    ]);
    assert_eq!(kinds, expected.collect::<Vec<_>>(), "{told:?}");
}
