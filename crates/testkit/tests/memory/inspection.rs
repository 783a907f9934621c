//! What a test sees of the state.

use parlance_application::ports::store::Conversations;
use parlance_domain::{AccessRev, Rev};
use parlance_testkit::{MemoryStore, Stage};

#[tokio::test]
async fn messages_are_there_whatever_became_of_them() {
    let store = MemoryStore::new();
    let stage = Stage::new(store.clone());
    let ada = stage.person("ada").await;
    let team = stage.team(ada).await;
    let news = stage.channel(ada, &team, "news").await;
    let (one, two) = (stage.send(ada, news, "one").await, stage.send(ada, news, "two").await);
    let gone = Stage::message(&stage.delete(ada, &one).await.expect("deletes"));
    assert_eq!(store.messages(news), [gone.clone(), two.clone()]);
    store.delete_channel(stage.by(ada), news, stage.at()).await.expect("deletes");
    assert_eq!(store.messages(news), [gone, two]);
    assert_eq!(
        store.head(news).map(|head| (head.rev, head.access_rev)),
        Some((Rev(3), AccessRev(2)))
    );
    assert_eq!(store.members(news), []);
}

/// Not who is in it and may not.
#[tokio::test]
async fn members_are_those_who_may_read() {
    let store = MemoryStore::new();
    let stage = Stage::new(store.clone());
    let [ada, bob, eve] = stage.people(["ada", "bob", "eve"]).await;
    let team = stage.team_of(ada, [bob, eve]).await;
    let news = stage.channel(bob, &team, "news").await;
    let dm = stage.dm(ada, &team, bob).await.expect("opens").mine.conversation.id;
    assert_eq!((store.members(news), store.members(dm)), (vec![bob], vec![ada, bob]));
    stage.store.remove_member(stage.by(ada), team.id, bob).await.expect("removes");
    assert_eq!((store.members(news), store.members(dm)), (vec![], vec![ada]));
    assert_eq!(store.members(team.general), [ada, eve]);
}
