//! More questions at once than there are connections.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures::future::join_all;
use parlance_application::ports::store::Messages;
use parlance_testkit::{Stage, client_msg_id};

use crate::world::Database;

const QUESTIONS: usize = 200;

#[tokio::test]
async fn a_write_does_not_wait_behind_all_that_is_read() {
    let mut database = Database::new();
    database.uri.push_str("&maxPoolSize=4");
    let store = database.store().await;
    let stage = Stage::new(store.clone());
    let ada = stage.person("ada").await;
    let team = stage.team(ada).await;
    let (answered, written) = (AtomicUsize::new(0), AtomicBool::new(false));
    let questions = (0..QUESTIONS).map(async |n| {
        let id = client_msg_id(&n.to_string());
        while !written.load(Ordering::Relaxed) {
            let sent = store.sent(ada, team.general, &id).await.expect("answers");
            assert_eq!(sent, None);
            answered.fetch_add(1, Ordering::Relaxed);
        }
    });
    let write = async {
        while answered.load(Ordering::Relaxed) < QUESTIONS {
            tokio::task::yield_now().await;
        }
        let draft = stage.draft(ada, "write", "hello");
        store.append(team.general, vec![draft]).await.expect("appends").remove(0).expect("sends");
        written.store(true, Ordering::Relaxed);
        answered.load(Ordering::Relaxed) - QUESTIONS
    };
    let (_, meanwhile) = tokio::join!(join_all(questions), write);
    assert!(meanwhile < QUESTIONS / 4, "it took as long as {meanwhile} of them");
}
