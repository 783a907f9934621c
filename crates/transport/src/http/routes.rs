//! Every route, as a table. The routing, the `Allow` headers, and the test that the OpenAPI document is complete all
//! come from it.

use actix_web::{
    FromRequest, Handler, HttpRequest, Resource, Responder, Route, guard,
    middleware::from_fn,
    web::{self, ServiceConfig},
};
use parlance_application::Error;

use super::{accounts, channels, docs, messages, system, workspaces};
use crate::{boundary::authenticate, error::ApiError, ws};

/// Builds one resource for each path. `open` routes admit anyone; the others need a caller. What answers GET also
/// answers HEAD (the server drops the body), except `socket`, a GET without a HEAD.
macro_rules! routes {
    ($($path:literal { $($access:ident $method:ident $handler:path),+ $(,)? })+) => {
        /// Method and path of every route.
        #[cfg(test)]
        pub(crate) const ROUTES: &[(&str, &str)] = &[$($((routes!(@method $method), $path)),+),+];

        /// Mounts them.
        pub(crate) fn configure(config: &mut ServiceConfig) {
            $(
                config.service({
                    let resource = web::resource($path);
                    $(let resource = resource.route($access(routes!(@route $method).to($handler)));)+
                    resource.default_service(web::to(refused))
                });
            )+
            // For people, so not part of the API description.
            config.service(page("/docs", docs::front)).service(page("/docs/{file:.*}", docs::file));
        }

        fn not_allowed(pattern: Option<&str>) -> ApiError {
            let allow = match pattern {
                $(Some($path) => concat!($(routes!(@name $method), ", "),+).trim_end_matches(", "),)+
                _ => "GET, HEAD",
            };
            ApiError::MethodNotAllowed { allow }
        }
    };
    (@method socket) => { "get" };
    (@method $method:ident) => { stringify!($method) };
    (@route get) => { get_or_head() };
    (@route socket) => { web::get() };
    (@route $method:ident) => { web::$method() };
    (@name get) => { "GET, HEAD" };
    (@name socket) => { "GET" };
    (@name post) => { "POST" };
    (@name put) => { "PUT" };
    (@name patch) => { "PATCH" };
    (@name delete) => { "DELETE" };
}

// They are tried in this order, so the busiest come first.
routes! {
    "/api/v1/ws" { open socket ws::upgrade }
    "/api/v1/conversations/{id}/messages" { caller get messages::history, caller post messages::send }
    "/api/v1/auth/signup" { open post accounts::signup }
    "/api/v1/auth/signin" { open post accounts::signin }
    "/api/v1/auth/refresh" { open post accounts::refresh }
    "/api/v1/auth/signout" { caller post accounts::signout }
    "/api/v1/auth/sessions" { caller get accounts::sessions }
    "/api/v1/auth/sessions/{id}" { caller delete accounts::revoke_session }
    "/api/v1/users/me" { caller get accounts::me, caller patch accounts::update_me }
    "/api/v1/users/me/password" { caller post accounts::change_password }
    "/api/v1/users/{id}" { caller get accounts::user }
    "/api/v1/users" { caller get accounts::users }
    "/api/v1/workspaces" { caller post workspaces::create, caller get workspaces::list }
    "/api/v1/workspaces/join" { caller post workspaces::join }
    "/api/v1/workspaces/{id}" { caller get workspaces::get, caller patch workspaces::update, caller delete workspaces::delete }
    "/api/v1/workspaces/{id}/join-code" { caller post workspaces::rotate_join_code }
    "/api/v1/workspaces/{id}/leave" { caller post workspaces::leave }
    "/api/v1/workspaces/{id}/members" { caller get workspaces::members, caller post workspaces::add_member }
    "/api/v1/workspaces/{id}/members/{user_id}" { caller patch workspaces::set_role, caller delete workspaces::remove_member }
    "/api/v1/workspaces/{id}/channels" { caller post channels::create, caller get channels::list }
    "/api/v1/workspaces/{id}/dms" { caller post channels::open_dm, caller get channels::dms }
    "/api/v1/channels/{id}" { caller get channels::get, caller patch channels::update, caller delete channels::delete }
    "/api/v1/channels/{id}/join" { caller post channels::join }
    "/api/v1/channels/{id}/leave" { caller post channels::leave }
    "/api/v1/channels/{id}/members" { caller get channels::members, caller post channels::add_member }
    "/api/v1/channels/{id}/members/{user_id}" { caller delete channels::remove_member }
    "/api/v1/conversations" { caller get channels::conversations }
    "/api/v1/conversations/{id}" { caller get channels::conversation }
    "/api/v1/conversations/{id}/read" { caller put channels::mark_read }
    "/api/v1/conversations/{id}/sync" { caller get messages::sync }
    "/api/v1/messages/{id}" { caller get messages::get, caller patch messages::edit, caller delete messages::delete }
    "/api/v1/messages/{id}/reactions/{emoji}" { caller put messages::react, caller delete messages::unreact }
    "/livez" { open get system::livez }
    "/readyz" { open get system::readyz }
    "/metrics" { open get system::metrics }
    "/openapi.json" { open get system::openapi }
    "/asyncapi.json" { open get system::asyncapi }
}

/// Answers a request that matches no route.
pub(crate) async fn unknown() -> Result<&'static str, ApiError> {
    Err(Error::NotFound("resource").into())
}

/// Answers a method that a path does not have.
async fn refused(request: HttpRequest) -> Result<&'static str, ApiError> {
    Err(not_allowed(request.match_pattern().as_deref()))
}

fn page<F, Args>(path: &str, handler: F) -> Resource
where
    F: Handler<Args>,
    Args: FromRequest + 'static,
    F::Output: Responder + 'static,
{
    web::resource(path).route(get_or_head().to(handler)).default_service(web::to(refused))
}

/// What answers GET answers HEAD: the server sends the answer without its body.
pub(crate) fn get_or_head() -> Route {
    web::route().guard(guard::Any(guard::Get()).or(guard::Head()))
}

fn open(route: Route) -> Route {
    route
}

fn caller(route: Route) -> Route {
    route.wrap(from_fn(authenticate))
}
