//! Why a transaction fails, and which `Error` the caller gets.

use parlance_application::Error;
use rusqlite::ErrorCode;

/// What the body of a transaction answers.
pub(crate) type Tx<T> = Result<T, Fail>;

/// Why a transaction was rolled back.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fail {
    /// A refusal with a meaning.
    #[error(transparent)]
    Refused(#[from] Error),
    /// An error of the engine.
    #[error(transparent)]
    Sql(#[from] rusqlite::Error),
    /// A stored task or list of reactions that cannot be read.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
}

impl From<Fail> for Error {
    fn from(fail: Fail) -> Self {
        match fail {
            Fail::Refused(error) => error,
            Fail::Sql(error) => sql(&error),
            Fail::Json(error) => Self::internal(error),
        }
    }
}

/// Transient trouble is `Unavailable`. The rest is a bug, including violated constraints that were not checked first.
pub(crate) fn sql(error: &rusqlite::Error) -> Error {
    match error.sqlite_error_code() {
        Some(
            ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::DiskFull
            | ErrorCode::SystemIoFailure
            | ErrorCode::CannotOpen
            | ErrorCode::ReadOnly
            | ErrorCode::OutOfMemory,
        ) => Error::unavailable(error),
        _ => Error::internal(error),
    }
}
