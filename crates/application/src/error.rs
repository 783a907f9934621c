//! The one error type of ports and use cases. Its variants are stable codes of the wire contract. `transport/error.rs`
//! maps them, in one place, and adds those specific to HTTP and the socket.

use std::{sync::Arc, time::Duration};

use parlance_domain::{Denied, Invalid, MessageId};

/// What a port or a use case answers.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a request failed. Everything but [`Error::Unavailable`] and [`Error::Internal`] means *not committed*.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// Cannot be read: malformed JSON, a wrong type, an unknown or missing field, a malformed id.
    #[error("{0}")]
    BadRequest(String),
    /// Well typed, but out of bounds.
    #[error("the request is not valid")]
    Validation(Vec<FieldError>),
    /// No caller, or one whose session or token has ended.
    #[error(transparent)]
    Unauthenticated(#[from] Unauthenticated),
    /// May read it, may not do that.
    #[error("{0}")]
    Forbidden(&'static str),
    /// Does not exist, or may not be read.
    #[error("{0} not found")]
    NotFound(&'static str),
    /// Contradicts the current state.
    #[error("{message}")]
    Conflict {
        /// What it contradicts.
        message: &'static str,
        /// The message that already has this `client_msg_id`.
        message_id: Option<MessageId>,
    },
    /// Too much from one user.
    #[error("too many requests")]
    RateLimited {
        /// How long to wait before the next try.
        retry_after: Duration,
    },
    /// The store is out of reach or overloaded. The outcome is unknown.
    #[error("the service is unavailable for the moment")]
    Unavailable {
        /// How long to wait before the next try.
        retry_after: Duration,
        /// For the log, never for the wire.
        cause: Arc<str>,
    },
    /// A defect. The outcome is unknown.
    #[error("internal error")]
    Internal {
        /// For the log, never for the wire.
        cause: Arc<str>,
    },
}

/// Why somebody is not authenticated. Three of them have their own close codes on the socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unauthenticated {
    /// No token where one is needed.
    #[error("an access token is required")]
    Missing,
    /// Sign-in failed. Does not say which half was wrong.
    #[error("wrong e-mail address or password")]
    Credentials,
    /// Not a token of ours.
    #[error("the token is not valid")]
    BadToken,
    /// A token of ours that has expired.
    #[error("the token has expired")]
    Expired,
    /// A token of a session that has ended.
    #[error("the session has been revoked")]
    Revoked,
}

/// A refused field.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct FieldError {
    /// Its name in the request.
    pub field: String,
    /// For programs: see `Invalid::code` in the domain, and the callers of [`Error::refused`].
    pub code: &'static str,
    /// For people; reads well after the field's name.
    pub message: String,
}

impl Error {
    /// A conflict that concerns no message.
    pub const fn conflict(message: &'static str) -> Self {
        Self::Conflict { message, message_id: None }
    }

    /// A store or service that cannot be reached now.
    pub fn unavailable(cause: impl std::fmt::Display) -> Self {
        Self::Unavailable { retry_after: Duration::from_secs(1), cause: cause.to_string().into() }
    }

    /// Something that should not happen.
    pub fn internal(cause: impl std::fmt::Display) -> Self {
        Self::Internal { cause: cause.to_string().into() }
    }

    /// A refusal by the permission matrix; `what` names what was not found, if it is hidden.
    pub fn denied(denied: Denied, what: &'static str) -> Self {
        match denied {
            Denied::Hidden => Self::NotFound(what),
            Denied::Forbidden => Self::Forbidden("you may not do that here"),
        }
    }

    /// A single field, refused for a reason that is not the domain's.
    pub fn refused(field: &str, code: &'static str, message: impl Into<String>) -> Self {
        Self::invalid(field, Invalid { code, message: message.into() })
    }

    /// A single refused field.
    pub fn invalid(field: impl Into<String>, invalid: Invalid) -> Self {
        Self::Validation(vec![FieldError::new(field, invalid)])
    }
}

impl FieldError {
    /// The domain's verdict on a value, under the name the request gives it.
    pub fn new(field: impl Into<String>, invalid: Invalid) -> Self {
        Self { field: field.into(), code: invalid.code, message: invalid.message }
    }
}
