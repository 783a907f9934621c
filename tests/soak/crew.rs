//! The people of a scenario: who is in which conversation, and what they do there at what pace.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::{StreamExt, stream};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::{
    client::Client,
    dice::Dice,
    ledger::Ledger,
    session::Session,
    stage::Stage,
    support::{text, until},
};

/// How many fit a channel other than `general`.
const CHANNEL: usize = 25;
/// How many connect at a time in the beginning.
const CROWD: usize = 25;
/// How many writes may await their answer before a person stops writing more.
const PATIENT: usize = 40;

/// How much, and for how long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    pub(crate) people: usize,
    /// Sends a second, of all together.
    pub(crate) rate: f64,
    pub(crate) load: Duration,
}

pub(crate) struct Crew {
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) members: Vec<Member>,
    pub(crate) workspace: String,
    skipped: AtomicU64,
    serial: AtomicU64,
}

pub(crate) struct Member {
    pub(crate) client: Arc<Client>,
    /// Their conversations: `general`, then a channel, then DMs.
    pub(crate) places: Vec<String>,
}

impl Crew {
    /// Signs all up, makes their conversations, and connects them.
    pub(crate) async fn gather(stage: &Stage, size: Size) -> Self {
        let people: Vec<Arc<Session>> =
            stream::iter(0..size.people).map(|n| sign_up(stage, n)).buffered(4).collect().await;
        let admin = &people[0].token().await;
        let workspace = stage.post("/workspaces", json!({ "name": "Soak" }), admin).await;
        let (id, code) = (text(&workspace["id"]), text(&workspace["join_code"]));
        let channels = format!("/workspaces/{id}/channels");
        let general = text(&stage.get(&channels, admin).await["items"][0]["id"]);
        let mut rooms = vec![];
        for n in 0..size.people.div_ceil(CHANNEL).max(2) {
            let channel = json!({ "name": format!("room-{n}") });
            rooms.push(text(&stage.post(&channels, channel, admin).await["id"]));
        }
        let places = stream::iter(0..size.people)
            .map(|n| enter(stage, &people, n, (&code, &rooms[n % rooms.len()])))
            .buffered(4)
            .collect::<Vec<_>>()
            .await;
        let mut all: Vec<_> =
            places.iter().map(|room| vec![general.clone(), room.clone()]).collect();
        // Everybody has joined by now: pairs get their DM. The last has none: a scenario may remove them.
        let pairs: Vec<_> = (0..(size.people - 1) / 2).map(|n| (2 * n, 2 * n + 1)).collect();
        let dms: Vec<String> = stream::iter(&pairs)
            .map(|(one, other)| dm(stage, &people[*one], &people[*other].user, &id))
            .buffered(4)
            .collect()
            .await;
        for ((one, other), dm) in pairs.into_iter().zip(dms) {
            all[one].push(dm.clone());
            all[other].push(dm);
        }
        let ledger = Arc::new(Ledger::default());
        let mut members: Vec<Member> = vec![];
        for ((n, person), places) in people.into_iter().enumerate().zip(all) {
            let seed = stage.seed.wrapping_add(n as u64);
            // Half of them begin at each node.
            let mut nodes = stage.addresses();
            let half = n % nodes.len();
            nodes.rotate_left(half);
            let client = Client::start(person, &nodes, ledger.clone(), seed);
            members.push(Member { client, places });
            // Not all at once: how a node handles a crowd at its door is another scenario.
            if members.len().is_multiple_of(CROWD) || members.len() == size.people {
                until("all are connected", async || {
                    members.iter().all(|m| m.client.is_connected())
                })
                .await;
            }
        }
        let (skipped, serial) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { ledger, members, workspace: id, skipped, serial }
    }

    pub(crate) fn connected(&self) -> usize {
        self.members.iter().filter(|m| m.client.is_connected()).count()
    }

    /// Sends, edits, deletes and reads, at an even pace, until the time is over.
    pub(crate) async fn work(&self, stage: &Stage, size: Size) {
        let dice = Dice::new(stage.seed);
        let (begun, pace) = (Instant::now(), Duration::from_secs_f64(1.0 / size.rate));
        let mut next = begun;
        while begun.elapsed() < size.load {
            self.act(dice.of(&self.members), &dice);
            next += pace;
            tokio::time::sleep_until(next).await;
        }
    }

    fn act(&self, member: &Member, dice: &Dice) {
        let client = &member.client;
        // `general` is heard by all, so it is used less.
        let place = if dice.roll(10) == 0 { 0 } else { 1 + dice.below(member.places.len() - 1) };
        let place = &member.places[place];
        if client.unanswered() >= PATIENT {
            self.skipped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let key = format!("m{}", self.serial.fetch_add(1, Ordering::Relaxed));
        client.send(place, &key, &format!("{key} says {}", dice.next()));
        match dice.roll(20) {
            0..2 => self.change_one(client, place, dice),
            2..5 => client.mark_read(place),
            _ => {}
        }
    }

    /// Edits or deletes one of the person's own messages that they have seen.
    fn change_one(&self, client: &Arc<Client>, place: &str, dice: &Dice) {
        let own = client.own(place, 30);
        let Some((key, id)) = own.get(dice.below(own.len().max(1))) else { return };
        let fresh = {
            let book = self.ledger.book();
            book.sends.get(key).is_some_and(|fate| !fate.deleted && !fate.text.ends_with("edited"))
        };
        match (dice.roll(3), fresh) {
            (0, true) => client.delete(key, id),
            (_, true) => client.edit(key, id, &format!("{key} edited")),
            _ => {}
        }
    }

    /// Ends a person's membership permanently.
    pub(crate) async fn remove(&self, stage: &Stage, member: &Member) {
        let path = format!("/workspaces/{}/members/{}", self.workspace, member.client.id);
        let admin = &self.members[0].client.session.token().await;
        self.ledger.book().removing(&member.client.id);
        let (status, said) = stage.call((Method::DELETE, &path, Value::Null), admin).await;
        // Not found: an earlier try succeeded, and its answer was lost.
        assert!(status.is_success() || status == 404, "{status} {said}");
        self.ledger.book().removed(&member.client.id);
    }

    pub(crate) fn skipped(&self) -> u64 {
        self.skipped.load(Ordering::Relaxed)
    }

    pub(crate) fn unanswered(&self) -> usize {
        self.members.iter().map(|member| member.client.unanswered()).sum()
    }

    /// Waits until everybody has been answered; returns how long that took.
    pub(crate) async fn answered(&self, within: Duration) -> Result<Duration, String> {
        let begun = Instant::now();
        while self.unanswered() > 0 {
            if begun.elapsed() > within {
                return Err(format!(
                    "{} writes have no answer after {within:?}",
                    self.unanswered()
                ));
            }
            sleep(Duration::from_millis(20)).await;
        }
        Ok(begun.elapsed())
    }
}

async fn sign_up(stage: &Stage, n: usize) -> Arc<Session> {
    let body = json!({ "email": format!("p{n}@example.org"), "password": "correct horse", "display_name": format!("p{n}") });
    stage.session(&stage.post("/auth/signup", body, "").await)
}

async fn enter(
    stage: &Stage,
    people: &[Arc<Session>],
    n: usize,
    (code, room): (&str, &str),
) -> String {
    let token = &people[n].token().await;
    stage.post("/workspaces/join", json!({ "join_code": code }), token).await;
    stage.post(&format!("/channels/{room}/join"), json!({}), token).await;
    room.to_owned()
}

async fn dm(stage: &Stage, one: &Session, other: &str, workspace: &str) -> String {
    let token = &one.token().await;
    let path = format!("/workspaces/{workspace}/dms");
    text(&stage.post(&path, json!({ "user_id": other }), token).await["id"])
}
