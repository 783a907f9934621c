//! A transaction over several documents, and how it is run again.
//!
//! Reads see one point in time (read concern `snapshot`), the commit waits for a majority to journal it. Whoever writes
//! a document that another transaction has written since that point gets a write conflict and runs again.

use std::{sync::Arc, time::Duration};

use bson::{Document, doc};
use futures::TryStreamExt;
use mongodb::{
    ClientSession, Collection, Database,
    options::{
        Acknowledgment, ReadConcern, ReturnDocument, SelectionCriteria, TransactionOptions,
        WriteConcern,
    },
};
use parlance_application::{Error, Result};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout};

use crate::{
    MongoStore,
    changes::OVERLAP,
    documents::Stored,
    error::{Fail, Outcome},
    facts::{Facts, Learnt},
    orphans::Sessions,
};

/// How often a transaction is tried before its caller gets `Unavailable`. The server does not queue the writers of one
/// document, so an occasional writer of a busy head has to try often, at short intervals.
const TRIES: u32 = 256;
/// How long it is retried: without a server, each try takes as long as the search for one.
pub(crate) const PATIENCE: Duration = Duration::from_secs(4);
/// How often the same commit is sent.
const COMMITS: u32 = 3;
/// How long a transaction may take. Its stamps become visible only at its commit, and a look for changes goes back no
/// further than `changes::OVERLAP`: together with the commit's own limit this has to be less.
pub(crate) const BODY: Duration = Duration::from_secs(4);
/// How long the server may take for a commit.
const COMMIT: Duration = Duration::from_secs(4);
/// How long to wait for its answer.
const COMMITTED: Duration = Duration::from_secs(5);

/// If an abort takes longer, the transaction may still be open.
const ABORT: Duration = Duration::from_secs(1);

/// How long to wait for a majority outside of transactions.
const MAJORITY: Duration = Duration::from_secs(10);

/// Acknowledged by a majority, in their journals.
pub(crate) fn durable() -> WriteConcern {
    WriteConcern::builder().w(Acknowledgment::Majority).w_timeout(MAJORITY).journal(true).build()
}

/// Reads from the primary.
pub(crate) fn primary() -> SelectionCriteria {
    SelectionCriteria::ReadPreference(mongodb::options::ReadPreference::Primary)
}

/// The options of every transaction.
fn settings() -> TransactionOptions {
    TransactionOptions::builder()
        .read_concern(ReadConcern::snapshot())
        .write_concern(durable())
        .selection_criteria(primary())
        .max_commit_time(COMMIT)
        .build()
}

/// Runs `$body`, an expression with `?` and `.await` over the transaction `$tx`, until it is committed or refused.
/// First it waits for a share of the connections: of those for people, unless `$asker` says otherwise.
macro_rules! atomic {
    ($store:expr, |$tx:ident| $body:expr) => {
        $crate::tx::atomic!($store, $crate::lanes::Asker::Person, |$tx| $body)
    };
    ($store:expr, $asker:expr, |$tx:ident| $body:expr) => {
        match $store.lanes.share($asker).await {
            Ok(_share) => $crate::tx::tries!($store, (), |$tx| $body),
            Err(busy) => Err(busy),
        }
    };
}
pub(crate) use atomic;

/// The same for writers whose turn it is in their lane. Each try waits for a writer's connection anew, so that a writer
/// that keeps being refused holds up no other lane.
macro_rules! in_turn {
    ($store:expr, |$tx:ident| $body:expr) => {
        $crate::tx::tries!($store, $store.lanes.writer().await?, |$tx| $body)
    };
}
pub(crate) use in_turn;

/// The same with the value of `$held`, an expression with `?`, held during each try.
macro_rules! tries {
    ($store:expr, $held:expr, |$tx:ident| $body:expr) => {{
        let mut tries = $crate::tx::Tries::begin();
        loop {
            let outcome = async {
                let _held = $held;
                let mut begun = $crate::tx::Tx::begin($store, tries.is_first()).await?;
                let $tx = &mut begun;
                let outcome = $crate::error::in_time($crate::tx::BODY, async { $body }).await;
                begun.end(outcome).await
            }
            .await;
            if let Some(result) = tries.judge(outcome).await {
                break result;
            }
        }
    }};
}
pub(crate) use tries;

/// Counts the tries of one transaction.
#[derive(Debug)]
pub(crate) struct Tries {
    failed: u32,
    most: u32,
    begun: Instant,
}

impl Tries {
    pub(crate) fn begin() -> Self {
        Self::of(TRIES, Instant::now())
    }

    /// At most `most` tries, of something begun at `begun`.
    pub(crate) const fn of(most: u32, begun: Instant) -> Self {
        Self { failed: 0, most, begun }
    }

    pub(crate) const fn is_first(&self) -> bool {
        self.failed == 0
    }

    /// The answer; `None` if it should be run again.
    pub(crate) async fn judge<T>(&mut self, outcome: Outcome<T>) -> Option<Result<T>> {
        match outcome {
            Ok(done) => Some(Ok(done)),
            Err(fail) if fail.is_transient() && self.again(&fail).await => None,
            Err(fail) => Some(Err(fail.given_up())),
        }
    }

    /// Whether to retry, after a pause that grows over the first few tries.
    pub(crate) async fn again(&mut self, fail: &Fail) -> bool {
        self.failed += 1;
        if self.failed >= self.most || self.begun.elapsed() > PATIENCE {
            return false;
        }
        tracing::debug!(%fail, failed = self.failed, "a transaction is run again");
        tokio::time::sleep(Duration::from_millis(1 << self.failed.min(4))).await;
        true
    }
}

/// Whether a commit that begins `elapsed` after its transaction did ends before looks have passed the transaction's
/// stamps.
fn may_commit_after(elapsed: Duration) -> bool {
    elapsed + COMMIT < OVERLAP
}

/// A transaction in progress. Dropping it rolls it back, unless its first command is still in flight: then the server
/// keeps it open until its session begins another. So no write may be dropped.
pub(crate) struct Tx {
    session: ClientSession,
    sessions: Arc<Sessions>,
    /// What this node already knows.
    pub(crate) facts: Arc<Facts>,
    /// What it will know once this is committed.
    pub(crate) learnt: Learnt,
    /// Whether this is the first try: it may skip a check that hardly ever fails, and be refused by an index instead.
    pub(crate) is_first: bool,
    db: Database,
    begun: Instant,
}

impl Tx {
    /// Begins a transaction.
    pub(crate) async fn begin(store: &MongoStore, is_first: bool) -> Outcome<Self> {
        let db = &store.db;
        let mut session = db.client().start_session().await?;
        store.sessions.enlist(&session).await?;
        session.start_transaction().with_options(settings()).await?;
        let sessions = store.sessions.clone();
        let (db, facts, learnt) = (db.clone(), store.facts.clone(), Learnt::default());
        Ok(Self { session, sessions, facts, learnt, is_first, db, begun: Instant::now() })
    }

    /// Commits if the outcome is good, aborts otherwise.
    pub(crate) async fn end<T>(mut self, outcome: Outcome<T>) -> Outcome<T> {
        let mut answered = true;
        let outcome = match outcome {
            Ok(done) => self.commit().await.map(|()| {
                self.facts.note(std::mem::take(&mut self.learnt));
                done
            }),
            Err(fail) => {
                // The driver does not report an abort's errors; but one without an answer takes long.
                answered = timeout(ABORT, self.session.abort_transaction()).await.is_ok();
                Err(fail)
            }
        };
        let is_open = |fail: &Fail| fail.is_unanswered() || fail.is_unknown_commit();
        if !answered || outcome.as_ref().is_err_and(is_open) {
            self.sessions.abandon(self.session);
        }
        outcome
    }

    async fn commit(&mut self) -> Outcome<()> {
        let mut left = COMMITS;
        loop {
            left -= 1;
            let commit = timeout(COMMITTED, self.session.commit_transaction()).await;
            let again = left > 0 && may_commit_after(self.begun.elapsed());
            match commit.map_or(Err(Fail::Unknown), |answer| answer.map_err(Fail::of_commit)) {
                Err(fail) if fail.is_unknown_commit() && again => {}
                outcome => return outcome,
            }
        }
    }

    /// The database, for reads outside of the transaction.
    pub(crate) fn database(&self) -> Database {
        self.db.clone()
    }

    fn of<D: Stored>(&self) -> Collection<D> {
        self.db.collection(D::COLLECTION)
    }

    /// All documents that match.
    pub(crate) async fn find<D: Stored>(&mut self, filter: Document) -> Outcome<Vec<D>> {
        let mut cursor = self.of::<D>().find(filter).session(&mut self.session).await?;
        Ok(cursor.stream(&mut self.session).try_collect().await?)
    }

    /// The first that match, in an order.
    pub(crate) async fn first<D: Stored>(
        &mut self,
        filter: Document,
        order: Document,
        limit: i64,
    ) -> Outcome<Vec<D>> {
        let all = self.of::<D>();
        let find = all.find(filter).sort(order).limit(limit);
        let mut cursor = find.session(&mut self.session).await?;
        Ok(cursor.stream(&mut self.session).try_collect().await?)
    }

    /// Passes matching documents to a callback, in order, until it says that one is the last.
    pub(crate) async fn until<D: Stored>(
        &mut self,
        filter: Document,
        order: Document,
        limit: i64,
        mut is_last: impl FnMut(D) -> bool + Send,
    ) -> Outcome<()> {
        let all = self.of::<D>();
        let find = all.find(filter).sort(order).limit(limit);
        let mut cursor = find.session(&mut self.session).await?;
        let mut rows = cursor.stream(&mut self.session);
        while let Some(row) = rows.try_next().await? {
            if is_last(row) {
                break;
            }
        }
        Ok(())
    }

    /// The document that matches.
    pub(crate) async fn one<D: Stored>(&mut self, filter: Document) -> Outcome<Option<D>> {
        Ok(self.of::<D>().find_one(filter).session(&mut self.session).await?)
    }

    /// The result of an aggregation.
    pub(crate) async fn aggregate<D: Stored, T>(&mut self, stages: Vec<Document>) -> Outcome<Vec<T>>
    where
        T: DeserializeOwned + Send + Sync + Unpin,
    {
        let all = self.of::<D>();
        let find = all.aggregate(stages).with_type::<T>();
        let mut cursor = find.session(&mut self.session).await?;
        Ok(cursor.stream(&mut self.session).try_collect().await?)
    }

    /// How many match, counted up to a limit.
    pub(crate) async fn count<D: Stored>(&mut self, filter: Document, limit: u64) -> Outcome<u64> {
        let all = self.of::<D>();
        Ok(all.count_documents(filter).limit(limit).session(&mut self.session).await?)
    }

    /// Inserts a document.
    pub(crate) async fn insert<D: Stored>(&mut self, document: &D) -> Outcome<()> {
        self.of::<D>().insert_one(document).session(&mut self.session).await?;
        Ok(())
    }

    /// Inserts several, or none.
    pub(crate) async fn insert_many<D: Stored>(&mut self, documents: &[D]) -> Outcome<()> {
        if !documents.is_empty() {
            self.of::<D>().insert_many(documents).session(&mut self.session).await?;
        }
        Ok(())
    }

    /// Inserts a document with a stamp of the server's clock in `stamp`. Nothing may match `key` yet.
    pub(crate) async fn insert_stamped<D: Stored>(
        &mut self,
        key: Document,
        document: &D,
        stamp: &str,
    ) -> Outcome<()> {
        let mut fields = bson::serialize_to_document(document).map_err(Error::internal)?;
        for field in key.keys() {
            fields.remove(field);
        }
        let update = doc! { "$setOnInsert": fields, "$currentDate": { stamp: true } };
        self.of::<D>().update_one(key, update).upsert(true).session(&mut self.session).await?;
        Ok(())
    }

    /// Updates the document that matches, or inserts it.
    pub(crate) async fn upsert<D: Stored>(
        &mut self,
        filter: Document,
        update: Document,
    ) -> Outcome<()> {
        self.of::<D>().update_one(filter, update).upsert(true).session(&mut self.session).await?;
        Ok(())
    }

    /// Updates the document that matches; false if there is none.
    pub(crate) async fn update<D: Stored>(
        &mut self,
        filter: Document,
        update: Document,
    ) -> Outcome<bool> {
        let done = self.of::<D>().update_one(filter, update).session(&mut self.session).await?;
        Ok(done.matched_count > 0)
    }

    /// Updates all documents that match.
    pub(crate) async fn update_all<D: Stored>(
        &mut self,
        filter: Document,
        update: Document,
    ) -> Outcome<()> {
        self.of::<D>().update_many(filter, update).session(&mut self.session).await?;
        Ok(())
    }

    /// Updates the document that matches; returns it as it is afterwards.
    pub(crate) async fn change<D: Stored>(
        &mut self,
        filter: Document,
        update: Document,
    ) -> Outcome<Option<D>> {
        let all = self.of::<D>();
        let change = all.find_one_and_update(filter, update);
        let change = change.return_document(ReturnDocument::After);
        Ok(change.session(&mut self.session).await?)
    }

    /// Updates the document that matches; returns it as it was before.
    pub(crate) async fn change_from<D: Stored>(
        &mut self,
        filter: Document,
        update: Document,
    ) -> Outcome<Option<D>> {
        let all = self.of::<D>();
        Ok(all.find_one_and_update(filter, update).session(&mut self.session).await?)
    }

    /// Several different changes, each a filter and an update, in one command.
    pub(crate) async fn update_each<D: Stored>(
        &mut self,
        updates: impl IntoIterator<Item = (Document, Document)> + Send,
    ) -> Outcome<()> {
        let updates = updates.into_iter().map(|(q, u)| doc! { "q": q, "u": u });
        self.run_updates::<D>(updates.collect()).await
    }

    /// The same, and inserts those that are missing.
    pub(crate) async fn upsert_each<D: Stored>(
        &mut self,
        updates: impl IntoIterator<Item = (Document, Document)> + Send,
    ) -> Outcome<()> {
        let updates = updates.into_iter().map(|(q, u)| doc! { "q": q, "u": u, "upsert": true });
        self.run_updates::<D>(updates.collect()).await
    }

    async fn run_updates<D: Stored>(&mut self, updates: Vec<Document>) -> Outcome<()> {
        if updates.is_empty() {
            return Ok(());
        }
        let command = doc! { "update": D::COLLECTION, "updates": updates };
        let reply = self.db.run_command(command).session(&mut self.session).await?;
        // The driver does not check the reply to a raw command for the errors of single updates.
        let Ok(errors) = reply.get_array("writeErrors") else { return Ok(()) };
        let first = errors.first().and_then(bson::Bson::as_document);
        let code = first.and_then(|error| error.get_i32("code").ok()).unwrap_or_default();
        let words = first.and_then(|error| error.get_str("errmsg").ok()).unwrap_or_default();
        Err(Fail::Write(code, words.to_owned()))
    }

    /// Removes all documents that match; returns how many.
    pub(crate) async fn delete<D: Stored>(&mut self, filter: Document) -> Outcome<u64> {
        let done = self.of::<D>().delete_many(filter).session(&mut self.session).await?;
        Ok(done.deleted_count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A majority of one keeps all these promises whatever is set, so no test against one would notice.
    #[test]
    fn a_commit_is_in_the_journals_of_a_majority() {
        let settings = settings();
        let concern = settings.write_concern.expect("is set");
        assert_eq!((concern.w, concern.journal), (Some(Acknowledgment::Majority), Some(true)));
        assert_eq!(settings.read_concern, Some(ReadConcern::snapshot()));
        assert_eq!(settings.selection_criteria, Some(primary()));
    }

    /// Otherwise a look would miss what was stamped before it and committed after the next.
    #[test]
    fn a_transaction_is_over_before_looks_have_passed_its_stamps() {
        let commit = settings().max_commit_time.expect("is set");
        assert_eq!(commit, COMMIT);
        assert!(may_commit_after(BODY) && !may_commit_after(BODY + COMMITTED));
    }
}
