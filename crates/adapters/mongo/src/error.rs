//! Why a transaction fails, whether it is run again, and which `Error` the caller gets.

use std::time::Duration;

use mongodb::error::{
    Error as DriverError, ErrorKind, RETRYABLE_WRITE_ERROR, TRANSIENT_TRANSACTION_ERROR,
    UNKNOWN_TRANSACTION_COMMIT_RESULT, WriteFailure,
};
use parlance_application::Error;
use tokio::time::timeout;

/// What the body of a transaction answers.
pub(crate) type Outcome<T> = Result<T, Fail>;

/// Why a transaction was rolled back.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fail {
    /// A refusal, passed to the caller unchanged.
    #[error(transparent)]
    Refused(#[from] Error),
    /// An error of the driver or the server.
    #[error(transparent)]
    Driver(#[from] DriverError),
    /// The server refused one of several updates: code and message.
    #[error("{1} ({0})")]
    Write(i32, String),
    /// No answer came in time.
    #[error("MongoDB does not answer")]
    Late,
    /// No answer came to a commit, which may have happened.
    #[error("MongoDB does not say whether a transaction is committed")]
    Unknown,
    /// A job's task that cannot be written as JSON.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
}

const DUPLICATE_KEY: i32 = 11_000;
const WRITE_CONFLICT: i32 = 112;
/// The code when another node has killed the transaction's session, taking this node for dead (`orphans`).
const INTERRUPTED: i32 = 11_601;

/// Codes of transactions that may succeed when retried, besides those that the driver labels so.
const AGAIN: [i32; 3] = [DUPLICATE_KEY, WRITE_CONFLICT, INTERRUPTED];

/// Codes of transient trouble: a primary that stepped down, a time limit, a broken network, a server that does not know
/// its own state. Named as in MongoDB's `error_codes.yml`.
const PASSING: [i32; 20] = [
    1,  // InternalError
    6,  // HostUnreachable
    7,  // HostNotFound
    50, // MaxTimeMSExpired
    64, // WriteConcernTimeout
    89, // NetworkTimeout
    91, // ShutdownInProgress
    WRITE_CONFLICT,
    134,    // ReadConcernMajorityNotAvailableYet
    189,    // PrimarySteppedDown
    246,    // SnapshotUnavailable
    251,    // NoSuchTransaction
    262,    // ExceededTimeLimit
    9_001,  // SocketException
    10_107, // NotWritablePrimary
    11_600, // InterruptedAtShutdown
    INTERRUPTED,
    11_602, // InterruptedDueToReplStateChange
    13_435, // NotPrimaryNoSecondaryOk
    13_436, // NotPrimaryOrSecondary
];

impl Fail {
    /// Whether the transaction may succeed when it is run again from its beginning. A duplicate key may be one that
    /// another node has just committed: the next run sees it before it writes.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::Driver(error) => {
                !is_unconfirmed(error)
                    && (error.contains_label(TRANSIENT_TRANSACTION_ERROR)
                        || code(error).is_some_and(|code| AGAIN.contains(&code)))
            }
            Self::Write(code, _) => AGAIN.contains(code),
            Self::Late => true,
            Self::Refused(_) | Self::Unknown | Self::Json(_) => false,
        }
    }

    /// Whether the server refused it because of others' writes: another try, or a part of it, may succeed at once.
    pub(crate) fn is_conflict(&self) -> bool {
        self.is_transient() && !self.is_unanswered()
    }

    /// Whether a unique index refused a write.
    pub(crate) fn is_duplicate(&self) -> bool {
        match self {
            Self::Driver(error) => is_duplicate(error),
            Self::Write(code, _) => *code == DUPLICATE_KEY,
            _ => false,
        }
    }

    /// Whether the outcome of the commit is unknown. Committing again is safe.
    pub(crate) fn is_unknown_commit(&self) -> bool {
        match self {
            Self::Driver(error) => {
                error.contains_label(UNKNOWN_TRANSACTION_COMMIT_RESULT) || is_unconfirmed(error)
            }
            Self::Unknown => true,
            _ => false,
        }
    }

    /// Whether the server gave no answer, and may still hold the transaction open.
    pub(crate) fn is_unanswered(&self) -> bool {
        match self {
            Self::Driver(error) => code(error).is_none() && !is_unreadable(error),
            Self::Late | Self::Unknown => true,
            _ => false,
        }
    }

    /// Why a commit fails. If its answer cannot be read, it may have happened.
    pub(crate) fn of_commit(error: DriverError) -> Self {
        if is_unreadable(&error) { Self::Unknown } else { Self::Driver(error) }
    }

    /// Whether one part of the transaction may be to blame, not the server: the others may succeed without it.
    pub(crate) fn may_spare_others(&self) -> bool {
        match self {
            Self::Refused(error) => matches!(error, Error::Internal { .. }),
            Self::Driver(error) => {
                !self.is_unknown_commit() && matches!(driver(error), Error::Internal { .. })
            }
            Self::Write(code, _) => !PASSING.contains(code),
            Self::Json(_) => true,
            Self::Late | Self::Unknown => false,
        }
    }

    /// The error of a transaction that is not retried.
    pub(crate) fn given_up(self) -> Error {
        match self {
            Self::Driver(error) if self.is_transient() => Error::unavailable(&error.kind),
            other if other.is_transient() => Error::unavailable(other),
            other => other.into(),
        }
    }

    /// Turns a duplicate key that the caller expects into the port's conflict.
    pub(crate) fn or_taken(self, message: &'static str) -> Self {
        match self {
            Self::Driver(error) if is_duplicate(&error) => Error::conflict(message).into(),
            other => other,
        }
    }
}

/// Limits the wait for the server. On a silent connection the driver itself would wait a quarter of an hour.
pub(crate) async fn in_time<T>(
    limit: Duration,
    doing: impl Future<Output = Outcome<T>>,
) -> Outcome<T> {
    timeout(limit, doing).await.unwrap_or(Err(Fail::Late))
}

impl From<Fail> for Error {
    fn from(fail: Fail) -> Self {
        match fail {
            Fail::Refused(error) => error,
            Fail::Driver(error) => driver(&error),
            Fail::Write(code, words) if PASSING.contains(&code) => Self::unavailable(words),
            Fail::Write(..) => Self::internal(fail),
            Fail::Late | Fail::Unknown => Self::unavailable(fail),
            Fail::Json(error) => Self::internal(error),
        }
    }
}

/// Transient trouble is `Unavailable`. The rest is a bug, as is a stored document that cannot be read.
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
    // Not the error's `Display`, which has the server's whole reply.
    if passing { Error::unavailable(&error.kind) } else { Error::internal(&error.kind) }
}

/// Whether no majority has confirmed the write. In a transaction only the commit waits for one, and then it has
/// happened on the primary, whatever the code says.
fn is_unconfirmed(error: &DriverError) -> bool {
    matches!(&*error.kind, ErrorKind::Write(WriteFailure::WriteConcernError(_)))
}

/// Whether an answer came, but cannot be read.
fn is_unreadable(error: &DriverError) -> bool {
    matches!(
        &*error.kind,
        ErrorKind::Bson(_) | ErrorKind::BsonDeserialization(_) | ErrorKind::InvalidResponse { .. }
    )
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

#[cfg(test)]
mod tests {
    use bson::doc;
    use mongodb::error::{CommandError, WriteConcernError};

    use super::*;

    const SHUTDOWN_IN_PROGRESS: i32 = 91;
    const DOCUMENT_VALIDATION_FAILURE: i32 = 121;

    /// What another node has interrupted is retried; but not a commit whose wait for a majority was interrupted.
    #[test]
    fn a_commit_that_has_happened_is_not_run_again() {
        let reply = doc! { "code": INTERRUPTED, "codeName": "Interrupted", "errmsg": "x" };
        let command: CommandError =
            bson::deserialize_from_document(reply.clone()).expect("an error");
        let waited: WriteConcernError = bson::deserialize_from_document(reply).expect("an error");
        let command = Fail::Driver(ErrorKind::Command(command).into());
        let waited = WriteFailure::WriteConcernError(waited);
        let waited = Fail::Driver(ErrorKind::Write(waited).into());
        assert!(command.is_transient() && !command.is_unknown_commit());
        assert!(waited.is_unknown_commit() && !waited.is_transient());
        assert!(Fail::Unknown.is_unknown_commit() && !Fail::Unknown.is_transient());
        assert!(matches!(Error::from(waited), Error::Unavailable { .. }));
    }

    /// Nor one whose answer cannot be read. Of anything else that cannot be read, others may be spared.
    #[test]
    fn what_cannot_be_read_is_no_silence() {
        let unreadable = || {
            DriverError::from(
                bson::deserialize_from_slice::<bson::Document>(&[1]).expect_err("no document"),
            )
        };
        assert!(matches!(Fail::of_commit(unreadable()), Fail::Unknown));
        let fail = Fail::Driver(unreadable());
        assert!(fail.may_spare_others() && !fail.is_unanswered() && !fail.is_conflict());
    }

    /// However the driver passes on the server's code.
    #[test]
    fn a_code_means_the_same_for_a_command_and_for_one_of_several_updates() {
        for (code, passes) in [
            (WRITE_CONFLICT, true),
            (SHUTDOWN_IN_PROGRESS, true),
            (DOCUMENT_VALIDATION_FAILURE, false),
        ] {
            let command = doc! { "code": code, "codeName": "", "errmsg": "x" };
            let command: CommandError = bson::deserialize_from_document(command).expect("an error");
            let command = Fail::Driver(ErrorKind::Command(command).into());
            for fail in [command, Fail::Write(code, "x".to_owned())] {
                assert_eq!(fail.may_spare_others(), !passes, "{code}");
                let error = Error::from(fail);
                assert_eq!(matches!(error, Error::Unavailable { .. }), passes, "{code}: {error:?}");
            }
        }
    }
}
