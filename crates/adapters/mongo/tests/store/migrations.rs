//! The schema, and who may touch it.

use bson::{DateTime, Document, doc};
use futures::future::join_all;
use mongodb::Collection;
use parlance_application::{Error, ports::store::Conversations};
use parlance_domain::UserId;
use parlance_mongo::{MongoStore, migrate};
use parlance_testkit::TestAmbient;
use uuid::Uuid;

use crate::world::Database;

const STEPS: [&str; 4] = [
    "0001_schema",
    "0002_traces",
    "0003_no_index_of_ended_sessions",
    "0004_the_outbox_in_the_order_of_its_turn",
];

async fn applied(database: &Database) -> Collection<Document> {
    database.raw().await.collection("migrations")
}

fn cause(error: &Error) -> &str {
    match error {
        Error::Internal { cause } => cause,
        other => panic!("not `Internal`: {other:?}"),
    }
}

#[tokio::test]
async fn ten_nodes_that_start_at_once_migrate_once() {
    let database = Database::new();
    let epochs: Vec<String> = (0..10).map(|n| format!("epoch {n}")).collect();
    let stores = join_all(epochs.iter().map(|epoch| database.connect(epoch, true))).await;
    assert_eq!(
        applied(&database).await.count_documents(doc! {}).await.ok(),
        Some(STEPS.len() as u64)
    );
    let mut found = Vec::new();
    for store in stores {
        let snapshot = store.expect("connects").snapshot(UserId(Uuid::nil())).await;
        found.push(snapshot.expect("a snapshot").epoch);
    }
    found.dedup();
    assert_eq!(found.len(), 1, "one history");
}

#[tokio::test]
async fn of_ten_commands_one_takes_the_steps() {
    let database = Database::new();
    let taken = join_all((0..10).map(|_| migrate(&database.uri))).await;
    let taken: Vec<String> = taken.into_iter().flat_map(|taken| taken.expect("migrates")).collect();
    assert_eq!(taken, STEPS);
    database.connect("epoch", false).await.expect("has nothing to do");
}

#[tokio::test]
async fn a_dead_nodes_lock_ends() {
    let database = Database::new();
    let locks = database.raw().await.collection::<Document>("migration_lock");
    let dead = doc! { "_id": "lock", "number": 7_i64, "until": DateTime::from_millis(1) };
    locks.insert_one(dead).await.expect("inserts");
    assert_eq!(migrate(&database.uri).await.map(|taken| taken.len()).ok(), Some(STEPS.len()));
    let after = locks.find_one(doc! {}).await.expect("reads").expect("is there");
    assert_eq!(after.get_i64("number").ok(), Some(8));
}

#[tokio::test]
async fn a_step_that_ended_half_way_is_taken_again() {
    let database = Database::new();
    migrate(&database.uri).await.expect("migrates");
    let applied = applied(&database).await;
    // All of them; and the last one alone, whose work is done by then.
    for forgotten in [doc! {}, doc! { "_id": STEPS[STEPS.len() - 1] }] {
        let count = applied.delete_many(forgotten).await.expect("deletes").deleted_count;
        let taken = migrate(&database.uri).await.expect("migrates");
        assert_eq!((count > 0, taken.len() as u64), (true, count), "{taken:?}");
    }
}

#[tokio::test]
async fn an_index_that_nothing_uses_goes() {
    let database = Database::new();
    migrate(&database.uri).await.expect("migrates");
    let sessions = database.raw().await.collection::<Document>("sessions");
    let indexes = sessions.list_index_names().await.expect("lists");
    assert!(indexes.contains(&"by_user".to_owned()), "{indexes:?}");
    assert!(!indexes.contains(&"ended".to_owned()), "{indexes:?}");
}

#[tokio::test]
async fn pending_steps_are_named() {
    let database = Database::new();
    let refused = database.connect("epoch", false).await.expect_err("refused");
    let cause = cause(&refused);
    assert!(cause.contains("0001_schema") && cause.contains("parlance migrate"), "{cause}");
}

#[tokio::test]
async fn what_is_not_known_is_refused() {
    let database = Database::new();
    migrate(&database.uri).await.expect("migrates");
    let applied = applied(&database).await;
    applied.insert_one(doc! { "_id": "9999_future", "checksum": "" }).await.expect("inserts");
    for migrate in [true, false] {
        let newer = database.connect("epoch", migrate).await.expect_err("refused");
        assert!(cause(&newer).contains("9999_future"), "{newer:?}");
    }
    applied.delete_one(doc! { "_id": "9999_future" }).await.expect("deletes");

    let other = doc! { "$set": { "checksum": "x" } };
    applied.update_one(doc! { "_id": "0001_schema" }, other).await.expect("updates");
    for migrate in [true, false] {
        let changed = database.connect("epoch", migrate).await.expect_err("refused");
        assert!(cause(&changed).contains("another form"), "{changed:?}");
    }
}

#[tokio::test]
async fn the_epoch_stays_until_it_is_renewed() {
    let database = Database::new();
    let epoch = async |store: &MongoStore| {
        store.snapshot(UserId(Uuid::nil())).await.expect("a snapshot").epoch
    };
    for new in ["first", "second"] {
        let store = database.connect(new, true).await.expect("connects");
        assert_eq!(epoch(&store).await, "first");
        store.ping().await.expect("writes");
    }
    let mut store = database.connect("third", true).await.expect("connects");
    store.renew_epoch("renewed".to_owned(), TestAmbient::BEGIN).await.expect("writes");
    assert_eq!(epoch(&store).await, "renewed");
    assert_eq!(epoch(&database.connect("fourth", true).await.expect("connects")).await, "renewed");
}

#[tokio::test]
async fn a_server_out_of_reach_is_unavailable() {
    let uri = "mongodb://127.0.0.1:1/parlance?serverSelectionTimeoutMS=100";
    let outcome = MongoStore::connect(uri, "epoch".to_owned(), TestAmbient::BEGIN, true).await;
    assert!(matches!(outcome, Err(Error::Unavailable { .. })), "{outcome:?}");
    let nonsense = MongoStore::connect("nonsense", String::new(), TestAmbient::BEGIN, true).await;
    assert!(matches!(nonsense, Err(Error::Internal { .. })), "{nonsense:?}");
}
