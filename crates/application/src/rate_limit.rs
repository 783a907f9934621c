//! How much of something is let through, by the generic cell rate algorithm ("virtual scheduling", ITU-T I.371): one moment
//! kept for each key, no timers. Ours rather than a library's, because a duplicate gives back what it took, and because a
//! herd is told when to come again.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use parlance_domain::UserId;
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::{Instant, sleep, timeout},
};

/// Changes that one user may make on one node.
const WRITES: Quota = Quota { every: Duration::from_millis(10), burst: 1_000 };
/// People whose spending is remembered before those who have not spent of late are forgotten.
const REMEMBERED: usize = 1_024;

/// Connections that one node opens.
const HELLOS: Quota = Quota { every: Duration::from_millis(2), burst: 500 };
/// Those that it opens at the same time: what they read of the store is not small.
const OPENING: usize = 32;
/// How long a `hello` may wait for its turn, and then for those before it.
const PATIENCE: Duration = Duration::from_secs(2);
/// The latest that a refused one is told to come again.
const LATEST: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, Copy)]
struct Quota {
    every: Duration,
    burst: u32,
}

/// When the next one is due, if they come evenly.
#[derive(Debug, Clone, Copy)]
struct Cell(Instant);

/// Each user's share of changes. Kept for each node: a connection lives on one.
#[derive(Default)]
pub(crate) struct WriteLimit(Mutex<Spending>);

#[derive(Default)]
struct Spending {
    cells: HashMap<UserId, Cell>,
    /// With so many it is time to forget.
    full: usize,
}

/// The gate for `hello`: a herd that comes all at once is let in evenly, and no faster than the store answers.
pub(crate) struct Admission {
    gate: Mutex<Gate>,
    opening: Semaphore,
}

struct Gate {
    cell: Cell,
    /// Up to when those who were refused have been told to come again.
    promised: Instant,
}

impl WriteLimit {
    /// Takes one from a user's share, or says how long until there is one.
    pub(crate) fn take(&self, user: UserId, now: Instant) -> Result<(), Duration> {
        let mut spending = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Spending { cells, full } = &mut *spending;
        if cells.len() > *full {
            cells.retain(|_, cell| cell.0 > now);
            *full = REMEMBERED.max(2 * cells.len());
        }
        let cell = cells.entry(user).or_insert(Cell(now));
        match cell.wait(&WRITES, now) {
            Duration::ZERO => {
                cell.0 = cell.0.max(now) + WRITES.every;
                Ok(())
            }
            wait => Err(wait),
        }
    }

    /// Gives back one that was taken for nothing.
    pub(crate) fn give_back(&self, user: UserId) {
        let mut spending = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(cell) = spending.cells.get_mut(&user) {
            cell.0 -= WRITES.every;
        }
    }
}

impl Admission {
    /// A gate that has seen nobody yet.
    pub(crate) fn new(now: Instant) -> Self {
        let gate = Mutex::new(Gate { cell: Cell(now), promised: now });
        Self { gate, opening: Semaphore::new(OPENING) }
    }

    /// Waits for a `hello`'s turn; or says when the client is to come again. `jitter` is in 0–1.
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
            let mut gate = self.lock();
            let wait = gate.cell.wait(&HELLOS, now);
            if wait <= PATIENCE {
                gate.cell.0 = gate.cell.0.max(now) + HELLOS.every;
                return Ok(wait);
            }
        }
        Err(self.later(now, jitter))
    }

    /// When one who is sent away is to come again: each a little later than the one before, so that they do not come all at
    /// once again.
    fn later(&self, now: Instant, jitter: f64) -> Duration {
        let mut gate = self.lock();
        let soonest = now + gate.cell.wait(&HELLOS, now).max(PATIENCE / 2);
        gate.promised = gate.promised.max(soonest) + HELLOS.every;
        let turn = gate.promised.duration_since(now);
        if turn > LATEST {
            gate.promised = soonest;
        }
        turn.min(LATEST).mul_f64(1.0 + jitter / 4.0)
    }

    fn lock(&self) -> MutexGuard<'_, Gate> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cell {
    /// How long until one more is within the quota.
    fn wait(self, quota: &Quota, now: Instant) -> Duration {
        let ahead = self.0.saturating_duration_since(now) + quota.every;
        ahead.saturating_sub(quota.every * quota.burst)
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn user(n: u128) -> UserId {
        UserId(Uuid::from_u128(n))
    }

    #[test]
    fn a_user_has_a_burst_and_then_a_rate() {
        let (limit, now) = (WriteLimit::default(), Instant::now());
        for _ in 0..WRITES.burst {
            assert_eq!(limit.take(user(1), now), Ok(()));
        }
        assert_eq!(limit.take(user(1), now), Err(WRITES.every));
        assert_eq!(limit.take(user(2), now), Ok(()), "another's share is another's");
        assert_eq!(limit.take(user(1), now + WRITES.every), Ok(()));
        assert_eq!(limit.take(user(1), now + WRITES.every), Err(WRITES.every));
        limit.give_back(user(1));
        assert_eq!(limit.take(user(1), now + WRITES.every), Ok(()));
    }

    #[test]
    fn who_has_not_spent_of_late_is_forgotten() {
        let (limit, now) = (WriteLimit::default(), Instant::now());
        for n in 0..100_000 {
            let _ = limit.take(user(n), now + WRITES.every * u32::try_from(n).unwrap_or(0));
        }
        assert!(
            limit.0.lock().map_or(usize::MAX, |spending| spending.cells.len()) <= REMEMBERED + 1
        );
    }

    #[test]
    fn a_herd_is_let_in_evenly() {
        let now = Instant::now();
        let gate = Admission::new(now);
        let answers: Vec<_> = (0..5_000).map(|_| gate.turn(now, 0.5)).collect();
        let at_once = answers.iter().filter(|a| **a == Ok(Duration::ZERO)).count();
        assert_eq!(at_once, 500);
        let in_turn: Vec<_> = answers.iter().filter_map(|a| a.ok()).collect();
        assert_eq!(in_turn.len(), 1_500, "for two seconds, one each two milliseconds");
        assert!(in_turn.is_sorted() && in_turn.iter().all(|wait| *wait <= PATIENCE));
        let later: Vec<_> = answers.iter().filter_map(|a| a.err()).collect();
        assert!(later.is_sorted_by(|one, next| one < next), "not all at once again");
        assert!(later[0] > PATIENCE && later[later.len() - 1] < Duration::from_secs(12));
        // Those who come when they were told to are let in.
        let second = gate.turn(now + later[0], 0.0);
        assert!(second.is_ok_and(|wait| wait <= PATIENCE), "{second:?}");
    }

    #[test]
    fn nobody_is_sent_away_for_ever() {
        let now = Instant::now();
        let gate = Admission::new(now);
        let later: Vec<_> = (0..100_000).filter_map(|_| gate.turn(now, 1.0).err()).collect();
        assert!(later.iter().all(|later| *later <= LATEST * 5 / 4));
        // What is beyond that is spread anew, and not told the same time; but for the two at the bound.
        assert!(later.windows(3).all(|three| three[0] != three[2]));
        assert!(later.windows(2).any(|two| two[0] > two[1]));
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_store_is_not_asked_by_everybody_at_once() {
        let gate = Admission::new(Instant::now());
        let mut inside = Vec::new();
        for _ in 0..OPENING {
            inside.push(gate.enter(0.0).await);
        }
        assert!(inside.iter().all(Result::is_ok));
        let later = gate.enter(0.0).await.err();
        assert!(later.is_some_and(|later| later >= PATIENCE / 2));
        inside.pop();
        assert!(gate.enter(0.0).await.is_ok());
    }
}
