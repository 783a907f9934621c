//! From a request to a socket: the answer to the handshake, and the thread the connection lives on.

use std::{
    fmt::Display,
    net,
    pin::pin,
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
use futures::future::{Either, LocalBoxFuture, select};
use tokio::{io::AsyncWriteExt, net::TcpStream, time::timeout};

use super::{Life, Takeable, inbound::Inbound, outbound::Outbound};
use crate::{
    watchdog::Watchdog,
    ws::{Counted, Hub, Worker},
};

/// How long a peer may take to read what is still left for it at the end.
const LINGER: Duration = Duration::from_secs(5);

/// Takes over connections from the HTTP server. The request goes to the application like any other. If it answers
/// `101`, the connection goes on with the [`Life`] that the handler put into the response, on the thread the hub picks.
pub(crate) struct Takeover<A> {
    app: A,
    hub: Hub,
}

/// A connection whose handshake is answered.
pub(in crate::ws) struct Accepted {
    socket: net::TcpStream,
    /// What had come with the handshake.
    early: BytesMut,
    life: Life,
    /// Counts it until it is over.
    counted: Counted,
}

impl<A> Takeover<A> {
    pub(crate) fn new(app: A, hub: Hub) -> Self {
        Self { app, hub }
    }
}

type Upgrade = (Request, Framed<Watchdog<TcpStream>, h1::Codec>);

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
        let (app, hub) = (self.app.new_service(()), self.hub.clone());
        Box::pin(async move { Ok(Takeover { app: app.await?, hub }) })
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
        // No other method opens a socket.
        if request.method() == Method::GET {
            request.extensions_mut().insert(Takeable);
        }
        let (answered, hub) = (self.app.call(request), self.hub.clone());
        let counted = hub.counted();
        Box::pin(async move {
            let response = match answered.await {
                Ok(response) => response.into_parts().1.map_into_boxed_body(),
                Err(error) => error.error_response(),
            };
            // Written after the answers to earlier requests on this connection.
            let (mut socket, mut unwritten) = (parts.io.into_inner(), parts.write_buf);
            let life = encode(response, parts.codec, &mut unwritten).await.inspect_err(failed)?;
            let Ok(Ok(())) = timeout(LINGER, socket.write_all(&unwritten)).await else {
                return Ok(());
            };
            match life {
                Some(life) => {
                    let (socket, early) = (socket.into_std().inspect_err(failed)?, parts.read_buf);
                    hub.open(Accepted { socket, early, life, counted }).await;
                }
                None => drop(socket.shutdown().await),
            }
            Ok(())
        })
    }
}

fn failed(error: &impl Display) {
    tracing::error!(%error, "a handshake could not be answered");
}

impl Accepted {
    /// Lives as long as the connection, on this worker's thread.
    pub(in crate::ws) async fn live(self, worker: &Worker) {
        let Self { socket, early, life: Life(life), counted: _counted } = self;
        let (reading, writing) = match TcpStream::from_std(socket) {
            Ok(socket) => socket.into_split(),
            Err(error) => return tracing::error!(%error, "a socket could not be moved"),
        };
        let outbound = Outbound::new(writing, worker.flusher());
        let life = life(worker, Inbound::new(early, reading), outbound.clone());
        // Writes while the connection lives, and ends before it does if the socket is gone.
        let written = pin!(outbound.written());
        if let Either::Right(((), life)) = select(life, written).await {
            life.await;
        }
        outbound.finish();
        let _ = timeout(LINGER, outbound.written()).await;
        outbound.abandon();
    }
}

/// Appends the response to `bytes`, and returns the life that follows it.
async fn encode(
    mut response: HttpResponse,
    mut codec: h1::Codec,
    bytes: &mut BytesMut,
) -> Result<Option<Life>, actix_web::Error> {
    let life = response.extensions_mut().remove::<Life>();
    if life.is_some() {
        let head = Response::from(response.into_parts().0);
        codec.encode(h1::Message::Item((head, BodySize::Stream)), bytes)?;
    } else {
        response.head_mut().set_connection_type(ConnectionType::Close);
        let (head, body) = response.into_parts();
        let body = to_bytes(body).await.map_err(ErrorInternalServerError)?;
        let size = BodySize::Sized(body.len() as u64);
        codec.encode(h1::Message::Item((Response::from(head), size)), bytes)?;
        codec.encode(h1::Message::Chunk(Some(body)), bytes)?;
    }
    Ok(life)
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use parlance_application::ports::Close;
    use tokio::{io::AsyncReadExt, net::TcpListener, sync::oneshot};

    use super::*;

    /// A connection that reports which worker it lives on, until it is told to end, or closed; and its other side.
    async fn connection(
        hub: &Hub,
        end: oneshot::Receiver<()>,
    ) -> (Accepted, oneshot::Receiver<u32>, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let theirs = TcpStream::connect(listener.local_addr().expect("an address"));
        let (theirs, ours) = tokio::join!(theirs, listener.accept());
        let socket = ours.expect("accepts").0.into_std().expect("a socket");
        let (at, lives_at) = oneshot::channel();
        let life = Life(Box::new(move |worker: &Worker, _, outbound: Outbound| {
            let socket = worker.insert(outbound.clone());
            let _ = at.send(socket.id.worker);
            Box::pin(async move {
                if let Either::Right(_) = select(pin!(end), pin!(outbound.to_end())).await {
                    outbound.close(Close::Draining);
                }
                drop(socket);
            })
        }));
        let accepted = Accepted { socket, early: BytesMut::new(), life, counted: hub.counted() };
        (accepted, lives_at, theirs.expect("connects"))
    }

    #[actix_web::test]
    async fn connections_live_with_the_workers_that_have_sockets_in_turn() {
        let hub = Hub::new(2);
        let _workers = [(); 4].map(|()| hub.add_worker());
        let mut open = Vec::new();
        for expected in [0, 1, 0, 1] {
            let (end, ended) = oneshot::channel();
            let (accepted, lives_at, theirs) = connection(&hub, ended).await;
            hub.open(accepted).await;
            assert_eq!(lives_at.await, Ok(expected));
            open.push((end, theirs));
        }
        assert!(hub.all_over().now_or_never().is_none(), "they are open");
        for (end, mut theirs) in open {
            drop(end);
            assert_eq!(theirs.read(&mut [0]).await.expect("the end"), 0);
        }
        hub.all_over().await;
    }

    /// A connection still on its way when all are closed is not forgotten.
    #[actix_web::test]
    async fn who_opens_when_all_are_closed_is_closed() {
        let hub = Hub::new(1);
        let _worker = hub.add_worker();
        let (_end, ended) = oneshot::channel();
        let (accepted, _, mut theirs) = connection(&hub, ended).await;
        hub.open(accepted).await;
        hub.close_all(Close::Draining).await;
        hub.all_over().await;
        let mut told = Vec::new();
        theirs.read_to_end(&mut told).await.expect("reads");
        assert_eq!(told.get(2..4), Some(&4_000_u16.to_be_bytes()[..]), "{told:?}");
    }
}
