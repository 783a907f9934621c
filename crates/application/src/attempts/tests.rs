use std::future::{pending, ready};

use futures::{FutureExt as _, future::join_all};
use tokio::time::{advance, sleep};

use super::{
    known::{FORGOTTEN_AT_ONCE, REMEMBERED},
    *,
};

const OUT: Error = Error::Unauthenticated(Unauthenticated::Credentials);

fn guesser(n: usize) -> Guesser {
    Guesser::typed_at_board(None, &format!(" P{n}@example.org")).expect("short")
}

/// One attempt that takes this long to check.
async fn tried(attempts: &Attempts, takes: Duration, outcome: Result<()>) -> Result<()> {
    attempts.counted(&guesser(1), sleep(takes).then(|()| ready(outcome))).await
}

/// This many concurrent attempts that take a second each: how many were checked.
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
    let attempts = Attempts::new(true);
    let wrong = async |n| attempts.counted(&guesser(n), ready(Err::<(), _>(OUT))).await;
    let right = async |n| attempts.counted(&guesser(n), ready(Ok(()))).await;
    for _ in 0..5 {
        assert!(matches!(wrong(1).await, Err(Error::Unauthenticated(_))));
    }
    advance(Duration::from_secs(20)).await;
    pauses(right(1).await, 40);
    right(2).await.expect("another");
    // Not prolonged by the refused one.
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
    let attempts = Attempts::new(true);
    for _ in 0..9 {
        for error in [
            Error::unavailable("no store"),
            Error::internal("a defect"),
            Unauthenticated::Revoked.into(),
        ] {
            let outcome = tried(&attempts, Duration::ZERO, Err(error)).await;
            assert!(!matches!(outcome, Err(Error::RateLimited { .. })), "{outcome:?}");
        }
        // Somebody who hangs up.
        let gone = attempts.counted(&guesser(1), pending::<Result<()>>()).now_or_never();
        assert!(gone.is_none());
    }
    // And they have not reset the count.
    for left in (0..5).rev() {
        let outcome = tried(&attempts, Duration::ZERO, Err(OUT)).await;
        assert!(matches!(outcome, Err(Error::Unauthenticated(_))), "{left}: {outcome:?}");
        let away = tried(&attempts, Duration::ZERO, Err(Error::unavailable("no store"))).await;
        assert_eq!(matches!(away, Err(Error::RateLimited { .. })), left == 0);
    }
}

#[tokio::test(start_paused = true)]
async fn many_at_once_wait_for_each_other_and_guess_no_more_than_one_by_one() {
    let attempts = Attempts::new(true);
    assert_eq!(at_once(&attempts, 25, Ok(())).await, 25, "all knew it");
    let began = Instant::now();
    assert_eq!(at_once(&attempts, 25, Err(OUT)).await, 5);
    assert_eq!(began.elapsed(), Duration::from_secs(1), "who is refused is refused at once");
    pauses(tried(&attempts, Duration::ZERO, Ok(())).await, 60);
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_long_for_those_before() {
    let attempts = Attempts::new(true);
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
    let attempts = Attempts::new(true);
    tried(&attempts, Duration::ZERO, Err(Error::unavailable("no store"))).await.expect_err("so");
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
        Guesser::typed(Some(from.parse().expect("an address")), "ada@example.org").expect("short")
    };
    assert_eq!(of("2001:db8::1"), of("2001:db8:0:0:ffff:ffff:ffff:ffff"));
    assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
    assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
    assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
    assert_ne!(of("::ffff:192.0.2.1"), of("::ffff:192.0.2.2"));
}

/// Neither a full queue before the hasher nor hanging up costs a hash.
#[tokio::test(start_paused = true)]
async fn who_has_guessed_nothing_pushes_nobody_out_and_is_not_remembered() {
    let attempts = Attempts::new(true);
    assert_eq!(at_once(&attempts, 5, Err(OUT)).await, 5);
    advance(Duration::from_secs(1)).await;
    let refused = || Err::<(), _>(Error::unavailable("too many passwords wait"));
    for n in 2..70_000 {
        attempts.counted(&guesser(n), ready(refused())).await.expect_err("refused");
        let gone = attempts.counted(&guesser(n), pending::<Result<()>>()).now_or_never();
        assert!(gone.is_none());
    }
    pauses(tried(&attempts, Duration::ZERO, Ok(())).await, 59);
    assert_eq!(attempts.lock().tries.len(), 1);
}

/// However many guess, those who have to pause are forgotten last.
#[tokio::test(start_paused = true)]
async fn more_guessers_than_are_remembered_end_no_pause() {
    let attempts = Attempts::new(true);
    let wrong = async |n| attempts.counted(&guesser(n), ready(Err::<(), _>(OUT))).await;
    assert_eq!(at_once(&attempts, 5, Err(OUT)).await, 5);
    advance(Duration::from_secs(1)).await;
    for n in 2..REMEMBERED + 1_000 {
        wrong(n).await.expect_err("wrong");
    }
    pauses(tried(&attempts, Duration::ZERO, Ok(())).await, 59);
}

#[tokio::test(start_paused = true)]
async fn what_is_over_is_forgotten_a_little_at_a_time() {
    const MANY: usize = 3_000;
    let attempts = Attempts::new(true);
    let wrong = async |n| attempts.counted(&guesser(n), ready(Err::<(), _>(OUT))).await;
    for n in 0..MANY {
        for _ in 0..=n % 5 {
            wrong(n).await.expect_err("wrong");
        }
    }
    advance(PAUSE).await;
    for n in 0..MANY {
        let before = attempts.lock().tries.len();
        wrong(MANY + n).await.expect_err("wrong");
        let after = attempts.lock().tries.len();
        assert!(after + FORGOTTEN_AT_ONCE > before, "{before} {after}: no attempt pays for many");
    }
    assert_eq!(attempts.lock().tries.len(), MANY, "but all are gone in time");
}

#[tokio::test(start_paused = true)]
async fn what_is_under_way_when_a_count_ends_belongs_to_the_next() {
    let attempts = Attempts::new(true);
    assert_eq!(at_once(&attempts, 4, Err(OUT)).await, 4);
    advance(Duration::from_secs(58)).await;
    let early = tried(&attempts, Duration::from_secs(30), Err(OUT));
    let late = async {
        sleep(Duration::from_secs(3)).await;
        at_once(&attempts, 5, Err(OUT)).await
    };
    let (early, late) = tokio::join!(early, late);
    assert!(matches!(early, Err(Error::Unauthenticated(_))), "{early:?}");
    assert_eq!(late, 4);
    pauses(tried(&attempts, Duration::ZERO, Ok(())).await, 60);
}

/// Even if somebody who waited has not been refused yet.
#[tokio::test(start_paused = true)]
async fn a_pause_ends_for_whoever_comes_after_it() {
    let attempts = Attempts::new(true);
    let mut waits = Box::pin(tried(&attempts, Duration::ZERO, Ok(())));
    let five = at_once(&attempts, 5, Err(OUT));
    let beside = async { assert!(waits.as_mut().now_or_never().is_none(), "all places are taken") };
    assert_eq!(tokio::join!(five, beside).0, 5);
    advance(PAUSE).await;
    assert_eq!(at_once(&attempts, 5, Err(OUT)).await, 5);
    pauses(waits.await, 60);
}

#[tokio::test(start_paused = true)]
async fn memory_is_bounded() {
    let attempts = Attempts::new(true);
    for n in 0..REMEMBERED + 100 {
        attempts.counted(&guesser(n), ready(Err::<(), _>(OUT))).await.expect_err("wrong");
    }
    assert_eq!(attempts.lock().tries.len(), REMEMBERED);
}
