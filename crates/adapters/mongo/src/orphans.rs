//! Transactions that a node leaves open when it dies.
//!
//! MongoDB keeps the transaction open, and what it has written locked, until `transactionLifetimeLimitSeconds` have
//! passed: a minute by default. So each node keeps a list of its sessions in `nodes` and renews it every [`BEAT`]. A
//! node that sees another's list unchanged for [`SILENT`], in looks none of which failed or was slow, kills the
//! sessions on it, and with them their open transactions. If the other was only slow, it runs those transactions again.
//! A node's own transaction whose end the server has not confirmed is ended in the same way, at the first beat that the
//! server answers.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak},
    time::Duration,
};

use bson::{Bson, DateTime, Document, doc};
use futures::TryStreamExt;
use mongodb::{
    ClientSession, Collection, Database,
    options::{CollectionOptions, ReadConcern, WriteConcern},
};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::error::{Outcome, code, in_time};

/// How often a node renews its list, and looks at the others'.
const BEAT: Duration = Duration::from_secs(1);
/// A node whose list does not change for this long is taken for dead.
const SILENT: Duration = Duration::from_secs(5);
/// A beat that takes longer says nothing about others: the trouble is this node's own.
const SLOW: Duration = Duration::from_secs(2);
/// How long to wait for an answer.
const ANSWER: Duration = Duration::from_secs(5);
/// A session that has been idle for this long has nothing open.
const IDLE: Duration = Duration::from_mins(10);
/// Sessions ended by one command.
const TOGETHER: usize = 1_000;

/// This node's sessions.
pub(crate) struct Sessions {
    lists: Collection<Document>,
    /// By the bytes of their ids.
    known: Mutex<HashMap<bson::Uuid, Known>>,
    /// One list is written at a time, so that a later one is never overwritten by an older.
    writing: tokio::sync::Mutex<()>,
    /// The list's key: the first session on it.
    key: OnceLock<bson::Uuid>,
    /// Sessions whose transaction may still be open.
    abandoned: Mutex<Vec<ClientSession>>,
}

#[derive(Clone, Copy)]
struct Known {
    used: Instant,
    listed: bool,
}

/// For each list, its `seen_at` at the last look, and since when that has been unchanged.
type Looks = HashMap<bson::Uuid, (Option<DateTime>, Instant)>;

impl Sessions {
    /// An empty list, and a task that beats for it. The task ends within a beat after the list is dropped.
    pub(crate) fn start(db: &Database) -> Arc<Self> {
        let this = Arc::new(Self {
            lists: lists(db),
            known: Mutex::default(),
            writing: tokio::sync::Mutex::default(),
            key: OnceLock::new(),
            abandoned: Mutex::default(),
        });
        tokio::spawn(keep(Arc::downgrade(&this), db.clone()));
        this
    }

    /// Puts a session on the list, before a transaction begins in it.
    pub(crate) async fn enlist(&self, session: &ClientSession) -> Outcome<()> {
        let Some(id) = id_of(session) else { return Ok(()) };
        let now = Instant::now();
        let listed = {
            let mut known = self.known();
            let it = known.entry(id).or_insert(Known { used: now, listed: false });
            it.used = now;
            it.listed
        };
        if listed {
            return Ok(());
        }
        in_time(ANSWER, async {
            let _turn = self.writing.lock().await;
            // The previous writer has written for everybody who waited.
            if self.known().get(&id).is_some_and(|it| it.listed) {
                return Ok(());
            }
            self.write(self.key.get_or_init(|| id)).await
        })
        .await
    }

    /// Keeps a session whose transaction may still be open on the server until that is ended: if dropped, the driver
    /// would reuse it for another transaction.
    pub(crate) fn abandon(&self, session: ClientSession) {
        self.abandoned().push(session);
    }

    /// Renews the list, ends what was abandoned, and looks at other lists: each even if another fails.
    async fn beat(&self, db: &Database, looks: &mut Looks) -> Outcome<()> {
        let renewed = in_time(ANSWER, self.renew()).await;
        let ended = in_time(ANSWER, self.end_abandoned(db)).await;
        let begun = Instant::now();
        let looked = in_time(ANSWER, bury(db, &self.lists, looks)).await;
        if looked.is_err() || begun.elapsed() > SLOW {
            looks.clear();
        }
        renewed.and(ended).and(looked)
    }

    async fn end_abandoned(&self, db: &Database) -> Outcome<()> {
        let ids: Vec<_> = self.abandoned().iter().filter_map(id_of).collect();
        end(db, &ids).await?;
        let ended = |session: &ClientSession| id_of(session).is_none_or(|id| ids.contains(&id));
        self.abandoned().retain(|session| !ended(session));
        Ok(())
    }

    async fn renew(&self) -> Outcome<()> {
        let _turn = self.writing.lock().await;
        let now = Instant::now();
        self.known().retain(|_, it| now.duration_since(it.used) < IDLE);
        match self.key.get() {
            Some(key) => self.write(key).await,
            None => Ok(()),
        }
    }

    async fn write(&self, key: &bson::Uuid) -> Outcome<()> {
        let ids: Vec<bson::Uuid> = self.known().keys().copied().collect();
        let list = doc! { "$set": { "sessions": &ids }, "$currentDate": { "seen_at": true } };
        self.lists.update_one(doc! { "_id": key }, list).upsert(true).await?;
        let mut known = self.known();
        for id in ids {
            if let Some(it) = known.get_mut(&id) {
                it.listed = true;
            }
        }
        Ok(())
    }

    fn abandoned(&self) -> MutexGuard<'_, Vec<ClientSession>> {
        self.abandoned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known(&self) -> MutexGuard<'_, HashMap<bson::Uuid, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Read from and written to the primary alone: while majority commits are slow, all lists would seem unchanged. If one
/// is lost with its primary, so are its sessions' transactions, and it is written again a beat later.
fn lists(db: &Database) -> Collection<Document> {
    let present = CollectionOptions::builder()
        .read_concern(ReadConcern::local())
        .write_concern(WriteConcern::nodes(1))
        .build();
    db.collection_with_options("nodes", present)
}

/// Beats for as long as somebody holds the sessions.
async fn keep(sessions: Weak<Sessions>, db: Database) {
    let (mut looks, mut pace) = (Looks::new(), interval(BEAT));
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while let Some(this) = sessions.upgrade() {
        if let Err(error) = this.beat(&db, &mut looks).await {
            tracing::debug!(%error, "the sessions' list is not renewed, or others' not looked at");
        }
        drop(this);
        pace.tick().await;
    }
}

/// Ends what dead nodes have left open.
async fn bury(db: &Database, lists: &Collection<Document>, looks: &mut Looks) -> Outcome<()> {
    let all: Vec<Document> = lists.find(doc! {}).await?.try_collect().await?;
    let now = Instant::now();
    let keys: Vec<_> = all.iter().filter_map(key_of).collect();
    looks.retain(|key, _| keys.contains(key));
    for list in all {
        let Some(key) = key_of(&list) else { continue };
        let seen_at = list.get_datetime("seen_at").ok().copied();
        let look = looks.entry(key).or_insert((seen_at, now));
        if look.0 != seen_at {
            *look = (seen_at, now);
        }
        if now.duration_since(look.1) < SILENT {
            continue;
        }
        let sessions = list.get_array("sessions").map(Vec::as_slice).unwrap_or_default();
        let sessions: Vec<_> = sessions.iter().filter_map(uuid).collect();
        tracing::debug!(
            count = sessions.len(),
            "a node has gone or is silent; its sessions are ended"
        );
        end(db, &sessions).await?;
        // Unless the node is alive after all, and has renewed it.
        lists.delete_one(doc! { "_id": key, "seen_at": seen_at }).await?;
    }
    Ok(())
}

/// Ends sessions and their transactions. If the server refuses, its own time limit will end them.
async fn end(db: &Database, sessions: &[bson::Uuid]) -> Outcome<()> {
    for sessions in sessions.chunks(TOGETHER) {
        let sessions: Vec<Document> = sessions.iter().map(|id| doc! { "id": id }).collect();
        match db.run_command(doc! { "killSessions": sessions }).await {
            Err(error) if code(&error).is_some() => {
                tracing::warn!(%error, "transactions that nobody will end stay open until their time is over");
            }
            outcome => drop(outcome?),
        }
    }
    Ok(())
}

fn key_of(list: &Document) -> Option<bson::Uuid> {
    uuid(list.get("_id")?)
}

fn id_of(session: &ClientSession) -> Option<bson::Uuid> {
    uuid(session.id().get("id")?)
}

fn uuid(id: &Bson) -> Option<bson::Uuid> {
    match id {
        Bson::Binary(id) => id.to_uuid().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use mongodb::Client;

    use super::*;

    /// A majority of one is never slow, so no test against one would notice.
    #[tokio::test]
    async fn nodes_that_live_look_alive_while_majorities_come_late() {
        let client = Client::with_uri_str("mongodb://127.0.0.1:1").await.expect("needs no server");
        let lists = lists(&client.database("parlance"));
        assert_eq!(lists.read_concern(), Some(&ReadConcern::local()));
        assert_eq!(lists.write_concern(), Some(&WriteConcern::nodes(1)));
    }
}
