//! On a store of a node's own, what is committed first is told first.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::future::join_all;
use parlance_application::{
    Caller, Result,
    ports::{Ambient, store::NewSession},
};
use parlance_domain::{Account, Summary};
use parlance_testkit::{MemoryStore, Stage, TestNode, Weather, mocks::MockMessages, socket};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};

/// Whoever joins a channel is in it long before their task goes on.
struct Slow(Duration);

#[async_trait]
impl Weather for Slow {
    async fn after(&self, method: &'static str) -> Result<()> {
        if method == "join_channel" {
            sleep(self.0).await;
        }
        Ok(())
    }
}

/// Bob has joined `news`, and his task does not know yet; Ada puts him out.
struct Scene {
    node: TestNode,
    removed: Result<()>,
    joining: JoinHandle<Result<Summary>>,
}

async fn put_out_while_coming_in(slow: Duration) -> Scene {
    let store = MemoryStore::default();
    let stage = Stage::new(store.clone());
    let (ada, bob) = (stage.sign_up("ada").await, stage.sign_up("bob").await);
    let team = stage.team_of(ada.0.id, [bob.0.id]).await;
    let news = stage.channel(ada.0.id, &team, "news").await;
    let node = TestNode::start(MockMessages::new());
    let app = Arc::new(node.app(store.behind(Arc::new(Slow(slow)))));
    let caller = |(account, session): (Account, NewSession)| Caller {
        account,
        session_id: session.id,
        expires_at: stage.ambient.now() + Duration::from_mins(15),
    };
    let (ada, bob) = (caller(ada), caller(bob));
    node.connect(socket(1), bob.id(), &[]).await;

    let joining = {
        let (app, bob) = (app.clone(), bob.clone());
        tokio::spawn(async move { app.channels.join(&bob, news).await })
    };
    let is_in = async || stage.store.summary(bob.id(), news).await.is_ok_and(|it| it.joined);
    while !is_in().await {
        sleep(Duration::from_millis(5)).await;
    }
    let removed = app.channels.remove_member(&ada, news, bob.id()).await;
    Scene { node, removed, joining }
}

#[tokio::test(start_paused = true)]
async fn who_was_put_out_is_not_let_in_by_what_came_before() {
    let scene = put_out_while_coming_in(Duration::from_secs(1)).await;
    scene.removed.expect("removes");
    scene.joining.await.expect("no panic").expect("joins");
    assert_eq!(scene.node.fanout.types(socket(1)), ["conversation.joined", "conversation.left"]);
}

#[tokio::test(start_paused = true)]
async fn changes_do_not_wait_for_each_others_commits() {
    let store = MemoryStore::default();
    let stage = Stage::new(store.clone());
    let (ada, _) = stage.sign_up("ada").await;
    let team = stage.team_of(ada.id, []).await;
    let news = stage.channel(ada.id, &team, "news").await;
    let node = TestNode::start(MockMessages::new());
    node.connect(socket(1), ada.id, &[(news, 0)]).await;
    let app = Arc::new(node.app(store.behind(Arc::new(Slow(Duration::from_secs(1))))));
    let (mut joining, mut in_order) = (vec![], vec![]);
    for name in ["bob", "cleo", "dan", "eve"] {
        let (account, session) = stage.sign_up(name).await;
        stage.enter(&team, account.id).await;
        in_order.push(account.id.to_string());
        let expires_at = stage.ambient.now() + Duration::from_mins(15);
        let caller = Caller { account, session_id: session.id, expires_at };
        let app = app.clone();
        joining.push(async move { app.channels.join(&caller, news).await });
    }
    let begun = Instant::now();
    for joined in join_all(joining).await {
        joined.expect("joins");
    }
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    let told = node.fanout.frames(socket(1));
    let told: Vec<_> = told
        .iter()
        .filter(|frame| frame["type"] == "conversation.member_joined")
        .filter_map(|frame| frame["data"]["user_id"].as_str())
        .collect();
    assert_eq!(told, in_order);
}
