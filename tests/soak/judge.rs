//! Counts after a scenario: nothing lost, nothing doubled, one order, and everybody sees the same.

use std::{
    collections::{BTreeMap, HashSet},
    net::SocketAddr,
    time::Duration,
};

use parlance_client::Stats;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::{
    client::{Client, Kept},
    crew::{Crew, Member},
    ledger::Ledger,
    session::Session,
    stage::Stage,
    support::until,
};

/// How long a change may take to reach every live connection: 5 s by the wire contract; this is for a busy machine.
const STALL: Duration = Duration::from_secs(10);
/// And where nothing is wrong, the contract's own.
const LIVE: Duration = Duration::from_secs(5);
/// How long it may take until all are answered and hold the same, once nothing is wrong any more.
const SETTLING: Duration = Duration::from_secs(30);
/// How long to wait for what is too late, to tell whether it was lost.
const LAST_WORDS: Duration = Duration::from_mins(5);

/// What the server finally says of a conversation.
struct Truth {
    messages: BTreeMap<u64, Kept>,
    rev: u64,
}

/// Waits for the end of the load's effects, judges them, and prints a report.
pub(crate) async fn judge(name: &str, stage: &Stage, crew: &Crew, notes: &[String]) {
    let answered = crew.answered(SETTLING).await;
    if answered.is_err() {
        // It has failed. But counts taken while people still write say nothing.
        let _ = crew.answered(LAST_WORDS).await;
    }
    witness(stage, crew).await;
    let left = |m: &&Member| !crew.ledger.book().is_removed(&m.client.id);
    let members: Vec<&Member> = crew.members.iter().filter(left).collect();
    let mut places = BTreeMap::new();
    for member in &members {
        for place in &member.places {
            places.entry(place.as_str()).or_insert(&member.client.session);
        }
    }
    let mut truths = BTreeMap::new();
    for (place, reader) in places {
        truths.insert(place, truth(stage, place, reader, &crew.ledger).await);
    }
    let settled = converged(&members, &truths).await;

    let mut lost = 0;
    for member in &members {
        lost += compare(member, &truths, &crew.ledger);
        unread(stage, member, &crew.ledger).await;
    }
    lost += promises(&truths, &crew.ledger);
    let report = report(name, stage, crew, notes, (&answered, &settled, lost));
    #[expect(clippy::print_stderr, reason = "the report is what a long run is for")]
    {
        eprintln!("{report}");
    }
    let (wrongs, gap) = {
        let book = crew.ledger.book();
        (book.wrongs(), book.gaps.longest)
    };
    assert!(
        gap < STALL && wrongs.is_none() && answered.is_ok() && settled.is_ok(),
        "seed {}\n{report}\n{}",
        stage.seed,
        wrongs.unwrap_or_default()
    );
}

/// In the end all members may be at one node. One more connection at each sends a message that the others have to hear,
/// live.
async fn witness(stage: &Stage, crew: &Crew) {
    let admin = &crew.members[0];
    let (place, session) = (&admin.places[0], &admin.client.session);
    let start = |address: &SocketAddr| {
        Client::start(session.clone(), &[*address], crew.ledger.clone(), stage.seed)
    };
    let witnesses: Vec<_> = stage.addresses().iter().map(start).collect();
    until("there is a witness at each node", async || witnesses.iter().all(|w| w.is_connected()))
        .await;
    let mut words = vec![];
    for (node, witness) in witnesses.iter().enumerate() {
        let key = format!("the word of node {node}");
        witness.send(place, &key, &key);
        until("the word is kept", async || witness.unanswered() == 0).await;
        let seq = crew.ledger.book().sends[&key].acked.as_ref().map(|acked| acked.seq);
        words.push((key, seq.unwrap_or_default()));
    }
    let begun = Instant::now();
    for (node, witness) in witnesses.iter().enumerate() {
        for (key, seq) in &words {
            while !witness.has(place, *seq) && begun.elapsed() < LIVE {
                sleep(Duration::from_millis(20)).await;
            }
            if !witness.has(place, *seq) {
                crew.ledger.book().wrong(format!("node {node} did not tell {key} within {LIVE:?}"));
            }
        }
    }
}

/// The whole history, as REST returns it. Its places are dense, and nothing is in it twice.
async fn truth(stage: &Stage, place: &str, reader: &Session, ledger: &Ledger) -> Truth {
    let (mut messages, mut after, mut keys) = (BTreeMap::new(), 0, HashSet::new());
    loop {
        let path = format!("/conversations/{place}/messages?after_seq={after}&limit=200&view=all");
        let page = stage.get(&path, &reader.token().await).await;
        for item in page["items"].as_array().expect("items") {
            let (seq, kept) = (item["seq"].as_u64().expect("a seq"), Kept::of(item));
            if seq != after + 1 {
                ledger.book().wrong(format!("{place}: seq {seq} follows {after}"));
            }
            after = seq;
            if !keys.insert((kept.author.clone(), kept.key.clone())) {
                ledger.book().wrong(format!("{place}: {} is there twice", kept.key));
            }
            messages.insert(seq, kept);
        }
        if page["next_cursor"].is_null() {
            return Truth { messages, rev: page["rev"].as_u64().expect("a rev") };
        }
    }
}

/// Waits until all cursors are at the heads.
async fn converged(
    members: &[&Member],
    truths: &BTreeMap<&str, Truth>,
) -> Result<Duration, String> {
    let begun = Instant::now();
    loop {
        let behind = members.iter().find_map(|member| {
            member.places.iter().find_map(|place| {
                let (cursor, rev) = (member.client.cursor(place)?, truths[place.as_str()].rev);
                let id = &member.client.id;
                (cursor < rev)
                    .then(|| format!("{id} is at rev {cursor} of {place}, which is at {rev}"))
            })
        });
        match behind {
            None => return Ok(begun.elapsed()),
            Some(behind) if begun.elapsed() > SETTLING => return Err(behind),
            Some(_) => sleep(Duration::from_millis(20)).await,
        }
    }
}

/// Compares what a member got and holds with the truth: each message, its place and its last state. Returns how many
/// are missing.
fn compare(member: &Member, truths: &BTreeMap<&str, Truth>, ledger: &Ledger) -> usize {
    let (id, mut lost) = (&member.client.id, 0);
    for place in &member.places {
        let Some(held) = member.client.held(place) else {
            ledger.book().wrong(format!("{id} is not in {place} any more"));
            continue;
        };
        let truth = &truths[place.as_str()];
        for (seq, right) in truth.messages.iter().filter(|(seq, _)| !held.seen.contains(seq)) {
            lost += 1;
            ledger.book().wrong(format!("{id} never got {} (seq {seq})", right.key));
        }
        if let Some(seq) = held.seen.iter().find(|seq| !truth.messages.contains_key(seq)) {
            ledger.book().wrong(format!("{id} got a seq {seq}, which is not there"));
        }
        for (seq, kept) in &held.messages {
            if truth.messages.get(seq) != Some(kept) {
                let right = truth.messages.get(seq);
                ledger.book().wrong(format!("{id} holds {kept:?} for {right:?}"));
            }
        }
    }
    lost
}

/// What was acknowledged is there, where it was said to be and as it was last changed; what is there was sent.
fn promises(truths: &BTreeMap<&str, Truth>, ledger: &Ledger) -> usize {
    let (mut wrongs, mut lost) = (vec![], 0);
    let mut book = ledger.book();
    for (key, fate) in &book.sends {
        let Some(truth) = truths.get(fate.conversation.as_str()) else { continue };
        let Some(acked) = &fate.acked else { continue };
        match truth.messages.get(&acked.seq).filter(|kept| kept.id == acked.id && kept.key == *key)
        {
            None => {
                lost += 1;
                wrongs.push(format!("{key} was acknowledged as seq {} and is lost", acked.seq));
            }
            Some(kept) => {
                let text = if fate.deleted { "" } else { &fate.text };
                // The last changes of those who were removed may have come too late.
                if !book.is_removed(&fate.author)
                    && (kept.deleted != fate.deleted || kept.text != text)
                {
                    wrongs.push(format!("{key} is {kept:?}, and should be {text:?}"));
                }
            }
        }
    }
    for kept in truths.values().flat_map(|truth| truth.messages.values()) {
        if book.sends.get(&kept.key).is_none_or(|fate| fate.author != kept.author) {
            wrongs.push(format!("{} is there, and nobody sent it", kept.key));
        }
    }
    for wrong in wrongs {
        book.wrong(wrong);
    }
    lost
}

/// What the member counts as unread is what the server counts.
async fn unread(stage: &Stage, member: &Member, ledger: &Ledger) {
    let client = &member.client;
    let list = stage.get("/conversations?limit=200", &client.session.token().await).await;
    let items: &Vec<Value> = list["items"].as_array().expect("items");
    for summary in items {
        let id = summary["id"].as_str().expect("an id");
        let Some(counted) = client.held(id).map(|held| held.unread(&client.id)) else { continue };
        if summary["unread_count"].as_u64() != Some(counted as u64) {
            let server = &summary["unread_count"];
            ledger.book().wrong(format!(
                "{} counts {counted} unread in {id}, the server {server}",
                client.id
            ));
        }
    }
}

fn report(
    name: &str,
    stage: &Stage,
    crew: &Crew,
    notes: &[String],
    (answered, settled, lost): (&Result<Duration, String>, &Result<Duration, String>, usize),
) -> String {
    let stats: Vec<_> = crew.members.iter().map(|member| member.client.stats()).collect();
    let sum = |count: fn(&Stats) -> u64| stats.iter().map(count).sum::<u64>();
    let mut ends = BTreeMap::<u16, u64>::new();
    for (code, count) in stats.iter().flat_map(|stats| &stats.closes) {
        *ends.entry(*code).or_default() += count;
    }
    let book = crew.ledger.book();
    let said = |result: &Result<Duration, String>| match result {
        Ok(time) => format!("{} ms", time.as_millis()),
        Err(why) => why.clone(),
    };
    let mut lines = vec![
        format!("== {name}, seed {} ==", stage.seed),
        format!(
            "people {}, sent {}, acknowledged {}, delivered {}, lost {lost}, not sent because of a full outbox {}",
            crew.members.len(),
            book.sends.len(),
            book.acked(),
            book.delivered,
            crew.skipped()
        ),
        format!(
            "commands told to come again {}, begun again {}; events that had come before {}, syncs {}",
            book.put_off,
            book.retries,
            sum(|stats| stats.duplicates_dropped),
            sum(|stats| stats.syncs)
        ),
        format!(
            "connections {}, attempts that failed {}, unreadable {}, ended with {ends:?}",
            sum(|stats| stats.connections),
            sum(|stats| stats.failed_attempts),
            sum(|stats| stats.unreadable)
        ),
        format!("send to answer: {}", book.answers),
        format!("answer to arrival at those connected: {}", book.gaps),
        format!("without connection: {}", book.absences),
        format!("all answered after {}, all the same after {}", said(answered), said(settled)),
    ];
    for (n, node) in stage.nodes.iter().enumerate() {
        let (most, some) = node.memory();
        lines.push(format!("node {n} had at most {most} MiB: {some}"));
    }
    lines.extend(notes.iter().cloned());
    lines.join("\n")
}
