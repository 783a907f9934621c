use async_trait::async_trait;
use parlance_domain::Password;

use crate::Result;

/// Slow, salted hashes of passwords, made off the async threads and only a few at a time.
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait PasswordHasher: Send + Sync {
    /// Hashes a new password. [`crate::Error::Unavailable`] when too many wait already.
    async fn hash(&self, password: Password) -> Result<PasswordHash>;

    /// Compares. Without a hash it does the same work and answers false, so that an unknown address takes as long as a
    /// wrong password.
    async fn verify(&self, password: Password, hash: Option<PasswordHash>) -> Result<bool>;
}

/// A hash with its salt and parameters, in PHC string form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PasswordHash(pub String);
