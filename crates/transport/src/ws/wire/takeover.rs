use std::{
    pin::pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use actix_codec::{Encoder, Framed};
use actix_http::{Request, Response, body::BodySize, h1};
use actix_service::{Service, ServiceFactory};
use actix_web::{
    HttpMessage, HttpResponse,
    body::{MessageBody, to_bytes},
    dev::ServiceResponse,
    error::ErrorInternalServerError,
    http::{ConnectionType, Method},
};
use bytes::BytesMut;
use futures::future::{Either, LocalBoxFuture, poll_fn, select};
use tokio::{net::TcpStream, time::timeout};

use super::{
    Life,
    inbound::Inbound,
    outbound::{Flusher, Outbound},
};

/// How long a peer has to take what is left for it at the end.
const LINGER: Duration = Duration::from_secs(5);

/// Takes connections over from the HTTP server. The request goes to the application like any other; where it answers
/// `101`, the connection lives on by what the handler has left with the response.
pub(crate) struct Takeover<A> {
    app: A,
    flusher: Rc<Flusher>,
}

impl<A> Takeover<A> {
    pub(crate) fn new(app: A, flusher: Rc<Flusher>) -> Self {
        Self { app, flusher }
    }
}

type Upgrade = (Request, Framed<TcpStream, h1::Codec>);

impl<A, B> ServiceFactory<Upgrade> for Takeover<A>
where
    A: ServiceFactory<
            Request,
            Config = (),
            Response = ServiceResponse<B>,
            Error = actix_web::Error,
        >,
    A::Future: 'static,
    A::Service: 'static,
    A::InitError: 'static,
    B: MessageBody + 'static,
{
    type Response = ();
    type Error = actix_web::Error;
    type Config = ();
    type Service = Takeover<A::Service>;
    type InitError = A::InitError;
    type Future = LocalBoxFuture<'static, Result<Self::Service, A::InitError>>;

    fn new_service(&self, (): ()) -> Self::Future {
        let (app, flusher) = (self.app.new_service(()), self.flusher.clone());
        Box::pin(async move { Ok(Takeover { app: app.await?, flusher }) })
    }
}

impl<S, B> Service<Upgrade> for Takeover<S>
where
    S: Service<Request, Response = ServiceResponse<B>, Error = actix_web::Error>,
    S::Future: 'static,
    B: MessageBody + 'static,
{
    type Response = ();
    type Error = actix_web::Error;
    type Future = LocalBoxFuture<'static, Result<(), Self::Error>>;

    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.app.poll_ready(cx)
    }

    fn call(&self, (request, framed): Upgrade) -> Self::Future {
        let parts = framed.into_parts();
        let (reading, writing) = parts.io.into_split();
        let outbound = Outbound::new(writing, self.flusher.clone());
        // What answers earlier requests on this connection.
        outbound.raw(parts.write_buf.freeze());
        // No other method opens a socket.
        if request.method() == Method::GET {
            let mut left = request.extensions_mut();
            left.insert(Inbound::new(parts.read_buf, reading));
            left.insert(outbound.clone());
        }
        let answered = self.app.call(request);
        let codec = parts.codec;
        // In a box of its own: what it takes to open a connection is not kept while it lives.
        let opened = Box::pin({
            let outbound = outbound.clone();
            async move {
                let response = match answered.await {
                    Ok(response) => response.into_parts().1.map_into_boxed_body(),
                    Err(error) => error.error_response(),
                };
                answer(response, codec, &outbound).await
            }
        });
        Box::pin(async move {
            if let Some(Life(life)) = opened.await? {
                // Writes on while the connection lives, and is gone before it if the socket is.
                let written = pin!(poll_fn(|cx| outbound.poll_written(cx)));
                if let Either::Right(((), life)) = select(life, written).await {
                    life.await;
                }
            }
            outbound.finish();
            let _ = timeout(LINGER, poll_fn(|cx| outbound.poll_written(cx))).await;
            outbound.abandon();
            Ok(())
        })
    }
}

/// Queues the response, and returns what goes on after it.
async fn answer(
    mut response: HttpResponse,
    mut codec: h1::Codec,
    outbound: &Outbound,
) -> Result<Option<Life>, actix_web::Error> {
    let life = response.extensions_mut().remove::<Life>();
    let mut bytes = BytesMut::new();
    if life.is_some() {
        let head = Response::from(response.into_parts().0);
        codec.encode(h1::Message::Item((head, BodySize::Stream)), &mut bytes)?;
    } else {
        response.head_mut().set_connection_type(ConnectionType::Close);
        let (head, body) = response.into_parts();
        let body = to_bytes(body).await.map_err(ErrorInternalServerError)?;
        let size = BodySize::Sized(body.len() as u64);
        codec.encode(h1::Message::Item((Response::from(head), size)), &mut bytes)?;
        codec.encode(h1::Message::Chunk(Some(body)), &mut bytes)?;
    }
    outbound.raw(bytes.freeze());
    Ok(life)
}
