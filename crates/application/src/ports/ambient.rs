use parlance_domain::Timestamp;
use uuid::Uuid;

/// Clock, ids and randomness: the only source of each, so that a test can set them.
#[cfg_attr(feature = "mocks", mockall::automock)]
pub trait Ambient: Send + Sync {
    /// The present. May step back when the host's clock does; nothing orders by it.
    fn now(&self) -> Timestamp;

    /// A new UUIDv7.
    fn uuid(&self) -> Uuid;

    /// 256 bits that nobody can guess.
    fn random(&self) -> [u8; 32];
}
