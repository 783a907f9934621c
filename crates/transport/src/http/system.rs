//! Probes, metrics and the two descriptions of the API. Open to anyone, outside `/api/v1`; the process decides what
//! "ready" means (`Node::ready`).

use actix_web::{
    HttpResponse,
    http::header,
    web::{Data, Json},
};
use parlance_application::Error;
use serde::Serialize;
use utoipa::ToSchema;

use crate::{Metrics, Node, Readiness, error::ApiError, openapi, ws};

/// The state of the process.
#[derive(Serialize, ToSchema)]
pub(crate) struct Health {
    /// `ok`, or `degraded`.
    status: &'static str,
    /// The service that is down; absent if `ok`.
    #[serde(skip_serializing_if = "Option::is_none")]
    missing: Option<&'static str>,
}

/// Whether the process is running
#[utoipa::path(
    get, path = "/livez", tag = "system",
    security(()), responses((status = 200, body = Health)),
)]
pub(crate) async fn livez() -> Json<Health> {
    Json(Health { status: "ok", missing: None })
}

/// Whether it can serve
#[utoipa::path(
    get, path = "/readyz", tag = "system",
    security(()), responses((status = 200, body = Health)),
)]
pub(crate) async fn readyz(node: Data<Node>) -> Result<Json<Health>, ApiError> {
    Ok(Json(match (node.ready)().await? {
        Readiness::Ok => Health { status: "ok", missing: None },
        Readiness::Degraded(service) => Health { status: "degraded", missing: Some(service) },
    }))
}

/// Metrics for Prometheus
#[utoipa::path(
    get, path = "/metrics", tag = "system",
    security(()), responses((status = 200, body = String, content_type = "text/plain")),
)]
pub(crate) async fn metrics(node: Data<Node>) -> Result<HttpResponse, ApiError> {
    let metrics = node.metrics.as_ref().ok_or(Error::NotFound("resource"))?;
    Ok(rendered(metrics))
}

pub(crate) fn rendered(metrics: &Metrics) -> HttpResponse {
    let content_type = (header::CONTENT_TYPE, "text/plain; version=0.0.4");
    HttpResponse::Ok().insert_header(content_type).body(metrics())
}

/// The AsyncAPI description of the WebSocket API
#[utoipa::path(
    get, path = "/asyncapi.json", tag = "system",
    security(()), responses((status = 200, body = Object)),
)]
pub(crate) async fn asyncapi() -> HttpResponse {
    HttpResponse::Ok().content_type("application/json").body(ws::ASYNCAPI.clone())
}

/// The OpenAPI description of the REST API
#[utoipa::path(
    get, path = "/openapi.json", tag = "system",
    security(()), responses((status = 200, body = Object)),
)]
pub(crate) async fn openapi() -> HttpResponse {
    HttpResponse::Ok().content_type("application/json").body(openapi::SERVED.clone())
}

#[cfg(test)]
mod tests {
    use actix_web::ResponseError as _;

    use super::*;

    fn node(ready: fn() -> Result<Readiness, Error>) -> Data<Node> {
        Data::new(Node {
            ready: Box::new(move || Box::pin(async move { ready() })),
            metrics: None,
            allowed_origins: Vec::new(),
            trust_forwarded_for: false,
        })
    }

    #[actix_web::test]
    async fn who_cannot_serve_is_not_ready() {
        let well = readyz(node(|| Ok(Readiness::Ok))).await.expect("ready");
        assert_eq!((well.status, well.missing), ("ok", None));
        let degraded = readyz(node(|| Ok(Readiness::Degraded("redis")))).await.expect("ready");
        assert_eq!((degraded.status, degraded.missing), ("degraded", Some("redis")));
        let away = readyz(node(|| Err(Error::unavailable("no store")))).await.err().expect("not");
        assert_eq!(away.status_code(), 503);
    }
}
