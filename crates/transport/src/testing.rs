//! A whole service for tests: requests in, answers out, without opening a port.

use std::sync::mpsc;

use actix_web::{
    App,
    body::to_bytes,
    http::{StatusCode, header},
    test,
    web::Bytes,
};
use parlance_application::Error;
use serde_json::Value;
use tokio::task::spawn_blocking;

use crate::{Node, Serve, mount};

/// Time that passes only when the test says so.
pub(crate) struct StoppedClock(#[expect(dead_code, reason = "it is dropped")] mpsc::Sender<()>);

impl StoppedClock {
    pub(crate) fn new() -> Self {
        tokio::time::pause();
        // Paused time advances by itself when all tasks are idle, for example waiting for a socket.
        let (busy, idle) = mpsc::channel();
        spawn_blocking(move || idle.recv());
        Self(busy)
    }
}

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: header::HeaderMap,
    pub(crate) body: Bytes,
}

/// For tests that do not ask whether the node is ready.
pub(crate) fn node() -> Node {
    Node {
        ready: Box::new(|| Box::pin(async { Err(Error::internal("not asked")) })),
        metrics: None,
        allowed_origins: vec!["https://other.example.org".to_owned()],
        trust_forwarded_for: false,
    }
}

/// The answers to these requests, in turn, by the same server.
pub(crate) async fn answers(serve: Serve, requests: Vec<test::TestRequest>) -> Vec<Answer> {
    let service = test::init_service(App::new().configure(mount(serve))).await;
    let mut answers = Vec::new();
    for request in requests {
        // As the server does with an error.
        let response = match test::try_call_service(&service, request.to_request()).await {
            Ok(response) => response.into_parts().1.map_into_boxed_body(),
            Err(error) => error.error_response(),
        };
        let (status, headers) = (response.status(), response.headers().clone());
        let body = to_bytes(response.into_body()).await.expect("a body");
        answers.push(Answer { status, headers, body });
    }
    answers
}

impl Answer {
    pub(crate) fn header(&self, name: impl header::AsHeaderName) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("text"))
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }

    #[track_caller]
    pub(crate) fn refused(&self, status: StatusCode, code: &str) {
        assert_eq!(self.status, status);
        assert_eq!(self.header(header::CONTENT_TYPE), "application/problem+json");
        assert_eq!(self.json()["code"], code);
    }
}
