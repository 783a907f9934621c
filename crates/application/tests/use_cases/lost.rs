//! What a node makes of a bus that loses much, or begins anew.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use parlance_application::ports::{Heard, Topic};
use parlance_testkit::{
    head,
    mocks::{MockChanges, MockConversations},
};
use tokio::time::sleep;

use crate::{
    checks::Late,
    scene::{HERE, changes, nothing_new, quiet_scene, replays},
};

fn counted(asked: &Arc<AtomicUsize>) -> MockChanges {
    let (mut changes, asked) = (changes(), asked.clone());
    changes.expect_changes().returning(|_| Ok(nothing_new()));
    changes.expect_heads().returning(move |_| {
        asked.fetch_add(1, Ordering::Relaxed);
        Ok(vec![head(HERE, 5)])
    });
    changes
}

#[tokio::test(start_paused = true)]
async fn a_thousand_losses_are_one_question_and_another_waits_for_its_answer() {
    let asked = Arc::default();
    let late = Late::taking(Duration::from_secs(5), counted(&asked));
    let scene = quiet_scene(late, MockConversations::new(), replays(5, 1)).await;
    for _ in 0..1_000 {
        scene.says(Heard::Lost);
    }
    sleep(Duration::from_secs(2)).await;
    scene.says(Heard::Lost);
    scene.until(2, &["replay"]).await;
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    sleep(Duration::from_secs(20)).await;
    assert_eq!(asked.load(Ordering::Relaxed), 2, "what was lost since");
}

#[tokio::test(start_paused = true)]
async fn a_bus_that_begins_anew_is_told_what_to_bring_and_made_up_for() {
    let mut scene =
        quiet_scene(counted(&Arc::default()), MockConversations::new(), replays(5, 1)).await;
    while scene.topics.try_recv().is_ok() {}
    scene.begins_anew();
    let (on, topics) = scene.topics.recv().await.expect("the node lives");
    assert!(on);
    let topics: HashSet<_> = topics.into_iter().collect();
    let all = [Topic::User(scene.ada), Topic::User(scene.bob), Topic::Conversation(HERE)];
    assert_eq!(topics, HashSet::from(all));
    scene.until(1, &["replay"]).await;
}
