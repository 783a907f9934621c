//! Who has guessed wrong recently.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use tokio::{sync::Semaphore, time::Instant};

use super::{Guesser, PAUSE};
use crate::{Error, Result};

/// The most guessers whose wrong passwords are remembered. Each costs a hash, or two of them one at the board: this
/// many within a pause are ten cores' work, and those who have to pause are the last to be evicted.
pub(super) const REMEMBERED: usize = 65_536;
/// How many whose pause is over are forgotten per attempt: more than it can add, so that all go in time, and no attempt
/// pays for many.
pub(super) const FORGOTTEN_AT_ONCE: usize = 2;

/// Those who have guessed wrong within a pause, and those trying right now, no more than there are requests.
#[derive(Default)]
pub(super) struct Known {
    pub(super) tries: HashMap<Guesser, Tries>,
    /// Who has guessed wrong and may go on, by when they last did.
    guessing: BTreeSet<(Instant, Guesser)>,
    /// Who has to pause, by when that began.
    pausing: BTreeSet<(Instant, Guesser)>,
}

/// What is known of a guesser.
pub(super) struct Tries {
    /// One for each guess that is neither wrong nor under way. An attempt gives its place back unless it was wrong, so
    /// that concurrent ones gain nothing; the last wrong one closes them.
    places: Arc<Semaphore>,
    /// Attempts that have a place or wait for one.
    under_way: usize,
    wrong: u32,
    /// When the last wrong one was found out.
    last: Instant,
}

impl Known {
    /// Counts an attempt as under way, unless its guesser has to pause. It needs one of these places.
    pub(super) fn begin(&mut self, guesser: &Guesser, now: Instant) -> Result<Arc<Semaphore>> {
        self.forget_some(now);
        if self.tries.get(guesser).is_some_and(|tries| is_over(tries.last, now)) {
            self.forget(guesser);
        }
        let tries = self.tries.entry(guesser.clone()).or_insert_with(|| Tries {
            places: Arc::new(Semaphore::new(guesser.guesses() as usize)),
            under_way: 0,
            wrong: 0,
            last: now,
        });
        if tries.wrong >= guesser.guesses() {
            let retry_after = PAUSE.saturating_sub(now - tries.last);
            return Err(Error::RateLimited { retry_after });
        }
        tries.under_way += 1;
        Ok(tries.places.clone())
    }

    /// An attempt that has begun is over, whatever its outcome.
    pub(super) fn end(&mut self, guesser: &Guesser) {
        let Some(tries) = self.tries.get_mut(guesser) else { return };
        tries.under_way -= 1;
        if tries.under_way == 0 && tries.wrong == 0 {
            self.tries.remove(guesser);
        }
    }

    /// An attempt under way was wrong. Its place must not be given back.
    pub(super) fn wrong(&mut self, guesser: &Guesser, now: Instant) {
        let Some(tries) = self.tries.get_mut(guesser) else { return };
        self.guessing.remove(&(tries.last, guesser.clone()));
        tries.wrong += 1;
        tries.last = now;
        if tries.wrong < guesser.guesses() {
            self.guessing.insert((now, guesser.clone()));
        } else {
            tries.places.close();
            self.pausing.insert((now, guesser.clone()));
        }
        if self.guessing.len() + self.pausing.len() > REMEMBERED
            && let Some((_, least)) = self.guessing.first().or(self.pausing.first()).cloned()
        {
            self.forget(&least);
        }
    }

    /// Forgets the wrong attempts of a guesser; those under way still count.
    pub(super) fn forget(&mut self, guesser: &Guesser) {
        let Some(tries) = self.tries.get_mut(guesser) else { return };
        let listed = (tries.last, guesser.clone());
        if !self.guessing.remove(&listed) {
            self.pausing.remove(&listed);
        }
        let places = std::mem::take(&mut tries.wrong) as usize;
        if tries.under_way == 0 {
            self.tries.remove(guesser);
        } else if tries.places.is_closed() {
            // Closed by the last one: nobody holds a place, and those still waiting for one are refused.
            tries.places = Arc::new(Semaphore::new(places));
        } else {
            tries.places.add_permits(places);
        }
    }

    fn forget_some(&mut self, now: Instant) {
        for _ in 0..FORGOTTEN_AT_ONCE {
            let oldest = self.guessing.first().into_iter().chain(self.pausing.first()).min();
            let Some((last, guesser)) = oldest.cloned() else { return };
            if !is_over(last, now) {
                return;
            }
            self.forget(&guesser);
        }
    }
}

fn is_over(last: Instant, now: Instant) -> bool {
    now - last >= PAUSE
}
