//! Reconnecting with much to catch up on, and all at once.

use std::time::Duration;

use futures::future::join_all;
use serde_json::{Map, Value, json};
use tokio::time::{Instant, sleep, timeout};

use crate::support::{PATIENCE, Person, Server, Socket, text};

/// Replays and events of a conversation as the contract has a client apply them: the texts in order, and the cursor.
struct Taken {
    cursor: u64,
    texts: Vec<String>,
}

impl Taken {
    fn page(&mut self, page: &Value, messages: &Value) {
        let (from, to) = (number(&page["from_rev"]), number(&page["to_rev"]));
        assert!(from <= self.cursor && self.cursor < to, "{from}..{to} at {}", self.cursor);
        let messages = messages.as_array().expect("messages");
        self.texts.extend(messages.iter().map(|m| text(&m["text"])));
        self.cursor = to;
    }
}

fn number(value: &Value) -> u64 {
    value.as_u64().expect("a number")
}

async fn channels(ada: &Person, workspace: &str, count: usize) -> Vec<String> {
    let mut ids = Vec::new();
    for n in 0..count {
        let name = json!({ "name": format!("channel-{n}") });
        ids.push(text(&ada.post(&format!("/workspaces/{workspace}/channels"), name).await["id"]));
    }
    ids
}

/// Sends, with as many in flight as the server takes, and waits for all answers.
async fn send_many(socket: &mut Socket, conversation: &str, from: usize, to: usize, words: usize) {
    let mut waiting = 0;
    for n in from..to {
        let body = format!("{n} {}", "word ".repeat(words));
        let data = json!({ "conversation_id": conversation, "client_msg_id": n.to_string(), "text": body });
        socket.begin("message.send", data).await;
        waiting += 1;
        if waiting == 50 {
            socket.answers(waiting).await;
            waiting = 0;
        }
    }
    socket.answers(waiting).await;
}

#[tokio::test]
async fn a_thousand_conversations_of_which_fifty_moved_come_in_one_round_trip() {
    let server = Server::without_limits();
    let ada = server.sign_up("ada").await;
    let (workspace, _, _) = ada.workspace().await;
    let ids = channels(&ada, &workspace, 999).await;
    let mut first = ada.connect().await;
    let cursors: Map<String, Value> = first.hello["conversations"]
        .as_array()
        .expect("conversations")
        .iter()
        .map(|it| (text(&it["id"]), it["rev"].clone()))
        .collect();
    assert_eq!(cursors.len(), 1_000);
    let epoch = first.hello["epoch"].clone();
    for id in ids.iter().step_by(20) {
        first.say(id, "news").await;
    }

    let resume = json!({ "epoch": epoch, "cursors": cursors });
    let mut second = ada.resume(resume).await;
    assert_eq!(second.hello["behind"], json!([]));
    let mut told = Vec::new();
    while told.len() < 50 {
        let replay = second.event("replay").await;
        assert_eq!((&replay["from_rev"], &replay["complete"]), (&json!(0), &json!(true)));
        assert_eq!(replay["data"]["messages"][0]["text"], "news");
        told.push(text(&replay["conversation_id"]));
    }
    let mut moved: Vec<_> = ids.iter().step_by(20).cloned().collect();
    moved.reverse();
    assert_eq!(told, moved, "most recently active first");
    first.say(&ids[20], "live").await;
    assert_eq!(second.event("message.created").await["rev"], 2);
}

#[tokio::test]
async fn a_slow_client_that_is_far_behind_catches_up_while_others_go_on() {
    let server = Server::without_limits();
    let ada = server.sign_up("ada").await;
    let (workspace, general, _) = ada.workspace().await;
    let other = channels(&ada, &workspace, 1).await.remove(0);
    let mut socket = ada.connect().await;
    let epoch = socket.hello["epoch"].clone();
    // More than one hello replays, and the small one is more recent.
    send_many(&mut socket, &general, 0, 800, 700).await;
    socket.say(&other, "small").await;

    let cursors = json!({ general.as_str(): 0, other.as_str(): 0 });
    let mut late = ada.resume(json!({ "epoch": epoch, "cursors": cursors })).await;
    assert_eq!(late.hello["behind"], json!([general]));
    assert_eq!(late.event("replay").await["conversation_id"], other.as_str());
    let mut taken = Taken { cursor: 0, texts: vec![] };
    let mut sent = 800;
    loop {
        // Sending continues while it asks for a page at a time.
        send_many(&mut socket, &general, sent, sent + 10, 700).await;
        sent += 10;
        let from = json!({ "conversation_id": general, "from_rev": taken.cursor });
        let page = late.command("sync", from).await["data"].clone();
        taken.page(&page, &page["messages"]);
        if page["complete"] == true {
            break;
        }
    }
    let expected: Vec<_> = (0..sent).map(|n| n.to_string()).collect();
    let told: Vec<_> = taken.texts.iter().map(|t| t.split(' ').next().unwrap_or("")).collect();
    assert_eq!(told, expected);
}

#[tokio::test]
async fn what_fits_is_replayed_as_the_socket_drains() {
    let server = Server::without_limits();
    let ada = server.sign_up("ada").await;
    let (_, general, _) = ada.workspace().await;
    let mut socket = ada.connect().await;
    let epoch = socket.hello["epoch"].clone();
    send_many(&mut socket, &general, 0, 400, 700).await;
    let resume = json!({ "epoch": epoch, "cursors": { general.as_str(): 0 } });
    let mut late = ada.resume(resume).await;
    assert_eq!(late.hello["behind"], json!([]));
    // While it reads nothing, nobody else waits, and what is sent meanwhile comes after the replay.
    send_many(&mut socket, &general, 400, 420, 700).await;
    let mut taken = Taken { cursor: 0, texts: vec![] };
    while taken.texts.len() < 420 {
        let event = late.event_of(&["replay", "message.created"]).await;
        assert!(event.to_string().len() <= 256 * 1024);
        if event["type"] == "replay" {
            taken.page(&event, &event["data"]["messages"]);
        } else {
            assert_eq!(number(&event["rev"]), taken.cursor + 1);
            taken.cursor += 1;
            taken.texts.push(text(&event["data"]["message"]["text"]));
        }
    }
    assert!(taken.texts.iter().enumerate().all(|(n, t)| t.starts_with(&format!("{n} "))));
}

/// Comes back until it is let in; returns how often it was sent away.
async fn come_in(person: &Person, mut socket: Socket) -> (Socket, usize) {
    let mut refused = 0;
    loop {
        match person.hello(socket).await {
            Ok(socket) => return (socket, refused),
            Err((reply, close)) => {
                assert_eq!(
                    (&reply["error"]["code"], close),
                    (&json!("unavailable"), 4003),
                    "{reply}"
                );
                refused += 1;
                let wait = number(&reply["error"]["retry_after_ms"]);
                assert!((1_000..30_000).contains(&wait), "{reply}");
                sleep(Duration::from_millis(wait)).await;
                socket = person.open().await;
            }
        }
    }
}

/// Sockets are files: each of the herd has one here and one in the server, which inherits the limit.
fn allow_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let most = getrlimit(Resource::Nofile).maximum;
    let all = Rlimit { current: most, maximum: most };
    setrlimit(Resource::Nofile, all).expect("as many files as may be");
}

#[tokio::test]
async fn a_herd_that_comes_back_at_once_is_let_in_by_and_by() {
    allow_files();
    let server = Server::start();
    let inside = server.sign_up("inside").await;
    let mut inside_socket = inside.connect().await;
    let people = join_all((0..18).map(|n| {
        let name = format!("person{n}");
        let server = &server;
        async move { server.sign_up(&name).await }
    }))
    .await;
    let mut herd = Vec::new();
    for person in people.iter().flat_map(|person| std::iter::repeat_n(person, 100)) {
        herd.push((person, person.open().await));
    }
    let herd = herd.into_iter().map(|(person, socket)| come_in(person, socket));
    let begun = Instant::now();
    let mut herd = Box::pin(timeout(3 * PATIENCE, join_all(herd)));
    let mut slowest = Duration::ZERO;
    let arrived = loop {
        let asked = Instant::now();
        tokio::select! {
            arrived = &mut herd => break arrived.expect("all are let in"),
            _ = inside_socket.settled() => slowest = slowest.max(asked.elapsed()),
        }
    };
    assert_eq!(arrived.len(), 1_800);
    // A burst of five hundred, then as many a second: those who are sent away come later.
    let pace = Duration::from_millis((1_800 - 500) * 2);
    assert!(begun.elapsed() >= pace, "all came in after {:?}", begun.elapsed());
    assert!(
        arrived.iter().all(|(_, refused)| *refused <= 3),
        "when they are told to, they are let in"
    );
    // It need not queue; but 1,800 clients keep the same cores busy.
    assert!(slowest < Duration::from_secs(10), "a ping took {slowest:?}");
}
