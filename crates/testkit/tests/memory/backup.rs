//! A database that is put back.

use parlance_application::ports::store::{Changes, Conversations};
use parlance_testkit::{MemoryStore, Stage};

async fn epoch(stage: &Stage, user: parlance_domain::UserId) -> String {
    stage.store.snapshot(user).await.expect("reads").epoch
}

#[tokio::test]
async fn a_restore_undoes_everything_since() {
    let store = MemoryStore::new();
    let stage = Stage::new(store.clone());
    let ada = stage.person("ada").await;
    let team = stage.team(ada).await;
    let kept = stage.send(ada, team.general, "kept").await;
    let (backup, at) = (store.backup(), epoch(&stage, ada).await);
    stage.try_send(ada, team.general, "1", "lost").await.expect("sends");
    stage.edit(ada, &kept, "changed").await.expect("edits");
    let lost = stage.channel(ada, &team, "lost").await;
    store.restore(&backup, false);
    assert_eq!((store.messages(team.general), store.head(lost)), (vec![kept], None));
    assert_eq!(epoch(&stage, ada).await, at);
    let again = stage.try_send(ada, team.general, "1", "other").await.expect("was never sent");
    assert_eq!(again.change.map(|(_, rev)| rev), Some(2));
    stage.channel(ada, &team, "lost").await;
}

/// Whichever state it goes back to.
#[tokio::test]
async fn a_renewed_epoch_was_never_before() {
    let store = MemoryStore::new();
    let stage = Stage::new(store.clone());
    let ada = stage.person("ada").await;
    let backup = store.backup();
    let mut seen = vec![epoch(&stage, ada).await];
    for _ in 0..3 {
        store.restore(&backup, true);
        let renewed = epoch(&stage, ada).await;
        assert!(!seen.contains(&renewed), "{renewed} again");
        seen.push(renewed);
    }
    store.restore(&backup, false);
    assert_eq!(epoch(&stage, ada).await, seen[0], "the epoch is part of what is put back");
}

/// Or nodes that go on would not see what is written next.
#[tokio::test]
async fn a_restore_does_not_turn_the_clock_back() {
    let store = MemoryStore::new();
    let stage = Stage::new(store.clone());
    let ada = stage.person("ada").await;
    let team = stage.team(ada).await;
    let backup = store.backup();
    for _ in 0..5 {
        stage.send(ada, team.general, "lost").await;
    }
    let until = store.changes(None).await.expect("looks").until;
    store.restore(&backup, true);
    stage.send(ada, team.general, "new").await;
    let look = store.changes(Some(until)).await.expect("looks");
    assert_eq!(look.heads, [store.head(team.general).expect("is there")]);
    assert!(store.snapshot(ada).await.is_ok());
}

/// And the clock with them.
#[tokio::test]
async fn the_same_calls_lead_to_the_same_state() {
    let run = async || {
        let store = MemoryStore::new();
        let stage = Stage::new(store.clone());
        let [ada, bob] = stage.people(["ada", "bob"]).await;
        let team = stage.team_of(ada, [bob]).await;
        let message = stage.send(bob, team.general, "hello").await;
        stage.react(ada, &message, "+1").await.expect("reacts");
        stage.store.remove_member(ada, team.id, bob).await.expect("removes");
        store.backup()
    };
    assert_eq!(run().await, run().await);
}
