//! Real nodes, real processes, and all that can go wrong between them, while people keep writing. Small and short by
//! default; `PARLANCE_SOAK=10m`, or `10m,500,200` for 500 people who send 200 messages a second, is for `make soak`.

#![expect(clippy::expect_used, clippy::panic, reason = "a test fails by a panic")]

mod chaos;
mod client;
mod crew;
mod deaths;
mod dice;
mod judge;
mod ledger;
mod pressure;
mod proxy;
mod raw;
mod session;
mod stage;
#[expect(dead_code, reason = "some of it is for other suites")]
#[path = "../support/mod.rs"]
mod support;

use std::time::Duration;

use crew::Size;

/// What `Server::start` would start; each scenario says it for itself.
const ON: support::home::On = support::home::On::Embedded;

/// Rate limits would hold up the load, which comes from one machine.
const NO_LIMITS: (&str, &str) = ("PARLANCE_RATE_LIMITS", "off");

/// A small size for every change, or a long run: as long as the environment says, and big unless it says how big.
fn size((seconds, people, rate): (u64, usize, f64), (many, fast): (usize, f64)) -> Size {
    let Ok(said) = std::env::var("PARLANCE_SOAK") else {
        return Size { people, rate, load: Duration::from_secs(seconds) };
    };
    let mut parts = said.split(',');
    let load = parts.next().and_then(duration);
    let people = parts.next().map_or(Some(many), |part| part.parse().ok());
    let rate = parts.next().map_or(Some(fast), |part| part.parse().ok());
    let (Some(load), Some(people), Some(rate)) = (load, people, rate) else {
        panic!(
            "PARLANCE_SOAK={said}: a time like 90s or 10m, then maybe people and messages a second"
        );
    };
    Size { people, rate, load }
}

fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let number: u64 = number.parse().ok()?;
    match unit {
        "s" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_mins(number)),
        _ => None,
    }
}

/// `PARLANCE_SOAK_TOKENS=20s`: access tokens that last no longer. Otherwise as long as the server says, 15 minutes.
fn token_life() -> Option<Duration> {
    let said = std::env::var("PARLANCE_SOAK_TOKENS").ok()?;
    let life = duration(&said).filter(|life| life.as_secs() > 0);
    Some(life.unwrap_or_else(|| panic!("PARLANCE_SOAK_TOKENS={said}: a time like 20s")))
}

/// A different one each time, so that many runs cover more; `PARLANCE_SOAK_SEED` repeats one.
#[expect(clippy::disallowed_methods, reason = "a seed is printed, and can be given")]
fn seed() -> u64 {
    if let Ok(seed) = std::env::var("PARLANCE_SOAK_SEED") {
        return seed.parse().expect("PARLANCE_SOAK_SEED is a number");
    }
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(1, |since| u64::from(since.subsec_nanos()))
}
