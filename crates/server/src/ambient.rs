//! The real clock, ids and randomness. Nothing else in Parlance asks the system for them.

use std::time::{SystemTime, UNIX_EPOCH};

use parlance_application::ports::Ambient;
use parlance_domain::Timestamp;
use uuid::Uuid;

/// What the operating system says.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct SystemAmbient;

impl Ambient for SystemAmbient {
    fn now(&self) -> Timestamp {
        #[expect(clippy::disallowed_methods, reason = "this is the real clock behind the port")]
        let now = SystemTime::now();
        // A clock before 1970 is as good as none.
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }

    fn uuid(&self) -> Uuid {
        // Counts up within a millisecond, and keeps counting when the clock steps back.
        #[expect(
            clippy::disallowed_methods,
            reason = "this is the real source of ids behind the port"
        )]
        Uuid::now_v7()
    }

    fn random(&self) -> [u8; 32] {
        let mut bytes = [0; 32];
        #[expect(
            clippy::disallowed_methods,
            reason = "this is the real randomness behind the port"
        )]
        if let Err(error) = getrandom::fill(&mut bytes) {
            // Salts and tokens that can be guessed are worse than no server.
            crate::say(format!("parlance: the system has no randomness to give: {error}"));
            std::process::abort();
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_rise_and_randomness_differs() {
        let ids: Vec<_> = std::iter::repeat_with(|| SystemAmbient.uuid()).take(10_000).collect();
        assert!(ids.is_sorted_by(|a, b| a < b));
        assert_eq!(ids.first().map(Uuid::get_version_num), Some(7));
        assert_ne!(SystemAmbient.random(), SystemAmbient.random());
        assert!(SystemAmbient.now().as_secs() > 1_700_000_000);
    }
}
