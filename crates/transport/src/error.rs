//! The one place that maps errors to the wire, for REST and the socket alike.

use std::time::Duration;

use actix_web::{
    HttpResponse, ResponseError,
    body::BoxBody,
    http::{StatusCode, header},
};
use parlance_application::{Error, FieldError, Unauthenticated, ports::Close};
use parlance_domain::{MessageId, RequestId};
use serde::Serialize;
use utoipa::ToSchema;

use crate::figures;

/// Why a handler or a command fails: the application's errors, and those specific to the wire. The middleware renders
/// it, with the request's id.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum ApiError {
    #[error(transparent)]
    Application(#[from] Error),
    /// A command that this version does not know. Socket only.
    #[error("unknown command type {0:?}")]
    UnknownType(String),
    /// The route exists, but not for this method.
    #[error("this resource answers {allow} only")]
    MethodNotAllowed {
        /// The route's methods, as in the `Allow` header.
        allow: &'static str,
    },
    /// A body beyond the limit.
    #[error("the body is larger than {limit} bytes")]
    PayloadTooLarge {
        /// In bytes.
        limit: usize,
    },
    /// A body of another media type.
    #[error("the body must be {expected}")]
    UnsupportedMediaType {
        /// The media type that is accepted.
        expected: &'static str,
    },
}

/// What clients see of an error.
pub(crate) struct Face {
    pub(crate) code: &'static str,
    status: StatusCode,
    /// The code that closes the socket if `hello` fails with it.
    pub(crate) close: Option<Close>,
    retry_after: Option<Duration>,
}

/// An error on the socket.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Error)]
pub(crate) struct SocketError<'a> {
    /// Machine-readable; the same as in a problem.
    code: &'static str,
    /// Human-readable.
    message: String,
    /// On `validation_failed`: the invalid fields.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    #[schema(value_type = Vec<Refused>)]
    errors: &'a [FieldError],
    /// On `conflict`: the message that already has this `client_msg_id`.
    #[serde(skip_serializing_if = "Option::is_none")]
    message_id: Option<MessageId>,
    /// Milliseconds to wait before retrying.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
}

/// A problem as in RFC 9457.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Problem {
    /// Always `about:blank`; `code` distinguishes problems.
    r#type: &'static str,
    /// The status in words.
    title: &'static str,
    /// The HTTP status.
    status: u16,
    /// Human-readable.
    detail: String,
    /// Machine-readable; the same as on the socket.
    code: &'static str,
    /// Also in the `X-Request-Id` header and in the logs.
    #[schema(value_type = String)]
    request_id: RequestId,
    /// On `validation_failed`: the invalid fields.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<Refused>)]
    errors: Vec<FieldError>,
    /// On `conflict`: the message that already has this `client_msg_id`.
    #[serde(skip_serializing_if = "Option::is_none")]
    message_id: Option<MessageId>,
}

/// An invalid field.
#[derive(ToSchema)]
#[expect(
    dead_code,
    reason = "the schema of `FieldError`, which the application defines without schemas"
)]
pub(crate) struct Refused {
    /// Its name in the request.
    field: String,
    /// Machine-readable.
    code: String,
    /// Human-readable.
    message: String,
}

pub(crate) fn face(error: &ApiError) -> Face {
    let face = |code, status| Face { code, status, close: None, retry_after: None };
    let error = match error {
        ApiError::Application(error) => error,
        ApiError::UnknownType(_) => return face("unknown_type", StatusCode::BAD_REQUEST),
        ApiError::MethodNotAllowed { .. } => {
            return face("method_not_allowed", StatusCode::METHOD_NOT_ALLOWED);
        }
        ApiError::PayloadTooLarge { .. } => {
            return face("payload_too_large", StatusCode::PAYLOAD_TOO_LARGE);
        }
        ApiError::UnsupportedMediaType { .. } => {
            return face("unsupported_media_type", StatusCode::UNSUPPORTED_MEDIA_TYPE);
        }
    };
    match error {
        Error::BadRequest(_) => face("bad_request", StatusCode::BAD_REQUEST),
        Error::Validation(_) => face("validation_failed", StatusCode::UNPROCESSABLE_ENTITY),
        Error::Unauthenticated(why) => Face {
            close: match why {
                Unauthenticated::Missing | Unauthenticated::Credentials => None,
                Unauthenticated::BadToken => Some(Close::BadToken),
                Unauthenticated::Expired => Some(Close::TokenExpired),
                Unauthenticated::Revoked => Some(Close::SessionRevoked),
            },
            ..face("unauthenticated", StatusCode::UNAUTHORIZED)
        },
        Error::Forbidden(_) => face("forbidden", StatusCode::FORBIDDEN),
        Error::NotFound(_) => face("not_found", StatusCode::NOT_FOUND),
        Error::Conflict { .. } => face("conflict", StatusCode::CONFLICT),
        Error::RateLimited { retry_after } => Face {
            retry_after: Some(*retry_after),
            ..face("rate_limited", StatusCode::TOO_MANY_REQUESTS)
        },
        Error::Unavailable { retry_after, .. } => Face {
            retry_after: Some(*retry_after),
            close: Some(Close::Overloaded),
            ..face("unavailable", StatusCode::SERVICE_UNAVAILABLE)
        },
        Error::Internal { .. } => Face {
            close: Some(Close::Overloaded),
            ..face("internal", StatusCode::INTERNAL_SERVER_ERROR)
        },
    }
}

impl<'a> SocketError<'a> {
    pub(crate) fn new(error: &'a ApiError) -> Self {
        let face = face(error);
        log(error, face.code);
        Self {
            code: face.code,
            message: error.to_string(),
            errors: fields(error),
            message_id: message_id(error),
            retry_after_ms: face.retry_after.map(whole_millis),
        }
    }
}

/// A whole problem response.
pub(crate) fn problem(error: &ApiError, request_id: RequestId) -> HttpResponse {
    let Face { code, status, retry_after, .. } = face(error);
    log(error, code);
    let mut response = HttpResponse::build(status);
    response.insert_header((header::CONTENT_TYPE, "application/problem+json"));
    if let Some(after) = retry_after {
        response.insert_header((header::RETRY_AFTER, whole_seconds(after)));
    }
    if let ApiError::MethodNotAllowed { allow } = error {
        response.insert_header((header::ALLOW, *allow));
    }
    if let ApiError::Application(Error::Unauthenticated(why)) = error {
        let challenge = match why {
            Unauthenticated::Missing | Unauthenticated::Credentials => "Bearer realm=\"parlance\"",
            _ => "Bearer realm=\"parlance\", error=\"invalid_token\"",
        };
        response.insert_header((header::WWW_AUTHENTICATE, challenge));
    }
    let body = Problem {
        r#type: "about:blank",
        title: status.canonical_reason().unwrap_or("Error"),
        status: status.as_u16(),
        detail: error.to_string(),
        code,
        request_id,
        errors: fields(error).to_vec(),
        message_id: message_id(error),
    };
    response.body(serde_json::to_string(&body).unwrap_or_default())
}

/// A wait for `Retry-After`, in seconds: rounded up, at least 1.
pub(crate) fn whole_seconds(wait: Duration) -> u64 {
    wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0)).max(1)
}

/// The same in milliseconds, for `retry_after_ms`.
fn whole_millis(wait: Duration) -> u64 {
    u64::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX).max(1)
}

impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        face(self).status
    }

    /// Only a status: the middleware writes the body.
    fn error_response(&self) -> HttpResponse<BoxBody> {
        HttpResponse::new(self.status_code())
    }
}

fn fields(error: &ApiError) -> &[FieldError] {
    match error {
        ApiError::Application(Error::Validation(fields)) => fields,
        _ => &[],
    }
}

fn message_id(error: &ApiError) -> Option<MessageId> {
    match error {
        ApiError::Application(Error::Conflict { message_id, .. }) => *message_id,
        _ => None,
    }
}

/// Logs the cause, which clients are not told.
fn log(error: &ApiError, code: &'static str) {
    figures::refused(code);
    let ApiError::Application(error) = error else { return };
    match error {
        Error::Internal { cause } => tracing::error!(%cause, "internal error"),
        Error::Unavailable { cause, .. } => tracing::warn!(%cause, "unavailable"),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// An error in the socket's form.
    fn told(error: Error) -> Value {
        serde_json::to_value(SocketError::new(&error.into())).expect("JSON")
    }

    fn headers(error: Error) -> Vec<(String, String)> {
        let response = problem(&error.into(), RequestId(uuid::Uuid::nil()));
        let text = |value: &header::HeaderValue| value.to_str().expect("text").to_owned();
        response.headers().iter().map(|(name, value)| (name.to_string(), text(value))).collect()
    }

    #[test]
    fn a_failed_hello_says_by_its_close_code_how_to_go_on() {
        let unavailable = Error::unavailable("the store is away");
        for (error, code) in [
            (Unauthenticated::Missing.into(), None),
            (Unauthenticated::BadToken.into(), Some(4500)),
            (Unauthenticated::Expired.into(), Some(4501)),
            (Unauthenticated::Revoked.into(), Some(4502)),
            (unavailable, Some(4003)),
            (Error::internal("a defect"), Some(4003)),
            (Error::BadRequest("no".to_owned()), None),
            (Error::Forbidden("no"), None),
        ] {
            let close = face(&ApiError::from(error)).close;
            assert_eq!(close.map(Close::code), code);
        }
    }

    /// In whole seconds over HTTP, never too early, and never at once.
    #[test]
    fn who_is_to_come_again_is_told_when() {
        for (micros, millis, seconds) in [
            (0, 1, "1"),
            (10_000, 10, "1"),
            (10_001, 11, "1"),
            (1_000_000, 1_000, "1"),
            (1_000_001, 1_001, "2"),
            (30_000_000, 30_000, "30"),
        ] {
            let error = Error::RateLimited { retry_after: Duration::from_micros(micros) };
            assert_eq!(told(error.clone())["retry_after_ms"], millis);
            let after = headers(error).into_iter().find(|(name, _)| name == "retry-after");
            assert_eq!(after.map(|(_, value)| value).as_deref(), Some(seconds));
        }
        assert_eq!(told(Error::Forbidden("no")).get("retry_after_ms"), None);
    }

    #[test]
    fn causes_are_not_told() {
        for error in [Error::internal("hunter2"), Error::unavailable("hunter2")] {
            let told = told(error).to_string();
            assert!(!told.contains("hunter2"), "{told}");
        }
        assert_eq!(told(Error::internal("hunter2"))["code"], json!("internal"));
    }
}
