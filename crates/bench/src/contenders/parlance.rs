//! Parlance, set up through nothing but its REST API. Its rate limits are off, because one sender does what hundreds do
//! elsewhere and one address signs everybody up; all else is as it is shipped.

use std::{
    net::SocketAddr,
    process::Command,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Places, Process, Running, Scene, process::home};
use crate::{
    driver::http::Http,
    speech::{Language, Speech},
};

/// How many set up at once: commits and password hashes overlap.
const HANDS: usize = 8;

pub(super) fn start(scene: &Scene, places: &Places, services: bool) -> Result<Running> {
    let home = home(&places.target)?;
    let settings = if services { on_services(places, home.path())? } else { vec![] };
    let (first, address) = process(places, home, &settings)?;
    let people = people(address, scene.users)?;
    let channels = workspace(address, &people, scene.conversations)?;
    // A new process, without the memory that hashing all these passwords has left behind.
    let home = first.end().context("its files")?;
    let (process, address) = process(places, home, &settings)?;
    let history = format!("/api/v1/conversations/{}/messages?limit=50", channels[0]);
    let channels = channels.into_iter().take(scene.channels).collect();
    let speech = Speech::new(Language::Parlance, scene, channels);
    Ok(Running { process, address, speech, tickets: people, history: Some(history), settings })
}

pub(super) fn beside(first: &Running, places: &Places) -> Result<Running> {
    let (process, address) = process(places, home(&places.target)?, &first.settings)?;
    let (speech, tickets) = (first.speech.clone(), first.tickets.clone());
    let (history, settings) = (first.history.clone(), first.settings.clone());
    Ok(Running { process, address, speech, tickets, history, settings })
}

fn process(
    places: &Places,
    home: TempDir,
    settings: &[(String, String)],
) -> Result<(Process, SocketAddr)> {
    let mut command = Command::new(&places.parlance);
    command
        .args(["serve", "--listen", "127.0.0.1:0", "--rate-limits", "off", "--data-dir"])
        .arg(home.path().join("data"))
        // Each run has a store of its own, and all have one Redis: its jobs are another store's.
        .env("RUST_LOG", "error,parlance_redis::jobs=off");
    for name in ["MONGODB_URI", "REDIS_URL", "SMTP_URL", "CONFIG", "RATE_LIMITS", "METRICS_LISTEN"]
    {
        command.env_remove(format!("PARLANCE_{name}"));
    }
    command.envs(settings.iter().map(|(name, value)| (name, value)));
    Process::announced(&mut command, Some(home))
}

/// A database of one's own on the services that `tests/services.py` has started.
fn on_services(places: &Places, home: &std::path::Path) -> Result<Vec<(String, String)>> {
    let missing = "needs services: run it below `python3 tests/services.py --`";
    let (mongodb, redis) =
        (places.mongodb.as_ref().context(missing)?, places.redis.as_ref().context(missing)?);
    let name = home.file_name().unwrap_or_default().to_string_lossy().replace(['.', '-'], "_");
    Ok(vec![
        ("PARLANCE_MONGODB_URI".into(), database(mongodb, &name)),
        ("PARLANCE_REDIS_URL".into(), redis.clone()),
        ("PARLANCE_JWT_SECRET".into(), "0123456789abcdef0123456789abcdef".into()),
    ])
}

/// The address of a replica set with a database named in it.
pub(super) fn database(uri: &str, name: &str) -> String {
    match uri.split_once('?') {
        Some((server, options)) => format!("{}/{name}?{options}", server.trim_end_matches('/')),
        None => format!("{}/{name}", uri.trim_end_matches('/')),
    }
}

/// Signs people up; their tokens.
fn people(address: SocketAddr, count: usize) -> Result<Vec<String>> {
    each(address, count, |http, n| {
        let body = json!({ "email": format!("p{n}@example.org"), "password": "correct horse", "display_name": format!("P {n}") });
        text(&http.call("POST", "/api/v1/auth/signup", "", &body)?, "access_token")
    })
}

/// Creates a workspace with this many channels, `general` first, and everybody in all of them; returns the channels.
fn workspace(address: SocketAddr, people: &[String], conversations: usize) -> Result<Vec<String>> {
    let mut http = Http::new(address)?;
    let made = http.call("POST", "/api/v1/workspaces", &people[0], &json!({ "name": "Bench" }))?;
    let (id, code) = (text(&made, "id")?, text(&made, "join_code")?);
    let path = format!("/api/v1/workspaces/{id}/channels");
    let listed = http.call("GET", &path, &people[0], &Value::Null)?;
    let mut channels = vec![text(&listed["items"][0], "id")?];
    for n in 1..conversations {
        let body = json!({ "name": format!("channel-{n}") });
        channels.push(text(&http.call("POST", &path, &people[0], &body)?, "id")?);
    }
    each(address, people.len() - 1, |http, n| {
        let token = &people[n + 1];
        http.call("POST", "/api/v1/workspaces/join", token, &json!({ "join_code": code }))?;
        for channel in &channels[1..] {
            http.call("POST", &format!("/api/v1/channels/{channel}/join"), token, &Value::Null)?;
        }
        Ok(())
    })?;
    Ok(channels)
}

/// Does something this many times over a few connections; returns the answers in order.
fn each<T: Send>(
    address: SocketAddr,
    count: usize,
    work: impl Fn(&mut Http, usize) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let (next, done) = (AtomicUsize::new(0), Mutex::new(vec![]));
    let hand = || -> Result<()> {
        let mut http = Http::new(address)?;
        loop {
            let n = next.fetch_add(1, Ordering::Relaxed);
            if n >= count {
                return Ok(());
            }
            let made = work(&mut http, n)?;
            done.lock().unwrap_or_else(PoisonError::into_inner).push((n, made));
        }
    };
    thread::scope(|scope| {
        let hands: Vec<_> = (0..HANDS.min(count)).map(|_| scope.spawn(hand)).collect();
        hands
            .into_iter()
            .try_for_each(|hand| hand.join().unwrap_or_else(|_| anyhow::bail!("a hand panicked")))
    })?;
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|(n, _)| *n);
    Ok(done.into_iter().map(|(_, made)| made).collect())
}

fn text(value: &Value, field: &str) -> Result<String> {
    let found = value[field].as_str().with_context(|| format!("no {field} in {value}"))?;
    Ok(found.to_owned())
}
