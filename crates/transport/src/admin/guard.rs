//! Who may come in: the board's cookie, and where a change must come from.

use actix_web::{
    Error as ActixError, HttpMessage, HttpRequest,
    body::{BoxBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    http::header::{self, HeaderValue},
    middleware::Next,
    web::Data,
};
use parlance_application::{
    App, Caller, Error, Result, SignedIn, Unauthenticated, ports::RefreshToken,
};

use super::Admin;
use crate::error::ApiError;

const COOKIE: &str = "parlance_board";
/// A header that only scripts on this server's own pages can send: other sites' scripts would need CORS to allow it.
const REQUESTED_WITH: (&str, &str) = ("X-Requested-With", "parlance-board");

/// Somebody whose session lives.
pub(super) struct Visitor {
    pub(super) caller: Caller,
    /// Their new cookie, if the access token had expired.
    pub(super) cookie: Option<HeaderValue>,
}

/// Wraps the JSON: it is for admins only, and changes must come from the board's own page.
pub(super) async fn guard(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, ActixError> {
    let Visitor { caller, cookie } = match entered(request.request()).await {
        Ok(visitor) => visitor,
        // An answer and not an error, so that it gets the headers of answers.
        Err(error) => return Ok(request.error_response(ApiError::from(error))),
    };
    request.extensions_mut().insert(caller);
    let mut response = next.call(request).await?.map_into_boxed_body();
    if let Some(cookie) = cookie {
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    Ok(response)
}

async fn entered(request: &HttpRequest) -> Result<Visitor> {
    // First, because the session may be renewed on the way in: a refusal after that would lose the new cookie, and with
    // it the session.
    if !request.method().is_safe() {
        from_own_script(request)?;
    }
    admitted(request).await
}

/// Somebody who may use the board.
pub(super) async fn admitted(request: &HttpRequest) -> Result<Visitor> {
    let visitor = visitor(request).await?;
    admin(request)?.board.permit(&visitor.caller)?;
    Ok(visitor)
}

/// Somebody with one of our cookies, whose session is checked in the store.
pub(super) async fn visitor(request: &HttpRequest) -> Result<Visitor> {
    let app = request.app_data::<Data<App>>().ok_or(Error::NotFound("resource"))?.clone();
    let admin = admin(request)?.clone();
    let (access, refresh) = tokens(request).ok_or(Unauthenticated::Missing)?;
    match app.accounts.authenticate(&access).await {
        Ok(caller) => Ok(Visitor { caller, cookie: None }),
        Err(Error::Unauthenticated(Unauthenticated::Expired)) => {
            let signed_in = app.accounts.refresh(refresh).await?;
            let caller = app.accounts.authenticate(&signed_in.access.0).await?;
            Ok(Visitor { caller, cookie: Some(cookie(&admin, Some(&signed_in))?) })
        }
        Err(error) => Err(error),
    }
}

/// Refuses a change that another site's page made the browser request (CSRF). `SameSite` alone lets sibling domains
/// through.
pub(super) fn from_own_script(request: &HttpRequest) -> Result<()> {
    let (name, value) = REQUESTED_WITH;
    if request.headers().get(name).is_none_or(|sent| sent != value) {
        return Err(Error::Forbidden("the X-Requested-With header must be parlance-board"));
    }
    from_own_page(request)
}

/// The same for a form, which cannot send that header. Browsers always send a form's `Origin`.
pub(super) fn from_own_page(request: &HttpRequest) -> Result<()> {
    let Some(origin) = request.headers().get(header::ORIGIN) else { return Ok(()) };
    let origin = origin.to_str().unwrap_or("null");
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let authority = origin.split_once("://").map(|(_, authority)| authority);
    // Either suffices: a proxy may have changed `Host`, and the configured origin may not be the only one.
    if origin == admin(request)?.origin || (authority.is_some() && authority == host) {
        Ok(())
    } else {
        Err(Error::Forbidden("this may only be asked for by the server's own pages"))
    }
}

/// The cookie of a session; without a session, one that removes it.
pub(super) fn cookie(admin: &Admin, signed_in: Option<&SignedIn>) -> Result<HeaderValue> {
    let secure = if admin.is_https() { "; Secure" } else { "" };
    let value = match signed_in {
        Some(SignedIn { access, refresh, .. }) => {
            format!("{}~{}", access.0, hex::encode(refresh.0))
        }
        None => "; Max-Age=0".to_owned(),
    };
    let cookie = format!("{COOKIE}={value}; Path=/admin; HttpOnly; SameSite=Strict{secure}");
    HeaderValue::try_from(cookie).map_err(Error::internal)
}

pub(super) fn admin(request: &HttpRequest) -> Result<&Data<Admin>> {
    request.app_data::<Data<Admin>>().ok_or(Error::NotFound("resource"))
}

fn tokens(request: &HttpRequest) -> Option<(String, RefreshToken)> {
    let value = request
        .headers()
        .get_all(header::COOKIE)
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find_map(|(name, value)| (name == COOKIE).then_some(value))?;
    let (access, refresh) = value.split_once('~')?;
    let mut token = [0; 32];
    hex::decode_to_slice(refresh, &mut token).ok()?;
    Some((access.to_owned(), RefreshToken(token)))
}
