//! When to reconnect, and whether at all.

use std::time::Duration;

use crate::random::{Randomness, up_to};

/// The first wait is no longer than this.
const BASE: Duration = Duration::from_millis(250);
/// No wait is longer than this, unless the server asks for more.
const CAP: Duration = Duration::from_secs(15);
/// A connection that lived this long resets the backoff.
const LIVED: Duration = Duration::from_secs(10);

/// Exponential backoff with full jitter: each wait is random up to a window that doubles. After a hint from the server
/// the wait is the hint plus jitter over a window no smaller than the hint, since all other clients got the same hint.
#[derive(Debug, Default)]
pub struct Backoff {
    attempts: u32,
}

/// What a close code asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterClose {
    /// Reconnect with jitter.
    ComeBack,
    /// Reconnect, but only with another token.
    NewToken,
    /// Do not come back.
    StayAway,
}

impl Backoff {
    /// The next wait.
    pub fn next(&mut self, hint: Option<Duration>, random: &dyn Randomness) -> Duration {
        let window = window(self.attempts);
        self.attempts = self.attempts.saturating_add(1);
        after(hint, window, random)
    }

    /// Notes that a welcomed connection has ended, and how long it lived.
    pub fn lived(&mut self, time: Duration) {
        if time >= LIVED {
            self.attempts = 0;
        }
    }
}

impl AfterClose {
    /// What the contract says of a close code; 1006 stands for a connection lost without one.
    pub fn of(code: u16) -> Self {
        match code {
            4500 | 4501 => Self::NewToken,
            4502..=4999 => Self::StayAway,
            _ => Self::ComeBack,
        }
    }
}

/// How long to wait before resending a command that was deferred `attempts` times already.
pub(crate) fn pause(attempts: u32, hint: Option<Duration>, random: &dyn Randomness) -> Duration {
    after(hint, window(attempts), random)
}

fn after(hint: Option<Duration>, window: Duration, random: &dyn Randomness) -> Duration {
    let least = hint.unwrap_or_default();
    least.saturating_add(up_to(window.max(least), random))
}

fn window(attempts: u32) -> Duration {
    CAP.min(BASE.saturating_mul(2_u32.saturating_pow(attempts)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Seeded;

    /// Always the maximum.
    struct Most;

    impl Randomness for Most {
        fn next(&self) -> u64 {
            u64::MAX
        }
    }

    fn rounded(wait: Duration) -> u128 {
        (wait.as_micros() + 500) / 1_000
    }

    #[test]
    fn the_window_doubles_up_to_the_cap() {
        let mut backoff = Backoff::default();
        let waits: Vec<_> = (0..9).map(|_| rounded(backoff.next(None, &Most))).collect();
        assert_eq!(waits, [250, 500, 1_000, 2_000, 4_000, 8_000, 15_000, 15_000, 15_000]);
        backoff.attempts = u32::MAX;
        assert_eq!(rounded(backoff.next(None, &Most)), 15_000);
    }

    #[test]
    fn only_a_connection_that_lived_resets_it() {
        let mut backoff = Backoff { attempts: 5 };
        backoff.lived(LIVED.checked_sub(Duration::from_millis(1)).unwrap());
        assert_eq!(rounded(backoff.next(None, &Most)), 8_000);
        backoff.lived(LIVED);
        assert_eq!(rounded(backoff.next(None, &Most)), 250);
    }

    #[test]
    fn a_hint_is_the_lower_bound_and_the_crowd_is_spread_behind_it() {
        let hint = Duration::from_secs(20);
        let random = Seeded::new(3);
        let waits: Vec<_> =
            (0..100).map(|_| Backoff::default().next(Some(hint), &random)).collect();
        assert!(waits.iter().all(|wait| (hint..=hint * 2).contains(wait)));
        assert!(waits.iter().max() > Some(&(hint + hint / 2)));
        assert!(waits.iter().min() < Some(&(hint + hint / 2)));
    }

    #[test]
    fn close_codes() {
        for (code, expected) in [
            (1000, AfterClose::ComeBack),
            (1006, AfterClose::ComeBack),
            (1011, AfterClose::ComeBack),
            (4000, AfterClose::ComeBack),
            (4003, AfterClose::ComeBack),
            (4499, AfterClose::ComeBack),
            (4500, AfterClose::NewToken),
            (4501, AfterClose::NewToken),
            (4502, AfterClose::StayAway),
            (4503, AfterClose::StayAway),
            (4504, AfterClose::StayAway),
            (4999, AfterClose::StayAway),
        ] {
            assert_eq!(AfterClose::of(code), expected, "{code}");
        }
    }
}
