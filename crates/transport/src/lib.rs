//! The outside of Parlance: REST and WebSocket over actix-web.
//!
//! To add a route: write the handler in its area's file under `http/`, with its `utoipa::path`; give it a line in
//! `http/routes.rs` and one in `openapi.rs` (a test compares the two); run `make spec`.

mod admin;
mod boundary;
mod error;
mod extract;
mod http;
mod openapi;
mod sync;
mod ws;

use actix_cors::Cors;
use actix_web::{
    middleware::from_fn,
    web::{self, Data, ServiceConfig},
};
use futures::future::BoxFuture;
use parlance_application::Result;
use utoipa::OpenApi;
use utoipa_swagger_ui::SwaggerUi;

pub use admin::Admin;
pub use openapi::json as openapi_json;
pub use ws::Hub;

/// What the transport asks of the process that it runs in.
pub struct Node {
    /// Whether the store answers, and what else is away.
    pub ready: Box<dyn Fn() -> BoxFuture<'static, Result<Readiness>> + Send + Sync>,
    /// The figures, in Prometheus' text form; none where they have an address of their own.
    pub metrics: Option<Metrics>,
    /// Origins of browsers that are let in, as they send them.
    pub allowed_origins: Vec<String>,
}

/// How well a node that serves can serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// Wholly.
    Ok,
    /// Without this service: what others do is seen late.
    Degraded(&'static str),
}

/// Renders the process's figures.
pub type Metrics = Box<dyn Fn() -> String + Send + Sync>;

/// Adds `/metrics` alone, for an address of its own.
pub fn mount_metrics(config: &mut ServiceConfig, metrics: Data<Metrics>) {
    config.app_data(metrics).route(
        "/metrics",
        web::get().to(|metrics: Data<Metrics>| async move { http::system::rendered(&metrics) }),
    );
}

impl Node {
    fn allows_origin(&self, origin: &str) -> bool {
        origin != "null" && self.allowed_origins.iter().any(|allowed| allowed == origin)
    }
}

/// Adds every route to a worker's app, behind the middleware that all of them share. Call it on the worker's own thread: the
/// worker gets its share of the hub here.
pub fn mount(
    app: Data<parlance_application::App>,
    admin: Option<Data<Admin>>,
    node: Data<Node>,
    hub: &Hub,
) -> impl FnOnce(&mut ServiceConfig) + use<> {
    let worker = Data::new(hub.add_worker());
    move |config| {
        let scope = web::scope("")
            .app_data(app)
            .app_data(worker)
            .wrap(from_fn(boundary::boundary))
            .wrap(cors(node.clone()))
            .app_data(node)
            .configure(http::routes::configure)
            .configure(|config| admin::configure(config, admin))
            .service(
                SwaggerUi::new("/docs/{_:.*}").url("/openapi.json", openapi::Document::openapi()),
            )
            .route("/docs", web::get().to(|| async { web::Redirect::to("/docs/") }))
            .default_service(web::to(http::routes::unknown));
        config.service(scope);
    }
}

fn cors(node: Data<Node>) -> Cors {
    Cors::default()
        .allowed_origin_fn(move |origin, _| {
            origin.to_str().is_ok_and(|origin| node.allows_origin(origin))
        })
        .allow_any_method()
        .allow_any_header()
        .expose_headers([
            "Retry-After",
            "RateLimit-Limit",
            "RateLimit-Remaining",
            "RateLimit-Reset",
            "X-Request-Id",
        ])
        .max_age(3600)
}
