//! What can end a transaction, and what the world is told of it.

use mongodb::error::{
    Error as DriverError, ErrorKind, RETRYABLE_WRITE_ERROR, TRANSIENT_TRANSACTION_ERROR,
    UNKNOWN_TRANSACTION_COMMIT_RESULT, WriteFailure,
};
use parlance_application::Error;

/// What the body of a transaction answers.
pub(crate) type Outcome<T> = Result<T, Fail>;

/// Why a transaction was taken back.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fail {
    /// A refusal with a meaning.
    #[error(transparent)]
    Refused(#[from] Error),
    /// The driver's or the server's trouble.
    #[error(transparent)]
    Driver(#[from] DriverError),
    /// The server refused one of several updates: its code and its words.
    #[error("{1} ({0})")]
    Write(i32, String),
    /// A task that cannot be written down.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
}

const DUPLICATE_KEY: i32 = 11_000;
const WRITE_CONFLICT: i32 = 112;
/// What another node does to the sessions of one that it takes for dead (`orphans`).
const INTERRUPTED: i32 = 11_601;

/// What ends a transaction that may succeed the next time, beside what the driver's labels say.
const AGAIN: [i32; 3] = [DUPLICATE_KEY, WRITE_CONFLICT, INTERRUPTED];

/// A primary that stepped down, a limit of time, a network that broke, a server that does not know itself what has happened
/// to it (1): trouble that may pass.
const PASSING: [i32; 20] = [
    1,
    6,
    7,
    50,
    64,
    89,
    91,
    134,
    189,
    WRITE_CONFLICT,
    246,
    251,
    262,
    9_001,
    10_107,
    11_600,
    INTERRUPTED,
    11_602,
    13_435,
    13_436,
];

impl Fail {
    /// Whether the transaction may succeed when it is run again from its beginning. A duplicate key may be one that
    /// another node has just committed: the next run sees it before it writes.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::Driver(error) => {
                error.contains_label(TRANSIENT_TRANSACTION_ERROR)
                    || code(error).is_some_and(|code| AGAIN.contains(&code))
            }
            Self::Write(code, _) => AGAIN.contains(code),
            Self::Refused(_) | Self::Json(_) => false,
        }
    }

    /// Whether a unique index refused a write.
    pub(crate) fn is_duplicate(&self) -> bool {
        match self {
            Self::Driver(error) => is_duplicate(error),
            Self::Write(code, _) => *code == DUPLICATE_KEY,
            Self::Refused(_) | Self::Json(_) => false,
        }
    }

    /// Whether the commit may or may not have happened. Committing again is safe.
    pub(crate) fn is_unknown_commit(&self) -> bool {
        matches!(self, Self::Driver(error) if error.contains_label(UNKNOWN_TRANSACTION_COMMIT_RESULT))
    }

    /// Whether the server may not know that the transaction is over.
    pub(crate) fn is_unanswered(&self) -> bool {
        matches!(self, Self::Driver(error) if code(error).is_none())
    }

    /// What is told of one that did not succeed however often it was tried.
    pub(crate) fn given_up(self) -> Error {
        match self {
            Self::Driver(error) => Error::unavailable(&error.kind),
            other => Error::unavailable(other),
        }
    }

    /// Turns the duplicate key that the caller has foreseen into the port's conflict.
    pub(crate) fn or_taken(self, message: &'static str) -> Self {
        match self {
            Self::Driver(error) if is_duplicate(&error) => Error::conflict(message).into(),
            other => other,
        }
    }
}

impl From<Fail> for Error {
    fn from(fail: Fail) -> Self {
        match fail {
            Fail::Refused(error) => error,
            Fail::Driver(error) => driver(&error),
            Fail::Write(WRITE_CONFLICT, words) => Self::unavailable(words),
            Fail::Write(..) => Self::internal(fail),
            Fail::Json(error) => Self::internal(error),
        }
    }
}

/// Trouble that may pass is `Unavailable`; the rest is a defect, what is stored and cannot be read included.
pub(crate) fn driver(error: &DriverError) -> Error {
    let passing = match &*error.kind {
        ErrorKind::Io(_)
        | ErrorKind::ServerSelection { .. }
        | ErrorKind::ConnectionPoolCleared { .. }
        | ErrorKind::DnsResolve { .. }
        | ErrorKind::Shutdown
        | ErrorKind::Write(WriteFailure::WriteConcernError(_)) => true,
        _ => {
            error.contains_label(TRANSIENT_TRANSACTION_ERROR)
                || error.contains_label(UNKNOWN_TRANSACTION_COMMIT_RESULT)
                || error.contains_label(RETRYABLE_WRITE_ERROR)
                || code(error).is_some_and(|code| PASSING.contains(&code))
        }
    };
    // Without the server's whole reply, which `Display` of the error has.
    if passing { Error::unavailable(&error.kind) } else { Error::internal(&error.kind) }
}

/// Whether a unique index refused a write.
pub(crate) fn is_duplicate(error: &DriverError) -> bool {
    code(error) == Some(DUPLICATE_KEY)
}

/// The server's code, wherever the driver has put it.
pub(crate) fn code(error: &DriverError) -> Option<i32> {
    match &*error.kind {
        ErrorKind::Command(command) => Some(command.code),
        ErrorKind::Write(WriteFailure::WriteError(write)) => Some(write.code),
        ErrorKind::Write(WriteFailure::WriteConcernError(concern)) => Some(concern.code),
        ErrorKind::InsertMany(many) => {
            many.write_errors.as_ref().and_then(|errors| errors.first()).map(|first| first.code)
        }
        _ => None,
    }
}
