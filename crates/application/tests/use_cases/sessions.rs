//! Ends of sessions that the bus brings in another order.

use std::{sync::Arc, time::Duration};

use parlance_application::{
    live::{Event, Frame},
    ports::Heard,
};
use parlance_domain::{SessionId, SessionRev};
use parlance_testkit::mocks::{MockConversations, MockMessages};
use tokio::time::Instant;
use uuid::Uuid;

use crate::{
    checks::Late,
    scene::{changed_when, changes, nothing_new, quiet_scene},
};

fn ended(number: u128, session_rev: u64) -> Heard {
    let session_rev = SessionRev(session_rev);
    let session_id = SessionId(Uuid::from_u128(number));
    let frame = Frame::session_revoked(session_id);
    Heard::Event(Arc::new(Event::SessionRevoked { session_id, session_rev, frame }))
}

#[tokio::test(start_paused = true)]
async fn ends_of_sessions_that_come_in_another_order_hold_nothing_up() {
    let mut rest = changes();
    rest.expect_changes().returning(|_| Ok(nothing_new()));
    rest.expect_ended_sessions().returning(|_| Ok(vec![]));
    let late = Late::taking(Duration::from_secs(5), rest);
    let scene = quiet_scene(late, MockConversations::new(), MockMessages::new()).await;
    let began = Instant::now();
    for (number, session_rev) in [(12, 2), (13, 3), (11, 1)] {
        scene.says(ended(number, session_rev));
    }
    scene.says(changed_when(5, 1, 3));
    scene.until(1, &["changed"]).await;
    assert!(began.elapsed() < Duration::from_secs(1), "it waited for the store");
}
