//! Whether a write reaches a majority, for all who ask. Anybody may ask whether the server is ready, and as often as they
//! like: so one question at a time is on its way, and it needs no share of the connections.

use std::time::Duration;

use bson::{Document, doc};
use mongodb::Collection;
use parlance_application::Result;
use tokio::{sync::Mutex, time::Instant};

use crate::{MongoStore, error::driver};

/// For how long an answer is given again.
const FRESH: Duration = Duration::from_secs(1);

/// The last answer, and when it came.
#[derive(Default)]
pub(crate) struct Pings(Mutex<Option<(Instant, Result<()>)>>);

impl Pings {
    /// What `ask` answers, unless there is a fresh answer. Whoever comes while somebody asks waits for that one.
    async fn shared(&self, ask: impl Future<Output = Result<()>>) -> Result<()> {
        let mut last = self.0.lock().await;
        if let Some((at, answer)) = &*last
            && at.elapsed() < FRESH
        {
            return answer.clone();
        }
        let answer = ask.await;
        *last = Some((Instant::now(), answer.clone()));
        answer
    }
}

impl MongoStore {
    /// Proves that a write reaches a majority, or did so less than a second ago.
    pub async fn ping(&self) -> Result<()> {
        self.pings.shared(self.count_ping()).await
    }

    async fn count_ping(&self) -> Result<()> {
        let meta: Collection<Document> = self.db.collection("meta");
        let count = doc! { "$inc": { "value": 1_i64 } };
        let done = meta.update_one(doc! { "_id": "pings" }, count).upsert(true).await;
        done.map(drop).map_err(|error| driver(&error))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::{FutureExt, future::join_all};
    use parlance_application::Error;
    use tokio::time::{advance, sleep};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn whoever_comes_meanwhile_or_a_moment_later_has_the_same_answer() {
        let (pings, asked) = (Pings::default(), AtomicUsize::new(0));
        // Slower than an answer is fresh; and each has another.
        let ask = || {
            pings.shared(async {
                let n = asked.fetch_add(1, Ordering::Relaxed);
                sleep(FRESH * 3).await;
                if n % 2 == 0 { Ok(()) } else { Err(Error::unavailable("away")) }
            })
        };
        let count = || asked.load(Ordering::Relaxed);
        let answers = join_all((0..100).map(|_| ask())).await;
        assert!(answers.iter().all(Result::is_ok), "{answers:?}");
        advance(Duration::from_millis(999)).await;
        assert!(ask().await.is_ok());
        assert_eq!(count(), 1);

        advance(Duration::from_millis(1)).await;
        let answers = join_all((0..100).map(|_| ask())).await;
        assert!(answers.iter().all(Result::is_err), "{answers:?}");
        assert_eq!(count(), 2);
        advance(FRESH).await;

        // Who gives up leaves the question to the next.
        assert!(ask().now_or_never().is_none());
        assert!(ask().await.is_err());
        assert_eq!(count(), 4);
    }
}
