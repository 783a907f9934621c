use actix_web::{
    HttpRequest, HttpResponse,
    http::{
        StatusCode,
        header::{self, HeaderValue},
    },
    web::Data,
};
use parlance_application::{App, Error};
use parlance_domain::Password;
use serde::Deserialize;

use super::{
    Admin,
    guard::{admitted, cookie, from_own_page, from_own_script, visitor},
    pages,
};
use crate::{
    error::{ApiError, whole_seconds},
    extract::Form,
    peer,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Credentials {
    email: String,
    password: String,
}

/// The form, or a redirect to the board if already signed in.
pub(super) async fn page(request: HttpRequest) -> HttpResponse {
    match admitted(&request).await {
        Ok(visitor) => {
            let mut response = pages::see("/admin/queues");
            if let Some(cookie) = visitor.cookie {
                response.headers_mut().insert(header::SET_COOKIE, cookie);
            }
            response
        }
        Err(_) => pages::sign_in(None),
    }
}

/// Takes the form; a refusal shows the page again.
pub(super) async fn sign_in(
    request: HttpRequest,
    app: Data<App>,
    admin: Data<Admin>,
    Form(credentials): Form<Credentials>,
) -> Result<HttpResponse, ApiError> {
    from_own_page(&request)?;
    let Credentials { email, password } = credentials;
    let (from, password) = (peer::address(&request), Password::candidate(&password));
    match app.accounts.sign_in_at_board(&admin.board, from, &email, password).await {
        Ok(signed_in) => {
            let mut response = pages::see("/admin/queues");
            let cookie = cookie(&admin, Some(&signed_in))?;
            response.headers_mut().insert(header::SET_COOKIE, cookie);
            Ok(response)
        }
        Err(Error::Unauthenticated(_)) => {
            let mut page = pages::sign_in(Some("Wrong e-mail address or password."));
            *page.status_mut() = StatusCode::UNAUTHORIZED;
            Ok(page)
        }
        Err(Error::RateLimited { retry_after }) => {
            let mut page = pages::sign_in(Some("Too many attempts. Try again in a minute."));
            *page.status_mut() = StatusCode::TOO_MANY_REQUESTS;
            let after = HeaderValue::from(whole_seconds(retry_after));
            page.headers_mut().insert(header::RETRY_AFTER, after);
            Ok(page)
        }
        Err(error) => Err(error.into()),
    }
}

/// Ends the session, if there is one, and the cookie.
pub(super) async fn sign_out(
    request: HttpRequest,
    app: Data<App>,
    admin: Data<Admin>,
) -> Result<HttpResponse, ApiError> {
    from_own_script(&request)?;
    let signed_out = match visitor(&request).await {
        Ok(visitor) => app.accounts.sign_out(&visitor.caller).await,
        Err(error) => Err(error),
    };
    match signed_out {
        // The error: it has ended already.
        Ok(()) | Err(Error::Unauthenticated(_)) => {}
        Err(error) => return Err(error.into()),
    }
    let gone = (header::SET_COOKIE, cookie(&admin, None)?);
    Ok(HttpResponse::NoContent().insert_header(gone).finish())
}
