//! Conversations whose heads another node keeps locked: whoever need not wait for them does not.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use bson::{Document, doc};
use mongodb::ClientSession;
use parlance_application::{
    Error,
    ports::store::{Conversations, Joining, Messages, NewMember, Workspaces},
};
use parlance_domain::{Role, Seq};
use parlance_mongo::MongoStore;
use parlance_testkit::{Stage, client_msg_id};

use crate::world::Database;

/// An open transaction that has written all heads.
async fn lock_all(database: &Database) -> ClientSession {
    let raw = database.raw().await;
    let mut session = raw.client().start_session().await.expect("a session");
    session.start_transaction().await.expect("begins");
    let heads = raw.collection::<Document>("conversations");
    let lock = heads.update_many(doc! {}, doc! { "$inc": { "rev": 7_i64 } });
    let written = lock.session(&mut session).await.expect("writes");
    assert!(written.matched_count > 0);
    session
}

/// Otherwise everybody could keep everybody else from writing.
#[tokio::test]
async fn who_is_refused_locks_nothing() {
    let database = Database::new();
    let store = database.store().await;
    let stage = Stage::new(store.clone());
    let [ada, bob, eve] = stage.people(["ada", "bob", "eve"]).await;
    let team = stage.team_of(ada, [bob]).await;
    let new = || NewMember { user_id: eve, role: Role::Member, at: stage.at(), job: stage.job() };
    let mut locked = lock_all(&database).await;
    let refused = [
        store.delete_workspace(stage.by(bob), team.id, stage.at()).await.err(),
        store.add_member(stage.by(bob), team.id, new()).await.err(),
        store.remove_member(stage.by(bob), team.id, ada).await.err(),
    ];
    let unseen = [
        store.delete_workspace(stage.by(eve), team.id, stage.at()).await.err(),
        store.add_member(stage.by(eve), team.id, new()).await.err(),
        store.remove_member(stage.by(eve), team.id, eve).await.err(),
    ];
    let again = store.join_workspace(stage.by(bob), &team.code, stage.at()).await;
    locked.abort_transaction().await.expect("aborts");
    assert!(refused.iter().all(|error| matches!(error, Some(Error::Forbidden(_)))), "{refused:?}");
    assert!(unseen.iter().all(|error| matches!(error, Some(Error::NotFound(_)))), "{unseen:?}");
    assert!(matches!(again, Ok(Joining::AlreadyIn(_))), "{again:?}");
}

#[tokio::test]
async fn a_mark_that_has_to_wait_holds_no_reader_up() {
    let mut database = Database::new();
    // One of them is for people.
    database.uri.push_str("&maxPoolSize=4");
    let store: MongoStore = database.store().await;
    let stage = Stage::new(store.clone());
    let ada = stage.person("ada").await;
    let team = stage.team(ada).await;
    let mut locked = lock_all(&database).await;
    let over = AtomicBool::new(false);
    let append = async {
        let sent = store.append(team.general, vec![stage.draft(ada, "1", "hello")]).await;
        over.store(true, Ordering::Relaxed);
        sent.err()
    };
    // Behind the append, which moves the sender's mark.
    let mark = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        store.mark_read(ada, team.general, Seq::ZERO).await.expect("marks");
    };
    let read = async {
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        let found = store.sent(ada, team.general, &client_msg_id("1")).await;
        assert_eq!(found.expect("reads"), None);
        over.load(Ordering::Relaxed)
    };
    let (sent, (), has_waited) = tokio::join!(append, mark, read);
    locked.abort_transaction().await.expect("aborts");
    assert!(matches!(sent, Some(Error::Unavailable { .. })), "{sent:?}");
    assert!(!has_waited, "it waits with the mark");
}
