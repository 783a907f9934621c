//! The pause after wrong passwords.

mod known;
#[cfg(test)]
mod tests;

use std::{
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use parlance_domain::{Email, UserId};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout},
};

use self::known::Known;
use crate::{Error, Result, Unauthenticated};

/// Wrong passwords in a row before a pause, for an address or for a change of one's own password.
const GUESSES: u32 = 20;
/// The same at the job board: its description says so.
const GUESSES_AT_BOARD: u32 = 5;
/// The pause, and how long wrong passwords are remembered.
const PAUSE: Duration = Duration::from_mins(1);
/// How long an attempt may wait for those before it.
const PATIENCE: Duration = Duration::from_secs(5);
/// The network part of an IPv6 address: whoever has one address has all in its network.
const NETWORK: u128 = !0 << 64;

/// Who tries.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Guesser(Who);

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Who {
    /// Somebody on a network (unless a proxy hides it) who typed an e-mail address.
    Typed(Option<IpAddr>, Arc<str>),
    /// The same at the job board.
    TypedAtBoard(Option<IpAddr>, Arc<str>),
    /// Whoever holds a token of this user.
    User(UserId),
}

/// Slows down password guessing. Unknown addresses count too, so that a pause reveals nothing.
pub(crate) struct Attempts {
    counts: bool,
    known: Mutex<Known>,
}

/// An attempt from beginning to end, even if it is abandoned.
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

    /// How many wrong ones in a row before a pause.
    fn guesses(&self) -> u32 {
        match self.0 {
            Who::TypedAtBoard(..) => GUESSES_AT_BOARD,
            Who::Typed(..) | Who::User(_) => GUESSES,
        }
    }
}

/// The network and the typed address, as they are counted.
fn written(from: Option<IpAddr>, typed: &str) -> Result<(Option<IpAddr>, Arc<str>)> {
    let typed = typed.trim().to_lowercase();
    // Bounded, because an address typed with a wrong password is remembered for a while.
    if typed.len() > Email::LONGEST {
        return Err(Unauthenticated::Credentials.into());
    }
    Ok((from.map(network), typed.into()))
}

/// The address for IPv4, the network for IPv6.
fn network(of: IpAddr) -> IpAddr {
    match of.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & NETWORK).into(),
        address @ IpAddr::V4(_) => address,
    }
}

impl Attempts {
    /// Without `counts`, anybody may try as often as they like.
    pub(crate) fn new(counts: bool) -> Self {
        Self { counts, known: Mutex::default() }
    }

    /// Lets somebody try, unless they have to pause. Only wrong credentials count: whoever hangs up has learnt nothing.
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

/// Waits a while if only unfinished attempts are in the way.
async fn place(places: Arc<Semaphore>) -> Result<OwnedSemaphorePermit> {
    let retry_after = match timeout(PATIENCE, places.acquire_owned()).await {
        Ok(Ok(place)) => return Ok(place),
        // The last of them has just turned out wrong.
        Ok(Err(_)) => PAUSE,
        Err(_) => PATIENCE,
    };
    Err(Error::RateLimited { retry_after })
}
