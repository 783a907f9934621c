//! The periodic look at the store: if a node died between commit and publication, or the bus lost an event, the change
//! is delayed by two looks, never lost.

use std::{pin::pin, sync::Arc, time::Duration};

use parlance_domain::Timestamp;
use tokio::time::{Instant, sleep, timeout};

use super::{
    Live,
    actor::{Input, News},
};
use crate::ports::store::{Changes, Look};

/// How often to look. What a look finds is told at the next one, because the bus delivers most of it meanwhile.
const EVERY: Duration = Duration::from_secs(1);
/// How long a node that can reach neither store nor bus keeps its sockets.
const CUT_OFF: Duration = Duration::from_secs(10);

pub(super) async fn run(live: Live, changes: Arc<dyn Changes>) {
    let (mut since, mut found) = (None, None);
    let mut answered_at = Instant::now();
    loop {
        if let Some(look) = found.take() {
            live.input(Input::FromPeers(News::Look(look))).await;
        }
        let mut asked = pin!(changes.changes(since));
        // A late question is not abandoned: only its lateness may cut the sockets off.
        let look = loop {
            match timeout(EVERY, &mut asked).await {
                Ok(look) => break look,
                Err(_) => cut_off(&live, answered_at).await,
            }
        };
        match look {
            Ok(look) => {
                answered_at = Instant::now();
                let at_once = goes_on(since, &look);
                since = Some(look.until);
                found = Some(look);
                if at_once {
                    continue;
                }
            }
            Err(error) => {
                tracing::warn!(%error, "the store could not be looked at");
                cut_off(&live, answered_at).await;
            }
        }
        sleep(EVERY).await;
    }
}

/// Whether to look again at once: there is more, and the next look begins later than this one did.
fn goes_on(since: Option<Timestamp>, look: &Look) -> bool {
    look.more && since.is_none_or(|since| since < look.until)
}

async fn cut_off(live: &Live, answered_at: Instant) {
    if answered_at.elapsed() >= CUT_OFF && !live.hears_bus() {
        live.input(Input::FromPeers(News::CutOff)).await;
    }
}

#[cfg(test)]
mod tests {
    use parlance_domain::SessionRev;

    use super::*;

    #[test]
    fn what_makes_no_progress_is_not_asked_again_at_once() {
        let empty = |until| Look::empty(SessionRev::ZERO, Timestamp::from_millis(until));
        let ends = |until, more| Look { more, ..empty(until) };
        let since = Some(Timestamp::from_millis(7));
        assert!(goes_on(None, &ends(7, true)) && goes_on(since, &ends(8, true)));
        assert!(!goes_on(since, &ends(7, true)) && !goes_on(since, &ends(8, false)));
    }
}
