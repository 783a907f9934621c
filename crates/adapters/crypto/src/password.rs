//! Argon2id behind `ports::PasswordHasher`. Memory and threads are bounded: a few hashes run, at most [`WAITING`] more
//! wait, further ones are refused. A password is verified with its hash's own parameters, so ours may change.

use std::sync::Arc;

use argon2::{
    Algorithm, Argon2, Params, PasswordHasher as _, PasswordVerifier as _, Version, password_hash,
};
use async_trait::async_trait;
use parlance_application::{
    Error, Result,
    ports::{Ambient, PasswordHash, PasswordHasher},
};
use parlance_domain::Password;
use tokio::sync::Semaphore;

/// The most that may wait for a turn. At some 20 ms each and one at a time, the last waits little more than a second.
const WAITING: usize = 64;

/// A well-formed hash of nothing, with today's parameters: verifying against it takes as long as against a real one.
const DUMMY: &str = "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// Argon2id with OWASP's parameters (19 MiB, two passes, one lane), on the blocking pool and only a few at a time:
/// memory is bounded by `concurrency` × 19 MiB.
pub struct Argon2Hasher {
    ambient: Arc<dyn Ambient>,
    /// One permit for each that is running or waiting.
    admitted: Arc<Semaphore>,
    /// One permit for each that is running.
    running: Arc<Semaphore>,
}

impl Argon2Hasher {
    /// Hashes at most `concurrency` passwords at once (at least one), with salts from `ambient`.
    pub fn new(concurrency: usize, ambient: Arc<dyn Ambient>) -> Self {
        let concurrency = concurrency.max(1);
        Self {
            ambient,
            admitted: Arc::new(Semaphore::new(concurrency + WAITING)),
            running: Arc::new(Semaphore::new(concurrency)),
        }
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Argon2<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let admitted = self
            .admitted
            .clone()
            .try_acquire_owned()
            .map_err(|_| Error::unavailable("too many passwords wait to be hashed"))?;
        let running = self.running.clone().acquire_owned().await.map_err(Error::internal)?;
        tokio::task::spawn_blocking(move || {
            // Held by the work, not by the caller, who may be gone before it is done.
            let _held = (admitted, running);
            work(&argon2()?)
        })
        .await
        .map_err(Error::internal)?
    }
}

fn argon2() -> Result<Argon2<'static>> {
    let params = Params::new(19 * 1024, 2, 1, None).map_err(Error::internal)?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

#[async_trait]
impl PasswordHasher for Argon2Hasher {
    async fn hash(&self, password: Password) -> Result<PasswordHash> {
        let random = self.ambient.random();
        self.run(move |argon2| {
            let (salt, _) = random.split_at(argon2::RECOMMENDED_SALT_LEN);
            let hash = argon2
                .hash_password_with_salt(password.expose().as_bytes(), salt)
                .map_err(Error::internal)?;
            Ok(PasswordHash(hash.to_string()))
        })
        .await
    }

    async fn verify(&self, password: Password, hash: Option<PasswordHash>) -> Result<bool> {
        self.run(move |argon2| {
            let known = hash.is_some();
            let phc = hash.as_ref().map_or(DUMMY, |hash| hash.0.as_str());
            let stored = argon2::PasswordHash::new(phc).map_err(Error::internal)?;
            // The parameters are those of the stored hash, so that older hashes keep working when ours change.
            match argon2.verify_password(password.expose().as_bytes(), &stored) {
                Ok(()) => Ok(known),
                Err(password_hash::Error::PasswordInvalid) => Ok(false),
                Err(error) => Err(Error::internal(error)),
            }
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use parlance_domain::Timestamp;
    use uuid::Uuid;

    use super::*;

    struct Fixed;

    impl Ambient for Fixed {
        fn now(&self) -> Timestamp {
            Timestamp::from_millis(0)
        }
        fn uuid(&self) -> Uuid {
            Uuid::nil()
        }
        fn random(&self) -> [u8; 32] {
            [7; 32]
        }
    }

    fn hasher() -> Argon2Hasher {
        Argon2Hasher::new(2, Arc::new(Fixed))
    }

    #[tokio::test]
    async fn tells_the_right_password_from_a_wrong_one() {
        let hasher = hasher();
        let hash = hasher.hash(Password::candidate("correct horse")).await.unwrap();
        assert!(hash.0.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{}", hash.0);
        assert!(
            hasher.verify(Password::candidate("correct horse"), Some(hash.clone())).await.unwrap()
        );
        assert!(!hasher.verify(Password::candidate("wrong horse"), Some(hash)).await.unwrap());
    }

    #[tokio::test]
    async fn an_unknown_account_never_matches_and_costs_the_same_work() {
        let hasher = hasher();
        assert!(!hasher.verify(Password::candidate(""), None).await.unwrap());
        let real = hasher.hash(Password::candidate("x")).await.unwrap();
        let shape = |phc: &str| phc.split('$').map(str::len).collect::<Vec<_>>();
        assert_eq!(shape(DUMMY), shape(&real.0));
        assert_eq!(
            DUMMY.split('$').nth(3),
            real.0.split('$').nth(3),
            "the dummy has today's parameters"
        );
    }

    #[tokio::test]
    async fn a_broken_hash_is_a_defect_not_a_wrong_password() {
        let broken = Some(PasswordHash("plain".into()));
        let answer = hasher().verify(Password::candidate("x"), broken).await;
        assert!(matches!(answer, Err(Error::Internal { .. })), "{answer:?}");
    }

    #[tokio::test]
    async fn refuses_when_too_many_wait() {
        let hasher = hasher();
        let all = u32::try_from(WAITING + 2).unwrap();
        let _busy = hasher.admitted.clone().acquire_many_owned(all).await.unwrap();
        let answer = hasher.hash(Password::candidate("x")).await;
        assert!(matches!(answer, Err(Error::Unavailable { .. })), "{answer:?}");
    }
}
