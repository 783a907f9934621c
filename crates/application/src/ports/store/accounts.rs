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

/// The words of the conflict over an e-mail address.
pub const EMAIL_TAKEN: &str = "this e-mail address is already taken";
/// So many refresh tokens of a session are told from those that never were: a month of them, at one each quarter of an hour.
pub const KEPT_TOKENS: u64 = 3_000;
/// Older ones are forgotten by so many.
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

    /// What sign-in compares, by the address that was typed. Whoever wants no password has [`Accounts::user_id`].
    async fn credentials(&self, email: &Email) -> Result<Option<Credentials>>;

    /// What a change of the password compares. `NotFound` if there is no such person; whoever wants no password has
    /// [`Accounts::account`].
    async fn credentials_of(&self, user: UserId) -> Result<Credentials>;

    /// Whose address it is, if it is somebody's.
    async fn user_id(&self, email: &Email) -> Result<Option<UserId>>;

    /// To whom to write, and how to address them. `NotFound` if there is no such person.
    async fn account(&self, user: UserId) -> Result<Account>;

    /// Begins a session of somebody whose password has been verified against this hash. `Unauthenticated` if it is another one
    /// by now: who has changed it has ended what was begun with the old one.
    async fn open_session(&self, session: NewSession, verified: &PasswordHash) -> Result<()>;

    /// Replaces a refresh token by its successor, or finds out why not. A reused token ends its session in the same step; one
    /// that is more than [`KEPT_TOKENS`] older than the present one may be unknown.
    async fn rotate_refresh(&self, rotation: RotateRefresh) -> Result<Rotation>;

    /// Whose session it is, if it still lives at `at`.
    async fn session_owner(&self, session: SessionId, at: Timestamp) -> Result<Option<Account>>;

    /// The live sessions of a person, newest first. None is marked `current`.
    async fn sessions(&self, user: UserId, at: Timestamp, page: PageQuery)
    -> Result<Page<Session>>;

    /// Ends a session, and tells the store's count of ended sessions, this one included. `NotFound` if the person has no such
    /// live session.
    async fn revoke_session(
        &self,
        user: UserId,
        session: SessionId,
        at: Timestamp,
    ) -> Result<SessionRev>;

    /// Changes what others see; tells where they see it.
    async fn rename(&self, by: Principal, name: &DisplayName) -> Result<Renamed>;

    /// Changes the password and ends every session but one; returns those that it ended, and the count with them.
    /// `Unauthenticated` if the verified hash is not the present one any more, or the session to keep has ended: somebody else
    /// has changed it first.
    async fn change_password(&self, change: NewPassword) -> Result<EndedSessions>;

    /// Of `ids`, those that `viewer` shares a workspace with or can read a message of, and `viewer` itself.
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

/// An account with another name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renamed {
    /// Whose.
    pub account: Account,
    /// All their memberships of workspaces, which show the name; the oldest first.
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

/// A password in another one's place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewPassword {
    /// Whose.
    pub user: UserId,
    /// The hash that the present password was verified against.
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

/// Who makes a change, and in which of their sessions. If that has ended before the change's transaction begins, it is refused as
/// `Unauthenticated`, whatever let the request in before.
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
    /// For how long after its exchange the preceding token is answered again.
    pub grace: Duration,
}

/// What a refresh token is to its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presented {
    /// The latest: its successor becomes that.
    Latest,
    /// The one before, within its grace: its successor is one more latest.
    Preceding,
    /// Older, or after its grace: somebody has a copy, and the session ends.
    Reused,
}

impl RotateRefresh {
    /// What a token of the generation `presented` is to a session whose latest is of the generation `latest`, since `rotated_at`.
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
    /// The successor is now a token of the session's. For the preceding token within its grace there may be another: nodes
    /// whose secrets differ make different ones.
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

/// When a session's token of this generation is made: those of which earlier generations are to be forgotten, if any.
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
