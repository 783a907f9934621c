//! Rows of the outbox that only another version of the program can read.

use std::time::Duration;

use bson::{Document, doc};
use parlance_application::{
    jobs::{Job, Task},
    ports::store::Outbox,
};
use parlance_domain::{JobId, Timestamp, UserId};
use parlance_mongo::MongoStore;
use parlance_testkit::TestAmbient;
use uuid::Uuid;

use crate::world::{Database, fresh};

const AT: Timestamp = TestAmbient::BEGIN;

fn job(n: u128) -> Job {
    let task = Task::WelcomeMail { user_id: UserId(Uuid::from_u128(n)) };
    Job { id: JobId(Uuid::from_u128(n)), task }
}

async fn put(database: &Database, n: u128, task: &str) {
    let id = bson::Uuid::from_bytes(n.to_be_bytes());
    let row = doc! { "_id": id, "task": task, "dead": false };
    let outbox = database.raw().await.collection::<Document>("outbox");
    outbox.insert_one(row).await.expect("inserts");
}

async fn put_ours(database: &Database, n: u128) {
    put(database, n, &serde_json::to_string(&job(n).task).expect("JSON")).await;
}

async fn take(store: &MongoStore, limit: usize) -> Vec<Job> {
    store.take_unfinished(limit, AT, AT).await.expect("takes")
}

#[tokio::test]
async fn what_cannot_be_read_holds_no_other_back_and_comes_again_with_the_others() {
    let (store, database) = fresh().await;
    let strange = ["{", r#"{"kind":"tomorrows_mail","user_id":7}"#, r#"{"kind":"welcome_mail"}"#];
    for (n, task) in (1..).zip(strange) {
        put(&database, n, task).await;
    }
    for n in [4, 6, 7] {
        put_ours(&database, n).await;
    }
    put(&database, 5, strange[1]).await;
    assert_eq!(take(&store, 2).await, [job(4), job(6)]);
    assert_eq!(take(&store, 2).await, [job(7)]);
    assert_eq!(take(&store, 2).await, []);
    assert_eq!(store.is_unfinished(job(1).id).await.ok(), Some(true));

    // It is not looked at again until then.
    let outbox = database.raw().await.collection::<Document>("outbox");
    let unmarked = outbox.count_documents(doc! { "relayed_at": null }).await;
    assert_eq!(unmarked.expect("counts"), 0);
    let task = serde_json::to_string(&job(2).task).expect("JSON");
    let key = doc! { "_id": bson::Uuid::from_bytes(2_u128.to_be_bytes()) };
    outbox.update_one(key, doc! { "$set": { "task": task } }).await.expect("updates");
    assert_eq!(take(&store, 2).await, []);
    let again = AT + Duration::from_millis(1);
    let jobs = store.take_unfinished(2, again, again).await.expect("takes");
    assert_eq!(jobs, [job(2), job(4)]);
}

/// All of them in one transaction might exceed its time limit, every time.
#[tokio::test]
async fn of_what_cannot_be_read_a_part_is_passed_over_at_a_time() {
    let (store, database) = fresh().await;
    let row = |n: u128| {
        let id = bson::Uuid::from_bytes(n.to_be_bytes());
        doc! { "_id": id, "task": "{", "dead": false }
    };
    let outbox = database.raw().await.collection::<Document>("outbox");
    outbox.insert_many((1..=300).map(row)).await.expect("inserts");
    put_ours(&database, 2_000).await;
    assert_eq!(take(&store, 2).await, []);
    assert_eq!(take(&store, 2).await, [job(2_000)]);
}
