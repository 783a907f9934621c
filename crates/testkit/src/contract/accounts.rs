//! Cases of [`parlance_application::ports::store::Accounts`].

use std::time::Duration;

use parlance_application::{
    Error, Unauthenticated,
    ports::{
        Ambient, PasswordHash, RefreshDigest,
        store::{
            EndedSessions, NewDm, NewMember, NewPassword, NewSession, NewWorkspace, Principal,
            Renamed, RotateRefresh, Rotation,
        },
    },
};
use parlance_domain::{
    ConversationId, DisplayName, Email, JoinCode, Role, Session, SessionId, SessionRev, Timestamp,
    UserId, WorkspaceId, WorkspaceName,
};

use super::{all, by_twos, conflict, not_found};
use crate::{Stage, account, email};

const GRACE: Duration = Duration::from_mins(1);

fn token(n: u8) -> RefreshDigest {
    RefreshDigest([n; 32])
}

async fn rotate(stage: &Stage, presented: RefreshDigest, successor: RefreshDigest) -> Rotation {
    let at = stage.at();
    let expires_at = at + Duration::from_hours(1);
    let rotation = RotateRefresh { presented, successor, at, expires_at, grace: GRACE };
    stage.store.rotate_refresh(rotation).await.expect("answers")
}

fn new_password(stage: &Stage, user: UserId, keep: SessionId) -> NewPassword {
    let password = PasswordHash("new".to_owned());
    NewPassword { user, verified: Stage::hash(), password, keep, at: stage.at() }
}

async fn lives(stage: &Stage, session: SessionId) -> bool {
    stage.store.session_owner(session, stage.at()).await.expect("answers").is_some()
}

/// Nothing of the second account stays.
pub async fn taken_address_conflicts(stage: &Stage) {
    let (ada, _) = stage.sign_up("ada").await;
    let again = account(&stage.ambient, "ada");
    let (session, job) = (stage.session(again.id), stage.job());
    let hash = PasswordHash("other".to_owned());
    conflict(stage.store.create_account(again.clone(), hash, session.clone(), job.clone()).await);
    let known = stage.store.credentials(&email("ada")).await.expect("answers").expect("is known");
    assert_eq!(known.account, ada);
    assert!(!lives(stage, session.id).await);
    assert_eq!(stage.store.is_unfinished(job.id).await.ok(), Some(false));
    not_found(stage.store.credentials_of(again.id).await);
}

/// With the hash; unknown people have none.
pub async fn credentials_are_found_by_address_and_by_id(stage: &Stage) {
    let (ada, session) = stage.sign_up("ada").await;
    let known = stage.store.credentials(&email("ada")).await.expect("answers").expect("is known");
    assert_eq!((&known.account, known.password.0.as_str()), (&ada, "hash"));
    assert_eq!(stage.store.credentials_of(ada.id).await.ok(), Some(known));
    assert_eq!(stage.store.session_owner(session.id, stage.at()).await.ok(), Some(Some(ada)));
    assert_eq!(stage.store.credentials(&email("bob")).await.ok(), Some(None));
    not_found(stage.store.credentials_of(UserId(stage.ambient.uuid())).await);
}

/// And their address by them; without a password.
pub async fn people_are_found_by_their_address(stage: &Stage) {
    let (ada, _) = stage.sign_up("ada").await;
    let (bob, _) = stage.sign_up("bob").await;
    for known in [ada, bob] {
        let address = Email::parse(&known.email).expect("valid");
        assert_eq!(stage.store.user_id(&address).await.ok(), Some(Some(known.id)));
        assert_eq!(stage.store.account(known.id).await.ok(), Some(known));
    }
    assert_eq!(stage.store.user_id(&email("eve")).await.ok(), Some(None));
    not_found(stage.store.account(UserId(stage.ambient.uuid())).await);
}

async fn sessions(stage: &Stage, user: UserId, at: Timestamp) -> Vec<Session> {
    stage.store.sessions(user, at, all()).await.expect("lists").items
}

/// A revoked one is gone at once, and cannot be revoked again.
pub async fn sessions_are_listed_newest_first_until_revoked(stage: &Stage) {
    let (ada, first) = stage.sign_up("ada").await;
    let second = stage.session(ada.id);
    stage.store.open_session(second.clone(), &Stage::hash()).await.expect("opens");
    let listed = sessions(stage, ada.id, stage.at()).await;
    assert_eq!(listed.iter().map(|s| s.id).collect::<Vec<_>>(), [second.id, first.id]);
    assert!(listed.iter().all(|s| !s.current));
    assert_eq!((listed[0].created_at, listed[0].last_used_at), (second.at, second.at));

    stage.store.revoke_session(ada.id, first.id, stage.at()).await.expect("revokes");
    assert!(!lives(stage, first.id).await && lives(stage, second.id).await);
    assert_eq!(sessions(stage, ada.id, stage.at()).await.len(), 1);
    assert_eq!(rotate(stage, first.refresh, token(1)).await, Rotation::Unknown);
    not_found(stage.store.revoke_session(ada.id, first.id, stage.at()).await);
}

/// Including those begun at the same moment.
pub async fn sessions_are_listed_in_pages(stage: &Stage) {
    let (ada, first) = stage.sign_up("ada").await;
    let mut listed = vec![first.id];
    for _ in 0..4 {
        let session = NewSession { at: first.at, ..stage.session(ada.id) };
        stage.store.open_session(session.clone(), &Stage::hash()).await.expect("opens");
        listed.push(session.id);
    }
    listed.sort_unstable_by(|one, other| other.cmp(one));
    let at = stage.at();
    let paged = by_twos(|page| stage.store.sessions(ada.id, at, page)).await;
    assert_eq!(paged.iter().map(|s| s.id).collect::<Vec<_>>(), listed);
}

/// At their end, not later.
pub async fn sessions_expire(stage: &Stage) {
    let (ada, session) = stage.sign_up("ada").await;
    let end = session.expires_at;
    for (at, live) in [(Timestamp::from_millis(end.as_millis() - 1), 1), (end, 0)] {
        let owner = stage.store.session_owner(session.id, at).await.expect("answers");
        assert_eq!(owner.into_iter().count(), live);
        assert_eq!(sessions(stage, ada.id, at).await.len(), live);
    }
    not_found(stage.store.revoke_session(ada.id, session.id, end).await);
}

/// As if there were none.
pub async fn nobody_ends_the_sessions_of_others(stage: &Stage) {
    let (_, session) = stage.sign_up("ada").await;
    let bob = stage.person("bob").await;
    not_found(stage.store.revoke_session(bob, session.id, stage.at()).await);
    assert!(lives(stage, session.id).await);
}

/// And moves the session's end and its last use.
pub async fn refresh_replaces_the_token(stage: &Stage) {
    let (ada, session) = stage.sign_up("ada").await;
    stage.ambient.advance(Duration::from_mins(30));
    let rotated = Rotation::Rotated { account: ada.clone(), session_id: session.id };
    assert_eq!(rotate(stage, session.refresh, token(1)).await, rotated);
    assert_eq!(rotate(stage, token(1), token(2)).await, rotated);
    assert_eq!(rotate(stage, token(9), token(10)).await, Rotation::Unknown);
    stage.ambient.set(session.expires_at);
    assert!(lives(stage, session.id).await);
    let listed = sessions(stage, ada.id, stage.at()).await;
    assert!(listed[0].last_used_at > session.at && listed[0].created_at == session.at);
}

/// So that two tabs that refresh at once both survive.
pub async fn the_preceding_token_works_within_its_grace(stage: &Stage) {
    let (ada, session) = stage.sign_up("ada").await;
    let rotated = Rotation::Rotated { account: ada, session_id: session.id };
    assert_eq!(rotate(stage, session.refresh, token(1)).await, rotated);
    // Each step of the stage takes a millisecond.
    stage.ambient.advance(GRACE.saturating_sub(Duration::from_millis(1)));
    assert_eq!(rotate(stage, session.refresh, token(1)).await, rotated);
    assert_eq!(rotate(stage, token(1), token(2)).await, rotated);
}

/// While a secret is being replaced, nodes make different successors. Whichever one a client got, it can go on.
pub async fn every_successor_given_within_the_grace_works(stage: &Stage) {
    let (ada, session) = stage.sign_up("ada").await;
    let rotated = Rotation::Rotated { account: ada, session_id: session.id };
    assert_eq!(rotate(stage, session.refresh, token(1)).await, rotated);
    assert_eq!(rotate(stage, session.refresh, token(2)).await, rotated);
    stage.ambient.advance(GRACE);
    assert_eq!(rotate(stage, token(2), token(3)).await, rotated);
    assert_eq!(rotate(stage, token(1), token(4)).await, rotated, "precedes the third");
    assert_eq!(rotate(stage, token(4), token(5)).await, rotated);
}

/// And all its tokens with it.
pub async fn a_reused_token_ends_its_session(stage: &Stage) {
    let (ada, session) = stage.sign_up("ada").await;
    let other = stage.session(ada.id);
    stage.store.open_session(other.clone(), &Stage::hash()).await.expect("opens");
    rotate(stage, session.refresh, token(1)).await;
    stage.ambient.advance(GRACE);
    let reused = Rotation::Reused { session_id: session.id, session_rev: SessionRev(1) };
    assert_eq!(rotate(stage, session.refresh, token(1)).await, reused);
    assert!(!lives(stage, session.id).await && lives(stage, other.id).await);
    assert_eq!(rotate(stage, token(1), token(2)).await, Rotation::Unknown);
}

/// The grace is the preceding token's only.
pub async fn a_token_two_back_is_reuse_at_once(stage: &Stage) {
    let (_, session) = stage.sign_up("ada").await;
    rotate(stage, session.refresh, token(1)).await;
    rotate(stage, token(1), token(2)).await;
    let reused = Rotation::Reused { session_id: session.id, session_rev: SessionRev(1) };
    assert_eq!(rotate(stage, session.refresh, token(1)).await, reused);
    assert!(!lives(stage, session.id).await);
}

/// Its token is nobody's.
pub async fn an_expired_session_cannot_be_refreshed(stage: &Stage) {
    let (_, session) = stage.sign_up("ada").await;
    stage.ambient.set(Timestamp::from_millis(session.expires_at.as_millis() - 1));
    assert_eq!(rotate(stage, session.refresh, token(1)).await, Rotation::Unknown);
    assert!(!lives(stage, session.id).await);
}

/// Not even if its request was let in before the end. (For messages, see `changes.rs`.)
pub async fn an_ended_session_changes_nothing(stage: &Stage) {
    let [ada, bob, eve] = stage.people(["ada", "bob", "eve"]).await;
    let (team, other) = (stage.team_of(ada, [bob]).await, stage.team(eve).await);
    let news = stage.channel(ada, &team, "news").await;
    let open = stage.channel(bob, &team, "open").await;
    let ended = stage.session(ada);
    stage.store.open_session(ended.clone(), &Stage::hash()).await.expect("opens");
    stage.store.revoke_session(ada, ended.id, stage.at()).await.expect("ends");
    let by = Principal { user: ada, session: ended.id };
    let seen = async || {
        let members = stage.store.members(ada, team.id, all()).await.expect("lists").items;
        let channel = stage.store.channel_members(ada, news, all()).await.expect("lists").items;
        (stage.store.snapshot(ada).await.expect("reads"), members, channel)
    };
    let before = seen().await;

    let (store, name) = (&stage.store, WorkspaceName::parse("Theirs").expect("valid"));
    let code = || JoinCode::from_random([7; 32]);
    let new = NewWorkspace {
        id: WorkspaceId(stage.ambient.uuid()),
        name: name.clone(),
        join_code: code(),
        general: ConversationId(stage.ambient.uuid()),
        at: stage.at(),
    };
    let dm = NewDm {
        id: ConversationId(stage.ambient.uuid()),
        workspace_id: team.id,
        peer: bob,
        at: stage.at(),
    };
    let member = NewMember { user_id: eve, role: Role::Member, at: stage.at(), job: stage.job() };
    let at = stage.at();
    let refused = [
        store.create_workspace(by, new).await.err(),
        store.join_workspace(by, &other.code, at).await.err(),
        store.rotate_join_code(by, team.id, code()).await.err(),
        store.rename_workspace(by, team.id, &name).await.err(),
        store.add_member(by, team.id, member).await.err(),
        store.set_role(by, team.id, bob, Role::Admin).await.err(),
        store.remove_member(by, team.id, bob).await.err(),
        store.create_channel(by, stage.new_channel(&team, "theirs", false)).await.err(),
        store.open_dm(by, dm).await.err(),
        store.join_channel(by, open, at).await.err(),
        store.add_channel_member(by, news, bob, at).await.err(),
        store.remove_channel_member(by, news, ada).await.err(),
        store.delete_channel(by, news, at).await.err(),
        store.delete_workspace(by, team.id, at).await.err(),
        store.rename(by, &DisplayName::parse("Theirs").expect("valid")).await.err(),
    ];
    for (n, error) in refused.iter().enumerate() {
        let revoked = Error::Unauthenticated(Unauthenticated::Revoked);
        assert_eq!(error.as_ref().map(ToString::to_string), Some(revoked.to_string()), "{n}");
    }
    assert_eq!(seen().await, before);
}

/// But not the one that asks, nor anybody else's.
pub async fn a_new_password_ends_the_other_sessions(stage: &Stage) {
    let (ada, first) = stage.sign_up("ada").await;
    let (_, bobs) = stage.sign_up("bob").await;
    let (second, revoked) = (stage.session(ada.id), stage.session(ada.id));
    stage.store.open_session(second.clone(), &Stage::hash()).await.expect("opens");
    stage.store.open_session(revoked.clone(), &Stage::hash()).await.expect("opens");
    stage.store.revoke_session(ada.id, revoked.id, stage.at()).await.expect("revokes");
    // Asked before the change too: a store may cache its answers.
    assert!(lives(stage, first.id).await && lives(stage, second.id).await);
    let change = new_password(stage, ada.id, second.id);
    let ended = stage.store.change_password(change).await;
    let all = EndedSessions { sessions: vec![first.id], session_rev: SessionRev(2) };
    assert_eq!(ended.ok(), Some(all), "the second end that this store has seen");
    assert!(
        !lives(stage, first.id).await
            && lives(stage, second.id).await
            && lives(stage, bobs.id).await
    );
    let known = stage.store.credentials_of(ada.id).await.expect("is known");
    assert_eq!(known.password.0, "new");
}

/// Whoever verified the old password before the change neither begins a session with it, nor changes it back.
pub async fn what_was_verified_before_a_new_password_is_worth_nothing(stage: &Stage) {
    let (ada, first) = stage.sign_up("ada").await;
    let (stolen, kept) = (stage.session(ada.id), stage.session(ada.id));
    stage.store.open_session(stolen.clone(), &Stage::hash()).await.expect("opens");
    stage.store.open_session(kept.clone(), &Stage::hash()).await.expect("opens");
    let change = new_password(stage, ada.id, kept.id);
    stage.store.change_password(change).await.expect("changes");

    let late = stage.session(ada.id);
    let opened = stage.store.open_session(late.clone(), &Stage::hash()).await;
    assert!(matches!(opened, Err(Error::Unauthenticated(Unauthenticated::Credentials))));
    assert!(!lives(stage, late.id).await);
    let by_the_thief = new_password(stage, ada.id, stolen.id);
    let theirs = NewPassword { password: PasswordHash("theirs".to_owned()), ..by_the_thief };
    let verified = PasswordHash("new".to_owned());
    for (change, why) in [
        (theirs.clone(), Unauthenticated::Revoked),
        (NewPassword { verified: verified.clone(), ..theirs.clone() }, Unauthenticated::Revoked),
        (NewPassword { keep: kept.id, ..theirs }, Unauthenticated::Credentials),
    ] {
        let changed = stage.store.change_password(change).await;
        assert!(matches!(changed, Err(Error::Unauthenticated(it)) if it == why), "{changed:?}");
    }
    assert!(lives(stage, kept.id).await && !lives(stage, first.id).await);
    let known = stage.store.credentials_of(ada.id).await.expect("is known");
    assert_eq!(known.password, verified);
    let next = stage.session(ada.id);
    stage.store.open_session(next.clone(), &verified).await.expect("opens");
    assert!(lives(stage, next.id).await);
}

/// By everybody; and all of them are told.
pub async fn a_new_name_is_seen(stage: &Stage) {
    let (account, session) = stage.sign_up("ada").await;
    let ada = account.id;
    let bob = stage.person("bob").await;
    let older = stage.team(bob).await;
    let (own, bobs) = (stage.team(ada).await, stage.team_of(bob, [ada]).await);
    let (left, gone) = (stage.team_of(bob, [ada]).await, stage.team(ada).await);
    stage.enter(&older, ada).await;
    stage.store.remove_member(stage.by(ada), left.id, ada).await.expect("leaves");
    stage.store.delete_workspace(stage.by(ada), gone.id, stage.at()).await.expect("deletes");
    let owner = async || stage.store.session_owner(session.id, stage.at()).await.ok().flatten();
    assert_eq!(owner().await, Some(account));
    let name = DisplayName::parse("Countess").expect("valid");
    let Renamed { account: renamed, memberships } =
        stage.store.rename(stage.by(ada), &name).await.expect("renames");
    assert_eq!(renamed.display_name, "Countess");
    let told: Vec<_> =
        memberships.iter().map(|it| (it.workspace_id, it.user_id, it.role)).collect();
    let [own, bobs, older] =
        [(own.id, ada, Role::Admin), (bobs.id, ada, Role::Member), (older.id, ada, Role::Member)];
    assert_eq!(told, [own, bobs, older], "by the time of joining");
    assert!(memberships.iter().all(|membership| membership.user.display_name == "Countess"));
    assert_eq!(owner().await.as_ref(), Some(&renamed));
    assert_eq!(stage.store.account(ada).await.ok(), Some(renamed));
}

/// And by themselves, always.
pub async fn people_are_seen_by_those_who_share_something(stage: &Stage) {
    let [ada, bob, eve] = stage.people(["ada", "bob", "eve"]).await;
    stage.team_of(ada, [bob]).await;
    stage.team(eve).await;
    let everybody = vec![ada, bob, eve, UserId(stage.ambient.uuid())];
    for (viewer, seen) in [(ada, vec![ada, bob]), (bob, vec![ada, bob]), (eve, vec![eve])] {
        let people = stage.store.people(viewer, everybody.clone()).await.expect("answers");
        let mut ids: Vec<UserId> = people.iter().map(|user| user.id).collect();
        ids.sort_unstable();
        assert_eq!(ids, seen);
    }
    assert_eq!(stage.store.people(ada, vec![]).await.ok(), Some(vec![]));
}

/// And by nobody else.
pub async fn who_left_is_seen_by_readers_of_their_messages(stage: &Stage) {
    let [ada, bob, eve] = stage.people(["ada", "bob", "eve"]).await;
    let team = stage.team_of(ada, [bob, eve]).await;
    stage.send(bob, team.general, "good bye").await;
    stage.store.remove_member(stage.by(ada), team.id, bob).await.expect("removes");
    stage.store.remove_member(stage.by(ada), team.id, eve).await.expect("removes");
    let people = stage.store.people(ada, vec![bob, eve]).await.expect("answers");
    assert_eq!(people.iter().map(|user| user.id).collect::<Vec<_>>(), [bob]);
    assert_eq!(stage.store.people(bob, vec![ada]).await.ok(), Some(vec![]));
}
