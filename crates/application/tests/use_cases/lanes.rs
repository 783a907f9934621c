//! When a lane goes on: not before those who hear it, and not once its task is ended in the middle.

use std::{sync::Arc, time::Duration};

use parlance_application::{
    Error,
    live::{Lanes, Sequencer},
};
use parlance_domain::{ConversationId, UserId};
use parlance_testkit::{GatedMessages, PATIENCE, TestNode, mocks::MockMessages, socket};
use tokio::time::{sleep, timeout};

use crate::sequencer::{Batches, committing, said, write};

#[tokio::test(start_paused = true)]
async fn a_lane_that_was_ended_in_the_middle_makes_way_for_another() {
    for lanes in [Lanes::Apart, Lanes::Shared] {
        let store = GatedMessages::closed(committing(Arc::default()));
        let node = TestNode::start(MockMessages::new());
        let sequencer = Sequencer::new(store.clone(), node.live.clone(), node.tasks.clone(), lanes);
        let ada = UserId(node.ambient.next_uuid());
        let here = ConversationId(node.ambient.next_uuid());
        let begun = sequencer.submit(here, write(&node, ada, "begun"));
        sleep(Duration::from_millis(10)).await;
        let waits = sequencer.submit(here, write(&node, ada, "waits"));
        node.tasks.abort();
        for unknown in [begun.await, waits.await] {
            assert!(matches!(unknown, Err(Error::Unavailable { .. })), "{unknown:?}");
        }
        store.open(10);
        let next = timeout(PATIENCE, sequencer.submit(here, write(&node, ada, "next")));
        let next = next.await.expect("answered").expect("accepted");
        assert_eq!(said(&next).1, "next");
    }
}

/// Else whoever sends as fast as they are answered would be heard ever later.
#[tokio::test(start_paused = true)]
async fn writers_do_not_run_ahead_of_those_who_hear_them() {
    for lanes in [Lanes::Apart, Lanes::Shared] {
        let batches = Batches::default();
        let node = TestNode::start(MockMessages::new());
        let store = Arc::new(committing(batches.clone()));
        let sequencer = Sequencer::new(store, node.live.clone(), node.tasks.clone(), lanes);
        let ada = UserId(node.ambient.next_uuid());
        let here = ConversationId(node.ambient.next_uuid());
        node.connect(socket(1), ada, &[(here, 0)]).await;
        let send = |says| sequencer.submit(here, write(&node, ada, says));
        let committed = || batches.lock().expect("unpoisoned").concat();

        node.fanout.hold(true);
        send("told").await.expect("answered, although nobody has heard it");
        let waiting = ["waits", "waits, too"].map(send);
        sleep(Duration::from_secs(1)).await;
        assert_eq!(committed(), ["told"]);

        node.fanout.hold(false);
        for answer in waiting {
            timeout(PATIENCE, answer).await.expect("in time").expect("accepted");
        }
        assert_eq!(committed(), ["told", "waits", "waits, too"]);
    }
}
