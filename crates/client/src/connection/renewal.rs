//! Extends a connection with a new token before the old one expires.

use std::{sync::Arc, time::Duration};

use futures::{FutureExt, future::BoxFuture};
use serde_json::Value;
use tokio::time::{Instant, sleep_until};

use crate::config::{NoToken, TokenSource};

/// A new token is requested when a fifth of the old one's time is left, and no earlier than this before its end.
const AHEAD: Duration = Duration::from_mins(1);
/// The shortest pause before a source that had no token is asked again.
const PAUSE: Duration = Duration::from_secs(1);

pub(super) struct Renewal {
    source: Arc<dyn TokenSource>,
    current: String,
    ends_at: Option<Instant>,
    /// When to ask the source.
    at: Option<Instant>,
    asking: Option<BoxFuture<'static, Result<String, NoToken>>>,
}

impl Renewal {
    pub(super) fn new(source: Arc<dyn TokenSource>, current: String) -> Self {
        Self { source, current, ends_at: None, at: None, asking: None }
    }

    /// The token that the server took last.
    pub(super) fn current(&self) -> &str {
        &self.current
    }

    /// Notes how long the current token lasts, as the server has said.
    pub(super) fn lasts(&mut self, time: Duration) {
        let now = Instant::now();
        self.ends_at = now.checked_add(time);
        self.at = now.checked_add(time.saturating_sub(AHEAD.min(time / 5)));
    }

    /// Waits until there is another token to extend with; `None` if the source has none and will be asked again later.
    /// Cancel-safe.
    pub(super) async fn token(&mut self) -> Option<String> {
        if self.asking.is_none() {
            match self.at {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        }
        let asked = || self.source.token(Some(self.current.clone())).boxed();
        let given = self.asking.get_or_insert_with(asked).await;
        self.asking = None;
        match given {
            Ok(token) if token != self.current => {
                self.at = None;
                Some(token)
            }
            Ok(_) | Err(NoToken::ForNow) => {
                self.later();
                None
            }
            Err(NoToken::ForGood) => {
                self.at = None;
                None
            }
        }
    }

    /// Handles the reply to `auth.refresh`; `None` if it was refused.
    pub(super) fn answered(&mut self, token: String, reply: Option<&Value>) {
        match reply.and_then(|reply| reply["token_expires_in_ms"].as_u64()) {
            Some(millis) => {
                self.current = token;
                self.lasts(Duration::from_millis(millis));
            }
            None => self.later(),
        }
    }

    /// Asks again when half of the time left has passed.
    fn later(&mut self) {
        let now = Instant::now();
        let left = self.ends_at.map(|ends_at| ends_at.saturating_duration_since(now));
        self.at = left.map(|left| now + (left / 2).max(PAUSE));
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    /// More and more often as the end approaches, but never in a hurry.
    #[tokio::test(start_paused = true)]
    async fn a_source_that_has_none_is_asked_again_with_pauses() {
        let none = |_: Option<String>| async { Err::<String, _>(NoToken::ForNow) };
        let mut renewal = Renewal::new(Arc::new(none), "old".to_owned());
        let begun = Instant::now();
        renewal.lasts(Duration::from_mins(1));
        let mut asked = Vec::new();
        let asking = async {
            loop {
                assert_eq!(renewal.token().await, None);
                asked.push(begun.elapsed().as_millis());
            }
        };
        assert!(timeout(Duration::from_millis(63_800), asking).await.is_err());
        let times = [48_000, 54_000, 57_000, 58_500, 59_500, 60_500, 61_500, 62_500, 63_500];
        assert_eq!(asked, times);
    }
}
