//! What a look at the store finds beyond `changes_contract!`: how far it goes back, and how much it tells at a time.

use std::time::Duration;

use bson::{DateTime, Document, doc};
use parlance_application::ports::store::Changes;
use parlance_domain::{ConversationId, Timestamp};
use parlance_testkit::{PATIENCE, Stage};
use tokio::time::timeout;

use crate::world::{Database, fresh};

/// A look goes back by this much.
const OVERLAP: Duration = Duration::from_secs(10);

#[tokio::test]
async fn a_look_goes_back_and_tells_nothing_from_before_that() {
    let (store, database) = fresh().await;
    let stage = Stage::new(store.clone());
    let ada = stage.person("ada").await;
    let team = stage.team_of(ada, []).await;
    stage.send(ada, team.general, "hello").await;
    let stamp = stamp_of(&database, team.general).await;
    // The time up to which a look sees advances with every write, whatever it is.
    let elsewhere = database.raw().await.collection::<Document>("elsewhere");
    let later = async {
        loop {
            let until = store.changes(None).await.expect("looks").until;
            if until > stamp {
                return until;
            }
            elsewhere.insert_one(doc! {}).await.expect("inserts");
        }
    };
    let until = timeout(PATIENCE, later).await.expect("the server's clock goes on");
    let again = store.changes(Some(until)).await.expect("looks");
    assert!(!again.heads.is_empty(), "what was just before is told");
    let look = store.changes(Some(until + OVERLAP)).await.expect("looks");
    assert!(look.heads.is_empty() && look.admitted.is_empty() && look.workspaces.is_empty());
}

/// It would fail at each look until then, and nothing that the bus loses would be found.
#[tokio::test]
async fn what_cannot_be_read_keeps_no_other_change_from_being_found() {
    let (store, database) = fresh().await;
    let stage = Stage::new(store.clone());
    let ada = stage.person("ada").await;
    let team = stage.team_of(ada, []).await;
    let news = stage.channel(ada, &team, "news").await;
    let begin = store.changes(None).await.expect("looks").until;
    database.spoil(news).await;
    let look = store.changes(Some(begin)).await.expect("looks");
    let heads = store.heads(vec![news, team.general]).await.expect("reads");
    for heads in [look.heads, heads] {
        let found: Vec<_> = heads.iter().map(|head| head.conversation_id).collect();
        assert_eq!(found, [team.general]);
    }
}

/// When a conversation's head was written last, by the server's clock.
async fn stamp_of(database: &Database, conversation: ConversationId) -> Timestamp {
    let heads = database.raw().await.collection::<Document>("conversations");
    let key = doc! { "_id": bson::Uuid::from_bytes(conversation.0.into_bytes()) };
    let head = heads.find_one(key).await.expect("reads").expect("is there");
    Timestamp::from_millis(head.get_datetime("changed_at").expect("a time").timestamp_millis())
}

/// Adds somebody to a conversation at each of these times, in milliseconds by the server's clock.
async fn admit(database: &Database, stamps: impl Iterator<Item = i64>) {
    let id = |n: u32| bson::Uuid::from_bytes(u128::to_be_bytes(n.into()));
    let member = |(n, stamp)| {
        doc! {
            "conversation_id": id(0),
            "user_id": id(n),
            "read_seq": 0_i64,
            "joined_at": DateTime::from_millis(0),
            "joined_stamp": DateTime::from_millis(stamp),
        }
    };
    let members = database.raw().await.collection::<Document>("conversation_members");
    members.insert_many((1..).zip(stamps).map(member)).await.expect("inserts");
}

#[tokio::test]
async fn many_changes_take_several_looks() {
    let (store, database) = fresh().await;
    let now = store.changes(None).await.expect("looks").until.as_millis();
    let begin = now - 3_600_000;
    // The bound of 5,000 falls among those of one stamp; one more comes much later.
    admit(&database, (0..5_003).map(|n| begin + n.min(4_990)).chain([begin + 60_000])).await;

    let look = store.changes(Some(Timestamp::from_millis(begin) + OVERLAP)).await.expect("looks");
    assert_eq!((look.admitted.len(), look.more), (5_003, true));
    let rest = store.changes(Some(look.until)).await.expect("looks");
    assert_eq!((rest.admitted.len(), rest.more), (1, false));
    assert!(rest.until.as_millis() >= now);
}

/// The next look would begin before them again.
#[tokio::test]
async fn many_changes_of_the_last_seconds_are_one_look() {
    let (store, database) = fresh().await;
    let now = store.changes(None).await.expect("looks").until;
    // Still young when looked at, however long it takes to put them there.
    let young = now.as_millis() + 60_000;
    admit(&database, (0..5_500).map(|n| young + n / 2)).await;
    let look = store.changes(Some(now)).await.expect("looks");
    assert_eq!((look.admitted.len(), look.more), (5_500, false));
    assert!((now..Timestamp::from_millis(young)).contains(&look.until), "{:?}", look.until);
}
