//! The job board at `/admin`, only for the server's admins: its pages (`web/admin/`), its sign-in, and its JSON.
//!
//! It has its own cookie, because a browser requesting a page sends no bearer token. The JSON is described in
//! `PROTOCOL.md`, not in the OpenAPI document, which covers bearer tokens only.

mod api;
mod guard;
mod pages;
mod sign_in;

#[cfg(test)]
mod tests;

use actix_web::{
    Route,
    middleware::from_fn,
    web::{self, Data, ServiceConfig},
};
use parlance_application::Board;

use crate::{
    error::ApiError,
    http::routes::{get_or_head, unknown},
};

/// The job board, and what guards it.
pub struct Admin {
    board: Board,
    /// Scheme, host and port by which browsers reach this server.
    origin: String,
}

impl Admin {
    /// The board of a server whose pages have this origin, as browsers send it.
    pub fn new(board: Board, origin: String) -> Self {
        Self { board, origin }
    }

    fn is_https(&self) -> bool {
        self.origin.starts_with("https://")
    }
}

/// Mounts the board; without one, its paths answer 404.
pub(crate) fn configure(config: &mut ServiceConfig, admin: Option<Data<Admin>>) {
    let Some(admin) = admin else { return };
    let pages = web::scope("/admin")
        .wrap(from_fn(pages::secure))
        .service(
            web::scope("/api")
                .wrap(from_fn(guard::guard))
                .service(only("/overview", "GET, HEAD", get_or_head().to(api::overview)))
                .service(only("/jobs", "GET, HEAD", get_or_head().to(api::jobs)))
                .service(only("/retry-all", "POST", web::post().to(api::retry_all)))
                .service(
                    web::resource("/jobs/{id}")
                        .route(get_or_head().to(api::job))
                        .route(web::delete().to(api::remove))
                        .default_service(refuse("GET, HEAD, DELETE")),
                )
                .service(only("/jobs/{id}/retry", "POST", web::post().to(api::retry)))
                .service(only("/jobs/{id}/promote", "POST", web::post().to(api::promote)))
                .default_service(web::to(unknown)),
        )
        .service(only("", "GET, HEAD", get_or_head().to(pages::home)))
        .service(only("/queues", "GET, HEAD", get_or_head().to(pages::queues)))
        .service(only("/assets/{name}", "GET, HEAD", get_or_head().to(pages::asset)))
        .service(
            web::resource("/sign-in")
                .route(get_or_head().to(sign_in::page))
                .route(web::post().to(sign_in::sign_in))
                .default_service(refuse("GET, HEAD, POST")),
        )
        .service(only("/sign-out", "POST", web::post().to(sign_in::sign_out)))
        .default_service(web::to(unknown));
    config.app_data(admin).service(pages);
}

fn only(path: &str, method: &'static str, route: Route) -> actix_web::Resource {
    web::resource(path).route(route).default_service(refuse(method))
}

fn refuse(allow: &'static str) -> Route {
    web::to(move || async move { Err::<&str, _>(ApiError::MethodNotAllowed { allow }) })
}
