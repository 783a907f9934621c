//! Who is told what at the node where it happens: no look at the store makes up for an event omitted there.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Person, Server, Socket, text};

/// Asserts what comes next, and nothing in between; returns the frames.
async fn told<const N: usize>(socket: &mut Socket, kinds: [&str; N]) -> [Value; N] {
    let mut frames = vec![];
    for kind in kinds {
        let frame = socket.frame().await;
        assert_eq!(frame["type"], kind, "after {frames:?}: {frame}");
        frames.push(frame);
    }
    frames.try_into().unwrap_or_else(|frames| panic!("{frames:?}"))
}

async fn calls(person: &Person, method: Method, path: &str, body: Value) {
    let (status, answer) = person.call(method, path, body).await;
    assert!(status.is_success(), "{path}: {status} {answer}");
}

/// Ada's two sockets, and Bob's.
async fn sockets(ada: &Person, bob: &Person) -> ([Socket; 2], Socket) {
    ([ada.connect().await, ada.connect().await], bob.connect().await)
}

#[tokio::test]
async fn a_workspace_from_its_beginning_to_its_end() {
    let server = Server::start();
    let (ada, bob) = (server.sign_up("ada").await, server.sign_up("bob").await);
    let (mut adas, mut bobs) = sockets(&ada, &bob).await;
    let (workspace, general, code) = ada.workspace().await;
    let path = format!("/workspaces/{workspace}");
    for socket in &mut adas {
        let kinds = ["workspace.updated", "member.joined", "conversation.joined"];
        let [came, _, joined] = told(socket, kinds).await;
        assert_eq!(came["data"]["workspace"]["id"], workspace.as_str(), "{came}");
        assert_eq!(joined["conversation_id"], general.as_str(), "{joined}");
    }
    bob.join(&code).await;
    told(&mut bobs, ["workspace.updated", "member.joined", "conversation.joined"]).await;
    for socket in &mut adas {
        let [came, joined] = told(socket, ["member.joined", "conversation.member_joined"]).await;
        assert_eq!(came["data"]["member"]["user_id"], bob.id.as_str(), "{came}");
        assert_eq!(joined["data"]["user_id"], bob.id.as_str(), "{joined}");
    }
    calls(&ada, Method::PATCH, &path, json!({ "name": "Babbage" })).await;
    for socket in adas.iter_mut().chain([&mut bobs]) {
        let [renamed] = told(socket, ["workspace.updated"]).await;
        assert_eq!(renamed["data"]["workspace"]["name"], "Babbage", "{renamed}");
    }
    calls(&bob, Method::PATCH, "/users/me", json!({ "display_name": "Robert" })).await;
    for socket in adas.iter_mut().chain([&mut bobs]) {
        let [renamed] = told(socket, ["member.updated"]).await;
        assert_eq!(renamed["data"]["user_id"], bob.id.as_str(), "{renamed}");
        assert_eq!(renamed["data"]["member"]["user"]["display_name"], "Robert", "{renamed}");
    }
    calls(&ada, Method::DELETE, &path, Value::Null).await;
    for socket in adas.iter_mut().chain([&mut bobs]) {
        let [channel, gone] = told(socket, ["conversation.deleted", "workspace.deleted"]).await;
        assert_eq!(channel["conversation_id"], general.as_str(), "{channel}");
        assert_eq!(gone["data"]["workspace_id"], workspace.as_str(), "{gone}");
    }
}

#[tokio::test]
async fn a_channel_from_its_beginning_to_its_end() {
    let server = Server::start();
    let (ada, bob, workspace, _) = server.ada_and_bob().await;
    let (mut adas, mut bobs) = sockets(&ada, &bob).await;
    let channels = format!("/workspaces/{workspace}/channels");
    let news = text(&ada.post(&channels, json!({ "name": "news" })).await["id"]);
    for socket in &mut adas {
        let [joined] = told(socket, ["conversation.joined"]).await;
        assert_eq!(joined["data"]["conversation"]["name"], "news", "{joined}");
    }
    bob.post(&format!("/channels/{news}/join"), json!({})).await;
    told(&mut bobs, ["conversation.joined"]).await;
    calls(&ada, Method::PATCH, &format!("/channels/{news}"), json!({ "topic": "old" })).await;
    let [told_of] = told(&mut bobs, ["conversation.updated"]).await;
    assert_eq!(told_of["data"]["conversation"]["topic"], "old", "{told_of}");
    calls(&bob, Method::POST, &format!("/channels/{news}/leave"), json!({})).await;
    told(&mut bobs, ["conversation.left"]).await;
    for socket in &mut adas {
        let kinds =
            ["member_joined", "updated", "member_left"].map(|it| format!("conversation.{it}"));
        let [came, _, went] = told(socket, kinds.each_ref().map(String::as_str)).await;
        for event in [came, went] {
            let whom = (&event["conversation_id"], &event["data"]["user_id"]);
            assert_eq!(whom, (&json!(news), &json!(bob.id)), "{event}");
        }
    }
    calls(&ada, Method::DELETE, &format!("/channels/{news}"), Value::Null).await;
    for socket in &mut adas {
        told(socket, ["conversation.deleted"]).await;
    }
    assert_eq!(bobs.settled().await, Vec::<Value>::new(), "he had left");
}

/// But not on their other sockets.
#[tokio::test]
async fn typing_is_told_to_the_others() {
    let server = Server::start();
    let (ada, bob, _, general) = server.ada_and_bob().await;
    let ([mut typing, mut other], mut bobs) = sockets(&ada, &bob).await;
    typing.command("typing.start", json!({ "conversation_id": general })).await;
    typing.say(&general, "done").await;
    told(&mut bobs, ["typing.started", "typing.stopped", "message.created"]).await;
    told(&mut other, ["message.created"]).await;
}
