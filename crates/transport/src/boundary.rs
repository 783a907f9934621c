//! What surrounds every request: its id, its log line, its metrics, security headers, errors as problems, panics too.

use std::{panic::AssertUnwindSafe, sync::Arc};

use actix_web::{
    Error as ActixError, HttpMessage,
    body::{BoxBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    error::InternalError,
    http::{
        StatusCode,
        header::{self, HeaderMap, HeaderName, HeaderValue},
    },
    middleware::Next,
    web::Data,
};
use futures::FutureExt;
use parlance_application::{App, Error, Unauthenticated};
use parlance_domain::RequestId;
use tracing::Instrument;

use crate::{
    error::{ApiError, problem},
    extract::bearer,
};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The outermost middleware but CORS.
pub(crate) async fn boundary(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, ActixError> {
    let Some(app) = request.app_data::<Data<App>>().map(|app| Arc::clone(app)) else {
        return Ok(next.call(request).await?.map_into_boxed_body());
    };
    let request_id = RequestId(app.ambient.uuid());
    let began = app.ambient.now();
    let method = request.method().clone();
    let path = request.path().to_owned();
    let docs = path.starts_with("/docs");
    let span = tracing::info_span!("request", %request_id, %method, path);

    let outcome =
        AssertUnwindSafe(next.call(request)).catch_unwind().instrument(span.clone()).await;
    let mut response = span.in_scope(|| match outcome {
        Ok(Ok(response)) => Ok(match response.response().error() {
            Some(error) => {
                let problem = problem(&of_actix(error, response.status()), request_id);
                ServiceResponse::new(response.into_parts().0, problem)
            }
            None => response.map_into_boxed_body(),
        }),
        Ok(Err(error)) => {
            let status = error.as_response_error().status_code();
            let problem = problem(&of_actix(&error, status), request_id);
            Err(ActixError::from(InternalError::from_response(error, problem)))
        }
        Err(_) => {
            let error = Error::internal("a handler panicked");
            let problem = problem(&error, request_id);
            Err(InternalError::from_response(ApiError(error), problem).into())
        }
    })?;

    secure(response.headers_mut(), docs);
    if let Ok(value) = HeaderValue::from_str(&request_id.to_string()) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    let status = response.status().as_u16();
    let took = app.ambient.now().since(began);
    let route = response.request().match_pattern().unwrap_or_else(|| "unmatched".to_owned());
    metrics::counter!("parlance_http_requests_total", "method" => label(method.as_str()), "route" => route, "status" => status.to_string()).increment(1);
    metrics::histogram!("parlance_http_request_seconds").record(took.as_secs_f64());
    span.in_scope(|| tracing::info!(status, took_ms = took.as_millis(), "answered"));
    Ok(response)
}

/// Wraps the routes that need a caller, so that nothing else of a request is looked at before.
pub(crate) async fn authenticate(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, ActixError> {
    let caller = match bearer(request.request()) {
        Some(caller) => caller.await,
        None => Err(Unauthenticated::Missing.into()),
    };
    match caller {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            Ok(next.call(request).await?.map_into_boxed_body())
        }
        // A response, not an error: only responses get their headers and their line in the log.
        Err(error) => Ok(request.error_response(ApiError(error))),
    }
}

/// Our own error, or what a library's status means.
fn of_actix(error: &ActixError, status: StatusCode) -> Error {
    if let Some(ApiError(error)) = error.as_error::<ApiError>() {
        return error.clone();
    }
    match status {
        StatusCode::NOT_FOUND => Error::NotFound("resource"),
        StatusCode::FORBIDDEN => Error::Forbidden("forbidden"),
        StatusCode::PAYLOAD_TOO_LARGE => {
            Error::PayloadTooLarge { limit: crate::extract::BODY_LIMIT }
        }
        status if status.is_client_error() => Error::BadRequest(error.to_string()),
        _ => Error::internal(error),
    }
}

/// A client may invent any number of methods.
fn label(method: &str) -> &'static str {
    let known = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"];
    known.into_iter().find(|known| *known == method).unwrap_or("other")
}

fn secure(headers: &mut HeaderMap, docs: bool) {
    let policy = if docs {
        "default-src 'self'; style-src 'self' 'unsafe-inline'; script-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'"
    } else {
        "default-src 'none'; frame-ancestors 'none'"
    };
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CONTENT_SECURITY_POLICY, policy),
    ] {
        // The job board's pages have a policy of their own.
        if !headers.contains_key(&name) {
            headers.insert(name, HeaderValue::from_static(value));
        }
    }
    if !docs && !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
}

#[cfg(test)]
mod tests {
    use super::label;

    #[test]
    fn an_invented_method_is_no_series_of_its_own() {
        assert_eq!(["GET", "ZZ7", "get"].map(label), ["GET", "other", "other"]);
    }
}
