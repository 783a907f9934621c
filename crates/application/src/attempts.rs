//! The pause after wrong passwords.

mod known;
#[cfg(test)]
mod tests;

use std::{
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use parlance_domain::UserId;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout},
};

use self::known::Known;
use crate::{Error, Result, Unauthenticated};

/// Wrong passwords in a row that one may type for an address, or for a change of one's own, before a pause.
const GUESSES: u32 = 20;
/// The same at the job board: its description says so.
const GUESSES_AT_BOARD: u32 = 5;
/// The pause, and how long wrong passwords are remembered.
const PAUSE: Duration = Duration::from_mins(1);
/// How long an attempt may wait for those before it.
const PATIENCE: Duration = Duration::from_secs(5);
/// No address is longer, and one that was typed with a wrong password is remembered for a while.
const LONGEST: usize = 254;
/// The part of an IPv6 address that is a network's: whoever has one has all addresses in it.
const NETWORK: u128 = !0 << 64;

/// Who tries.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Guesser(Who);

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Who {
    /// Somebody at a network (where a proxy does not hide it) who typed an address of mail.
    Typed(Option<IpAddr>, Arc<str>),
    /// The same at the job board.
    TypedAtBoard(Option<IpAddr>, Arc<str>),
    /// Whoever holds a token of this user.
    User(UserId),
}

/// Slows down the guessing of passwords. Unknown addresses are counted too, so that a pause betrays nobody.
pub(crate) struct Attempts {
    counts: bool,
    known: Mutex<Known>,
}

/// An attempt from its begin to its end, also if it is given up.
struct UnderWay<'a> {
    attempts: &'a Attempts,
    guesser: &'a Guesser,
}

impl Guesser {
    /// Whoever typed this.
    pub(crate) fn typed(from: Option<IpAddr>, typed: &str) -> Result<Self> {
        let (network, typed) = written(from, typed)?;
        Ok(Self(Who::Typed(network, typed)))
    }

    /// Whoever typed this at the job board.
    pub(crate) fn typed_at_board(from: Option<IpAddr>, typed: &str) -> Result<Self> {
        let (network, typed) = written(from, typed)?;
        Ok(Self(Who::TypedAtBoard(network, typed)))
    }

    /// Whoever is signed in as this user.
    pub(crate) fn user(user: UserId) -> Self {
        Self(Who::User(user))
    }

    /// So many wrong ones in a row before a pause.
    fn guesses(&self) -> u32 {
        match self.0 {
            Who::TypedAtBoard(..) => GUESSES_AT_BOARD,
            Who::Typed(..) | Who::User(_) => GUESSES,
        }
    }
}

/// From where, and what, as it is counted.
fn written(from: Option<IpAddr>, typed: &str) -> Result<(Option<IpAddr>, Arc<str>)> {
    let typed = typed.trim().to_lowercase();
    if typed.len() > LONGEST {
        return Err(Unauthenticated::Credentials.into());
    }
    Ok((from.map(network), typed.into()))
}

/// The address of IPv4, or the network of IPv6.
fn network(of: IpAddr) -> IpAddr {
    match of.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & NETWORK).into(),
        address @ IpAddr::V4(_) => address,
    }
}

impl Attempts {
    /// Counts them; or else anybody may try as often as they like.
    pub(crate) fn new(counts: bool) -> Self {
        Self { counts, known: Mutex::default() }
    }

    /// Lets somebody try, unless they have to pause. Only wrong credentials count: whoever hangs up has learned nothing.
    pub(crate) async fn counted<T>(
        &self,
        guesser: &Guesser,
        attempt: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        if !self.counts {
            return attempt.await;
        }
        let (places, _under_way) = self.begin(guesser)?;
        let place = place(places).await?;
        let outcome = attempt.await;
        match &outcome {
            Ok(_) => self.lock().forget(guesser),
            Err(Error::Unauthenticated(Unauthenticated::Credentials)) => {
                self.lock().wrong(guesser, Instant::now());
                place.forget();
            }
            Err(_) => {}
        }
        outcome
    }

    fn begin<'a>(&'a self, guesser: &'a Guesser) -> Result<(Arc<Semaphore>, UnderWay<'a>)> {
        let places = self.lock().begin(guesser, Instant::now())?;
        Ok((places, UnderWay { attempts: self, guesser }))
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.attempts.lock().end(self.guesser);
    }
}

/// Waits a while if only attempts that are not over yet are in the way.
async fn place(places: Arc<Semaphore>) -> Result<OwnedSemaphorePermit> {
    let retry_after = match timeout(PATIENCE, places.acquire_owned()).await {
        Ok(Ok(place)) => return Ok(place),
        // The last of them was wrong, at this moment.
        Ok(Err(_)) => PAUSE,
        Err(_) => PATIENCE,
    };
    Err(Error::RateLimited { retry_after })
}
