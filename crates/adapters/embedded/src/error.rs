//! What can end a transaction, and what the world is told of it.

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
    /// The engine's own trouble.
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

/// Trouble that may pass is `Unavailable`; the rest, constraints that no one looked at before included, is a defect.
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
