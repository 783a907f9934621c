//! What a node makes of a bus that loses much, or begins anew.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use parlance_application::ports::Heard;
use parlance_testkit::{
    head,
    mocks::{MockChanges, MockConversations},
};
use tokio::time::sleep;

use crate::{
    checks::Late,
    peers::{HERE, changes, nothing_new, quiet_scene, replays},
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
