//! The errors that callers see.

use std::time::Duration;

use serde_json::Value;

use crate::outbox::NotTaken;

/// The server's `error` to a command.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Refusal {
    /// For programs.
    pub code: String,
    /// For people.
    pub message: String,
    /// How long to wait before the next try, if the server said so.
    pub retry_after: Option<Duration>,
    /// The whole error: `errors`, `message_id` …
    pub body: Value,
}

/// Why a client does not come back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Stopped {
    /// The caller closed it.
    #[error("closed")]
    Closed,
    /// The server closed with a code that forbids it.
    #[error("the server closed with {0}, after which one does not come back")]
    SentAway(u16),
    /// The token was refused or has expired, and there is no other.
    #[error("there is no token that the server would take")]
    NoToken,
}

/// Why a send failed. Only after [`SendError::Stopped`] may it have been committed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SendError {
    /// It was not queued.
    #[error(transparent)]
    NotTaken(#[from] NotTaken),
    /// The server refused it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The client stopped before the answer came: outcome unknown.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// Why a command failed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum CommandError {
    /// There is no connection now.
    #[error("there is no connection now")]
    NotConnected,
    /// The connection was lost before the answer came: outcome unknown.
    #[error("the connection was lost before the answer came")]
    Lost,
    /// The server refused it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The client has stopped.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

impl Refusal {
    /// Reads an `error` frame.
    pub(crate) fn read(frame: &Value) -> Self {
        let body = &frame["error"];
        let text = |field: &str| body[field].as_str().unwrap_or_default().to_owned();
        Self {
            code: text("code"),
            message: text("message"),
            retry_after: body["retry_after_ms"].as_u64().map(Duration::from_millis),
            body: body.clone(),
        }
    }

    /// Whether the same command may succeed later. A write may have taken effect nevertheless.
    pub fn passing(&self) -> bool {
        matches!(self.code.as_str(), "unavailable" | "internal" | "rate_limited")
    }
}
