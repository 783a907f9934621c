use parlance_domain::{SessionId, Timestamp, UserId};

use crate::{Result, Unauthenticated};

/// Access tokens (signed, short-lived) and refresh tokens (opaque, rotated).
#[cfg_attr(feature = "mocks", mockall::automock)]
pub trait TokenIssuer: Send + Sync {
    /// Signs an access token.
    fn issue(&self, claims: Claims) -> Result<AccessToken>;

    /// Reads an access token. Whether its session still lives is the store's to say.
    fn verify(&self, token: &str, now: Timestamp) -> Result<Claims, Unauthenticated>;

    /// The token that follows `token`. Always the same one, so that two tabs that refresh at once both survive, and
    /// nothing but its digest need be stored.
    fn successor(&self, token: &RefreshToken) -> RefreshToken;

    /// What is stored of a refresh token.
    fn digest(&self, token: &RefreshToken) -> RefreshDigest;
}

/// What an access token says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claims {
    /// Who.
    pub user_id: UserId,
    /// By which session.
    pub session_id: SessionId,
    /// Until when; whole seconds count.
    pub expires_at: Timestamp,
}

/// A signed token, for the client's eyes.
#[derive(Clone, PartialEq, Eq)]
pub struct AccessToken(pub String);

/// 256 random bits, as the client holds them.
#[derive(Clone, PartialEq, Eq)]
pub struct RefreshToken(pub [u8; 32]);

/// SHA-256 of a refresh token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RefreshDigest(pub [u8; 32]);

impl std::fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AccessToken(…)")
    }
}

impl std::fmt::Debug for RefreshToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RefreshToken(…)")
    }
}
