//! What a look at the store finds.

use std::time::Duration;

use bson::{DateTime, Document, doc};
use parlance_application::ports::{
    PasswordHash, RefreshDigest,
    store::{Accounts, Change, Changes, Conversations, Head, Look, RotateRefresh, Workspaces},
};
use parlance_domain::{
    ConversationId, JoinCode, Role, SessionId, Timestamp, Topic, UserId, WorkspaceId, WorkspaceName,
};
use parlance_mongo::MongoStore;
use parlance_testkit::{Stage, Team};
use uuid::Uuid;

use crate::world::{Database, fresh};

/// A look goes back by this much.
const OVERLAP: Duration = Duration::from_secs(10);

struct Scene {
    store: MongoStore,
    stage: Stage,
    team: Team,
    ada: UserId,
    bob: UserId,
    _database: Database,
}

async fn scene() -> Scene {
    let (store, database) = fresh().await;
    let stage = Stage::new(store.clone());
    let [ada, bob] = stage.people(["ada", "bob"]).await;
    let team = stage.team_of(ada, [bob]).await;
    Scene { store, stage, team, ada, bob, _database: database }
}

impl Scene {
    /// What one change alone has left to be seen.
    async fn after<T>(&self, change: impl Future<Output = T>) -> (Look, T) {
        tokio::time::sleep(Duration::from_millis(3)).await;
        let begin = self.store.changes(None).await.expect("looks").until;
        let done = change.await;
        let look = self.store.changes(Some(begin + OVERLAP)).await.expect("looks");
        assert!(!look.more);
        (look, done)
    }

    async fn head(&self, conversation: ConversationId) -> Option<Head> {
        self.store.heads(vec![conversation]).await.expect("heads").pop()
    }
}

#[tokio::test]
async fn the_first_look_tells_the_time_only() {
    let scene = scene().await;
    let look = scene.store.changes(None).await.expect("looks");
    assert!(look.heads.is_empty() && look.admitted.is_empty() && look.workspaces.is_empty());
    assert!(look.ended_sessions.is_empty() && !look.more);
    let again = scene.store.changes(Some(look.until)).await.expect("looks");
    assert!(!again.heads.is_empty(), "what was just before is told");
    assert!(again.until >= look.until);
}

#[tokio::test]
async fn durable_changes_are_seen() {
    let scene = scene().await;
    let Scene { stage, team, ada, .. } = &scene;
    let (look, message) = scene.after(stage.send(*ada, team.general, "hello")).await;
    assert_eq!(look.heads.iter().map(|head| head.rev).collect::<Vec<_>>(), [1]);
    let (look, _) = scene.after(stage.edit(*ada, &message, "hi")).await;
    assert_eq!(look.heads.iter().map(|head| head.rev).collect::<Vec<_>>(), [2]);
    let (look, _) = scene.after(stage.react(*ada, &message, "+1")).await;
    assert_eq!(look.heads.iter().map(|head| head.rev).collect::<Vec<_>>(), [3]);
    let topic = Change::UpdateChannel { name: None, topic: Topic::parse("news").ok() };
    let (look, _) = scene.after(stage.change(*ada, team.general, topic)).await;
    assert_eq!(look.heads, [scene.head(team.general).await.expect("is there")]);
    assert_eq!(look.heads[0].rev, 4);
    let (look, ()) = scene.after(async {}).await;
    assert!(look.heads.is_empty() && look.admitted.is_empty() && look.workspaces.is_empty());
}

#[tokio::test]
async fn changes_of_access_are_seen() {
    let scene = scene().await;
    let Scene { store, stage, team, ada, bob, .. } = &scene;
    let (look, channel) = scene.after(stage.channel(*ada, team, "news")).await;
    assert_eq!(look.admitted, [(channel, *ada)]);
    assert_eq!(look.heads, [Head { conversation_id: channel, rev: 0, access_rev: 1 }]);
    let (look, _) = scene.after(stage.join(*bob, channel)).await;
    assert_eq!(look.admitted, [(channel, *bob)]);
    assert_eq!(look.heads, [Head { conversation_id: channel, rev: 0, access_rev: 2 }]);
    let (look, left) = scene.after(store.remove_channel_member(*bob, channel, *bob)).await;
    assert_eq!(left.ok(), Some(3));
    assert_eq!(look.heads, [Head { conversation_id: channel, rev: 0, access_rev: 3 }]);
    let (look, deleted) = scene.after(store.delete_channel(*ada, channel, stage.at())).await;
    deleted.expect("deletes");
    assert_eq!(look.heads, [Head { conversation_id: channel, rev: 0, access_rev: 4 }]);
    assert_eq!(scene.head(channel).await, None);

    let (look, dm) = scene.after(stage.dm(*ada, team, *bob)).await;
    let dm = dm.expect("opens").mine.conversation.id;
    let mut admitted = look.admitted;
    admitted.sort_by_key(|(_, user)| *user);
    assert_eq!(admitted, [(dm, *ada), (dm, *bob)]);
    assert_eq!(look.heads, [Head { conversation_id: dm, rev: 0, access_rev: 1 }]);
}

#[tokio::test]
async fn changes_of_workspaces_are_seen() {
    let scene = scene().await;
    let Scene { store, stage, team, ada, bob, .. } = &scene;
    let eve = stage.person("eve").await;
    let (look, (_, other)) = scene.after(stage.admission(eve)).await;
    assert_eq!(look.workspaces, [other.id]);
    let name = WorkspaceName::parse("Crew").expect("valid");
    let (look, _) = scene.after(store.rename_workspace(*ada, team.id, &name)).await;
    assert_eq!(look.workspaces, [team.id]);
    let code = JoinCode::from_random([9; 16]);
    let (look, _) = scene.after(store.rotate_join_code(*ada, team.id, code.clone())).await;
    assert_eq!(look.workspaces, [team.id]);
    let (look, _) = scene.after(store.join_workspace(eve, &code, stage.at())).await;
    assert_eq!((look.workspaces, look.admitted), (vec![team.id], vec![(team.general, eve)]));
    let (look, _) = scene.after(store.set_role(*ada, team.id, eve, Role::Admin)).await;
    assert_eq!(look.workspaces, [team.id]);
    let (look, gone) = scene.after(store.remove_member(*ada, team.id, *bob)).await;
    assert_eq!(look.workspaces, [team.id]);
    let (general, access_rev) = gone.expect("removes").conversations[0];
    assert_eq!(look.heads, [Head { conversation_id: general, rev: 0, access_rev }]);
    let (look, _) = scene.after(store.delete_workspace(*ada, team.id, stage.at())).await;
    assert_eq!(look.workspaces, [team.id]);
    assert_eq!(look.heads.len(), 1);
    assert_eq!(look.heads[0].access_rev, access_rev + 1);
}

#[tokio::test]
async fn ends_of_sessions_are_seen() {
    let scene = scene().await;
    let Scene { store, stage, .. } = &scene;
    let (eve, session) = stage.sign_up("eve").await;
    let open = async || {
        let session = stage.session(eve.id);
        store.open_session(session.clone()).await.expect("opens");
        session
    };
    let (look, next) = scene
        .after(async {
            store.revoke_session(eve.id, session.id, stage.at()).await.expect("revokes");
            // Which forgets old sessions, but not before all nodes have seen their end.
            open().await
        })
        .await;
    assert_eq!(look.ended_sessions, [session.id]);
    let hash = PasswordHash("new".to_owned());
    let keep = SessionId(Uuid::nil());
    let (look, _) = scene.after(store.change_password(eve.id, hash, keep, stage.at())).await;
    assert_eq!(look.ended_sessions, [next.id]);
    let stolen = open().await;
    let rotation = |presented: RefreshDigest, n: u8| RotateRefresh {
        presented,
        successor: RefreshDigest([n; 32]),
        at: stage.at(),
        expires_at: stolen.expires_at,
        grace: Duration::ZERO,
    };
    store.rotate_refresh(rotation(stolen.refresh, 1)).await.expect("rotates");
    let (look, _) = scene.after(store.rotate_refresh(rotation(stolen.refresh, 2))).await;
    assert_eq!(look.ended_sessions, [stolen.id]);
}

#[tokio::test]
async fn readers_are_in_it_and_may_read() {
    let scene = scene().await;
    let Scene { store, stage, team, ada, bob, .. } = &scene;
    let eve = stage.person("eve").await;
    let all = vec![eve, *bob, *ada];
    let private = stage.private(*ada, team, "private").await;
    let public = stage.channel(*ada, team, "public").await;
    let dm = stage.dm(*ada, team, *bob).await.expect("opens").mine.conversation.id;
    for (conversation, who) in [(private, vec![*ada]), (public, vec![*ada]), (dm, vec![*bob, *ada])]
    {
        let found = store.readers(conversation, all.clone()).await.expect("answers");
        assert_eq!((found.access_rev, found.users), (1, who));
    }
    store.delete_channel(*ada, public, stage.at()).await.expect("deletes");
    assert_eq!(store.readers(public, all.clone()).await.expect("answers").users, []);
    let nowhere = ConversationId(Uuid::nil());
    assert_eq!(store.readers(nowhere, all.clone()).await.expect("answers").users, []);
    assert_eq!(store.heads(vec![]).await.expect("heads"), []);

    let mut members = store.workspace_members(team.id, all.clone()).await.expect("answers");
    members.sort_unstable();
    assert_eq!(members, [*ada, *bob]);
    store.delete_workspace(*ada, team.id, stage.at()).await.expect("deletes");
    assert_eq!(store.workspace_members(team.id, all).await.expect("answers"), []);
    let nowhere = WorkspaceId(Uuid::nil());
    assert_eq!(store.workspace_members(nowhere, vec![]).await.expect("answers"), []);
}

/// Beyond the bound, the next look goes on, and nothing is lost to many changes in one millisecond.
#[tokio::test]
async fn many_changes_take_several_looks() {
    let (store, database) = fresh().await;
    let now = store.changes(None).await.expect("looks").until.as_millis();
    let begin = now - 3_600_000;
    let id = |n: i64| bson::Uuid::from_bytes(u128::to_be_bytes(n.unsigned_abs().into()));
    let member = |(n, stamp): (i64, i64)| {
        doc! {
            "conversation_id": id(1),
            "user_id": id(n),
            "read_seq": 0_i64,
            "joined_at": DateTime::from_millis(0),
            "joined_stamp": DateTime::from_millis(stamp),
        }
    };
    // The bound of 5,000 falls among those of one stamp; one more comes much later.
    let stamps = (0..5_003).map(|n| (n, begin + n.min(4_990))).chain([(9_999, begin + 60_000)]);
    let members = database.raw().await.collection::<Document>("conversation_members");
    members.insert_many(stamps.map(member)).await.expect("inserts");

    let look = store.changes(Some(Timestamp::from_millis(begin) + OVERLAP)).await.expect("looks");
    assert_eq!((look.admitted.len(), look.more), (5_003, true));
    let rest = store.changes(Some(look.until)).await.expect("looks");
    assert_eq!((rest.admitted.len(), rest.more), (1, false));
    assert!(rest.until.as_millis() >= now);
}
