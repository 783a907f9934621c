//! Access and refresh tokens. Stateless: the store knows which sessions live and which refresh token is current, and
//! keeps only digests.

use parlance_domain::{SessionId, Timestamp, UserId};

use crate::{Result, Unauthenticated};

/// Access tokens (signed, short-lived) and refresh tokens (opaque, rotated).
#[cfg_attr(feature = "mocks", mockall::automock)]
pub trait TokenIssuer: Send + Sync {
    /// Signs an access token. Fails with `Internal` only.
    fn issue(&self, claims: Claims) -> Result<AccessToken>;

    /// Checks signature and expiry: [`Unauthenticated::BadToken`] or [`Unauthenticated::Expired`]. Whether the session
    /// still lives is in the store.
    fn verify(&self, token: &str, now: Timestamp) -> Result<Claims, Unauthenticated>;

    /// The token that replaces `token`. Deterministic, so that two tabs that refresh at once both go on, and only
    /// digests need to be stored.
    fn successor(&self, token: &RefreshToken) -> RefreshToken;

    /// What the store keeps of a refresh token: its digest.
    fn digest(&self, token: &RefreshToken) -> RefreshDigest;
}

/// What an access token asserts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claims {
    /// The person.
    pub user_id: UserId,
    /// Their session.
    pub session_id: SessionId,
    /// When the token expires. Fractions of a second are dropped.
    pub expires_at: Timestamp,
}

/// A signed token, as the client gets it.
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
