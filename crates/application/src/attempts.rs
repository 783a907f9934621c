//! The pause after wrong passwords.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use parlance_domain::UserId;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout},
};

use crate::{Error, Result, Unauthenticated};

/// The pause, and how long wrong passwords are remembered.
const PAUSE: Duration = Duration::from_mins(1);
/// How long an attempt may wait for those before it.
const PATIENCE: Duration = Duration::from_secs(5);
/// The most guessers remembered. More than can try within a pause, since each try costs a hash; with fewer, a paused one could
/// be pushed out by others.
const REMEMBERED: usize = 65_536;
/// With so many, and again with twice as many, those are forgotten who have not tried of late.
const SWEPT: usize = 1_024;
/// No address is longer, and every one typed is remembered for a while.
const LONGEST: usize = 254;
/// The part of an IPv6 address that is a network's: whoever has one has all addresses in it.
const NETWORK: u128 = !0 << 64;

/// Who tries.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Guesser(Who);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Who {
    /// Somebody at a network (where a proxy does not hide it) who typed an address of mail.
    Typed(Option<IpAddr>, String),
    /// Whoever holds a token of this user.
    User(UserId),
}

/// Slows down the guessing of passwords. Unknown addresses are counted too, so that a pause betrays nobody.
pub struct Attempts {
    /// So many wrong ones in a row before a pause; none where they are not counted.
    free: Option<u32>,
    known: Mutex<HashMap<Guesser, Tries>>,
}

/// What is known of a guesser.
struct Tries {
    /// One for each guess that is left. An attempt gives its place back unless it was wrong, so that many at once gain
    /// nothing; the last wrong one closes them.
    places: Arc<Semaphore>,
    wrong: u32,
    /// When the last one came, or was found wrong.
    last: Instant,
}

impl Guesser {
    /// Whoever typed this.
    pub fn new(from: Option<IpAddr>, typed: &str) -> Result<Self> {
        let typed = typed.trim().to_lowercase();
        if typed.len() > LONGEST {
            return Err(Unauthenticated::Credentials.into());
        }
        Ok(Self(Who::Typed(from.map(network), typed)))
    }

    /// Whoever is signed in as this user.
    pub(crate) fn user(user: UserId) -> Self {
        Self(Who::User(user))
    }
}

/// The address of IPv4, or the network of IPv6.
fn network(of: IpAddr) -> IpAddr {
    match of.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & NETWORK).into(),
        address @ IpAddr::V4(_) => address,
    }
}

impl Attempts {
    /// With so many wrong ones in a row before a pause of a minute.
    pub fn new(free: u32) -> Self {
        Self { free: Some(free), known: Mutex::default() }
    }

    /// Where anybody may try as often as they like.
    pub fn uncounted() -> Self {
        Self { free: None, known: Mutex::default() }
    }

    /// Lets somebody try, unless they have to pause. Only wrong credentials count: whoever hangs up has learned nothing.
    pub async fn counted<T>(
        &self,
        guesser: &Guesser,
        attempt: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let Some(free) = self.free else { return attempt.await };
        let place = self.place(guesser, free).await?;
        let outcome = attempt.await;
        match &outcome {
            Ok(_) => self.right(guesser),
            Err(Error::Unauthenticated(Unauthenticated::Credentials)) => {
                self.wrong(guesser, place, free);
            }
            Err(_) => {}
        }
        outcome
    }

    /// Waits a while if only attempts that are not over yet are in the way.
    async fn place(&self, guesser: &Guesser, free: u32) -> Result<OwnedSemaphorePermit> {
        let places = self.places(guesser, free, Instant::now())?;
        let retry_after = match timeout(PATIENCE, places.acquire_owned()).await {
            Ok(Ok(place)) => return Ok(place),
            // The last of them was wrong, at this moment.
            Ok(Err(_)) => PAUSE,
            Err(_) => PATIENCE,
        };
        Err(Error::RateLimited { retry_after })
    }

    fn places(&self, guesser: &Guesser, free: u32, now: Instant) -> Result<Arc<Semaphore>> {
        let mut known = self.lock();
        if let Some(tries) = known.get_mut(guesser).filter(|tries| tries.lasts(now)) {
            if tries.wrong >= free {
                let retry_after = PAUSE.saturating_sub(now - tries.last);
                return Err(Error::RateLimited { retry_after });
            }
            tries.last = now;
            return Ok(tries.places.clone());
        }
        if known.len() >= SWEPT && known.len().is_power_of_two() {
            known.retain(|_, tries| tries.lasts(now));
        }
        if known.len() >= REMEMBERED
            && let Some(oldest) =
                known.iter().min_by_key(|(_, tries)| tries.last).map(|(it, _)| it.clone())
        {
            known.remove(&oldest);
        }
        let places = Arc::new(Semaphore::new(free as usize));
        known.insert(guesser.clone(), Tries { places: places.clone(), wrong: 0, last: now });
        Ok(places)
    }

    /// Keeps the place of a wrong attempt for good.
    fn wrong(&self, guesser: &Guesser, place: OwnedSemaphorePermit, free: u32) {
        let mut known = self.lock();
        // If its guesser has been forgotten meanwhile, it belongs to no count.
        let mine = |tries: &&mut Tries| Arc::ptr_eq(&tries.places, place.semaphore());
        if let Some(tries) = known.get_mut(guesser).filter(mine) {
            tries.wrong += 1;
            tries.last = Instant::now();
            if tries.wrong >= free {
                tries.places.close();
            }
        }
        place.forget();
    }

    /// Forgets the wrong attempts of somebody who knew the password.
    fn right(&self, guesser: &Guesser) {
        self.lock().remove(guesser);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Guesser, Tries>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tries {
    fn lasts(&self, now: Instant) -> bool {
        now - self.last < PAUSE
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use futures::{FutureExt as _, future::join_all};
    use tokio::time::{advance, sleep};

    use super::*;

    const OUT: Error = Error::Unauthenticated(Unauthenticated::Credentials);

    fn guesser(n: usize) -> Guesser {
        Guesser::new(None, &format!(" P{n}@example.org")).expect("short")
    }

    /// One attempt that is looked at so long.
    async fn tried(attempts: &Attempts, takes: Duration, outcome: Result<()>) -> Result<()> {
        attempts.counted(&guesser(1), sleep(takes).then(|()| ready(outcome))).await
    }

    /// So many attempts at once that take a second each: how many were looked at.
    async fn at_once(attempts: &Attempts, many: usize, outcome: Result<()>) -> usize {
        let one = || tried(attempts, Duration::from_secs(1), outcome.clone());
        let outcomes = join_all((0..many).map(|_| one())).await;
        let refused = |it: &&Result<()>| matches!(it, Err(Error::RateLimited { .. }));
        many - outcomes.iter().filter(refused).count()
    }

    #[track_caller]
    fn pauses(outcome: Result<()>, seconds: u64) {
        let refused = outcome.expect_err("a pause");
        assert!(
            matches!(refused, Error::RateLimited { retry_after } if retry_after == Duration::from_secs(seconds)),
            "{refused:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn five_a_minute_for_each_guesser() {
        let attempts = Attempts::new(5);
        let wrong = async |n| attempts.counted(&guesser(n), ready(Err::<(), _>(OUT))).await;
        let right = async |n| attempts.counted(&guesser(n), ready(Ok(()))).await;
        for _ in 0..5 {
            assert!(matches!(wrong(1).await, Err(Error::Unauthenticated(_))));
        }
        advance(Duration::from_secs(20)).await;
        pauses(right(1).await, 40);
        right(2).await.expect("another");
        // Not prolonged by the one that was refused.
        advance(Duration::from_secs(40)).await;
        for _ in 0..4 {
            assert!(matches!(wrong(1).await, Err(Error::Unauthenticated(_))));
        }
        right(1).await.expect("free again");
        for _ in 0..5 {
            assert!(matches!(wrong(1).await, Err(Error::Unauthenticated(_))), "begins anew");
        }
        pauses(wrong(1).await, 60);
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_was_wrong_counts() {
        let attempts = Attempts::new(5);
        for _ in 0..9 {
            for error in [
                Error::unavailable("no store"),
                Error::internal("a defect"),
                Unauthenticated::Revoked.into(),
            ] {
                let outcome = tried(&attempts, Duration::ZERO, Err(error)).await;
                assert!(!matches!(outcome, Err(Error::RateLimited { .. })), "{outcome:?}");
            }
            // Who hangs up.
            let gone = attempts.counted(&guesser(1), pending::<Result<()>>()).now_or_never();
            assert!(gone.is_none());
        }
        // And they have not made anything forgotten.
        for left in (0..5).rev() {
            let outcome = tried(&attempts, Duration::ZERO, Err(OUT)).await;
            assert!(matches!(outcome, Err(Error::Unauthenticated(_))), "{left}: {outcome:?}");
            let away = tried(&attempts, Duration::ZERO, Err(Error::unavailable("no store"))).await;
            assert_eq!(matches!(away, Err(Error::RateLimited { .. })), left == 0);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn many_at_once_wait_for_each_other_and_guess_no_more_than_one_by_one() {
        let attempts = Attempts::new(5);
        assert_eq!(at_once(&attempts, 25, Ok(())).await, 25, "all knew it");
        let began = Instant::now();
        assert_eq!(at_once(&attempts, 25, Err(OUT)).await, 5);
        assert_eq!(began.elapsed(), Duration::from_secs(1), "who is refused is refused at once");
        pauses(tried(&attempts, Duration::ZERO, Ok(())).await, 60);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_long_for_those_before() {
        let attempts = Attempts::new(5);
        let slow = || tried(&attempts, Duration::from_secs(30), Ok(()));
        let late = async {
            sleep(Duration::from_secs(1)).await;
            slow().await
        };
        let (_, refused) = tokio::join!(join_all((0..5).map(|_| slow())), late);
        pauses(refused, PATIENCE.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn an_attempt_under_way_outlasts_no_count() {
        let attempts = Attempts::new(5);
        tried(&attempts, Duration::ZERO, Err(Error::unavailable("no store")))
            .await
            .expect_err("so");
        advance(PAUSE.saturating_sub(Duration::from_millis(1))).await;
        let early = at_once(&attempts, 5, Err(OUT));
        let late = async {
            sleep(Duration::from_millis(2)).await;
            at_once(&attempts, 5, Err(OUT)).await
        };
        let (early, late) = tokio::join!(early, late);
        assert_eq!(early + late, 5);
    }

    #[test]
    fn a_network_is_one_guesser() {
        let of = |from: &str| {
            Guesser::new(Some(from.parse().expect("an address")), "ada@example.org").expect("short")
        };
        assert_eq!(of("2001:db8::1"), of("2001:db8:0:0:ffff:ffff:ffff:ffff"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
        assert_ne!(of("::ffff:192.0.2.1"), of("::ffff:192.0.2.2"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_is_not_forgotten_for_the_guesses_of_others() {
        let attempts = Attempts::new(1);
        tried(&attempts, Duration::ZERO, Err(OUT)).await.expect_err("wrong");
        for n in 2..5_000 {
            attempts.counted(&guesser(n), ready(Err::<(), _>(OUT))).await.expect_err("wrong");
        }
        pauses(tried(&attempts, Duration::ZERO, Ok(())).await, 60);
    }

    #[tokio::test(start_paused = true)]
    async fn memory_is_bounded() {
        let attempts = Attempts::new(5);
        for n in 0..REMEMBERED + 100 {
            attempts.counted(&guesser(n), ready(Err::<(), _>(OUT))).await.expect_err("wrong");
        }
        assert_eq!(attempts.lock().len(), REMEMBERED);
    }
}
