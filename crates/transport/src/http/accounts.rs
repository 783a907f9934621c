use actix_web::{
    HttpRequest, HttpResponse,
    web::{Data, Json},
};
use parlance_application::{self as application, App, Error, Unauthenticated, ports::RefreshToken};
use parlance_domain::{Account, DisplayName, Email, Password, Session, SessionId, User, UserId};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::list::List;
use crate::{
    error::ApiError,
    extract::{Authenticated, Body, Fields, PageParams, Params, Path},
    peer,
};

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Signup {
    #[schema(max_length = 254, format = "email")]
    email: String,
    #[schema(min_length = 10, max_length = 256, format = "password")]
    password: String,
    #[schema(min_length = 1, max_length = 80)]
    display_name: String,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Signin {
    email: String,
    #[schema(format = "password")]
    password: String,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Refresh {
    refresh_token: String,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Profile {
    #[schema(min_length = 1, max_length = 80)]
    display_name: String,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewPassword {
    #[schema(format = "password")]
    current_password: String,
    #[schema(min_length = 10, max_length = 256, format = "password")]
    new_password: String,
}

#[derive(Deserialize, garde::Validate, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Ids {
    /// Up to 100 ids, separated by commas.
    #[garde(skip)]
    ids: String,
}

/// A session's tokens.
#[derive(Serialize, ToSchema)]
pub(crate) struct SignedIn {
    user: Account,
    /// For `Authorization: Bearer` and `hello`.
    access_token: String,
    /// For `/auth/refresh`, which replaces it.
    refresh_token: String,
    /// Seconds until the access token expires.
    expires_in: u64,
}

impl From<application::SignedIn> for SignedIn {
    fn from(signed_in: application::SignedIn) -> Self {
        Self {
            user: signed_in.account,
            access_token: signed_in.access.0,
            refresh_token: hex::encode(signed_in.refresh.0),
            expires_in: signed_in.expires_in.as_secs(),
        }
    }
}

/// Create an account and sign in
#[utoipa::path(post, path = "/api/v1/auth/signup", tag = "auth", request_body = Signup, security(()), responses((status = 201, body = SignedIn)))]
pub(crate) async fn signup(
    app: Data<App>,
    Body(body): Body<Signup>,
) -> Result<HttpResponse, ApiError> {
    let mut fields = Fields::default();
    let email = fields.take("email", Email::parse(&body.email));
    let password = fields.take("password", Password::parse(&body.password));
    let display_name = fields.take("display_name", DisplayName::parse(&body.display_name));
    let (Some(email), Some(password), Some(display_name)) = (email, password, display_name) else {
        return Err(fields.finish().into());
    };
    let signed_in =
        app.accounts.sign_up(application::Signup { email, password, display_name }).await?;
    Ok(HttpResponse::Created().json(SignedIn::from(signed_in)))
}

/// Sign in
#[utoipa::path(post, path = "/api/v1/auth/signin", tag = "auth", request_body = Signin, security(()), responses((status = 200, body = SignedIn)))]
pub(crate) async fn signin(
    app: Data<App>,
    request: HttpRequest,
    Body(body): Body<Signin>,
) -> Result<Json<SignedIn>, ApiError> {
    let password = Password::candidate(&body.password);
    let signed_in = app.accounts.sign_in(peer::address(&request), &body.email, password);
    Ok(Json(signed_in.await?.into()))
}

/// Exchange a refresh token for its successor
#[utoipa::path(post, path = "/api/v1/auth/refresh", tag = "auth", request_body = Refresh, security(()), responses((status = 200, body = SignedIn)))]
pub(crate) async fn refresh(
    app: Data<App>,
    Body(body): Body<Refresh>,
) -> Result<Json<SignedIn>, ApiError> {
    let mut token = [0; 32];
    hex::decode_to_slice(&body.refresh_token, &mut token)
        .map_err(|_| Error::from(Unauthenticated::BadToken))?;
    Ok(Json(app.accounts.refresh(RefreshToken(token)).await?.into()))
}

/// Sign out
#[utoipa::path(post, path = "/api/v1/auth/signout", tag = "auth", responses((status = 204)))]
pub(crate) async fn signout(
    app: Data<App>,
    Authenticated(caller): Authenticated,
) -> Result<HttpResponse, ApiError> {
    app.accounts.sign_out(&caller).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// List your sessions (signed-in devices), newest first
#[utoipa::path(get, path = "/api/v1/auth/sessions", tag = "auth", params(PageParams), responses((status = 200, body = List<Session>)))]
pub(crate) async fn sessions(
    app: Data<App>,
    Authenticated(caller): Authenticated,
    Params(page): Params<PageParams>,
) -> Result<Json<List<Session>>, ApiError> {
    Ok(Json(app.accounts.sessions(&caller, page.into()).await?.into()))
}

/// Revoke one of your sessions, with its tokens and sockets
#[utoipa::path(delete, path = "/api/v1/auth/sessions/{id}", tag = "auth", params(("id" = SessionId, Path)), responses((status = 204)))]
pub(crate) async fn revoke_session(
    app: Data<App>,
    Authenticated(caller): Authenticated,
    Path(id): Path<SessionId>,
) -> Result<HttpResponse, ApiError> {
    app.accounts.revoke_session(&caller, id).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Get your account
#[utoipa::path(get, path = "/api/v1/users/me", tag = "users", responses((status = 200, body = Account)))]
pub(crate) async fn me(Authenticated(caller): Authenticated) -> Json<Account> {
    Json(caller.account)
}

/// Change your display name
#[utoipa::path(patch, path = "/api/v1/users/me", tag = "users", request_body = Profile, responses((status = 200, body = Account)))]
pub(crate) async fn update_me(
    app: Data<App>,
    Authenticated(caller): Authenticated,
    Body(body): Body<Profile>,
) -> Result<Json<Account>, ApiError> {
    let name =
        DisplayName::parse(&body.display_name).map_err(|e| Error::invalid("display_name", e))?;
    Ok(Json(app.accounts.rename(&caller, name).await?))
}

/// Change your password, which ends all your other sessions
#[utoipa::path(post, path = "/api/v1/users/me/password", tag = "users", request_body = NewPassword, responses((status = 200, body = Account)))]
pub(crate) async fn change_password(
    app: Data<App>,
    Authenticated(caller): Authenticated,
    Body(body): Body<NewPassword>,
) -> Result<Json<Account>, ApiError> {
    let new = Password::parse(&body.new_password).map_err(|e| Error::invalid("new_password", e))?;
    let current = Password::candidate(&body.current_password);
    Ok(Json(app.accounts.change_password(&caller, current, new).await?))
}

/// Look up a person by id, if you may see them
#[utoipa::path(get, path = "/api/v1/users/{id}", tag = "users", params(("id" = UserId, Path)), responses((status = 200, body = User)))]
pub(crate) async fn user(
    app: Data<App>,
    Authenticated(caller): Authenticated,
    Path(id): Path<UserId>,
) -> Result<Json<User>, ApiError> {
    Ok(Json(app.accounts.person(&caller, id).await?))
}

/// Look up several people by id, omitting those you may not see
#[utoipa::path(get, path = "/api/v1/users", tag = "users", params(Ids), responses((status = 200, body = List<User>)))]
pub(crate) async fn users(
    app: Data<App>,
    Authenticated(caller): Authenticated,
    Params(params): Params<Ids>,
) -> Result<Json<List<User>>, ApiError> {
    let ids: Result<Vec<UserId>, _> =
        params.ids.split(',').filter(|id| !id.is_empty()).map(str::parse).collect();
    let ids = ids.map_err(|_| Error::BadRequest("ids holds a malformed id".into()))?;
    if ids.len() > 100 {
        return Err(Error::refused("ids", "too_long", "must be at most 100").into());
    }
    Ok(Json(List::whole(app.accounts.people(&caller, ids).await?)))
}
