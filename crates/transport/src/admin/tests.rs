mod door;
mod jobs;

use std::{sync::Arc, time::Duration};

use actix_web::{
    body::to_bytes,
    dev::ServiceResponse,
    http::{Method, StatusCode, header},
    test,
    web::{Bytes, Data},
};
use parlance_application::{
    App, Board, Error,
    ports::{Ambient, MockJobBoard},
};
use parlance_domain::{Account, JobId, SessionId};
use parlance_testkit::{
    TestNode, account, email,
    mocks::{MockOutbox, MockStore},
};
use serde_json::Value;
use uuid::Uuid;

use crate::{Admin, Hub, Node, Serve, mount};

const SITE: &str = "https://chat.example.org";
const SESSION: SessionId = SessionId(Uuid::from_u128(5));
const JOB: JobId = JobId(Uuid::from_u128(9));

/// What a test sets before its request.
struct Scene {
    node: TestNode,
    ada: Account,
    store: MockStore,
    board: MockJobBoard,
    outbox: MockOutbox,
    admins: Vec<&'static str>,
}

struct Answer {
    status: StatusCode,
    headers: header::HeaderMap,
    body: Bytes,
}

impl Scene {
    /// Ada is the server's admin and has a live session.
    fn new() -> Self {
        let node = TestNode::start(MockStore::new());
        let ada = account(&node.ambient, "ada");
        let mut scene = Self {
            node,
            ada,
            store: MockStore::new(),
            board: MockJobBoard::new(),
            outbox: MockOutbox::new(),
            admins: vec!["ada"],
        };
        let owner = scene.ada.clone();
        scene.store.expect_session_owner().returning(move |_, _| Ok(Some(owner.clone())));
        scene
    }

    /// A cookie whose access token lasts so long.
    fn cookie(&self, lasts: Duration) -> String {
        let until = (self.node.ambient.now() + lasts).as_millis();
        format!("other=1; parlance_board={}/{SESSION}/{until}~{}", self.ada.id, "07".repeat(32))
    }

    fn get(&self, path: &str) -> test::TestRequest {
        test::TestRequest::with_uri(path)
            .insert_header((header::COOKIE, self.cookie(Duration::from_mins(5))))
    }

    /// What the board's own script would send.
    fn change(&self, method: Method, path: &str) -> test::TestRequest {
        self.get(path)
            .method(method)
            .insert_header(("X-Requested-With", "parlance-board"))
            .insert_header((header::ORIGIN, SITE))
    }

    async fn answer(self, request: test::TestRequest) -> Answer {
        self.answers([request]).await.remove(0)
    }

    /// In turn, by the same server.
    fn answers(
        self,
        requests: impl Into<Vec<test::TestRequest>>,
    ) -> impl Future<Output = Vec<Answer>> {
        let requests = requests.into();
        Box::pin(async move { self.answer_all(requests).await })
    }

    async fn answer_all(self, requests: Vec<test::TestRequest>) -> Vec<Answer> {
        let ambient: Arc<dyn Ambient> = Arc::new(self.node.ambient.clone());
        let app = Data::new(App::new(self.node.ports(self.store)));
        let board = Board {
            board: Arc::new(self.board),
            outbox: Arc::new(self.outbox),
            ambient,
            tasks: self.node.tasks.clone(),
            admins: self.admins.iter().map(|name| email(name)).collect(),
        };
        let admin = (!self.admins.is_empty()).then(|| Data::new(Admin::new(board, SITE)));
        let node = Data::new(Node {
            ready: Box::new(|| Box::pin(async { Err(Error::internal("not asked")) })),
            metrics: None,
            allowed_origins: vec!["https://other.example.org".to_owned()],
        });
        let hub = Hub::default();
        let worker = Data::new(hub.add_worker());
        let serve = Serve { app, admin, node, hub };
        let service =
            test::init_service(actix_web::App::new().configure(mount(serve, worker))).await;
        let mut answers = Vec::new();
        for request in requests {
            let response: ServiceResponse =
                test::call_service(&service, request.to_request()).await;
            let (status, headers) = (response.status(), response.headers().clone());
            let body = to_bytes(response.into_body()).await.expect("a body");
            answers.push(Answer { status, headers, body });
        }
        answers
    }
}

impl Answer {
    fn header(&self, name: impl header::AsHeaderName) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("text"))
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }

    #[track_caller]
    fn refused(&self, status: StatusCode, code: &str) {
        assert_eq!(self.status, status);
        assert_eq!(self.header(header::CONTENT_TYPE), "application/problem+json");
        assert_eq!(self.json()["code"], code);
    }
}
