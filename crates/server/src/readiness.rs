//! What `/readyz` asks: the store must take a write; without Redis, or with one that is another deployment's, the node
//! serves on, degraded.
//!
//! Anybody may ask, as often as they like, and the store answers with a write that reaches its disks. So at most one
//! check of each is in flight, and its answer is given to all who ask within a second.

use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;
use parlance_application::{Error, Result};
use parlance_transport::Readiness;
use tokio::{
    sync::Mutex,
    time::{Instant, timeout},
};

use crate::adapters::{Database, Redis};

/// Asks whether this node can serve.
pub(crate) type Question = Box<dyn Fn() -> BoxFuture<'static, Result<Readiness>> + Send + Sync>;

/// How long an answer waits for the store, without which this node is not ready in any case.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long for Redis, without which it serves: Kubernetes gives a probe one second, unless told otherwise.
const PATIENCE_WITH_REDIS: Duration = Duration::from_millis(500);
/// How long an answer is reused.
const FRESH: Duration = Duration::from_secs(1);

/// What `/readyz` asks of these services.
pub(crate) fn readiness(database: Database, redis: Option<Redis>) -> Question {
    let (of_store, of_redis) = (LastAnswer::default(), LastAnswer::default());
    Box::new(move || {
        let store = of_store.or_ask(database.clone().ping());
        let redis = redis.clone().map(|redis| of_redis.or_ask(redis.ping()));
        Box::pin(answer(store, redis))
    })
}

async fn answer(
    store: impl Future<Output = Result<()>>,
    redis: Option<impl Future<Output = Result<()>>>,
) -> Result<Readiness> {
    let redis = async {
        match redis {
            None => true,
            Some(redis) => matches!(timeout(PATIENCE_WITH_REDIS, redis).await, Ok(Ok(()))),
        }
    };
    // Concurrently: whoever asks may wait hardly longer than for one of them.
    let (store, redis) = tokio::join!(timeout(PATIENCE, store), redis);
    store.map_err(|_| Error::unavailable("the store did not answer in time"))??;
    Ok(if redis { Readiness::Ok } else { Readiness::Degraded("redis") })
}

/// When a service answered, and what.
type Answer = (Instant, Result<()>);

/// A service's last answer. Locked while it is being asked.
#[derive(Default)]
struct LastAnswer(Arc<Mutex<Option<Answer>>>);

impl LastAnswer {
    /// The last answer if it is fresh, else what `ask` answers. Whoever comes during a check waits for its answer.
    fn or_ask<F>(&self, ask: F) -> impl Future<Output = Result<()>> + Send + use<F>
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        let last = self.0.clone();
        async move {
            let mut last = last.lock_owned().await;
            if let Some((at, answer)) = &*last
                && at.elapsed() < FRESH
            {
                return answer.clone();
            }
            // Spawned, so that a client that hangs up interrupts nothing, nor makes the next one ask again.
            let asking = tokio::spawn(async move {
                let answer = ask.await;
                *last = Some((Instant::now(), answer.clone()));
                answer
            });
            asking.await.unwrap_or_else(|_| Err(Error::internal("the check panicked")))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::pending,
        sync::atomic::{AtomicUsize, Ordering},
    };

    use futures::{FutureExt as _, future::join_all};
    use parlance_domain::Timestamp;
    use parlance_embedded::EmbeddedStore;
    use tokio::time::{advance, sleep};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn whoever_comes_meanwhile_or_a_moment_later_has_the_same_answer() {
        let (last, asked) = (LastAnswer::default(), Arc::new(AtomicUsize::new(0)));
        // Takes longer than an answer is fresh; and every other one fails.
        let ask = || {
            let asked = asked.clone();
            last.or_ask(async move {
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

        // Whoever hangs up leaves the answer to the next.
        assert!(ask().now_or_never().is_none());
        assert!(ask().await.is_ok());
        assert_eq!(count(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_hanging_redis_is_said_before_a_probe_gives_up() {
        let begun = Instant::now();
        let ready = answer(async { Ok(()) }, Some(pending())).await;
        assert!(matches!(ready, Ok(Readiness::Degraded("redis"))), "{ready:?}");
        assert!(begun.elapsed() < Duration::from_millis(900));

        let ready = answer(pending(), Some(async { Ok(()) })).await;
        assert!(matches!(ready, Err(Error::Unavailable { .. })), "{ready:?}");
    }

    #[tokio::test]
    async fn however_many_ask_the_embedded_store_writes_once() {
        let dir = tempfile::tempdir().unwrap();
        let begin = Timestamp::from_millis(0);
        let store = EmbeddedStore::open(dir.path(), "epoch".to_owned(), begin).unwrap();
        let ready = readiness(Database::Embedded(store), None);
        let answers = join_all((0..200).map(|_| ready())).await;
        assert!(answers.iter().all(|answer| matches!(answer, Ok(Readiness::Ok))), "{answers:?}");

        let database = rusqlite::Connection::open(dir.path().join("parlance.db")).unwrap();
        let pings = "SELECT CAST(value AS INTEGER) FROM meta WHERE key = 'pings'";
        let pings: i64 = database.query_row(pings, [], |row| row.get(0)).unwrap();
        assert_eq!(pings, 1);
    }
}
