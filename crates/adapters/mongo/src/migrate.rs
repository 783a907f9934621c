//! The schema, as numbered steps that are never changed once released.
//!
//! To add a step: put `NNNN_name.json` into `migrations/mongo/` and its line into [`STEPS`]; a test compares the two.
//! The server has no transactions over its catalogue, so a step's commands must be repeatable.
//!
//! Nodes that start at once take turns, by a lock: a document with a number that grows with every holder, and with the
//! time, by the server's clock, at which the lease ends, which the holder keeps extending.

use std::{collections::HashMap, time::Duration};

use bson::{DateTime, Document, doc};
use futures::TryStreamExt;
use mongodb::{Collection, Database, options::ReturnDocument};
use parlance_application::{Error, Result};
use sha2::{Digest, Sha256};
use tokio::time::{Instant, sleep};

use crate::{
    connect::{answered, inserted, open, server_time},
    error::{code, driver},
};

struct Step {
    name: &'static str,
    commands: &'static str,
}

macro_rules! steps {
    ($($name:literal)*) => {
        &[$(Step { name: $name, commands: include_str!(concat!("../../../../migrations/mongo/", $name, ".json")) }),*]
    };
}

const STEPS: &[Step] = steps! {
    "0001_schema"
    "0002_traces"
    "0003_no_index_of_ended_sessions"
    "0004_the_outbox_in_the_order_of_its_turn"
};

const LOCK: &str = "lock";
/// How long the lock lasts unless it is renewed.
const LEASE: Duration = Duration::from_secs(30);
/// How long to wait for another node's migration.
const PATIENCE: Duration = Duration::from_mins(10);
/// How long to wait before checking the lock again.
const PAUSE: Duration = Duration::from_millis(200);
/// The server's code for a collection that a step creates and that is there already.
const NAMESPACE_EXISTS: i32 = 48;
/// The server's code for an index that a step drops and that is gone already.
const INDEX_NOT_FOUND: i32 = 27;

/// Brings the schema of the database that the URI names up to date; returns the steps taken.
pub async fn migrate(uri: &str) -> Result<Vec<String>> {
    let (db, _) = open(uri).await?;
    run(&db).await
}

/// The same, once connected.
pub(crate) async fn run(db: &Database) -> Result<Vec<String>> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if pending(db).await?.is_empty() {
            return Ok(Vec::new());
        }
        if let Some(number) = take(db).await? {
            let applied = apply(db, number).await;
            release(db, number).await;
            return applied;
        }
        if Instant::now() >= deadline {
            return Err(Error::unavailable("another node's migration does not end"));
        }
        sleep(PAUSE).await;
    }
}

/// Refuses a database whose schema is not the one that this program needs.
pub(crate) async fn check(db: &Database) -> Result<()> {
    let pending: Vec<_> = pending(db).await?.into_iter().map(|step| step.name).collect();
    if pending.is_empty() {
        return Ok(());
    }
    let pending = pending.join(", ");
    Err(Error::internal(format_args!(
        "the database lacks migrations: {pending}. Run `parlance migrate`"
    )))
}

/// The pending steps. Refuses a database written by a newer program, or whose steps differ from those that this program
/// knows.
async fn pending(db: &Database) -> Result<Vec<&'static Step>> {
    let rows: Vec<Document> =
        answered(async { applied(db).find(doc! {}).await?.try_collect().await }).await?;
    let mut stored = HashMap::new();
    for row in &rows {
        let name = row.get_str("_id").map_err(Error::internal)?;
        stored.insert(name, row.get_str("checksum").map_err(Error::internal)?);
    }
    let mut pending = Vec::new();
    for step in STEPS {
        match stored.remove(step.name) {
            None => pending.push(step),
            Some(known) if known == checksum(step.commands) => {}
            Some(_) => {
                return Err(Error::internal(format_args!(
                    "migration {} was applied to the database in another form than this program has",
                    step.name
                )));
            }
        }
    }
    let mut unknown: Vec<&str> = stored.into_keys().collect();
    if unknown.is_empty() {
        return Ok(pending);
    }
    unknown.sort_unstable();
    let unknown = unknown.join(", ");
    Err(Error::internal(format_args!(
        "the database has migrations that this program does not know: {unknown}. Run a newer program"
    )))
}

/// Takes all pending steps, as holder `number` of the lock.
async fn apply(db: &Database, number: i64) -> Result<Vec<String>> {
    let mut taken = Vec::new();
    // Checked again: the lock's previous holder may have taken them.
    for step in pending(db).await? {
        let commands: Vec<Document> = serde_json::from_str(step.commands)
            .map_err(|error| Error::internal(format_args!("{}: {error}", step.name)))?;
        for command in commands {
            renewing(db, number, run_command(db, command)).await?;
        }
        renew(db, number).await?;
        let row = doc! {
            "_id": step.name,
            "checksum": checksum(step.commands),
            "applied_at": server_time(db).await?,
        };
        // Another node that held the lock meanwhile may have finished the step as well.
        inserted(applied(db).insert_one(row)).await?;
        tracing::info!(step = step.name, "migrated the database");
        taken.push(step.name.to_owned());
    }
    Ok(taken)
}

async fn run_command(db: &Database, mut command: Document) -> Result<()> {
    command.insert("writeConcern", doc! { "w": "majority" });
    match db.run_command(command).await {
        Ok(_) => Ok(()),
        // A node that did not finish began the step before.
        Err(error) if matches!(code(&error), Some(NAMESPACE_EXISTS | INDEX_NOT_FOUND)) => Ok(()),
        Err(error) => Err(driver(&error)),
    }
}

/// Keeps the lock while a command runs, which may take as long as an index build.
async fn renewing(
    db: &Database,
    number: i64,
    command: impl Future<Output = Result<()>> + Send,
) -> Result<()> {
    let mut command = std::pin::pin!(command);
    loop {
        renew(db, number).await?;
        let tick = sleep(LEASE / 3);
        tokio::select! {
            done = &mut command => return done,
            () = tick => {}
        }
    }
}

/// Takes the lock if nobody holds it; returns the holder's number.
async fn take(db: &Database) -> Result<Option<i64>> {
    let now = server_time(db).await?;
    let new = doc! { "_id": LOCK, "number": 0_i64, "until": now };
    inserted(locks(db).insert_one(new)).await?;
    let free = doc! { "_id": LOCK, "until": { "$lte": now } };
    let take = doc! { "$set": { "until": end(now) }, "$inc": { "number": 1_i64 } };
    let locks = locks(db);
    let taken = locks.find_one_and_update(free, take).return_document(ReturnDocument::After);
    let held = answered(taken).await?;
    held.map(|held| held.get_i64("number").map_err(Error::internal)).transpose()
}

async fn renew(db: &Database, number: i64) -> Result<()> {
    let until = end(server_time(db).await?);
    let own = doc! { "_id": LOCK, "number": number };
    let renewed = answered(locks(db).update_one(own, doc! { "$set": { "until": until } })).await?;
    if renewed.matched_count == 0 {
        return Err(Error::unavailable("another node has taken the migration over"));
    }
    Ok(())
}

/// Releases the lock. If that fails, it expires.
async fn release(db: &Database, number: i64) {
    let own = doc! { "_id": LOCK, "number": number };
    let over = doc! { "$set": { "until": DateTime::from_millis(0) } };
    if let Err(error) = answered(locks(db).update_one(own, over)).await {
        tracing::warn!(%error, "the lock of the migrations was not given back");
    }
}

fn end(now: DateTime) -> DateTime {
    now.saturating_add_duration(LEASE)
}

fn applied(db: &Database) -> Collection<Document> {
    db.collection("migrations")
}

fn locks(db: &Database) -> Collection<Document> {
    db.collection("migration_lock")
}

fn checksum(commands: &str) -> String {
    hex::encode(Sha256::digest(commands.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_the_folder() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../migrations/mongo");
        let mut files: Vec<String> = std::fs::read_dir(folder)
            .expect("a folder")
            .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
            .collect();
        files.sort();
        let listed: Vec<String> = STEPS.iter().map(|step| format!("{}.json", step.name)).collect();
        assert_eq!(files, listed);
        for (step, version) in STEPS.iter().zip(1..) {
            assert!(step.name.starts_with(&format!("{version:04}_")));
        }
    }

    #[test]
    fn steps_are_commands() {
        for step in STEPS {
            let commands: Vec<Document> = serde_json::from_str(step.commands).expect("commands");
            for command in commands {
                let name = command.keys().next().map(String::as_str);
                assert!(
                    matches!(name, Some("create" | "createIndexes" | "dropIndexes" | "collMod")),
                    "{name:?}"
                );
            }
        }
    }
}
