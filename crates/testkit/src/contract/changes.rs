//! Cases of [`parlance_application::ports::store::Changes`], for stores that several nodes share.
//!
//! A look may repeat what an earlier one found. So a case checks that something is among what looks find, not that it
//! is all.

mod stage;
pub mod state_events;

use std::{collections::BTreeMap, time::Duration};

use parlance_application::{
    Error, Result, Unauthenticated,
    ports::{
        PasswordHash, RefreshDigest,
        store::{
            Change, ChannelUpdate, Head, NewMember, NewPassword, Principal, Reader, ReplayQuery,
            RotateRefresh, Write,
        },
    },
};
use parlance_domain::{
    AccessRev, ConversationId, JoinCode, Rev, Role, SessionId, SessionRev, Topic, WorkspaceId,
    WorkspaceName,
};
use uuid::Uuid;

pub use self::stage::{Place, SharedStage};
use crate::Stage;

/// Whatever has happened before.
pub async fn the_first_look_tells_the_time_only(shared: &SharedStage) {
    shared.scene().await;
    let look = shared.changes.changes(None).await.expect("looks");
    assert!(look.heads.is_empty() && look.admitted.is_empty() && look.workspaces.is_empty());
    assert!(look.traces.is_empty() && look.marks.is_empty());
    assert!(!look.more);
    assert!(shared.look(look.until).await.until >= look.until, "the time goes back");
}

/// With the head as it is then.
pub async fn a_durable_change_is_found_by_the_next_look(shared: &SharedStage) {
    let (team, [ada, _]) = shared.scene().await;
    let stage = &shared.stage;
    let (look, message) = shared.after(stage.send(ada, team.general, "hello")).await;
    let mut looks = vec![look];
    looks.push(shared.after(stage.edit(ada, &message, "hi")).await.0);
    looks.push(shared.after(stage.react(ada, &message, "+1")).await.0);
    looks.push(shared.after(stage.unreact(ada, &message, "+1")).await.0);
    looks.push(shared.after(stage.delete(ada, &message)).await.0);
    let topic = ChannelUpdate { name: None, topic: Topic::parse("news").ok() };
    let topic = Change::UpdateChannel(topic);
    looks.push(shared.after(stage.change(ada, team.general, topic)).await.0);
    let access_rev = stage.access_rev(ada, team.general).await;
    for (rev, look) in (1..).zip(looks) {
        let head = Head { conversation_id: team.general, rev: Rev(rev), access_rev };
        assert!(look.heads.contains(&head), "not {head:?} in {:?}", look.heads);
    }
}

/// The end of a conversation too.
pub async fn a_change_of_access_is_found_by_the_next_look(shared: &SharedStage) {
    let (team, [ada, bob]) = shared.scene().await;
    let (stage, store) = (&shared.stage, &shared.stage.store);
    let (look, news) = shared.after(stage.channel(ada, &team, "news")).await;
    let mut looks = vec![look];
    looks.push(shared.after(stage.join(bob, news)).await.0);
    looks.push(shared.after(store.remove_channel_member(stage.by(bob), news, bob)).await.0);
    looks.push(shared.after(store.delete_channel(stage.by(ada), news, stage.at())).await.0);
    for (access_rev, look) in (1..).zip(looks) {
        let head = Head { conversation_id: news, rev: Rev(0), access_rev: AccessRev(access_rev) };
        assert!(look.heads.contains(&head), "not {head:?} in {:?}", look.heads);
    }
    let (look, gone) = shared.after(store.remove_member(stage.by(ada), team.id, bob)).await;
    let (general, access_rev) = gone.expect("removes").conversations[0];
    assert!(look.heads.contains(&Head { conversation_id: general, rev: Rev(0), access_rev }));
    let (look, gone) =
        shared.after(store.delete_workspace(stage.by(ada), team.id, stage.at())).await;
    assert_eq!(gone.ok(), Some(vec![general]));
    let head = Head { conversation_id: general, rev: Rev(0), access_rev: access_rev.next() };
    assert!(look.heads.contains(&head), "not {head:?} in {:?}", look.heads);
}

/// Each look begins where the one before ended, while others write all the time.
pub async fn nothing_is_lost_between_two_looks(shared: &SharedStage) {
    let (team, [ada, bob]) = shared.scene().await;
    let stage = &shared.stage;
    let mut since = shared.now().await;
    let mut conversations = vec![team.general];
    for name in ["one", "two", "three"] {
        conversations.push(stage.channel(ada, &team, name).await);
    }
    let mut running = tokio::task::JoinSet::new();
    for conversation in conversations.clone() {
        let (store, at, bob) = (stage.store.clone(), stage.at(), stage.by(bob));
        let drafts: Vec<_> = (0..10).map(|n| stage.draft(ada, &n.to_string(), "hello")).collect();
        running.spawn(async move {
            store.join_channel(bob, conversation, at).await.expect("joins");
            for draft in drafts {
                store.append(conversation, vec![draft]).await.expect("appends");
                tokio::task::yield_now().await;
            }
        });
    }
    let (mut heads, mut admitted) = (BTreeMap::new(), Vec::new());
    loop {
        while let Some(done) = running.try_join_next() {
            done.expect("runs");
        }
        let over = running.is_empty();
        let look = shared.look(since).await;
        since = look.until;
        admitted.extend(look.admitted);
        for head in look.heads {
            let newest = heads.entry(head.conversation_id).or_insert(head);
            newest.rev = newest.rev.max(head.rev);
            newest.access_rev = newest.access_rev.max(head.access_rev);
        }
        if over {
            break;
        }
        tokio::task::yield_now().await;
    }
    for conversation in conversations {
        let head = shared.head(conversation).await.expect("is there");
        assert_eq!((head.rev, heads.get(&conversation)), (Rev(10), Some(&head)));
        assert!(conversation == team.general || admitted.contains(&(conversation, bob)));
    }
}

/// Into channels and DMs, by whatever way.
pub async fn who_comes_in_is_found_by_the_next_look(shared: &SharedStage) {
    let (team, [ada, bob]) = shared.scene().await;
    let (stage, store) = (&shared.stage, &shared.stage.store);
    let [eve, dan] = stage.people(["eve", "dan"]).await;
    let (look, news) = shared.after(stage.channel(ada, &team, "news")).await;
    assert!(look.admitted.contains(&(news, ada)), "who creates a channel is in it");
    let (look, _) = shared.after(stage.join(bob, news)).await;
    assert!(look.admitted.contains(&(news, bob)));
    let (look, dm) = shared.after(stage.dm(ada, &team, bob)).await;
    let dm = dm.expect("opens").mine.conversation.id;
    assert!(look.admitted.contains(&(dm, ada)) && look.admitted.contains(&(dm, bob)));
    let (look, _) = shared.after(stage.enter(&team, eve)).await;
    assert!(look.admitted.contains(&(team.general, eve)));
    let (look, added) =
        shared.after(store.add_channel_member(stage.by(ada), news, eve, stage.at())).await;
    assert!(added.is_ok() && look.admitted.contains(&(news, eve)));
    let new = NewMember { user_id: dan, role: Role::Member, at: stage.at(), job: stage.job() };
    let (look, added) = shared.after(store.add_member(stage.by(ada), team.id, new)).await;
    assert!(added.is_ok() && look.admitted.contains(&(team.general, dan)));
    let (look, (_, other)) = shared.after(stage.admission(eve)).await;
    assert!(look.admitted.contains(&(other.general, eve)));
    store.remove_member(stage.by(ada), team.id, bob).await.expect("removes");
    let (look, _) = shared.after(stage.enter(&team, bob)).await;
    assert!(look.admitted.contains(&(dm, bob)), "back in a DM of an earlier time");
}

/// Or when its members do.
pub async fn a_workspace_that_changes_is_found_by_the_next_look(shared: &SharedStage) {
    let (team, [ada, bob]) = shared.scene().await;
    let (stage, store) = (&shared.stage, &shared.stage.store);
    let [eve, dan] = stage.people(["eve", "dan"]).await;
    let (look, (_, other)) = shared.after(stage.admission(eve)).await;
    assert!(look.workspaces.contains(&other.id), "it was created");
    let name = WorkspaceName::parse("Crew").expect("valid");
    let code = JoinCode::from_random([9; 32]);
    let new = NewMember { user_id: dan, role: Role::Member, at: stage.at(), job: stage.job() };
    let looks = [
        shared.after(store.rename_workspace(stage.by(ada), team.id, &name)).await.0,
        shared.after(store.rotate_join_code(stage.by(ada), team.id, code.clone())).await.0,
        shared.after(store.join_workspace(stage.by(eve), &code, stage.at())).await.0,
        shared.after(store.add_member(stage.by(ada), team.id, new)).await.0,
        shared.after(store.set_role(stage.by(ada), team.id, eve, Role::Admin)).await.0,
        shared.after(store.remove_member(stage.by(ada), team.id, bob)).await.0,
        shared.after(store.delete_workspace(stage.by(ada), team.id, stage.at())).await.0,
    ];
    for (change, look) in looks.iter().enumerate() {
        assert!(look.workspaces.contains(&team.id), "change {change} is not told");
    }
}

/// However they ended, and though the person begins another, which may delete the old ones; and every commit and replay
/// carries the count.
pub async fn ended_sessions_are_counted_and_found(shared: &SharedStage) {
    let (stage, store) = (&shared.stage, &shared.stage.store);
    let (eve, first) = stage.sign_up("eve").await;
    let open = async |hash: PasswordHash| {
        let session = stage.session(eve.id);
        store.open_session(session.clone(), &hash).await.expect("opens");
        session
    };
    let counted = async || shared.changes.session_rev().await.expect("answers");
    let ended = async |of| shared.changes.ended_sessions(of).await.expect("answers");
    let revoke = async || {
        store.revoke_session(eve.id, first.id, stage.at()).await.expect("revokes");
        open(Stage::hash()).await
    };
    let (look, second) = shared.after(revoke()).await;
    assert_eq!(look.session_rev, SessionRev(1));
    assert_eq!(counted().await, SessionRev(1));
    assert_eq!(ended(vec![first.id, second.id]).await, [first.id]);
    let (password, keep) = (PasswordHash("new".to_owned()), open(Stage::hash()).await.id);
    let (user, verified, at) = (eve.id, Stage::hash(), stage.at());
    let change = NewPassword { user, verified, password: password.clone(), keep, at };
    let (look, _) = shared.after(store.change_password(change)).await;
    assert_eq!(look.session_rev, SessionRev(2));
    assert_eq!(ended(vec![second.id]).await, [second.id]);

    let stolen = open(password.clone()).await;
    let rotate = async |successor: u8| {
        let rotation = RotateRefresh {
            presented: stolen.refresh,
            successor: RefreshDigest([successor; 32]),
            at: stage.at(),
            expires_at: stolen.expires_at,
            grace: Duration::ZERO,
        };
        store.rotate_refresh(rotation).await.expect("answers")
    };
    rotate(1).await;
    let (look, _) = shared.after(rotate(2)).await;
    assert_eq!(look.session_rev, SessionRev(3));
    assert_eq!(counted().await, SessionRev(3));
    assert_eq!(ended(vec![stolen.id]).await, [stolen.id]);

    let live = open(password).await;
    stage.goes_on_in(eve.id, live.id);
    let team = stage.team_of(eve.id, []).await;
    let write = stage.draft(eve.id, "1", "hello");
    let commits = store.append(team.general, vec![write]).await.expect("appends");
    assert!(
        commits.iter().all(|c| c.as_ref().is_ok_and(|commit| commit.session_rev == SessionRev(3)))
    );
    let query = ReplayQuery::after(Rev(0));
    let by = |session| Principal { user: eve.id, session };
    let page = store.replay(Reader::Session(by(live.id)), team.general, query).await;
    assert_eq!(page.map(|page| page.session_rev).ok(), Some(SessionRev(3)));
    let page = store.replay(Reader::Session(by(stolen.id)), team.general, query).await;
    assert!(matches!(page, Err(Error::Unauthenticated(Unauthenticated::Revoked))));
}

/// Whatever its node has heard; other sessions' writes of the same batch are kept.
pub async fn a_write_of_an_ended_session_is_refused(shared: &SharedStage) {
    let (team, [ada, bob]) = shared.scene().await;
    let (stage, store) = (&shared.stage, &shared.stage.store);
    let [ended, live] = [stage.session(bob), stage.session(bob)];
    for session in [&ended, &live] {
        store.open_session(session.clone(), &Stage::hash()).await.expect("opens");
    }
    let of = |session, user, id| {
        let write = stage.draft(user, id, "hello");
        Write { by: Principal { user, session }, ..write }
    };
    let before = stage.append(team.general, vec![of(ended.id, bob, "1")]).await;
    assert!(before[0].is_ok(), "while it lived: {before:?}");
    store.revoke_session(bob, ended.id, stage.at()).await.expect("ends");
    // Alone, so that the store has no other reason to look.
    let alone = stage.append(team.general, vec![of(ended.id, bob, "alone")]).await;
    assert!(matches!(&alone[..], [Err(Error::Unauthenticated(_))]), "{alone:?}");
    let writes = vec![
        of(live.id, bob, "2"),
        of(ended.id, bob, "3"),
        // Not even a repeat of what it has sent before is answered.
        of(ended.id, bob, "1"),
        of(SessionId(Uuid::nil()), ada, "4"),
        of(stage.session_of(ada), ada, "5"),
    ];
    let answers = stage.append(team.general, writes).await;
    let refused = |answer: &Result<_>| {
        matches!(answer, Err(Error::Unauthenticated(Unauthenticated::Revoked)))
    };
    let refused: Vec<_> = answers.iter().map(refused).collect();
    assert_eq!(refused, [false, true, true, true, false], "{answers:?}");
    let revs: Vec<_> = answers.into_iter().flatten().filter_map(|commit| commit.change).collect();
    assert_eq!(revs.into_iter().map(|(_, rev)| rev).collect::<Vec<_>>(), [Rev(2), Rev(3)]);
}

/// And those that never were.
pub async fn heads_leave_out_the_deleted(shared: &SharedStage) {
    let (team, [ada, _]) = shared.scene().await;
    let stage = &shared.stage;
    let news = stage.channel(ada, &team, "news").await;
    stage.send(ada, news, "hello").await;
    let nowhere = ConversationId(Uuid::nil());
    let asked = vec![news, nowhere, team.general];
    let mut heads = shared.changes.heads(asked.clone()).await.expect("answers");
    heads.sort_unstable_by_key(|head| head.rev);
    let of_general = Head {
        conversation_id: team.general,
        rev: Rev(0),
        access_rev: stage.access_rev(ada, team.general).await,
    };
    assert_eq!(
        heads,
        [of_general, Head { conversation_id: news, rev: Rev(1), access_rev: AccessRev(1) }]
    );
    stage.store.delete_channel(stage.by(ada), news, stage.at()).await.expect("deletes");
    assert_eq!(shared.changes.heads(asked).await.ok(), Some(vec![of_general]));
    stage.store.delete_workspace(stage.by(ada), team.id, stage.at()).await.expect("deletes");
    assert_eq!(shared.head(team.general).await, None);
    assert_eq!(shared.changes.heads(vec![]).await.ok(), Some(vec![]));
}

/// In the workspace for a public channel, in it for any other.
pub async fn readers_are_in_it_and_may_read(shared: &SharedStage) {
    let (team, [ada, bob]) = shared.scene().await;
    let stage = &shared.stage;
    let eve = stage.person("eve").await;
    let all = [eve, bob, ada];
    let public = stage.channel(ada, &team, "public").await;
    let private = stage.private(ada, &team, "private").await;
    let dm = stage.dm(ada, &team, bob).await.expect("opens").mine.conversation.id;
    let alone = Some((vec![ada], AccessRev(1)));
    assert_eq!(shared.readers(public, &all).await, alone, "to read is not to listen");
    assert_eq!(shared.readers(private, &all).await, alone);
    assert_eq!(shared.readers(dm, &all).await, Some((vec![ada, bob], AccessRev(1))));
    assert_eq!(
        shared.readers(dm, &[bob]).await,
        Some((vec![bob], AccessRev(1))),
        "who was asked for"
    );
    assert_eq!(shared.readers(dm, &[]).await, Some((vec![], AccessRev(1))));
    stage.store.remove_member(stage.by(ada), team.id, bob).await.expect("removes");
    for (conversation, counted) in [(public, 1), (private, 1), (dm, 2)] {
        assert_eq!(shared.readers(conversation, &all).await, Some((vec![ada], AccessRev(counted))));
    }
}

/// Nor has one that never was.
pub async fn a_deleted_conversation_has_no_readers(shared: &SharedStage) {
    let (team, [ada, bob]) = shared.scene().await;
    let stage = &shared.stage;
    let news = stage.channel(ada, &team, "news").await;
    stage.store.delete_channel(stage.by(ada), news, stage.at()).await.expect("deletes");
    assert_eq!(shared.readers(news, &[ada, bob]).await, None);
    stage.store.delete_workspace(stage.by(ada), team.id, stage.at()).await.expect("deletes");
    assert_eq!(shared.readers(team.general, &[ada, bob]).await, None);
    assert_eq!(shared.readers(ConversationId(Uuid::nil()), &[ada]).await, None);
}

/// Of those who were asked for; of a deleted one nobody.
pub async fn who_is_in_a_workspace_is_told(shared: &SharedStage) {
    let (team, [ada, bob]) = shared.scene().await;
    let stage = &shared.stage;
    let eve = stage.person("eve").await;
    let all = [eve, bob, ada];
    assert_eq!(shared.is_in(team.id, &all).await, [ada, bob]);
    assert_eq!(shared.is_in(team.id, &[eve, bob]).await, [bob]);
    assert_eq!(shared.is_in(WorkspaceId(Uuid::nil()), &all).await, []);
    stage.store.remove_member(stage.by(ada), team.id, bob).await.expect("removes");
    assert_eq!(shared.is_in(team.id, &all).await, [ada]);
    stage.store.delete_workspace(stage.by(ada), team.id, stage.at()).await.expect("deletes");
    assert_eq!(shared.is_in(team.id, &all).await, []);
}

/// Turns each case of the contract of stores that several nodes share into a test. The expression, which may await,
/// makes a fresh `Store` that is `Changes` too and a `Clone`, and its [`Place`], which is held until the test's end:
/// `(store, place)`.
#[macro_export]
macro_rules! changes_contract {
    ($make:expr) => {
        $crate::changes_contract! { @cases $make;
            the_first_look_tells_the_time_only
            a_durable_change_is_found_by_the_next_look
            a_change_of_access_is_found_by_the_next_look
            nothing_is_lost_between_two_looks
            who_comes_in_is_found_by_the_next_look
            a_workspace_that_changes_is_found_by_the_next_look
            ended_sessions_are_counted_and_found
            a_write_of_an_ended_session_is_refused
            heads_leave_out_the_deleted
            readers_are_in_it_and_may_read
            a_deleted_conversation_has_no_readers
            who_is_in_a_workspace_is_told
        }
    };
    (@cases $make:expr; $($case:ident)*) => {
        mod changes {
            use super::*;
            $(
                #[tokio::test]
                async fn $case() {
                    let (store, place) = $make;
                    let shared = $crate::contract::changes::SharedStage::new(store, place);
                    $crate::contract::changes::$case(&shared).await;
                }
            )*
        }
    };
}
