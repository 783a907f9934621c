//! Passwords and tokens without cryptography: fast, and readable in a failed assertion.

use async_trait::async_trait;
use parlance_application::{
    Result, Unauthenticated,
    ports::{
        AccessToken, Claims, PasswordHash, PasswordHasher, RefreshDigest, RefreshToken, TokenIssuer,
    },
};
use parlance_domain::{Password, Timestamp};

/// Hashes a password to `plain:` and itself.
#[derive(Debug, Clone, Copy, Default)]
pub struct PlainHasher;

#[async_trait]
impl PasswordHasher for PlainHasher {
    async fn hash(&self, password: Password) -> Result<PasswordHash> {
        Ok(PasswordHash(format!("plain:{}", password.expose())))
    }

    async fn verify(&self, password: Password, hash: Option<PasswordHash>) -> Result<bool> {
        Ok(match hash {
            Some(hash) => hash == self.hash(password).await?,
            None => false,
        })
    }
}

/// Access tokens of the form `user/session/milliseconds`, and refresh tokens that count up.
#[derive(Debug, Clone, Copy, Default)]
pub struct PlainTokens;

impl TokenIssuer for PlainTokens {
    fn issue(&self, claims: Claims) -> Result<AccessToken> {
        let Claims { user_id, session_id, expires_at } = claims;
        Ok(AccessToken(format!("{user_id}/{session_id}/{}", expires_at.as_millis())))
    }

    fn verify(&self, token: &str, now: Timestamp) -> Result<Claims, Unauthenticated> {
        let mut parts = token.split('/');
        let mut next = || parts.next().ok_or(Unauthenticated::BadToken);
        let (user, session, until) = (next()?, next()?, next()?);
        let claims = Claims {
            user_id: user.parse().map_err(|_| Unauthenticated::BadToken)?,
            session_id: session.parse().map_err(|_| Unauthenticated::BadToken)?,
            expires_at: Timestamp::from_millis(
                until.parse().map_err(|_| Unauthenticated::BadToken)?,
            ),
        };
        if claims.expires_at <= now { Err(Unauthenticated::Expired) } else { Ok(claims) }
    }

    fn successor(&self, token: &RefreshToken) -> RefreshToken {
        let mut next = token.0;
        next[0] = next[0].wrapping_add(1);
        RefreshToken(next)
    }

    /// The token itself.
    fn digest(&self, token: &RefreshToken) -> RefreshDigest {
        RefreshDigest(token.0)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use parlance_application::ports::Ambient;
    use parlance_domain::{SessionId, UserId};

    use super::*;
    use crate::TestAmbient;

    #[test]
    fn a_token_says_what_it_was_issued_for_until_its_end() {
        let ambient = TestAmbient::seeded(3);
        let claims = Claims {
            user_id: UserId(ambient.uuid()),
            session_id: SessionId(ambient.uuid()),
            expires_at: ambient.now() + Duration::from_secs(1),
        };
        let token = PlainTokens.issue(claims).expect("issues").0;
        assert_eq!(PlainTokens.verify(&token, ambient.now()), Ok(claims));
        ambient.advance(Duration::from_secs(1));
        assert_eq!(PlainTokens.verify(&token, ambient.now()), Err(Unauthenticated::Expired));
        assert_eq!(PlainTokens.verify("x", ambient.now()), Err(Unauthenticated::BadToken));
    }
}
