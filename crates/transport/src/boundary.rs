//! What surrounds every request: its id, log line, metrics and security headers, and errors, panics included, as
//! problems.

use std::{fmt::Display, panic::AssertUnwindSafe};

use actix_web::{
    Error as ActixError, HttpMessage, HttpRequest, HttpResponse,
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
use tokio::time::Instant;
use tracing::Instrument;

use crate::{
    error::{ApiError, problem},
    extract::{BODY_LIMIT, bearer},
    figures,
    held_body::HeldBody,
};

/// Paths polled by monitoring.
const PROBES: [&str; 3] = ["/livez", "/readyz", "/metrics"];
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The outermost middleware, apart from CORS.
pub(crate) async fn boundary(
    app: Data<App>,
    mut request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, ActixError> {
    let request_id = RequestId(app.ambient.uuid());
    let began = Instant::now();
    let method = request.method().clone();
    let path = request.path().to_owned();
    let docs = path.starts_with("/docs/");
    let span = tracing::info_span!("request", %request_id, %method, path = &*path);
    let chunked = HeldBody::of(&mut request);

    let outcome =
        AssertUnwindSafe(next.call(request)).catch_unwind().instrument(span.clone()).await;
    // After an error there is no request, and so no route, for the metrics; the log has the path.
    let (request, response) = span.in_scope(|| match outcome {
        Ok(Ok(response)) => {
            let (request, response) = response.into_parts();
            let response = match response.error() {
                Some(error) => {
                    let mut problem = problem(&of_actix(error, response.status()), request_id);
                    // The answer's own headers: a cookie, or a protocol version.
                    add(problem.headers_mut(), response.headers().clone());
                    problem
                }
                // A library's refusal, without a body.
                None if is_bare(&response) => {
                    problem(&of_status(response.status(), "refused"), request_id)
                }
                None => response.map_into_boxed_body(),
            };
            (Ok(request), response)
        }
        Ok(Err(error)) => {
            let status = error.as_response_error().status_code();
            let problem = problem(&of_actix(&error, status), request_id);
            (Err(error), problem)
        }
        Err(_) => {
            let error = ApiError::from(Error::internal("a handler panicked"));
            let problem = problem(&error, request_id);
            (Err(error.into()), problem)
        }
    });
    let mut response = response.map_body(|_, body| match chunked {
        Some(chunked) => chunked.held_by(body),
        None => body,
    });

    mark(response.headers_mut(), request_id, docs);
    let status = response.status().as_u16();
    let took = began.elapsed();
    let route = request.as_ref().ok().and_then(HttpRequest::match_pattern);
    let route = route.unwrap_or_else(|| "unmatched".to_owned());
    figures::request_answered(label(method.as_str()), route, status, took);
    let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    span.in_scope(|| {
        // Machines poll these every few seconds.
        if status < 400 && PROBES.contains(&&*path) {
            tracing::debug!(status, took_ms, "answered");
        } else {
            tracing::info!(status, took_ms, "answered");
        }
    });
    match request {
        Ok(request) => Ok(ServiceResponse::new(request, response)),
        Err(error) => Err(InternalError::from_response(error, response).into()),
    }
}

/// Wraps CORS, and turns its refusals into problems.
pub(crate) async fn refusals(
    app: Data<App>,
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, ActixError> {
    let (request, mut response) = next.call(request).await?.map_into_boxed_body().into_parts();
    if let Some(error) = response.error() {
        let request_id = RequestId(app.ambient.uuid());
        response = problem(&of_actix(error, response.status()), request_id);
        mark(response.headers_mut(), request_id, false);
    }
    Ok(ServiceResponse::new(request, response))
}

/// Wraps the routes that need a caller, so that nothing else in a request is looked at before the caller is known.
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
        // A response, not an error: only responses get the headers and a log line.
        Err(error) => Ok(request.error_response(ApiError::from(error))),
    }
}

/// Our own error, or what a library's status means.
fn of_actix(error: &ActixError, status: StatusCode) -> ApiError {
    error.as_error::<ApiError>().cloned().unwrap_or_else(|| of_status(status, error))
}

fn of_status(status: StatusCode, why: impl Display) -> ApiError {
    match status {
        StatusCode::NOT_FOUND => Error::NotFound("resource").into(),
        StatusCode::FORBIDDEN => Error::Forbidden("forbidden").into(),
        StatusCode::PAYLOAD_TOO_LARGE => ApiError::PayloadTooLarge { limit: BODY_LIMIT },
        StatusCode::UNSUPPORTED_MEDIA_TYPE => {
            ApiError::UnsupportedMediaType { expected: "application/json" }
        }
        status if status.is_client_error() => Error::BadRequest(why.to_string()).into(),
        _ => Error::internal(why).into(),
    }
}

/// Whether it is a refusal without a body.
fn is_bare(response: &HttpResponse<impl MessageBody>) -> bool {
    response.status().is_client_error() && !response.headers().contains_key(header::CONTENT_TYPE)
}

/// Adds the headers of every answer.
fn mark(headers: &mut HeaderMap, request_id: RequestId, docs: bool) {
    secure(headers, docs);
    if let Ok(value) = HeaderValue::from_str(&request_id.to_string()) {
        headers.insert(REQUEST_ID, value);
    }
}

/// The method's name in the metrics: clients may invent methods, and each would be its own series.
fn label(method: &str) -> &'static str {
    let known = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"];
    known.into_iter().find(|known| *known == method).unwrap_or("other")
}

fn secure(headers: &mut HeaderMap, docs: bool) {
    let policy = if docs {
        "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'"
    } else {
        "default-src 'none'; frame-ancestors 'none'"
    };
    let uncached = (!docs).then_some((header::CACHE_CONTROL, "no-store"));
    let protecting = [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CONTENT_SECURITY_POLICY, policy),
    ];
    let protecting = protecting.into_iter().chain(uncached);
    // The job board's pages have their own policy.
    add(headers, protecting.map(|(name, value)| (name, HeaderValue::from_static(value))));
}

/// Adds headers that are not set yet.
fn add(headers: &mut HeaderMap, more: impl IntoIterator<Item = (HeaderName, HeaderValue)>) {
    for (name, value) in more {
        if !headers.contains_key(&name) {
            headers.insert(name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use actix_web::{
        error::ErrorUnsupportedMediaType,
        middleware::from_fn,
        test::{TestRequest, init_service, try_call_service},
        web,
    };
    use parlance_testkit::{TestNode, mocks::MockStore};

    use super::*;

    async fn refuse(_: ServiceRequest, _: Next<BoxBody>) -> Result<ServiceResponse, ActixError> {
        Err(ErrorUnsupportedMediaType("of a library"))
    }

    #[actix_web::test]
    async fn a_librarys_error_is_answered_like_all_else() {
        let app = Data::new(TestNode::start(MockStore::new()).app(MockStore::new()));
        let service = actix_web::App::new()
            .app_data(app)
            .wrap(from_fn(boundary))
            .service(web::resource("/refuses").wrap(from_fn(refuse)).to(|| async { "never" }));
        let service = init_service(service).await;
        let request = TestRequest::with_uri("/refuses").to_request();
        let error = try_call_service(&service, request).await.expect_err("an error");
        let answer = error.error_response();
        assert_eq!(answer.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
        for name in [header::X_CONTENT_TYPE_OPTIONS, header::CACHE_CONTROL, REQUEST_ID] {
            assert!(answer.headers().contains_key(&name), "{name}");
        }
    }

    #[test]
    fn an_invented_method_is_no_series_of_its_own() {
        assert_eq!(["GET", "ZZ7", "get"].map(label), ["GET", "other", "other"]);
    }
}
