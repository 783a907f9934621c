use std::time::Duration;

use async_trait::async_trait;
use parlance_domain::{
    Account, DisplayName, Email, Member, Session, SessionId, SessionRev, Timestamp, User, UserId,
};

use super::{Page, PageQuery};
use crate::{
    Result,
    jobs::Job,
    ports::{PasswordHash, RefreshDigest},
};

/// Message of the conflict over an e-mail address.
pub const EMAIL_TAKEN: &str = "this e-mail address is already taken";
/// How many of a session's refresh tokens can be told from unknown ones: a month's, at one every quarter of an hour.
pub const KEPT_TOKENS: u64 = 3_000;
/// Older ones are forgotten in batches of this many.
const FORGOTTEN_AT_ONCE: u64 = 100;

/// People, their passwords and their sessions.
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait Accounts: Send + Sync {
    /// Creates an account, its first session and a job for the outbox. `Conflict` if the address is taken.
    async fn create_account(
        &self,
        account: Account,
        password: PasswordHash,
        session: NewSession,
        job: Job,
    ) -> Result<()>;

    /// What sign-in compares, by the typed address. Where no password is needed, use [`Accounts::user_id`].
    async fn credentials(&self, email: &Email) -> Result<Option<Credentials>>;

    /// What a password change compares. `NotFound` if there is no such person. Where no password is needed, use
    /// [`Accounts::account`].
    async fn credentials_of(&self, user: UserId) -> Result<Credentials>;

    /// Whose address it is, if anybody's.
    async fn user_id(&self, email: &Email) -> Result<Option<UserId>>;

    /// Where to write to somebody, and how to address them. `NotFound` if there is no such person.
    async fn account(&self, user: UserId) -> Result<Account>;

    /// Begins a session of somebody whose password has been verified against this hash. `Unauthenticated` if the hash
    /// has changed since: a password change also ends the sign-ins begun with the old one.
    async fn open_session(&self, session: NewSession, verified: &PasswordHash) -> Result<()>;

    /// Replaces a refresh token with its successor, or says why not. A reused token ends its session in the same step;
    /// one more than [`KEPT_TOKENS`] older than the current one may be unknown.
    async fn rotate_refresh(&self, rotation: RotateRefresh) -> Result<Rotation>;

    /// Whose session it is, if it still lives at `at`.
    async fn session_owner(&self, session: SessionId, at: Timestamp) -> Result<Option<Account>>;

    /// The live sessions of a person, newest first. None is marked `current`.
    async fn sessions(&self, user: UserId, at: Timestamp, page: PageQuery)
    -> Result<Page<Session>>;

    /// Ends a session; returns the store's count of ended sessions, this one included. `NotFound` if the person has no
    /// such live session.
    async fn revoke_session(
        &self,
        user: UserId,
        session: SessionId,
        at: Timestamp,
    ) -> Result<SessionRev>;

    /// Changes the name others see; returns where they see it.
    async fn rename(&self, by: Principal, name: &DisplayName) -> Result<Renamed>;

    /// Changes the password and ends every session but one; returns those it ended, and the count that includes them.
    /// `Unauthenticated` if the verified hash is no longer the current one, or the session to keep has ended: the
    /// password has been changed elsewhere first.
    async fn change_password(&self, change: NewPassword) -> Result<EndedSessions>;

    /// Those of `ids` that `viewer` shares a workspace with or can read a message of, and `viewer` itself.
    async fn people(&self, viewer: UserId, ids: Vec<UserId>) -> Result<Vec<User>>;
}

/// What a password is compared with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Whose.
    pub account: Account,
    /// Their password's hash.
    pub password: PasswordHash,
}

/// An account with its new name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renamed {
    /// Whose.
    pub account: Account,
    /// All their workspace memberships, which show the name, oldest first.
    pub memberships: Vec<Member>,
}

/// A session that begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewSession {
    /// Which.
    pub id: SessionId,
    /// Whose.
    pub user_id: UserId,
    /// Of its first refresh token.
    pub refresh: RefreshDigest,
    /// When.
    pub at: Timestamp,
    /// When it ends unless refreshed.
    pub expires_at: Timestamp,
}

/// A password to replace another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewPassword {
    /// Whose.
    pub user: UserId,
    /// The hash that the current password was verified against.
    pub verified: PasswordHash,
    /// The new password's.
    pub password: PasswordHash,
    /// The session that goes on.
    pub keep: SessionId,
    /// When.
    pub at: Timestamp,
}

/// Sessions that have ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndedSessions {
    /// Which.
    pub sessions: Vec<SessionId>,
    /// The store's count of ended sessions, these included.
    pub session_rev: SessionRev,
}

/// Who makes a change, and in which of their sessions. If that session has ended before the change's transaction
/// begins, the change is refused as `Unauthenticated`, whatever let the request in before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Principal {
    /// The person.
    pub user: UserId,
    /// The session.
    pub session: SessionId,
}

/// A refresh token presented for exchange.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RotateRefresh {
    /// The token that came.
    pub presented: RefreshDigest,
    /// The token that follows it.
    pub successor: RefreshDigest,
    /// When.
    pub at: Timestamp,
    /// The session's new end.
    pub expires_at: Timestamp,
    /// How long after its exchange the preceding token is still accepted.
    pub grace: Duration,
}

/// What a refresh token is to its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presented {
    /// The latest: its successor becomes that.
    Latest,
    /// The one before, within its grace: its successor is another latest one.
    Preceding,
    /// Older, or after its grace: somebody has a copy, and the session ends.
    Reused,
}

impl RotateRefresh {
    /// What a token of generation `presented` is to a session whose latest token, since `rotated_at`, is of generation
    /// `latest`.
    pub fn judge(&self, presented: u64, latest: u64, rotated_at: Timestamp) -> Presented {
        if presented == latest {
            Presented::Latest
        } else if presented + 1 == latest && self.at.since(rotated_at) <= self.grace {
            Presented::Preceding
        } else {
            Presented::Reused
        }
    }
}

/// How an exchange of refresh tokens ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rotation {
    /// The successor is now one of the session's tokens. For the preceding token within its grace, there may be
    /// another: nodes with different secrets make different successors.
    Rotated {
        /// Whose session.
        account: Account,
        /// Which session.
        session_id: SessionId,
    },
    /// An older token: somebody has a copy. The session has been ended.
    Reused {
        /// Which session.
        session_id: SessionId,
        /// The store's count of ended sessions, this one included.
        session_rev: SessionRev,
    },
    /// No live session has this token.
    Unknown,
}

/// When a session's token of this generation is made, tokens of generations before the returned one, if any, are to be
/// forgotten.
pub fn forgotten_before(generation: u64) -> Option<u64> {
    let due = generation.is_multiple_of(FORGOTTEN_AT_ONCE);
    generation.checked_sub(KEPT_TOKENS).filter(|_| due)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_good_while_it_is_the_latest_and_for_its_grace() {
        let digest = RefreshDigest([0; 32]);
        let at = |seconds: i64| Timestamp::from_millis(seconds * 1_000);
        let exchange = |seconds| RotateRefresh {
            presented: digest,
            successor: digest,
            at: at(seconds),
            expires_at: at(seconds),
            grace: Duration::from_secs(10),
        };
        let judge = |seconds, presented| exchange(seconds).judge(presented, 5, at(100));
        for (seconds, presented, expected) in [
            (100, 5, Presented::Latest),
            (9_999, 5, Presented::Latest),
            (100, 4, Presented::Preceding),
            (110, 4, Presented::Preceding),
            (111, 4, Presented::Reused),
            (100, 3, Presented::Reused),
            (100, 0, Presented::Reused),
            // None such is ever handed out.
            (100, 6, Presented::Reused),
        ] {
            assert_eq!(judge(seconds, presented), expected, "{presented} at {seconds}");
        }
    }

    #[test]
    fn tokens_are_kept_for_long_and_not_for_ever() {
        let mut oldest = 0;
        for generation in 0..10_000 {
            oldest = forgotten_before(generation).unwrap_or(oldest);
            let kept = generation - oldest;
            assert!(kept <= KEPT_TOKENS + FORGOTTEN_AT_ONCE, "{kept} at {generation}");
            assert!(oldest == 0 || kept >= KEPT_TOKENS, "{kept} at {generation}");
        }
        assert!(oldest > 6_000);
    }
}
