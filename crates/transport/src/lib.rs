//! REST and WebSocket over actix-web.
//!
//! To add a route: write the handler in its area's file under `http/`, with its `utoipa::path`; give it a line in
//! `http/routes.rs` and one in `openapi.rs` (a test compares the two); run `make spec`. To add a command: a variant and
//! its data in `ws/protocol.rs`, its arm in `ws/commands.rs`, its line in `ws/asyncapi.rs`.

mod admin;
mod boundary;
mod error;
mod extract;
mod figures;
mod held_body;
mod http;
mod number;
mod openapi;
mod peer;
mod sync;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod watchdog;
mod ws;

use std::{io, net::TcpListener, time::Duration};

use actix_cors::Cors;
use actix_http::{HttpService, Protocol, error::DispatchError};
use actix_service::{ServiceFactory, ServiceFactoryExt, fn_service, map_config};
use actix_web::{
    App,
    dev::{AppConfig, Server},
    middleware::from_fn,
    web::{self, Data, ServiceConfig},
};
use futures::future::{BoxFuture, pending};
use parlance_application::Result;
use tokio::{net::TcpStream, sync::watch};

pub use admin::Admin;
pub use figures::describe_figures;
pub use openapi::json as openapi_json;
use watchdog::Watchdog;
use ws::Takeover;
pub use ws::{Hub, asyncapi_json};

/// How long a client may take to send the head of its first request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// How long it may take from a request's first byte to its answer's first byte, and then from one piece of the answer
/// to the next. Longer than a body may take, so that a late body gets an answer.
const PATIENCE: Duration = Duration::from_mins(1);
/// How long a connection is kept for a next request: longer than proxies and load balancers keep theirs (60 s for
/// most), so that they close it. If the server did, another request could be on its way just then.
const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// How long a client may take to hang up after its last answer.
const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// What the transport needs from its process.
pub struct Node {
    /// Whether the store answers, and which other service does not.
    pub ready: Box<dyn Fn() -> BoxFuture<'static, Result<Readiness>> + Send + Sync>,
    /// The metrics, in Prometheus' text format; none if they have an address of their own.
    pub metrics: Option<Metrics>,
    /// Origins whose pages may call the API from browsers.
    pub allowed_origins: Vec<String>,
    /// Whether to take a client's address from `X-Forwarded-For`. Only for a node behind a proxy that adds it.
    pub trust_forwarded_for: bool,
}

/// How well a node can serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// It has everything it needs.
    Ok,
    /// This service is unreachable, or holds another deployment's data: other nodes' changes are seen late, or no mails
    /// are sent.
    Degraded(&'static str),
}

/// Renders the process's metrics.
pub type Metrics = Box<dyn Fn() -> String + Send + Sync>;

/// Adds only `/metrics`, for an address of its own.
pub fn mount_metrics(config: &mut ServiceConfig, metrics: Data<Metrics>) {
    let rendered = |metrics: Data<Metrics>| async move { http::system::rendered(&metrics) };
    let resource = web::resource("/metrics").get(rendered).route(web::head().to(rendered));
    config.app_data(metrics).service(resource);
}

impl Node {
    fn allows_origin(&self, origin: &str) -> bool {
        origin != "null" && self.allowed_origins.iter().any(|allowed| allowed == origin)
    }
}

/// What a server serves.
#[derive(Clone)]
pub struct Serve {
    /// The use cases.
    pub app: Data<parlance_application::App>,
    /// The job board; none if the server has no admins.
    pub admin: Option<Data<Admin>>,
    /// The process.
    pub node: Data<Node>,
    /// This node's sockets.
    pub hub: Hub,
    /// Becomes true when the process starts shutting down. A connection is then closed after its current request, or at
    /// once if it has none, so that a proxy uses another node.
    pub draining: watch::Receiver<bool>,
}

impl Serve {
    /// Serves on `listener`, with a worker thread per core. A graceful stop gives requests `shutdown_timeout` to end.
    /// It does not wait for sockets: [`Hub::all_over`] does.
    pub fn on(self, listener: TcpListener, shutdown_timeout: Duration) -> io::Result<Server> {
        let service = move || {
            // On the worker's own thread.
            self.hub.add_worker();
            self.connections()
        };
        let server = actix_server::Server::build()
            .disable_signals()
            .shutdown_timeout(shutdown_timeout.as_secs())
            .listen("parlance", listener, service)?;
        Ok(server.run())
    }

    /// Serves a connection on the thread that accepted it; a WebSocket only until its handshake.
    fn connections(
        &self,
    ) -> impl ServiceFactory<
        TcpStream,
        Config = (),
        Response = (),
        Error = DispatchError,
        InitError = (),
    > + use<> {
        let app = || {
            let app = App::new().configure(mount(self.clone()));
            map_config(app, |()| AppConfig::default())
        };
        let draining = self.draining.clone();
        let http = HttpService::build()
            .graceful_shutdown_signal(move || {
                let mut draining = draining.clone();
                async move {
                    if draining.wait_for(|is| *is).await.is_err() {
                        // Nobody is left to say so.
                        pending::<()>().await;
                    }
                }
            })
            .keep_alive(KEEP_ALIVE)
            .client_request_timeout(REQUEST_TIMEOUT)
            .client_disconnect_timeout(DISCONNECT_TIMEOUT)
            .upgrade(Takeover::new(app(), self.hub.clone()))
            .finish(app().map_err(|error: actix_web::Error| error.error_response()));
        fn_service(|socket: TcpStream| async {
            // Fails if the peer is gone already, which the first read notices.
            let _ = socket.set_nodelay(true);
            let peer = socket.peer_addr().ok();
            Ok((Watchdog::new(socket, PATIENCE), Protocol::Http1, peer))
        })
        .and_then(http)
    }
}

/// Adds every route to a worker's app, behind the middleware they all share.
fn mount(serve: Serve) -> impl FnOnce(&mut ServiceConfig) {
    move |config| {
        let Serve { app, admin, node, hub: _, draining: _ } = serve;
        let scope = web::scope("")
            .app_data(app)
            .wrap(from_fn(boundary::boundary))
            .wrap(cors(node.clone()))
            .wrap(from_fn(boundary::refusals))
            .app_data(node)
            .configure(http::routes::configure)
            .configure(|config| admin::configure(config, admin))
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
