//! A database for each test, on the server that `PARLANCE_TEST_MONGODB_URI` names.

use mongodb::Client;
use parlance_application::Result;
use parlance_mongo::MongoStore;
use parlance_testkit::TestAmbient;
use uuid::Uuid;

/// Where the tests' server is.
const URI: &str = "PARLANCE_TEST_MONGODB_URI";

/// A database that goes with the test.
pub(crate) struct Database {
    pub(crate) uri: String,
    name: String,
}

impl Database {
    /// A new name on the tests' server.
    pub(crate) fn new() -> Self {
        let Ok(server) = std::env::var(URI) else {
            panic!(
                "{URI} is not set: these tests need a MongoDB replica set, mongodb://127.0.0.1:27017/?replicaSet=rs0 say"
            );
        };
        let id = Uuid::from_bytes(bson::Uuid::new().bytes());
        let name = format!("parlance_test_{}", id.simple());
        let (rest, query) = server.split_once('?').unwrap_or((&server, ""));
        let (scheme, rest) = rest.split_once("://").unwrap_or(("mongodb", rest));
        let hosts = rest.split_once('/').map_or(rest, |(hosts, _)| hosts);
        Self { uri: format!("{scheme}://{hosts}/{name}?{query}"), name }
    }

    /// A store in it.
    pub(crate) async fn store(&self) -> MongoStore {
        self.connect("epoch", true).await.expect("connects")
    }

    pub(crate) async fn connect(&self, epoch: &str, migrate: bool) -> Result<MongoStore> {
        MongoStore::connect(&self.uri, epoch.to_owned(), TestAmbient::BEGIN, migrate).await
    }

    /// Past the store.
    pub(crate) async fn raw(&self) -> mongodb::Database {
        Client::with_uri_str(&self.uri).await.expect("connects").database(&self.name)
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
