mod door;
mod jobs;

use std::{sync::Arc, time::Duration};

use actix_web::{
    http::{Method, header},
    test,
    web::Data,
};
use parlance_application::{
    App, Board, Ports,
    ports::{Ambient, MockJobBoard},
};
use parlance_domain::{Account, JobId, SessionId};
use parlance_testkit::{
    TestNode, account, email,
    mocks::{MockOutbox, MockStore},
};
use tokio::sync::watch;
use uuid::Uuid;

use crate::{
    Admin, Hub, Node, Serve,
    testing::{self, Answer},
};

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
    behind_proxy: bool,
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
            behind_proxy: false,
        };
        let owner = scene.ada.clone();
        scene.store.expect_session_owner().returning(move |_, _| Ok(Some(owner.clone())));
        scene
    }

    /// A cookie whose access token lasts this long.
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

    /// The answers of one server, in turn.
    fn answers(
        self,
        requests: impl Into<Vec<test::TestRequest>>,
    ) -> impl Future<Output = Vec<Answer>> {
        let requests = requests.into();
        Box::pin(async move { self.answer_all(requests).await })
    }

    async fn answer_all(self, requests: Vec<test::TestRequest>) -> Vec<Answer> {
        let ambient: Arc<dyn Ambient> = Arc::new(self.node.ambient.clone());
        let ports = Ports { rate_limits: true, ..self.node.ports(self.store) };
        let app = Data::new(App::new(ports));
        let board = Board {
            board: Arc::new(self.board),
            outbox: Arc::new(self.outbox),
            ambient,
            tasks: self.node.tasks.clone(),
            admins: self.admins.iter().map(|name| email(name)).collect(),
        };
        let admin =
            (!self.admins.is_empty()).then(|| Data::new(Admin::new(board, SITE.to_owned())));
        let node = Node { trust_forwarded_for: self.behind_proxy, ..testing::node() };
        let (node, draining) = (Data::new(node), watch::channel(false).1);
        let serve = Serve { app, admin, node, hub: Hub::new(1), draining };
        testing::answers(serve, requests).await
    }
}
