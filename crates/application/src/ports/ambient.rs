//! The only source of time, ids and randomness. `.clippy.toml` bans the others, so that a test decides what a run sees.

use parlance_domain::Timestamp;
use uuid::Uuid;

/// Clock, ids and randomness. No method fails or waits.
#[cfg_attr(feature = "mocks", mockall::automock)]
pub trait Ambient: Send + Sync {
    /// The wall clock's time. May step back when the host's does, so nothing orders by it.
    fn now(&self) -> Timestamp;

    /// A new UUIDv7, unlike any other.
    fn uuid(&self) -> Uuid;

    /// 256 bits from a cryptographic generator.
    fn random(&self) -> [u8; 32];
}
