//! Admission control for `hello`: a thundering herd is let in evenly, and no faster than the store answers.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::{Instant, sleep, timeout},
};

use crate::rate_limit::{ArrivalTime, Quota};

/// How fast one node opens connections.
const HELLOS: Quota = Quota { every: Duration::from_millis(2), burst: 500 };
/// How many it opens concurrently: each reads a lot from the store.
const OPENING: usize = 32;
/// How long a `hello` may wait for its turn, and then again for a free place among those being opened.
const PATIENCE: Duration = Duration::from_secs(2);
/// The longest a refused client is told to wait, before the jitter.
const LATEST: Duration = Duration::from_secs(30);

/// See the module's description. Each node has its own.
pub(crate) struct HelloQueue {
    turns: Mutex<Turns>,
    opening: Semaphore,
}

struct Turns {
    next: ArrivalTime,
    /// The latest time at which a refused client has been told to retry.
    promised: Instant,
}

impl HelloQueue {
    /// A queue that has seen nobody yet.
    pub(crate) fn new(now: Instant) -> Self {
        let turns = Mutex::new(Turns { next: ArrivalTime::new(now), promised: now });
        Self { turns, opening: Semaphore::new(OPENING) }
    }

    /// Waits for a `hello`'s turn, or returns after how long the client should retry. `jitter` is in 0–1. The
    /// connection counts as being opened until the permit is dropped.
    pub(crate) async fn enter(&self, jitter: f64) -> Result<SemaphorePermit<'_>, Duration> {
        sleep(self.turn(Instant::now(), jitter)?).await;
        match timeout(PATIENCE, self.opening.acquire()).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => Err(self.later(Instant::now(), jitter)),
        }
    }

    /// How long a `hello` has to wait for its turn.
    fn turn(&self, now: Instant, jitter: f64) -> Result<Duration, Duration> {
        {
            let mut turns = self.lock();
            let wait = turns.next.wait(&HELLOS, now);
            if wait <= PATIENCE {
                turns.next.take(&HELLOS, now);
                return Ok(wait);
            }
        }
        Err(self.later(now, jitter))
    }

    /// After how long a refused client should retry: each a little later than the one before, so that they do not all
    /// come back at once.
    fn later(&self, now: Instant, jitter: f64) -> Duration {
        let mut turns = self.lock();
        let soonest = now + turns.next.wait(&HELLOS, now).max(PATIENCE / 2);
        turns.promised = turns.promised.max(soonest) + HELLOS.every;
        let wait = turns.promised.duration_since(now);
        if wait > LATEST {
            turns.promised = soonest;
        }
        wait.min(LATEST).mul_f64(1.0 + jitter / 4.0)
    }

    fn lock(&self) -> MutexGuard<'_, Turns> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_herd_is_let_in_evenly() {
        let now = Instant::now();
        let queue = HelloQueue::new(now);
        let answers: Vec<_> = (0..5_000).map(|_| queue.turn(now, 0.5)).collect();
        let at_once = answers.iter().filter(|a| **a == Ok(Duration::ZERO)).count();
        assert_eq!(at_once, 500);
        let in_turn: Vec<_> = answers.iter().filter_map(|a| a.ok()).collect();
        assert_eq!(in_turn.len(), 1_500, "for two seconds, one each two milliseconds");
        assert!(in_turn.is_sorted() && in_turn.iter().all(|wait| *wait <= PATIENCE));
        let later: Vec<_> = answers.iter().filter_map(|a| a.err()).collect();
        assert!(later.is_sorted_by(|one, next| one < next), "not all at once again");
        assert!(later[0] > PATIENCE && later[later.len() - 1] < Duration::from_secs(12));
        // Those who retry when told to are let in.
        let second = queue.turn(now + later[0], 0.0);
        assert!(second.is_ok_and(|wait| wait <= PATIENCE), "{second:?}");
    }

    #[test]
    fn nobody_is_sent_away_for_ever() {
        let now = Instant::now();
        let queue = HelloQueue::new(now);
        let later: Vec<_> = (0..100_000).filter_map(|_| queue.turn(now, 1.0).err()).collect();
        assert!(later.iter().all(|later| *later <= LATEST * 5 / 4));
        // Those beyond the bound are spread anew, not all told the same time, except for the two at the bound.
        assert!(later.windows(3).all(|three| three[0] != three[2]));
        assert!(later.windows(2).any(|two| two[0] > two[1]));
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_store_is_not_asked_by_everybody_at_once() {
        let queue = HelloQueue::new(Instant::now());
        let mut inside = Vec::new();
        for _ in 0..OPENING {
            inside.push(queue.enter(0.0).await);
        }
        assert!(inside.iter().all(Result::is_ok));
        let later = queue.enter(0.0).await.err();
        assert!(later.is_some_and(|later| later >= PATIENCE / 2));
        inside.pop();
        assert!(queue.enter(0.0).await.is_ok());
    }
}
