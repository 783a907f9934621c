//! Chunked request bodies, held until their answer is written, since handlers need not read them to the end.
//!
//! If one not read to the end is dropped before the answer, actix-http reads on and discards what comes for as long as
//! the client likes: no timeout ends that. If it is still held, actix-http hangs up after the answer, as it does for a
//! body of declared length. So the answer holds it.

use std::{
    cell::RefCell,
    error::Error,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use actix_web::{
    HttpMessage as _,
    body::{BodySize, BoxBody, MessageBody},
    dev::{Payload, ServiceRequest},
    error::PayloadError,
};
use bytes::Bytes;
use futures::Stream;

/// A chunked body, which a handler may read while the answer holds it.
#[derive(Clone)]
pub(crate) struct HeldBody(Rc<RefCell<Payload>>);

struct Answer {
    body: BoxBody,
    _held: HeldBody,
}

impl HeldBody {
    /// The request's body, if it is chunked.
    pub(crate) fn of(request: &mut ServiceRequest) -> Option<Self> {
        request.chunked().is_ok_and(|chunked| chunked).then(|| {
            let held = Self(Rc::new(RefCell::new(request.take_payload())));
            request.set_payload(Payload::Stream { payload: Box::pin(held.clone()) });
            held
        })
    }

    /// The body of an answer, which holds this one until it is written.
    pub(crate) fn held_by(self, body: BoxBody) -> BoxBody {
        BoxBody::new(Answer { body, _held: self })
    }
}

impl Stream for HeldBody {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_next(cx)
    }
}

impl MessageBody for Answer {
    type Error = Box<dyn Error>;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        Pin::new(&mut self.body).poll_next(cx)
    }
}
