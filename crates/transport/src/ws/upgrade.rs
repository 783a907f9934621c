use actix_web::{
    Error as ActixError, HttpRequest, HttpResponse,
    http::header,
    web::{Data, Payload},
};
use parlance_application::{App, Error};

use super::{connection::Connection, wire};
use crate::{Node, error::ApiError, extract::bearer};

/// Open a WebSocket (see PROTOCOL.md and `/asyncapi.json`)
#[utoipa::path(get, path = "/api/v1/ws", tag = "socket", security((), ("bearer" = [])), responses((status = 101, description = "Switching protocols")))]
pub(crate) async fn upgrade(
    request: HttpRequest,
    payload: Payload,
    app: Data<App>,
    node: Data<Node>,
) -> Result<HttpResponse, ActixError> {
    if let Some(origin) = request.headers().get(header::ORIGIN)
        && !origin.to_str().is_ok_and(|origin| node.allows_origin(origin))
    {
        return Err(ApiError::from(Error::Forbidden("this origin is not allowed")).into());
    }
    let caller = match bearer(&request) {
        Some(caller) => Some(caller.await.map_err(ApiError::from)?),
        None => None,
    };
    // Its refusals are passed on as they are: one has a header that names the protocol version spoken here.
    wire::accept(&request, payload, |worker, mut inbound, outbound| {
        let mut connection = Connection::new(app, worker, caller, outbound);
        Box::pin(async move { connection.run(&mut inbound).await })
    })
}
