//! (d): clients that do not read, or send more than can be kept, harm neither the node nor the others.

use std::{cell::Cell, collections::BTreeSet, time::Duration};

use futures::{SinkExt, StreamExt, future::join_all};
use serde_json::json;
use tokio::time::{Instant, sleep, timeout};
use tokio_tungstenite::tungstenite::Message;

use crate::{
    NO_LIMITS,
    crew::{Crew, Size},
    judge::judge,
    proxy::{Mode, Way},
    raw::{Stream, answer, open},
    seed, size,
    stage::{Node, Stage},
    support::{PATIENCE, home::On, until},
};

/// How long the others' messages may take beside those who do not read, in a debug build on a busy machine.
const BEARABLE: Duration = Duration::from_secs(5);
/// A queue of 1 MiB per socket, "bounded" in the contract's words, and what a debug build and its allocator add.
const ALLOWANCE: u64 = 64 * 1024;

/// Characters of a long message and of a short one, of four bytes each.
const LOUD: usize = 4_000;
const SHORT: usize = 100;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_read_is_closed_and_the_others_go_on() {
    const DEAF: usize = 20;
    let size = size((5, 8, 20.0), (50, 20.0));
    let stage = Stage::set(On::Embedded, 1, seed(), &[NO_LIMITS]).await;
    let crew = Crew::gather(&stage, size).await;
    let (node, member) = (&stage.nodes[0], &crew.members[0]);
    let token = member.client.session.token().await;
    let mut deaf = join_all((0..DEAF).map(|_| open(node, &token, true))).await;
    let before = node.resident().expect("a running node");
    let mut loud = open(node, &token, false).await;
    let place = &member.places[1];
    let mut sent = 0;
    let shouting = async {
        let begun = Instant::now();
        // 16 KB a message: a second of it fills whatever the systems in between buffer.
        while begun.elapsed() < size.load {
            sent += 1;
            if sent % 500 == 0 {
                // Nobody renews this one's token.
                loud = open(node, &member.client.session.token().await, false).await;
            }
            let key = format!("loud{sent}");
            crew.ledger.book().begin(&member.client.id, place, &key, &text_of(LOUD));
            let (id, seq) = say(&mut loud, place, &key).await;
            crew.ledger.book().acknowledged(&key, &id, seq);
            // About 100 MB, however long it takes.
            sleep(size.load / 6_000).await;
        }
    };
    let ((), ()) = tokio::join!(crew.work(&stage, size), shouting);
    let after = node.resident().expect("a running node");
    // They do not notice the end before they read; a live connection would go on and on.
    let ends = join_all(deaf.iter_mut().map(end)).await;
    let heard: Vec<_> = ends.iter().map(|end| end.0).collect();
    let codes: Vec<_> = ends.iter().map(|end| end.1).collect();
    let notes = [
        format!("{sent} messages of 16 KB; resident before {before} KiB, after {after} KiB"),
        format!("those who did not read had got {heard:?} frames, and were closed with {codes:?}"),
    ];
    judge("who does not read", &stage, &crew, &notes).await;
    assert!(ends.iter().all(|(heard, _)| *heard < sent), "somebody got all of it: {notes:?}");
    assert!(after < before + DEAF as u64 * 1024 + ALLOWANCE, "{notes:?}");
    let book = crew.ledger.book();
    assert!(book.gaps.longest < BEARABLE && book.answers.longest < BEARABLE, "{notes:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_sends_more_than_can_be_kept_is_told_to_come_again() {
    // Together more than can be queued for one conversation. With rate limits they would be refused long before.
    const SOCKETS: usize = 40;
    const EACH: usize = 60;
    // Whoever finds no room is told at once. Much later, so are those whose transaction takes too long: that would
    // prove nothing.
    const FULL: Duration = Duration::from_secs(4);
    let stage = Stage::set(On::Services, 1, seed(), &[NO_LIMITS]).await;
    let crew = Crew::gather(&stage, Size { people: 3, rate: 1.0, load: Duration::ZERO }).await;
    let (node, member) = (&stage.nodes[0], &crew.members[0]);
    let (place, client) = (member.places[1].as_str(), &member.client);
    let token = client.session.token().await;
    let before = node.resident().expect("a running node");
    // All have said hello before the store becomes slow: that needs the store, too.
    let streams = join_all((0..SOCKETS).map(|_| open(node, &token, false))).await;
    let store = node.store.as_ref().expect("a store");
    store.set(Way::Both, Mode::Slow(20_000));
    let refused = Cell::new(0);
    let flooding = join_all(streams.into_iter().enumerate().map(async |(n, stream)| {
        let keys: Vec<_> = (0..EACH).map(|m| format!("flood{n}-{m}")).collect();
        for key in &keys {
            crew.ledger.book().begin(&client.id, place, key, &text_of(SHORT));
        }
        flood(node, stream, place, &keys, (&crew, &token), &refused).await;
    }));
    let watching = async {
        let (mut most, begun) = (before, Instant::now());
        until("somebody is told to come again", async || {
            most = most.max(node.resident().expect("a running node"));
            refused.get() > 0
        })
        .await;
        let took = begun.elapsed();
        store.set(Way::Both, Mode::Pass);
        (took, most)
    };
    let (_, (took, most)) = tokio::join!(flooding, watching);
    let most = most.max(node.resident().expect("a running node"));
    let refused = refused.get();
    let notes = [
        format!("{SOCKETS} sockets sent {EACH} messages each, {refused} times told to come again"),
        format!("the first time after {took:?}"),
        format!("resident before {before} KiB, under the flood {most} KiB"),
    ];
    judge("a flood", &stage, &crew, &notes).await;
    assert!(took < FULL, "{notes:?}");
    assert!(most < before + ALLOWANCE, "{notes:?}");
}

fn text_of(characters: usize) -> String {
    "📣".repeat(characters)
}

fn send_frame(id: usize, place: &str, key: &str, characters: usize) -> Message {
    let data =
        json!({ "conversation_id": place, "client_msg_id": key, "text": text_of(characters) });
    Message::text(json!({ "type": "message.send", "id": id, "data": data }).to_string())
}

async fn say(stream: &mut Stream, place: &str, key: &str) -> (String, u64) {
    stream.send(send_frame(1, place, key, LOUD)).await.expect("sent");
    let reply = answer(stream).await.expect("a reply");
    let message = &reply["data"]["message"];
    let id = message["id"].as_str().unwrap_or_else(|| panic!("{reply}")).to_owned();
    (id, message["seq"].as_u64().expect("a seq"))
}

/// Sends all at once, and resends what was refused or not answered, until all have been kept. Counts the refusals.
async fn flood(
    node: &Node,
    mut stream: Stream,
    place: &str,
    keys: &[String],
    (crew, token): (&Crew, &str),
    refused: &Cell<usize>,
) {
    let mut left: BTreeSet<usize> = (0..keys.len()).collect();
    let begun = Instant::now();
    while !left.is_empty() {
        assert!(begun.elapsed() < PATIENCE, "{} are not kept", left.len());
        let asked = left.clone();
        let (mut sink, mut source) = stream.split();
        let sending = async {
            for id in &asked {
                // Whoever floods a room may be too slow in reading it, and be closed.
                if sink.send(send_frame(*id, place, &keys[*id], SHORT)).await.is_err() {
                    break;
                }
            }
        };
        let hearing = async {
            let mut wait = 0;
            for _ in 0..asked.len() {
                let reply = answer(&mut source).await?;
                let id =
                    usize::try_from(reply["id"].as_u64().expect("an id")).expect("an id of ours");
                if reply["type"] == "ok" {
                    left.remove(&id);
                    let message = &reply["data"]["message"];
                    let (message_id, seq) = (message["id"].as_str(), message["seq"].as_u64());
                    let (message_id, seq) = (message_id.expect("an id"), seq.expect("a seq"));
                    crew.ledger.book().acknowledged(&keys[id], message_id, seq);
                } else {
                    refused.set(refused.get() + 1);
                    let code = reply["error"]["code"].as_str();
                    assert_eq!(code, Some("unavailable"), "{reply}");
                    let after = &reply["error"]["retry_after_ms"];
                    wait = wait.max(after.as_u64().unwrap_or_else(|| panic!("{reply}")));
                }
            }
            Some(wait)
        };
        let ((), wait) = tokio::join!(sending, hearing);
        stream = match wait {
            Some(wait) => {
                sleep(Duration::from_millis(wait)).await;
                sink.reunite(source).expect("halves of one stream")
            }
            None => open(node, token, false).await,
        };
    }
}

/// Reads on to the end: how many frames there were, and the code of the close frame, if it came through.
async fn end(stream: &mut Stream) -> (usize, Option<u16>) {
    let mut heard = 0;
    let to_the_end = async {
        loop {
            match stream.next().await {
                Some(Ok(Message::Text(_))) => heard += 1,
                Some(Ok(Message::Close(close))) => return close.map(|close| u16::from(close.code)),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return None,
            }
        }
    };
    // All of them read at the same time what the systems in between have buffered.
    let code = timeout(PATIENCE, to_the_end).await.expect("a connection that was closed");
    (heard, code)
}
