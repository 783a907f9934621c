//! What a node leaves behind that dies in the middle of a transaction.
//!
//! MongoDB keeps the transaction open, and what it has written locked, until `transactionLifetimeLimitSeconds` have passed:
//! a minute, unless it is set. So each node keeps a list of its sessions in `nodes` and renews it every [`BEAT`]; whoever
//! finds a list that has not been renewed for [`SILENT`] ends its sessions, and with them what they have open. A node that
//! was only slow runs its transactions again. A transaction of one's own whose end the server did not answer is ended the
//! same way, as soon as it answers again.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use bson::{Bson, DateTime, Document, doc};
use futures::TryStreamExt;
use mongodb::{ClientSession, Collection, Database};
use tokio::{
    sync::Notify,
    task::AbortHandle,
    time::{Instant, MissedTickBehavior, interval},
};

use crate::{
    connect::server_time,
    error::{Outcome, code},
};

/// How often a node renews its list, and looks at the others'.
const BEAT: Duration = Duration::from_secs(1);
/// Whose list is older is dead.
const SILENT: Duration = Duration::from_secs(5);
/// A session that has been idle for so long has nothing open.
const IDLE: Duration = Duration::from_mins(10);

/// This node's sessions.
pub(crate) struct Sessions {
    lists: Collection<Document>,
    /// By the bytes of their ids.
    known: Mutex<HashMap<bson::Uuid, Known>>,
    /// One list is written at a time, so that a later one is never overwritten by an older.
    writing: tokio::sync::Mutex<()>,
    /// The list's key: the first session that it had.
    key: OnceLock<bson::Uuid>,
    /// Sessions whose transaction may still be open.
    abandoned: Mutex<Vec<bson::Uuid>>,
    wake: Notify,
    beat: OnceLock<AbortHandle>,
}

#[derive(Clone, Copy)]
struct Known {
    used: Instant,
    listed: bool,
}

impl Sessions {
    /// Has none yet. Its task ends with it.
    pub(crate) fn start(db: &Database) -> Arc<Self> {
        let this = Arc::new(Self {
            lists: db.collection("nodes"),
            known: Mutex::default(),
            writing: tokio::sync::Mutex::default(),
            key: OnceLock::new(),
            abandoned: Mutex::default(),
            wake: Notify::new(),
            beat: OnceLock::new(),
        });
        let (weak, db) = (Arc::downgrade(&this), db.clone());
        let beat = tokio::spawn(async move {
            let mut pace = interval(BEAT);
            pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
            while let Some(this) = weak.upgrade() {
                if let Err(error) = this.beat(&db).await {
                    tracing::debug!(%error, "the sessions' list is not renewed, or others' not looked at");
                }
                tokio::select! {
                    _ = pace.tick() => {}
                    () = this.wake.notified() => {}
                }
            }
        });
        this.beat.get_or_init(|| beat.abort_handle());
        this
    }

    /// Before a transaction begins in a session: it is on the list when this returns.
    pub(crate) async fn enlist(&self, session: &ClientSession) -> Outcome<()> {
        let Some(id) = id_of(session.id()) else { return Ok(()) };
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
        let _turn = self.writing.lock().await;
        // Whoever had the turn before has written for all that waited.
        if self.known().get(&id).is_some_and(|it| it.listed) {
            return Ok(());
        }
        self.write(self.key.get_or_init(|| id)).await
    }

    /// A transaction in this session has ended, for all that is known here; the server may think otherwise.
    pub(crate) fn abandon(&self, session: &ClientSession) {
        if let Some(id) = id_of(session.id()) {
            self.abandoned().push(id);
            self.wake.notify_one();
        }
    }

    async fn beat(&self, db: &Database) -> Outcome<()> {
        let abandoned = std::mem::take(&mut *self.abandoned());
        if let Err(error) = end(db, &abandoned).await {
            self.abandoned().extend(abandoned);
            return Err(error);
        }
        self.renew().await?;
        bury(db, &self.lists).await
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

    fn abandoned(&self) -> MutexGuard<'_, Vec<bson::Uuid>> {
        self.abandoned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known(&self) -> MutexGuard<'_, HashMap<bson::Uuid, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Sessions {
    fn drop(&mut self) {
        if let Some(beat) = self.beat.get() {
            beat.abort();
        }
    }
}

/// Ends what dead nodes have left.
async fn bury(db: &Database, lists: &Collection<Document>) -> Outcome<()> {
    let silent = i64::try_from(SILENT.as_millis()).unwrap_or(i64::MAX);
    let since = DateTime::from_millis(server_time(db).await?.timestamp_millis() - silent);
    let old = doc! { "seen_at": { "$lt": since } };
    let dead: Vec<Document> = lists.find(old).await?.try_collect().await?;
    for list in dead {
        let sessions = list.get_array("sessions").map(Vec::as_slice).unwrap_or_default();
        let sessions: Vec<_> = sessions.iter().filter_map(uuid).collect();
        tracing::info!(count = sessions.len(), "a node has gone silent; its sessions are ended");
        end(db, &sessions).await?;
        // Unless it lives after all.
        let same = doc! { "_id": list.get("_id"), "seen_at": list.get("seen_at") };
        lists.delete_one(same).await?;
    }
    Ok(())
}

/// Ends sessions and what is open in them. What the server refuses is left to its own limit.
async fn end(db: &Database, sessions: &[bson::Uuid]) -> Outcome<()> {
    if sessions.is_empty() {
        return Ok(());
    }
    let sessions: Vec<Document> = sessions.iter().map(|id| doc! { "id": id }).collect();
    match db.run_command(doc! { "killSessions": sessions }).await {
        Err(error) if code(&error).is_some() => {
            tracing::warn!(%error, "transactions that nobody will end stay open until their time is over");
            Ok(())
        }
        outcome => Ok(outcome.map(drop)?),
    }
}

fn id_of(session: &Document) -> Option<bson::Uuid> {
    uuid(session.get("id")?)
}

fn uuid(id: &Bson) -> Option<bson::Uuid> {
    match id {
        Bson::Binary(id) => id.to_uuid().ok(),
        _ => None,
    }
}
