//! Two nodes, one person who writes at both and one whose access ends there, with Redis or without.

use std::time::Duration;

use futures::future::join_all;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use tokio::time::timeout;

use crate::support::{Person, Server, Socket, text};

/// How long the store may take to reveal what the bus did not: the contract says 5 s, this is for a busy machine.
const TOLD_WITHIN: Duration = Duration::from_secs(10);

/// Whether the nodes have Redis when something ends.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Bus {
    There,
    Lost,
}

/// Ada, who writes at both nodes, and Bob, who listens at both and for whom something ends.
pub(super) struct Scene {
    pub(super) bus: Bus,
    pub(super) nodes: [Server; 2],
    pub(super) ada: [Person; 2],
    pub(super) bob: [Person; 2],
    pub(super) adas: Vec<Socket>,
    pub(super) bobs: Vec<Socket>,
    pub(super) workspace: String,
    pub(super) general: String,
    /// The `resume` of some of Bob's sockets at the moment of the end.
    pub(super) held: Value,
    /// A conversation of both in which nothing happens.
    refuge: String,
}

impl Scene {
    pub(super) async fn set(bus: Bus) -> Self {
        let one = Server::start();
        let two = Server::beside(&one, 1);
        let (ada, bob) = (one.sign_up("ada").await, one.sign_up("bob").await);
        let (workspace, general, code) = ada.workspace().await;
        let (_, refuge, other_code) = ada.workspace().await;
        for code in [code, other_code] {
            bob.post("/workspaces/join", json!({ "join_code": code })).await;
        }
        let (ada, bob) = ([ada.clone(), ada.at(&two)], [bob.clone(), bob.at(&two)]);
        let (nodes, adas, bobs) = ([one, two], vec![], vec![]);
        Self { bus, nodes, ada, bob, adas, bobs, workspace, general, refuge, held: Value::Null }
    }

    /// A channel that Bob is in.
    pub(super) async fn channel(&self, name: &str, private: bool) -> String {
        let path = format!("/workspaces/{}/channels", self.workspace);
        let channel = self.ada[0].post(&path, json!({ "name": name, "private": private })).await;
        let id = text(&channel["id"]);
        let path = format!("/channels/{id}/members");
        self.ada[0].post(&path, json!({ "user_id": self.bob[0].id })).await;
        id
    }

    /// Opens a socket of each at each node, and proves that they hear each other in a conversation.
    pub(super) async fn connect(&mut self, place: &str) {
        for node in 0..2 {
            self.adas.push(self.ada[node].connect().await);
            self.bobs.push(self.bob[node].connect().await);
        }
        for (ada, text) in self.adas.iter_mut().zip(["first", "second"]) {
            ada.say(place, text).await;
        }
        for socket in self.adas.iter_mut().chain(&mut self.bobs) {
            socket.until_texts(&["first", "second"]).await;
        }
        self.held = json!({ "epoch": self.bobs[0].hello["epoch"], "cursors": { place: 1 } });
    }

    /// Makes the change, through the first node, while more sockets of Bob's open and resume at both.
    pub(super) async fn end(&mut self, change: impl AsyncFnOnce(&Self)) {
        if self.bus == Bus::Lost {
            self.nodes[0].home.services().redis.kill();
        }
        let opening = (0..8).map(|n| {
            let resume = if n < 4 { self.held.clone() } else { Value::Null };
            self.bob[n % 2].knock(resume)
        });
        let ((), opening) = tokio::join!(change(self), join_all(opening));
        self.bobs.extend(opening);
    }

    /// Sends something at each node that Bob must not get, and waits until Ada has it at both.
    pub(super) async fn say_after(&mut self, place: &str) {
        // At the other node first: its own message is the next in order, and only the `access_rev` shows that something
        // came before it.
        for (ada, text) in self.adas.iter_mut().rev().zip(["after one", "after two"]) {
            ada.say(place, text).await;
        }
        for ada in &mut self.adas {
            ada.until_texts(&["after one", "after two"]).await;
        }
    }

    /// All that each of Bob's sockets has heard by the time a later message of another conversation has arrived from
    /// each node.
    pub(super) async fn heard(&mut self) -> Vec<Vec<Value>> {
        for socket in self.bobs.iter_mut().filter(|socket| socket.hello.is_null()) {
            let reply = socket.reply(1).await;
            assert_eq!(reply["type"], "ok", "{reply}");
            socket.hello = reply["data"].clone();
        }
        for (ada, text) in self.adas.iter_mut().zip(["marker one", "marker two"]) {
            ada.say(&self.refuge, text).await;
        }
        let mut heard = vec![];
        for socket in &mut self.bobs {
            let frames = socket.until_texts(&["marker one", "marker two"]).await;
            nothing_after(&frames);
            heard.push(frames);
        }
        heard
    }

    /// Waits until each of Bob's sockets that knew these conversations has got an event of one of these kinds for each.
    pub(super) async fn told(&mut self, places: &[&str], heard: Vec<Vec<Value>>, kinds: &[&str]) {
        for (n, (socket, frames)) in self.bobs.iter_mut().zip(heard).enumerate() {
            let known = socket.hello["conversations"].as_array().expect("conversations");
            let known = |place: &str| known.iter().any(|known| known["id"] == place);
            let mut left: Vec<&str> = places.iter().copied().filter(|place| known(place)).collect();
            let tick = |left: &mut Vec<&str>, frame: &Value| {
                nothing_after(std::slice::from_ref(frame));
                if kinds.iter().any(|kind| frame["type"] == *kind) {
                    left.retain(|place| frame["conversation_id"] != *place);
                }
            };
            for frame in &frames {
                tick(&mut left, frame);
            }
            let told = timeout(TOLD_WITHIN, async {
                while !left.is_empty() {
                    let kinds = [kinds, &["message.created", "replay"]].concat();
                    tick(&mut left, &socket.event_of(&kinds).await);
                }
            });
            assert!(told.await.is_ok(), "socket {n} was not told of {left:?}, but: {frames:?}");
        }
    }

    /// Asserts the answers to each of Bob's sockets when it continues: `sync`, `message.send`, `typing.start`.
    pub(super) async fn refused(&mut self, place: &str, codes: [Option<&str>; 3]) {
        for (n, socket) in self.bobs.iter_mut().enumerate() {
            let send = json!({ "conversation_id": place, "client_msg_id": format!("ghost {n}"), "text": "ghost" });
            let commands = [
                ("sync", json!({ "conversation_id": place, "from_rev": 0 })),
                ("message.send", send),
                ("typing.start", json!({ "conversation_id": place })),
            ];
            for ((command, data), code) in commands.into_iter().zip(codes) {
                let reply = socket.command(command, data).await;
                assert_eq!(reply["error"]["code"].as_str(), code, "{command}: {reply}");
            }
        }
    }

    /// Makes Bob's old socket at a node begin to send; returns the command's id.
    pub(super) async fn go_on(&mut self, node: usize) -> i64 {
        let key = format!("ghost {node}");
        let send =
            json!({ "conversation_id": self.general, "client_msg_id": key, "text": "after me" });
        self.bobs[node].begin("message.send", send).await
    }

    /// Ada gives the workspace a name, through a node.
    pub(super) async fn rename(&self, node: usize, name: &str) {
        let path = format!("/workspaces/{}", self.workspace);
        self.ada_calls_for(node, Method::PATCH, &path, json!({ "name": name })).await;
    }

    /// Bob leaves a channel or a workspace, through the first node.
    pub(super) async fn bob_leaves(&self, place: &str) {
        let path = format!("{place}/leave");
        let (status, answer) = self.bob[0].call(Method::POST, &path, json!({})).await;
        assert_eq!(status, StatusCode::NO_CONTENT, "{answer}");
    }

    /// Ada makes a call through the first node.
    pub(super) async fn ada_calls(&self, method: Method, path: &str, body: Value) {
        self.ada_calls_for(0, method, path, body).await;
    }

    /// Ada makes a call through a node.
    pub(super) async fn ada_calls_for(&self, node: usize, method: Method, path: &str, body: Value) {
        let (status, answer) = self.ada[node].call(method, path, body).await;
        assert!(status.is_success(), "{status} {answer}");
    }
}

/// Nothing that was sent after the end.
pub(super) fn nothing_after(frames: &[Value]) {
    let leak = frames.iter().find(|frame| frame.to_string().contains("after "));
    assert_eq!(leak, None, "got something that was sent after the end");
}
