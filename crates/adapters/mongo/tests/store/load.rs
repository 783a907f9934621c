//! More queries at once than there are connections.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures::future::join_all;
use parlance_application::{
    Error, Result,
    ports::{
        Ambient,
        store::{Accounts, Changes, Conversations, Messages, Reader, ReplayQuery},
    },
};
use parlance_domain::{Rev, SessionId, UserId};
use parlance_mongo::MongoStore;
use parlance_testkit::{Stage, Team, client_msg_id};

use crate::world::Database;

const QUESTIONS: usize = 200;

/// A store with few connections, and somebody who asks.
struct Scene {
    _database: Database,
    store: MongoStore,
    stage: Stage,
    ada: UserId,
    session: SessionId,
    team: Team,
}

impl Scene {
    async fn new() -> Self {
        let mut database = Database::new();
        database.uri.push_str("&maxPoolSize=4");
        let store = database.store().await;
        let stage = Stage::new(store.clone());
        let (ada, session) = stage.sign_up("ada").await;
        let team = stage.team(ada.id).await;
        Self { _database: database, store, stage, ada: ada.id, session: session.id, team }
    }

    /// How many answers those who keep asking get until this is done.
    async fn meanwhile(&self, ask: impl AsyncFn(usize), done: impl Future<Output = ()>) -> usize {
        let (answered, over) = (AtomicUsize::new(0), AtomicBool::new(false));
        let questions = (0..QUESTIONS).map(async |n| {
            while !over.load(Ordering::Relaxed) {
                ask(n).await;
                answered.fetch_add(1, Ordering::Relaxed);
            }
        });
        let doing = async {
            while answered.load(Ordering::Relaxed) < QUESTIONS {
                tokio::task::yield_now().await;
            }
            let before = answered.load(Ordering::Relaxed);
            done.await;
            over.store(true, Ordering::Relaxed);
            answered.load(Ordering::Relaxed) - before
        };
        tokio::join!(join_all(questions), doing).1
    }

    /// In a transaction.
    async fn sent(&self, n: usize) {
        let id = client_msg_id(&n.to_string());
        asked(self.store.sent(self.ada, self.team.general, &id).await, &None);
    }

    /// Outside of one.
    async fn owner(&self, _: usize) {
        let owner = self.store.session_owner(self.session, self.stage.ambient.now()).await;
        asked(owner.map(|owner| owner.map(|owner| owner.id)), &Some(self.ada));
    }

    /// A query of people's, and of the node's on their behalf.
    async fn summary(&self) {
        let summary = self.store.summary(self.ada, self.team.general).await;
        assert!(summary.expect("answers").joined);
    }

    /// Who may be given what has been written.
    async fn readers(&self) {
        let found = self.store.readers(self.team.general, vec![self.ada]).await;
        assert_eq!(found.expect("answers").map(|found| found.users), Some(vec![self.ada]));
    }

    async fn write(&self) {
        let draft = self.stage.draft(self.ada, "write", "hello");
        let sent = self.store.append(self.team.general, vec![draft]).await;
        sent.expect("appends").remove(0).expect("sends");
    }
}

/// On a slow server not all of a flood get their turn in time.
fn asked<T: PartialEq + std::fmt::Debug>(answer: Result<T>, right: &T) {
    match answer {
        Err(Error::Unavailable { .. }) => (),
        answer => assert_eq!(answer.as_ref().expect("answers"), right),
    }
}

fn assert_ahead(meanwhile: usize) {
    assert!(meanwhile < QUESTIONS / 4, "it took as long as {meanwhile} of them");
}

#[tokio::test]
async fn a_write_does_not_wait_behind_all_that_is_read() {
    let scene = Scene::new().await;
    assert_ahead(scene.meanwhile(async |n| scene.sent(n).await, scene.write()).await);
}

#[tokio::test]
async fn nor_behind_all_that_is_asked_outside_of_transactions() {
    let scene = Scene::new().await;
    assert_ahead(scene.meanwhile(async |n| scene.owner(n).await, scene.write()).await);
}

/// Otherwise a flood of reads would cut the node off.
#[tokio::test]
async fn nor_does_what_the_node_itself_asks() {
    let scene = Scene::new().await;
    let since = scene.store.changes(None).await.expect("looks").until;
    let asks = async {
        let look = scene.store.changes(Some(since)).await.expect("looks");
        assert!(!look.heads.is_empty());
        scene.store.ping().await.expect("writes");
    };
    assert_ahead(scene.meanwhile(async |n| scene.owner(n).await, asks).await);
}

/// Otherwise it would withhold a conversation from all who are in it.
#[tokio::test]
async fn nor_does_the_question_who_may_read() {
    let scene = Scene::new().await;
    assert_ahead(scene.meanwhile(async |n| scene.sent(n).await, scene.readers()).await);
}

#[tokio::test]
async fn nor_does_the_filling_of_a_hole() {
    let scene = Scene::new().await;
    let fill = async {
        let all = ReplayQuery::after(Rev::ZERO);
        let page = scene.store.replay(Reader::Node, scene.team.general, all).await;
        assert!(page.expect("answers").complete);
    };
    assert_ahead(scene.meanwhile(async |n| scene.sent(n).await, fill).await);
}

#[tokio::test]
async fn nor_does_what_somebody_who_came_in_is_told() {
    let scene = Scene::new().await;
    assert_ahead(scene.meanwhile(async |n| scene.sent(n).await, scene.summary()).await);
}

/// People can ask for what the node asks for them, however often.
#[tokio::test]
async fn a_flood_of_what_both_ask_is_in_nobodys_way() {
    let scene = Scene::new().await;
    let asks = async {
        scene.readers().await;
        scene.write().await;
    };
    assert_ahead(scene.meanwhile(async |_| scene.summary().await, asks).await);
}
