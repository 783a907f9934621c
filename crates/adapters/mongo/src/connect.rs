//! The connection to the server, and what is required of it.

use std::{fmt, sync::Arc, time::Duration};

use bson::{DateTime, Document, doc};
use mongodb::{
    Client, Collection, Database,
    options::{ClientOptions, DatabaseOptions, ReadConcern},
};
use parlance_application::{Error, Result};
use parlance_domain::Timestamp;

use crate::{
    appends::Appends,
    documents::{Stored, time},
    error::{driver, in_time},
    facts::Facts,
    lanes::Lanes,
    migrate,
    orphans::Sessions,
    tx::{durable, primary},
};

/// How long to look for a suitable server.
const SELECTION: Duration = Duration::from_secs(5);
/// How often the driver checks a server. A silent one is given up after this time plus the connect timeout; until then
/// a write waits.
const LOOK: Duration = Duration::from_secs(2);
/// How long to wait for an answer outside of transactions: longer than the search for a server.
const ANSWER: Duration = Duration::from_secs(8);
/// How long an unused connection is kept. Middleboxes may drop one silently after minutes.
const UNUSED: Duration = Duration::from_mins(1);
/// The most connections, unless the URI says otherwise. Each transaction in progress needs one.
const CONNECTIONS: u32 = 64;
/// The database where the URI names none.
const DATABASE: &str = "parlance";

/// The store. Clones share its connections.
#[derive(Clone)]
pub struct MongoStore {
    pub(crate) db: Database,
    pub(crate) epoch: Arc<str>,
    pub(crate) lanes: Arc<Lanes>,
    pub(crate) appends: Arc<Appends>,
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) facts: Arc<Facts>,
}

impl fmt::Debug for MongoStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MongoStore")
            .field("database", &self.db.name())
            .field("epoch", &self.epoch)
            .finish_non_exhaustive()
    }
}

impl MongoStore {
    /// Connects to the database that the URI's path names. With `migrate`, brings its schema up to date; without,
    /// refuses an outdated one. A new database gets `epoch_if_new` as the name of its history.
    pub async fn connect(
        uri: &str,
        epoch_if_new: String,
        now: Timestamp,
        migrate: bool,
    ) -> Result<Self> {
        let (db, connections) = open(uri).await?;
        if migrate {
            migrate::run(&db).await?;
        } else {
            migrate::check(&db).await?;
        }
        let epoch = epoch(&db, epoch_if_new, now).await?;
        let sessions = Sessions::start(&db);
        let lanes = Arc::new(Lanes::over(connections));
        let (appends, facts) = (Arc::default(), Arc::default());
        Ok(Self { db, epoch: epoch.into(), lanes, appends, sessions, facts })
    }

    /// The name of the store's history.
    pub fn epoch(&self) -> &str {
        &self.epoch
    }

    /// Renames the store's history: what clients hold of it becomes stale. Nodes read the name at startup.
    pub async fn renew_epoch(&mut self, epoch: String, now: Timestamp) -> Result<()> {
        let meta: Collection<Document> = self.db.collection("meta");
        let new = doc! { "$set": { "value": &epoch, "created_at": time(now) } };
        answered(meta.update_one(doc! { "_id": "epoch" }, new)).await?;
        self.epoch = epoch.into();
        Ok(())
    }

    /// A collection outside of a transaction.
    pub(crate) fn of<D: Stored>(&self) -> Collection<D> {
        self.db.collection(D::COLLECTION)
    }
}

/// Runs a command outside transactions, within [`ANSWER`].
pub(crate) async fn answered<T>(
    question: impl IntoFuture<Output = mongodb::error::Result<T>>,
) -> Result<T> {
    Ok(in_time(ANSWER, async { Ok(question.await?) }).await?)
}

/// The same for an insert of what may be there already.
pub(crate) async fn inserted<T>(
    insert: impl IntoFuture<Output = mongodb::error::Result<T>>,
) -> Result<()> {
    match in_time(ANSWER, async { Ok(insert.await?) }).await {
        Err(fail) if !fail.is_duplicate() => Err(fail.into()),
        _ => Ok(()),
    }
}

/// The database, if its server can keep Parlance's promises, and how many connections to it there may be.
pub(crate) async fn open(uri: &str) -> Result<(Database, usize)> {
    let mut options = ClientOptions::parse(uri)
        .await
        .map_err(|error| Error::internal(format_args!("the MongoDB URI: {error}")))?;
    options.server_selection_timeout.get_or_insert(SELECTION);
    options.connect_timeout.get_or_insert(SELECTION);
    options.heartbeat_freq.get_or_insert(LOOK);
    options.max_idle_time.get_or_insert(UNUSED);
    let connections = *options.max_pool_size.get_or_insert(CONNECTIONS);
    // To the driver, zero means no limit.
    let connections = if connections == 0 { CONNECTIONS } else { connections };
    options.app_name.get_or_insert_with(|| DATABASE.to_owned());
    let name = options.default_database.clone().unwrap_or_else(|| DATABASE.to_owned());
    let client = Client::with_options(options).map_err(|error| driver(&error))?;
    let db = client.database_with_options(&name, settings());
    transactional(&hello(&db).await?)?;
    Ok((db, usize::try_from(connections).unwrap_or(usize::MAX)))
}

/// Concerns of everything outside transactions.
fn settings() -> DatabaseOptions {
    DatabaseOptions::builder()
        .read_concern(ReadConcern::majority())
        .write_concern(durable())
        .selection_criteria(primary())
        .build()
}

/// Refuses a server that has no transactions: one that is neither in a replica set nor a router to several.
fn transactional(hello: &Document) -> Result<()> {
    let router = hello.get_str("msg").is_ok_and(|role| role == "isdbgrid");
    if router || hello.contains_key("setName") {
        return Ok(());
    }
    Err(Error::internal(
        "this MongoDB has no transactions, because it is a standalone server: start mongod with --replSet rs0, run \
         rs.initiate() once in its shell, and add ?replicaSet=rs0 to the URI",
    ))
}

/// What the server reports of itself, including its clock.
pub(crate) async fn hello(db: &Database) -> Result<Document> {
    answered(db.run_command(doc! { "hello": 1 }).selection_criteria(primary())).await
}

/// The server's present time.
pub(crate) async fn server_time(db: &Database) -> Result<DateTime> {
    hello(db).await?.get_datetime("localTime").copied().map_err(Error::internal)
}

/// The time, by the server's clock, up to which all writes are majority-committed. A router does not report it: then
/// the current time.
pub(crate) async fn majority_time(db: &Database) -> Result<DateTime> {
    let hello = hello(db).await?;
    let now = hello.get_datetime("localTime").copied().map_err(Error::internal)?;
    let majority =
        hello.get_document("lastWrite").and_then(|last| last.get_datetime("majorityWriteDate"));
    Ok(majority.map_or(now, |majority| now.min(*majority)))
}

async fn epoch(db: &Database, if_new: String, now: Timestamp) -> Result<String> {
    let meta: Collection<Document> = db.collection("meta");
    let new = doc! { "_id": "epoch", "value": if_new, "created_at": time(now) };
    inserted(meta.insert_one(new)).await?;
    let found = answered(meta.find_one(doc! { "_id": "epoch" })).await?;
    let found = found.ok_or_else(|| Error::internal("the name of the history is gone"))?;
    found.get_str("value").map(str::to_owned).map_err(Error::internal)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nothing that could still be rolled back is read.
    #[test]
    fn what_is_read_has_reached_a_majority() {
        let settings = settings();
        assert_eq!(settings.read_concern, Some(ReadConcern::majority()));
        assert_eq!(settings.write_concern, Some(durable()));
        assert_eq!(settings.selection_criteria, Some(primary()));
    }

    #[test]
    fn a_standalone_server_is_refused() {
        assert!(transactional(&doc! { "setName": "rs0" }).is_ok());
        assert!(transactional(&doc! { "msg": "isdbgrid" }).is_ok());
        let refused = transactional(&doc! { "isWritablePrimary": true }).expect_err("refused");
        assert!(
            matches!(&refused, Error::Internal { cause } if cause.contains("rs.initiate()") && cause.contains("?replicaSet=")),
            "{refused:?}"
        );
    }
}
