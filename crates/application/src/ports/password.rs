//! Password hashing. It is slow by design: only a few hashes run at a time and only a few wait, so that sign-ins cannot
//! exhaust memory and threads.

use async_trait::async_trait;
use parlance_domain::Password;

use crate::Result;

/// Slow, salted password hashes, computed off the async threads and only a few at a time. Both methods are
/// `Unavailable` when too many wait already.
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait PasswordHasher: Send + Sync {
    /// Hashes a new password with a new salt.
    async fn hash(&self, password: Password) -> Result<PasswordHash>;

    /// Compares a password with a hash. Without a hash it does the same work and returns false, so that an unknown
    /// address takes as long as a wrong password.
    async fn verify(&self, password: Password, hash: Option<PasswordHash>) -> Result<bool>;
}

/// A hash with its salt and parameters, in PHC string form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PasswordHash(pub String);
