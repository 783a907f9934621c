//! What becomes of a lane whose task is ended in the middle.

use std::{sync::Arc, time::Duration};

use parlance_application::{
    Error,
    live::{Lanes, Sequencer},
};
use parlance_domain::{ConversationId, UserId};
use parlance_testkit::{GatedMessages, PATIENCE, TestNode, mocks::MockMessages};
use tokio::time::{sleep, timeout};

use crate::sequencer::{committing, said, write};

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
