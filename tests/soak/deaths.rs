//! Nodes end, orderly or not, and Redis with them; the embedded node ends and comes back.

use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::{
    NO_LIMITS,
    crew::{Crew, Size},
    dice::Dice,
    judge::judge,
    proxy::{Mode, Side, Way},
    raw, seed, size,
    stage::{Node, Stage},
    support::{home::On, until},
};

/// How long the service is away.
const AWAY: Duration = Duration::from_millis(600);
/// How long a node may take to end: it sends its clients away, and waits 10 s for what they began.
const END: Duration = Duration::from_secs(15);
/// How long an ending node may keep a client that it should send away: less than the 10 s after which it would end
/// anyway.
const AT_ONCE: Duration = Duration::from_secs(8);
/// How long a conversation may be held up by the open transaction of a node that died: the store ends it after 10 s
/// where tests/services.py starts it, after a minute by default.
const LOCKED: Duration = Duration::from_secs(20);
/// How long by a store that has gone silent: until the driver's monitor misses it, plus as long as a write is retried.
const SILENT: Duration = Duration::from_secs(15);
/// How long a token lasts where it should end soon.
const TOKEN: Duration = Duration::from_secs(8);
/// Between two deaths.
const CALM: Duration = Duration::from_secs(2);
/// How the command begins, in BSON, with which an append locks its conversation's head.
const LOCKS_HEAD: &[u8] = b"findAndModify\0\x0e\0\0\0conversations\0";

/// (b): any node, any time, by SIGKILL or SIGTERM; now and then Redis.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_and_redis_die_at_random() {
    let size = size((12, 12, 15.0), (100, 60.0));
    let stage = Stage::set(On::Services, 2, seed(), &[NO_LIMITS]).await;
    let crew = Crew::gather(&stage, size).await;
    let (mut deaths, dice) = ([0; 3], Dice::new(stage.seed + 1));
    let dying = async {
        let begun = Instant::now();
        while begun.elapsed() < size.load {
            sleep(dice.around(CALM)).await;
            let node = dice.of(&stage.nodes);
            // Each kind in turn; the worst of them twice.
            let how = [0, 1, 0, 2][deaths.iter().sum::<usize>() % 4];
            deaths[how] += 1;
            match how {
                0 => node.kill(),
                1 => _ = node.stop().await,
                _ => stage.home.services().redis.kill(),
            }
            sleep(dice.around(AWAY)).await;
            if how == 2 {
                let home = stage.home.clone();
                let again = move || home.services().redis.start_again();
                tokio::task::spawn_blocking(again).await.expect("Redis");
            } else {
                node.start().await;
            }
        }
    };
    tokio::join!(crew.work(&stage, size), dying);
    stage.heal().await;
    let notes =
        [format!("kill -9 {}, SIGTERM {}, Redis killed {}", deaths[0], deaths[1], deaths[2])];
    judge("nodes and Redis die", &stage, &crew, &notes).await;
}

/// (c): one node after another is stopped, waited for, and started again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_loses_nothing() {
    let size = size((10, 16, 20.0), (500, 200.0));
    let stage = Stage::set(On::Services, 2, seed(), &[NO_LIMITS]).await;
    let crew = Crew::gather(&stage, size).await;
    let (begun, mut stops) = (Instant::now(), vec![]);
    let rolling = async {
        while begun.elapsed() < size.load.mul_f64(0.8) {
            for node in &stage.nodes {
                sleep((size.load / 10).min(Duration::from_secs(20))).await;
                stops.push(node.stop().await);
                node.start().await;
            }
        }
    };
    tokio::join!(crew.work(&stage, size), rolling);
    let notes = [format!("ends took {stops:?}")];
    judge("rolling restart", &stage, &crew, &notes).await;
    assert!(stops.iter().all(|took| *took < END), "{notes:?}");
}

/// (e): the embedded default has nobody to take over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_embedded_node_dies_at_random() {
    let size = size((8, 8, 40.0), (500, 200.0));
    let calm = (size.load / 20).clamp(CALM / 2, 5 * CALM);
    let stage = Stage::set(On::Embedded, 1, seed(), &[NO_LIMITS]).await;
    let crew = Crew::gather(&stage, size).await;
    let (mut deaths, dice, node) = (0, Dice::new(stage.seed + 1), &stage.nodes[0]);
    let dying = async {
        let begun = Instant::now();
        while begun.elapsed() < size.load {
            sleep(dice.around(calm)).await;
            end(node, dice.roll(3) > 0).await;
            deaths += 1;
            sleep(dice.around(AWAY / 3)).await;
            node.start().await;
        }
    };
    tokio::join!(crew.work(&stage, size), dying);
    let notes = [format!("ends {deaths}")];
    judge("the embedded node dies", &stage, &crew, &notes).await;
}

/// A long scenario in a short time: tokens that expire every few seconds, and connections that continue.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_outlive_their_tokens() {
    let size = Size { people: 6, rate: 10.0, load: 2 * TOKEN };
    let mut stage = Stage::set(On::Embedded, 1, seed(), &[NO_LIMITS]).await;
    stage.token_life = Some(TOKEN);
    let crew = Crew::gather(&stage, size).await;
    crew.work(&stage, size).await;
    let stats: Vec<_> = crew.members.iter().map(|member| member.client.stats()).collect();
    let mut renewals = vec![];
    for member in &crew.members {
        renewals.push(member.client.session.renewals().await);
    }
    let notes = [format!("tokens of {TOKEN:?}, renewed {renewals:?} times")];
    judge("tokens end", &stage, &crew, &notes).await;
    assert!(renewals.iter().all(|count| *count > 0), "{notes:?}");
    assert!(stats.iter().all(|stats| stats.reconnects == 0), "{stats:?}");
}

/// A conversation's id, as it appears in commands to the store.
fn in_store(place: &str) -> [u8; 16] {
    Uuid::parse_str(place).expect("an id").into_bytes()
}

async fn end(node: &Node, kill: bool) {
    if kill {
        node.kill();
    } else {
        let _ = node.stop().await;
    }
}

/// A node that dies in a transaction leaves it open in the store, on the head of its conversation.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conversation_goes_on_soon_after_a_death_in_a_transaction() {
    let stage = Stage::set(On::Services, 2, seed(), &[NO_LIMITS]).await;
    let crew = Crew::gather(&stage, Size { people: 3, rate: 1.0, load: Duration::ZERO }).await;
    let (one, other) = (&stage.nodes[0], &stage.nodes[1]);
    other.front.refuse(true);
    other.front.cut();
    until("all are at one node", async || crew.connected() == 3 && other.front.open_links() == 0)
        .await;
    // What it asks the store arrives there, but the answers do not come back.
    let store = one.store.as_ref().expect("a store");
    let (member, place) = (&crew.members[0], &crew.members[0].places[0]);
    let begun = store.stalled_answer_to(&[LOCKS_HEAD, &in_store(place)]);
    member.client.send(place, "m1", "begun by one");
    begun.await;
    one.kill();
    store.heal();
    other.front.refuse(false);
    let answered = crew.answered(Duration::from_secs(90)).await;
    one.start().await;
    stage.heal().await;
    let notes = [format!("the conversation went on after {answered:?}")];
    judge("a death in a transaction", &stage, &crew, &notes).await;
    assert!(answered.as_ref().is_ok_and(|time| *time < LOCKED), "{answered:?}");
}

/// Clients sent away from one node knock at the next, which may be the next to end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_says_hello_to_a_node_that_ends_is_sent_away_at_once() {
    let stage = Stage::set(On::Embedded, 1, seed(), &[NO_LIMITS]).await;
    let crew = Crew::gather(&stage, Size { people: 3, rate: 1.0, load: Duration::ZERO }).await;
    let (node, token) = (&stage.nodes[0], &crew.members[0].client.session.token().await);
    let mut late = raw::upgrade(node, false).await;
    let knocking = async {
        until("the others are sent away", async || crew.connected() == 0).await;
        let begun = Instant::now();
        let hello = raw::hello(&mut late, token).await;
        (begun.elapsed(), hello.map(|reply| reply["type"].clone()))
    };
    let (took, (kept, hello)) = tokio::join!(node.stop(), knocking);
    assert!(kept < AT_ONCE, "the late hello got {hello:?} after {kept:?}; the end took {took:?}");
    assert_ne!(hello, Some("ok".into()), "it was let in");
}

/// The store's host vanishes without a word in the middle of an answer; another takes its place.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_falls_silent_holds_a_conversation_up_for_a_bounded_time() {
    let stage = Stage::set(On::Services, 1, seed(), &[NO_LIMITS]).await;
    let crew = Crew::gather(&stage, Size { people: 3, rate: 1.0, load: Duration::ZERO }).await;
    let store = stage.nodes[0].store.as_ref().expect("a store");
    let (member, place) = (&crew.members[0], &crew.members[0].places[0]);
    let begun = store.stalled_answer_to(&[LOCKS_HEAD, &in_store(place)]);
    member.client.send(place, "m1", "to be answered");
    begun.await;
    store.set_new(Way::Down, Mode::Pass);
    store.keep_only(Side::Client);
    let answered = crew.answered(Duration::from_mins(1)).await;
    let notes = [format!("the conversation went on after {answered:?}")];
    judge("a store falls silent", &stage, &crew, &notes).await;
    assert!(answered.as_ref().is_ok_and(|time| *time < SILENT), "{answered:?}");
}

/// What has begun runs on the thread of its client's connection, and outlives both.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_send_that_the_store_has_begun_is_finished_before_its_node_ends() {
    let stage = Stage::set(On::Services, 2, seed(), &[NO_LIMITS]).await;
    let crew = Crew::gather(&stage, Size { people: 1, rate: 1.0, load: Duration::ZERO }).await;
    let (one, other, member) = (&stage.nodes[0], &stage.nodes[1], &crew.members[0]);
    let (place, token) = (&member.places[0], member.client.session.token().await);
    // There it could be sent again.
    other.front.refuse(true);
    other.front.cut();
    until("all are at one node", async || crew.connected() == 1 && other.front.open_links() == 0)
        .await;
    // Each answer of the store takes a quarter of a second, and an append some four of them.
    let store = one.store.as_ref().expect("a store");
    store.set(Way::Down, Mode::Slow(1_200));
    let begun = store.answer_to(&[LOCKS_HEAD, &in_store(place)]);
    member.client.send(place, "m1", "begun by one");
    begun.await;
    let took = one.stop().await;
    let found = reqwest::Client::new()
        .get(format!("{}/api/v1/conversations/{place}/messages", other.url().expect("it runs")))
        .bearer_auth(&token)
        .send()
        .await;
    let found: Value = found.expect("an answer").json().await.expect("JSON");
    assert_eq!(found["items"][0]["client_msg_id"], "m1", "after {took:?}: {found}");
}
