//! Questions to the store that panic: what waits for an answer would wait for ever.

use parlance_application::ports::{
    Heard,
    store::{Readers, ReplayPage},
};
use parlance_domain::{AccessRev, SessionRev};
use parlance_testkit::{
    head,
    mocks::{MockConversations, MockMessages},
};

use crate::scene::{HERE, changed, changed_when, changes, page, quiet_scene, replays, scene};

#[tokio::test(start_paused = true)]
async fn who_may_read_is_asked_again() {
    let mut changes = changes();
    changes.expect_readers().once().returning(|_, _| panic!("a check"));
    changes
        .expect_readers()
        .returning(|_, users| Ok(Some(Readers { access_rev: AccessRev(2), users })));
    let scene = scene(changes, replays(5, 2)).await;
    scene.says(changed(5, 2));
    scene.until(1, &["replay"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_page_is_asked_for_again() {
    let mut store = MockMessages::new();
    store.expect_replay().once().returning(|_, _, _| panic!("a page"));
    store.expect_replay().returning(|_, _, q| Ok(page(q.from_rev, 6, 1)));
    let scene = scene(changes(), store).await;
    scene.says(changed(6, 1));
    scene.until(1, &["replay"]).await;
}

#[tokio::test(start_paused = true)]
async fn ended_sessions_are_asked_for_again() {
    let mut changes = changes();
    changes.expect_ended_sessions().once().returning(|_| panic!("sessions"));
    changes.expect_ended_sessions().returning(|_| Ok(vec![]));
    let mut store = MockMessages::new();
    store.expect_replay().returning(|_, _, q| {
        Ok(ReplayPage { session_rev: SessionRev(1), ..page(q.from_rev, 5, 1) })
    });
    let scene = scene(changes, store).await;
    scene.says(changed_when(5, 1, 1));
    scene.until(1, &["replay"]).await;
}

#[tokio::test(start_paused = true)]
async fn where_conversations_stand_is_asked_again() {
    let mut changes = changes();
    changes.expect_heads().once().returning(|_| panic!("heads"));
    changes.expect_heads().returning(|_| Ok(vec![head(HERE, 5)]));
    let scene = scene(changes, replays(5, 1)).await;
    scene.says(Heard::Lost);
    scene.until(1, &["replay"]).await;
}

/// Looks and the bus are all that a node learns of the others by.
#[tokio::test(start_paused = true)]
async fn a_node_says_that_it_looks_no_more() {
    let mut changes = changes();
    changes.expect_changes().returning(|_| panic!("a look"));
    let node = quiet_scene(changes, MockConversations::new(), MockMessages::new()).await.node;
    tokio::time::timeout(parlance_testkit::PATIENCE, node.live.failed()).await.expect("says so");
}
