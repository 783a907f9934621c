//! The board's static half, embedded in the binary.

use actix_web::{
    Error as ActixError, HttpRequest, HttpResponse,
    body::MessageBody,
    dev::{ServiceRequest, ServiceResponse},
    http::header::{self, HeaderValue},
    middleware::Next,
    web,
};
use parlance_application::Error;

use super::guard::{Visitor, admitted};
use crate::error::ApiError;

const QUEUES: &str = include_str!("../../web/admin/queues.html");
const SIGN_IN: &str = include_str!("../../web/admin/sign-in.html");
/// Where the sign-in page says why an attempt was refused.
const REFUSAL: &str = "<!-- refusal -->";

/// Name, type, text.
const ASSETS: [(&str, &str, &str); 9] = [
    ("board.css", CSS, include_str!("../../web/admin/board.css")),
    ("board.js", JS, include_str!("../../web/admin/board.js")),
    ("list.js", JS, include_str!("../../web/admin/list.js")),
    ("detail.js", JS, include_str!("../../web/admin/detail.js")),
    ("chart.js", JS, include_str!("../../web/admin/chart.js")),
    ("dom.js", JS, include_str!("../../web/admin/dom.js")),
    ("api.js", JS, include_str!("../../web/admin/api.js")),
    ("sign-in.js", JS, include_str!("../../web/admin/sign-in.js")),
    ("icon.svg", "image/svg+xml", include_str!("../../web/admin/icon.svg")),
];
const CSS: &str = "text/css; charset=utf-8";
const JS: &str = "text/javascript; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";

/// Pages load nothing from elsewhere, have nothing inline, and are not cached. Under `no-referrer`, as used elsewhere,
/// a form would not send its origin.
const HEADERS: [(header::HeaderName, &str); 3] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    ),
    (header::REFERRER_POLICY, "same-origin"),
    (header::CACHE_CONTROL, "no-store"),
];

/// Adds the headers that differ from other answers'.
pub(super) async fn secure(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, ActixError> {
    let mut response = next.call(request).await?;
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    Ok(response)
}

pub(super) async fn home() -> HttpResponse {
    see("/admin/queues")
}

/// The board, or a redirect to the sign-in.
pub(super) async fn queues(request: HttpRequest) -> Result<HttpResponse, ApiError> {
    match admitted(&request).await {
        Ok(Visitor { cookie, .. }) => {
            let mut page = HttpResponse::Ok();
            if let Some(cookie) = cookie {
                page.insert_header((header::SET_COOKIE, cookie));
            }
            Ok(page.content_type(HTML).body(QUEUES))
        }
        Err(Error::Unauthenticated(_) | Error::Forbidden(_)) => Ok(see("/admin/sign-in")),
        Err(error) => Err(error.into()),
    }
}

pub(super) async fn asset(name: web::Path<String>) -> Result<HttpResponse, ApiError> {
    let (_, content_type, text) = ASSETS
        .into_iter()
        .find(|(asset, ..)| *asset == name.as_str())
        .ok_or(Error::NotFound("resource"))?;
    Ok(HttpResponse::Ok().content_type(content_type).body(text))
}

/// The sign-in page, and why the last attempt was refused.
pub(super) fn sign_in(refusal: Option<&'static str>) -> HttpResponse {
    let told = refusal
        .map_or(String::new(), |why| format!("<p class=\"refusal\" role=\"alert\">{why}</p>"));
    HttpResponse::Ok().content_type(HTML).body(SIGN_IN.replace(REFUSAL, &told))
}

/// Redirects the browser.
pub(super) fn see(path: &'static str) -> HttpResponse {
    HttpResponse::SeeOther().insert_header((header::LOCATION, path)).finish()
}
