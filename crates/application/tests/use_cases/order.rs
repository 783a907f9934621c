//! On a store of a node's own, what is committed first is told first.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use parlance_application::{Caller, Result, ports::Ambient};
use parlance_domain::{Account, SessionId};
use parlance_testkit::{MemoryStore, Stage, TestNode, Weather, mocks::MockMessages, socket};
use tokio::time::sleep;

/// Whoever joins a channel is in it long before their task goes on.
struct Slow;

#[async_trait]
impl Weather for Slow {
    async fn after(&self, method: &'static str) -> Result<()> {
        if method == "join_channel" {
            sleep(Duration::from_secs(1)).await;
        }
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn who_was_put_out_is_not_let_in_by_what_came_before() {
    let store = MemoryStore::default();
    let stage = Stage::new(store.clone());
    let ((ada, _), (bob, _)) = (stage.sign_up("ada").await, stage.sign_up("bob").await);
    let team = stage.team_of(ada.id, [bob.id]).await;
    let news = stage.channel(ada.id, &team, "news").await;
    let node = TestNode::start(MockMessages::new());
    let app = Arc::new(node.app(store.behind(Arc::new(Slow))));
    let caller = |account: Account| Caller {
        account,
        session_id: SessionId(stage.ambient.uuid()),
        expires_at: stage.ambient.now() + Duration::from_mins(15),
    };
    let (ada, bob) = (caller(ada), caller(bob));
    node.connect(socket(1), bob.id(), &[]).await;

    let joining = {
        let (app, bob) = (app.clone(), bob.clone());
        tokio::spawn(async move { app.channels.join(&bob, news).await })
    };
    while stage.store.summary(bob.id(), news).await.map(|summary| summary.joined).ok() != Some(true)
    {
        sleep(Duration::from_millis(5)).await;
    }
    app.channels.remove_member(&ada, news, bob.id()).await.expect("removes");
    joining.await.expect("no panic").expect("joins");
    assert_eq!(node.fanout.types(socket(1)), ["conversation.joined", "conversation.left"]);
}
