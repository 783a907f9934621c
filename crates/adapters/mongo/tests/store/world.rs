//! A database for each test, on a server that `PARLANCE_TEST_MONGODB_URI` names.

use async_trait::async_trait;
use bson::{DateTime, Document, doc};
use mongodb::Client;
use parlance_application::Result;
use parlance_domain::ConversationId;
use parlance_mongo::MongoStore;
use parlance_testkit::{TestAmbient, contract::changes::Place};
use uuid::Uuid;

/// Names the tests' servers, separated by blanks.
const URI: &str = "PARLANCE_TEST_MONGODB_URI";

/// A database that is dropped with the test.
pub(crate) struct Database {
    pub(crate) uri: String,
    name: String,
}

impl Database {
    /// A new name, on a server that no concurrent test uses if there are enough.
    pub(crate) fn new() -> Self {
        let servers = std::env::var(URI).unwrap_or_default();
        let servers: Vec<_> = servers.split_whitespace().collect();
        assert!(
            !servers.is_empty(),
            "{URI} is not set: these tests need a MongoDB replica set, mongodb://127.0.0.1:27017/?replicaSet=rs0 say"
        );
        // nextest numbers the tests that run at a time.
        let slot =
            std::env::var("NEXTEST_TEST_GLOBAL_SLOT").ok().and_then(|slot| slot.parse().ok());
        let server = servers[slot.unwrap_or(0_usize) % servers.len()];
        let id = Uuid::from_bytes(bson::Uuid::new().bytes());
        let name = format!("parlance_test_{}", id.simple());
        let (rest, query) = server.split_once('?').unwrap_or((server, ""));
        let (scheme, rest) = rest.split_once("://").unwrap_or(("mongodb", rest));
        let hosts = rest.split_once('/').map_or(rest, |(hosts, _)| hosts);
        Self { uri: format!("{scheme}://{hosts}/{name}?{query}"), name }
    }

    /// Where the server is: host and port.
    pub(crate) fn server(&self) -> &str {
        let rest = self.uri.split_once("://").map_or(&*self.uri, |(_, rest)| rest);
        rest.split(['/', ',']).next().unwrap_or(rest)
    }

    /// A store in it, through another address of its server.
    pub(crate) async fn by_way_of(&self, server: &str) -> MongoStore {
        let uri = format!("mongodb://{server}/{}?directConnection=true", self.name);
        let store = MongoStore::connect(&uri, "epoch".to_owned(), TestAmbient::BEGIN, true);
        store.await.expect("connects")
    }

    /// A store in it.
    pub(crate) async fn store(&self) -> MongoStore {
        self.connect("epoch", true).await.expect("connects")
    }

    pub(crate) async fn connect(&self, epoch: &str, migrate: bool) -> Result<MongoStore> {
        MongoStore::connect(&self.uri, epoch.to_owned(), TestAmbient::BEGIN, migrate).await
    }

    /// Gives a conversation a head that no program can read.
    pub(crate) async fn spoil(&self, conversation: ConversationId) {
        let heads = self.raw().await.collection::<Document>("conversations");
        let key = doc! { "_id": bson::Uuid::from_bytes(conversation.0.into_bytes()) };
        let spoilt = heads.update_one(key, doc! { "$set": { "topic": 7 } }).await;
        assert_eq!(spoilt.expect("updates").matched_count, 1);
    }

    /// Bypasses the store.
    pub(crate) async fn raw(&self) -> mongodb::Database {
        Client::with_uri_str(&self.uri).await.expect("connects").database(&self.name)
    }
}

/// The collections with stamps of the server's clock, and the stamps' fields.
const STAMPED: [(&str, &str); 5] = [
    ("conversations", "changed_at"),
    ("conversation_members", "joined_stamp"),
    ("conversation_members", "read_stamp"),
    ("workspaces", "changed_at"),
    ("traces", "changed_at"),
];

#[async_trait]
impl Place for Database {
    async fn age(&self) {
        let raw = self.raw().await;
        for (collection, stamp) in STAMPED {
            let (has, old) = (doc! { "$exists": true }, DateTime::from_millis(0));
            let all = raw.collection::<Document>(collection);
            let aged = all.update_many(doc! { stamp: has }, doc! { "$set": { stamp: old } }).await;
            aged.expect("updates");
        }
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let (uri, name) = (self.uri.clone(), self.name.clone());
        // The test's own runtime has one thread, which is here.
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("starts").block_on(async {
                let client = Client::with_uri_str(&uri).await.expect("connects");
                client.database(&name).drop().await.expect("drops");
            });
        });
        // If it stays, nobody looks at it again.
        let _ = dropped.join();
    }
}

/// A store in a new database.
pub(crate) async fn fresh() -> (MongoStore, Database) {
    let database = Database::new();
    (database.store().await, database)
}
