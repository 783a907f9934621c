//! People and their signed-in devices.

use serde::Serialize;

use crate::{SessionId, Timestamp, UserId};

/// A person as others see them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct User {
    /// The person's id.
    pub id: UserId,
    /// What to call them.
    pub display_name: String,
    /// When they signed up.
    pub created_at: Timestamp,
}

/// A person as they see themselves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Account {
    /// The person's id.
    pub id: UserId,
    /// The address they sign in with, lower-cased.
    pub email: String,
    /// What others call them.
    pub display_name: String,
    /// When they signed up.
    pub created_at: Timestamp,
}

/// One signed-in device of a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Session {
    /// The session's id.
    pub id: SessionId,
    /// When it signed in.
    pub created_at: Timestamp,
    /// When it last signed in or refreshed its tokens.
    pub last_used_at: Timestamp,
    /// Whether it is the session of the request.
    pub current: bool,
}

impl From<Account> for User {
    fn from(account: Account) -> Self {
        Self { id: account.id, display_name: account.display_name, created_at: account.created_at }
    }
}
