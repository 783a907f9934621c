//! Conversations whose heads another node keeps locked: whoever need not wait for them does not.

use bson::{Document, doc};
use mongodb::ClientSession;
use parlance_application::{
    Error,
    ports::store::{Joining, NewMember, Workspaces},
};
use parlance_domain::Role;
use parlance_testkit::Stage;

use crate::world::Database;

/// A transaction that has written all heads, and is not over.
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

/// Or everybody could keep everybody else from writing.
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
        store.delete_workspace(bob, team.id, stage.at()).await.err(),
        store.add_member(bob, team.id, new()).await.err(),
        store.remove_member(bob, team.id, ada).await.err(),
    ];
    let unseen = [
        store.delete_workspace(eve, team.id, stage.at()).await.err(),
        store.add_member(eve, team.id, new()).await.err(),
        store.remove_member(eve, team.id, eve).await.err(),
    ];
    let again = store.join_workspace(bob, &team.code, stage.at()).await;
    locked.abort_transaction().await.expect("aborts");
    assert!(refused.iter().all(|error| matches!(error, Some(Error::Forbidden(_)))), "{refused:?}");
    assert!(unseen.iter().all(|error| matches!(error, Some(Error::NotFound(_)))), "{unseen:?}");
    assert!(matches!(again, Ok(Joining::AlreadyIn(_))), "{again:?}");
}
