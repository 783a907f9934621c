//! When a failed job is retried. Pure: the runner (`runner.rs`) supplies the randomness.

use std::time::Duration;

/// When a failed attempt is followed by another: exponential backoff, the delay drawn from its upper half.
#[derive(Debug, Clone, Copy)]
pub struct RetryPolicy {
    /// Attempts in all, the first included.
    pub attempts: u32,
    /// The longest delay before the second attempt; doubled before each further one.
    pub base: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { attempts: 3, base: Duration::from_secs(2) }
    }
}

impl RetryPolicy {
    /// How long to wait after `attempt` (from 1) has failed; none if it was the last. `dice` is any random byte.
    pub fn delay_after(self, attempt: u32, dice: u8) -> Option<Duration> {
        if attempt >= self.attempts {
            return None;
        }
        let full = self.base.saturating_mul(1 << (attempt - 1).min(16));
        Some(full / 2 + (full / 2).mul_f64(f64::from(dice) / 255.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_attempts_each_waiting_longer() {
        let policy = RetryPolicy::default();
        assert_eq!(policy.delay_after(1, 255), Some(Duration::from_secs(2)));
        assert_eq!(policy.delay_after(2, 255), Some(Duration::from_secs(4)));
        assert_eq!(policy.delay_after(2, 0), Some(Duration::from_secs(2)));
        assert_eq!(policy.delay_after(3, 0), None);
    }
}
