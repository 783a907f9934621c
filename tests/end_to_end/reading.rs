//! Read marks and counts of what is unread, over several connections: on services, at two nodes.

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    ON,
    support::{Person, Server, Socket, home::On},
};

/// Ada writes, Bob reads, in `general`; each is at every node.
struct Scene {
    _nodes: Vec<Server>,
    ada: Vec<Person>,
    bob: Vec<Person>,
    general: String,
}

async fn scene() -> Scene {
    let mut nodes = vec![Server::start()];
    if ON == On::Services {
        nodes.push(Server::beside(&nodes[0], 1));
    }
    let (ada, bob, _, general) = nodes[0].ada_and_bob().await;
    let everywhere = |person: &Person| nodes.iter().map(|node| person.clone().at(node)).collect();
    Scene { ada: everywhere(&ada), bob: everywhere(&bob), general, _nodes: nodes }
}

impl Scene {
    /// What is unread, by every account and by a recount.
    async fn agree(&self, expected: (u64, u64)) {
        let path = format!("/conversations/{}", self.general);
        let history = format!("{path}/messages?after_seq={}&limit=200", expected.0);
        let history = self.ada[0].get(&history).await;
        let unread = history["items"].as_array().expect("items").iter().filter(|message| {
            message["author_id"] != self.bob[0].id.as_str() && message["deleted_at"].is_null()
        });
        assert_eq!(unread.count().min(100) as u64, expected.1, "a recount");
        for bob in &self.bob {
            let list = bob.get("/conversations").await;
            let hello = bob.connect().await.hello;
            for shown in [&bob.get(&path).await, &list["items"][0], &hello["conversations"][0]] {
                assert_eq!(state(shown), expected, "{shown}");
            }
            let (_, marked) =
                bob.call(Method::PUT, &format!("{path}/read"), json!({ "seq": 0 })).await;
            assert_eq!(state(&marked), expected, "{marked}");
        }
    }
}

fn state(read: &Value) -> (u64, u64) {
    let number = |field: &str| read[field].as_u64().unwrap_or_else(|| panic!("{field}: {read}"));
    (number("read_seq"), number("unread_count"))
}

fn mark(general: &str, seq: u64) -> Value {
    json!({ "conversation_id": general, "seq": seq })
}

/// Waits until a connection has heard of a mark; returns that and all before it.
async fn heard(socket: &mut Socket, read_seq: u64) -> Vec<(u64, u64)> {
    let mut states = vec![];
    while states.last().is_none_or(|(seq, _)| *seq != read_seq) {
        states.push(state(&socket.event("read.updated").await["data"]));
    }
    states
}

/// Ada has sent 22 messages, and Bob has five connections.
async fn with_unread() -> (Scene, Socket, Vec<Socket>) {
    let scene = scene().await;
    let mut ada = scene.ada[0].connect().await;
    for n in 1..=22 {
        ada.say(&scene.general, &n.to_string()).await;
    }
    let mut sockets = vec![];
    for n in 0..5 {
        sockets.push(scene.bob[n % scene.bob.len()].connect().await);
    }
    (scene, ada, sockets)
}

#[tokio::test]
async fn marks_of_many_connections_end_at_the_furthest() {
    let (scene, mut ada, mut sockets) = with_unread().await;
    let mut begun = vec![];
    for n in 0..20_u64 {
        let connection = (n % 5) as usize;
        let seq = (n + 1) * 7 % 23;
        let id = sockets[connection].begin("read.mark", mark(&scene.general, seq)).await;
        begun.push((connection, seq, id));
    }
    let mut last = [0; 5];
    for (connection, seq, id) in begun {
        let reply = sockets[connection].reply(id).await;
        let (read, unread) = state(&reply["data"]);
        assert!(read >= seq && read >= last[connection], "asked for {seq}: {reply}");
        assert_eq!(unread, 22 - read);
        last[connection] = read;
    }
    scene.agree((22, 0)).await;
    for socket in &mut sockets {
        for (read, unread) in heard(socket, 22).await {
            assert_eq!(unread, 22 - read);
        }
    }
    let told = ada.settled().await;
    assert!(told.iter().all(|event| event["type"] != "read.updated"), "{told:?}");
}

#[tokio::test]
async fn counts_agree_with_a_recount_after_marks_among_sends() {
    let scene = scene().await;
    let (mut ada, mut bob) =
        (scene.ada[0].connect().await, scene.bob.last().expect("a node of Bob's").connect().await);
    let mut other = scene.bob[0].connect().await;
    let sends = async {
        for n in 1..=20 {
            ada.say(&scene.general, &n.to_string()).await;
        }
    };
    let marks = async {
        let mut last = (0, 0);
        for seq in 1..=12 {
            let reply = bob.command("read.mark", mark(&scene.general, seq)).await;
            let (read, unread) = state(&reply["data"]);
            assert!(read >= last.0 && read <= seq, "{reply}");
            assert!(read + unread >= last.0 + last.1 && read + unread <= 20, "{reply}");
            last = (read, unread);
        }
    };
    let ((), ()) = tokio::join!(sends, marks);
    bob.command("read.mark", mark(&scene.general, 12)).await;
    scene.agree((12, 8)).await;
    let reply = bob.command("read.mark", mark(&scene.general, 15)).await;
    assert_eq!(state(&reply["data"]), (15, 5));
    for socket in [&mut bob, &mut other] {
        assert_eq!(heard(socket, 15).await.last(), Some(&(15, 5)));
    }
    let page = format!("/conversations/{}/messages?after_seq=17&limit=1", scene.general);
    let page = scene.ada[0].get(&page).await;
    let gone = json!({ "message_id": page["items"][0]["id"] });
    assert_eq!(ada.command("message.delete", gone).await["type"], "ok");
    scene.agree((15, 4)).await;
    // One's own message moves the mark to it, and does not count as one's own for anybody else.
    bob.say(&scene.general, "mine").await;
    scene.agree((21, 0)).await;
    ada.say(&scene.general, "yours").await;
    scene.agree((21, 1)).await;
    let reply = bob.command("read.mark", mark(&scene.general, 9_999)).await;
    assert_eq!(state(&reply["data"]), (22, 0), "clamped");
}

#[tokio::test]
async fn a_hundred_are_counted_and_no_more() {
    let scene = scene().await;
    let mut ada = scene.ada[0].connect().await;
    for n in 1..=99 {
        ada.say(&scene.general, &n.to_string()).await;
    }
    scene.agree((0, 99)).await;
    for n in 100..=103 {
        ada.say(&scene.general, &n.to_string()).await;
        scene.agree((0, 100)).await;
    }
}

#[tokio::test]
async fn marks_are_told_in_order() {
    let (scene, _ada, mut sockets) = with_unread().await;
    for n in 0..22 {
        sockets[n % 5].begin("read.mark", mark(&scene.general, n as u64 + 1)).await;
    }
    for socket in &mut sockets {
        let mut states = heard(socket, 22).await;
        let later = socket.settled().await;
        let later = later.iter().filter(|event| event["type"] == "read.updated");
        states.extend(later.map(|event| state(&event["data"])));
        assert!(states.is_sorted(), "goes back: {states:?}");
    }
}
