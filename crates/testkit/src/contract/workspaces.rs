//! Cases of [`parlance_application::ports::store::Workspaces`].

use parlance_application::{
    Result,
    ports::{
        Ambient,
        store::{Admission, Joining, NewMember},
    },
};
use parlance_domain::{AccessRev, JoinCode, Rev, Role, Seq, UserId, WorkspaceId, WorkspaceName};

use super::{all, by_twos, conflict, forbidden, not_found};
use crate::{Stage, Team};

fn name(text: &str) -> WorkspaceName {
    WorkspaceName::parse(text).expect("valid")
}

fn code(n: u8) -> JoinCode {
    JoinCode::from_random([n; 32])
}

async fn add(
    stage: &Stage,
    actor: UserId,
    team: &Team,
    user_id: UserId,
    role: Role,
) -> Result<Admission> {
    let new = NewMember { user_id, role, at: stage.at(), job: stage.job() };
    stage.store.add_member(stage.by(actor), team.id, new).await
}

/// And nobody else in either.
pub async fn creation_makes_an_admin_and_general(stage: &Stage) {
    let ada = stage.person("ada").await;
    let (Admission { workspace, member, general, dms }, team) = stage.admission(ada).await;
    assert_eq!(
        (workspace.id, workspace.name.as_str(), workspace.role),
        (team.id, "Team", Role::Admin)
    );
    assert_eq!(workspace.join_code.as_deref(), Some(team.code.as_str()));
    assert_eq!((member.user_id, member.role, member.user.id), (ada, Role::Admin, ada));
    assert!(general.entered && general.summary.joined && general.summary.can_post);
    assert_eq!(dms, []);
    let channel = &general.summary.conversation;
    assert_eq!(
        (channel.id, channel.name.as_deref(), channel.private),
        (team.general, Some("general"), false)
    );
    assert_eq!((channel.rev, channel.last_seq, channel.last_message_at), (Rev(0), Seq(0), None));
    assert_eq!(stage.store.workspace(ada, team.id).await.ok(), Some(workspace));
    assert_eq!(
        stage.store.members(ada, team.id, all()).await.map(|p| p.items).ok(),
        Some(vec![member])
    );
    assert_eq!(stage.store.summary(ada, team.general).await.ok(), Some(general.summary));
}

/// As a member, into `general`.
pub async fn a_code_lets_in_once(stage: &Stage) {
    let [ada, bob] = stage.people(["ada", "bob"]).await;
    let team = stage.team(ada).await;
    let Admission { workspace, member, general, .. } = stage.enter(&team, bob).await;
    assert_eq!((workspace.role, member.role, member.user_id), (Role::Member, Role::Member, bob));
    assert!(general.entered && general.summary.joined && general.membership.user_id == bob);
    let again =
        stage.store.join_workspace(stage.by(bob), &team.code, stage.at()).await.expect("answers");
    assert_eq!(again, Joining::AlreadyIn(workspace));
    let members = stage.store.members(ada, team.id, all()).await.expect("lists").items;
    assert_eq!(members.len(), 2);
}

/// An old one neither.
pub async fn other_codes_open_nothing(stage: &Stage) {
    let [ada, bob] = stage.people(["ada", "bob"]).await;
    let team = stage.team(ada).await;
    not_found(stage.store.join_workspace(stage.by(bob), &code(9), stage.at()).await);
    let rotated =
        stage.store.rotate_join_code(stage.by(ada), team.id, code(9)).await.expect("rotates");
    assert_eq!(rotated.join_code.as_deref(), Some(code(9).as_str()));
    not_found(stage.store.join_workspace(stage.by(bob), &team.code, stage.at()).await);
    stage.enter(&Team { code: code(9), ..team }, bob).await;
}

/// In every answer.
pub async fn only_admins_see_the_code(stage: &Stage) {
    let [ada, bob] = stage.people(["ada", "bob"]).await;
    let team = stage.team(ada).await;
    assert_eq!(stage.enter(&team, bob).await.workspace.join_code, None);
    assert_eq!(stage.store.workspace(bob, team.id).await.map(|w| w.join_code).ok(), Some(None));
    let listed = stage.store.workspaces(bob, all()).await.expect("lists").items;
    assert!(listed.iter().all(|w| w.join_code.is_none()));
    let snapshot = stage.store.snapshot(bob).await.expect("reads");
    assert!(snapshot.workspaces.iter().all(|w| w.join_code.is_none()));
    stage.store.set_role(stage.by(ada), team.id, bob, Role::Admin).await.expect("promotes");
    let seen = stage.store.workspace(bob, team.id).await.expect("reads").join_code;
    assert_eq!(seen.as_deref(), Some(team.code.as_str()));
}

/// People and workspaces alike.
pub async fn lists_go_by_pages_oldest_membership_first(stage: &Stage) {
    let people = stage.people(["ada", "bob", "eve", "dan", "fay"]).await;
    let [ada, bob, eve, dan, fay] = people;
    let team = stage.team_of(ada, [fay, dan, eve, bob]).await;
    let members = by_twos(|page| stage.store.members(bob, team.id, page)).await;
    assert_eq!(members.iter().map(|m| m.user_id).collect::<Vec<_>>(), [ada, fay, dan, eve, bob]);
    let (second, third) = (stage.team(ada).await, stage.team(ada).await);
    stage.enter(&third, bob).await;
    stage.enter(&second, bob).await;
    let listed = by_twos(|page| stage.store.workspaces(bob, page)).await;
    assert_eq!(listed.iter().map(|w| w.id).collect::<Vec<_>>(), [team.id, third.id, second.id]);
}

/// Whether it exists or not.
pub async fn outsiders_find_nothing(stage: &Stage) {
    let [ada, eve] = stage.people(["ada", "eve"]).await;
    let id = stage.team(ada).await.id;
    for id in [id, WorkspaceId(stage.ambient.uuid())] {
        not_found(stage.store.workspace(eve, id).await);
        not_found(stage.store.members(eve, id, all()).await);
        not_found(stage.store.channels(eve, id, all()).await);
        not_found(stage.store.dms(eve, id, all()).await);
        not_found(stage.store.rename_workspace(stage.by(eve), id, &name("Mine")).await);
        not_found(stage.store.rotate_join_code(stage.by(eve), id, code(3)).await);
        not_found(stage.store.set_role(stage.by(eve), id, ada, Role::Member).await);
        not_found(stage.store.remove_member(stage.by(eve), id, ada).await);
        not_found(stage.store.remove_member(stage.by(eve), id, eve).await);
        not_found(stage.store.delete_workspace(stage.by(eve), id, stage.at()).await);
    }
    assert_eq!(stage.store.workspaces(eve, all()).await.map(|p| p.items).ok(), Some(vec![]));
}

/// And change nothing by trying.
pub async fn members_do_not_administer(stage: &Stage) {
    let [ada, bob, eve] = stage.people(["ada", "bob", "eve"]).await;
    let team = stage.team_of(ada, [bob]).await;
    forbidden(stage.store.rename_workspace(stage.by(bob), team.id, &name("Mine")).await);
    forbidden(stage.store.rotate_join_code(stage.by(bob), team.id, code(3)).await);
    forbidden(stage.store.set_role(stage.by(bob), team.id, bob, Role::Admin).await);
    forbidden(stage.store.remove_member(stage.by(bob), team.id, ada).await);
    forbidden(stage.store.delete_workspace(stage.by(bob), team.id, stage.at()).await);
    forbidden(add(stage, bob, &team, eve, Role::Member).await);
    let seen = stage.store.workspace(ada, team.id).await.expect("reads");
    assert_eq!((seen.name.as_str(), seen.join_code.as_deref()), ("Team", Some(team.code.as_str())));
}

/// Each member is shown it as they may see it.
pub async fn a_rename_is_seen_by_all(stage: &Stage) {
    let [ada, bob] = stage.people(["ada", "bob"]).await;
    let team = stage.team_of(ada, [bob]).await;
    let renamed =
        stage.store.rename_workspace(stage.by(ada), team.id, &name("Crew")).await.expect("renames");
    assert_eq!((renamed.name.as_str(), renamed.role), ("Crew", Role::Admin));
    let seen = stage.store.workspace(bob, team.id).await.expect("reads");
    assert_eq!((seen.name.as_str(), seen.role), ("Crew", Role::Member));
}

/// With a role, and a job that tells them.
pub async fn an_admin_adds_people(stage: &Stage) {
    let [ada, bob] = stage.people(["ada", "bob"]).await;
    let team = stage.team(ada).await;
    let new = NewMember { user_id: bob, role: Role::Admin, at: stage.at(), job: stage.job() };
    let Admission { workspace, member, general, .. } =
        stage.store.add_member(stage.by(ada), team.id, new.clone()).await.expect("adds");
    assert_eq!((member.user_id, member.role, member.joined_at), (bob, Role::Admin, new.at));
    assert_eq!((workspace.id, workspace.role), (team.id, Role::Admin));
    assert!(general.entered && general.membership.user_id == bob && general.summary.joined);
    assert_eq!(stage.store.is_unfinished(new.job.id).await.ok(), Some(true));
    assert_eq!(stage.store.workspace(bob, team.id).await.ok(), Some(workspace));
}

/// An unknown person, or one who is in already.
pub async fn a_refused_addition_leaves_no_job(stage: &Stage) {
    let [ada, bob] = stage.people(["ada", "bob"]).await;
    let team = stage.team_of(ada, [bob]).await;
    let mut new = NewMember {
        user_id: UserId(stage.ambient.uuid()),
        role: Role::Member,
        at: stage.at(),
        job: stage.job(),
    };
    not_found(stage.store.add_member(stage.by(ada), team.id, new.clone()).await);
    assert_eq!(stage.store.is_unfinished(new.job.id).await.ok(), Some(false));
    new.user_id = bob;
    new.role = Role::Admin;
    conflict(stage.store.add_member(stage.by(ada), team.id, new.clone()).await);
    assert_eq!(stage.store.is_unfinished(new.job.id).await.ok(), Some(false));
    assert_eq!(stage.store.workspace(bob, team.id).await.map(|w| w.role).ok(), Some(Role::Member));
}

/// Whoever it is.
pub async fn roles_change_but_one_admin_stays(stage: &Stage) {
    let [ada, bob, eve] = stage.people(["ada", "bob", "eve"]).await;
    let team = stage.team_of(ada, [bob]).await;
    not_found(stage.store.set_role(stage.by(ada), team.id, eve, Role::Admin).await);
    conflict(stage.store.set_role(stage.by(ada), team.id, ada, Role::Member).await);
    let promoted =
        stage.store.set_role(stage.by(ada), team.id, bob, Role::Admin).await.expect("promotes");
    assert_eq!((promoted.user_id, promoted.role), (bob, Role::Admin));
    let demoted =
        stage.store.set_role(stage.by(bob), team.id, ada, Role::Member).await.expect("demotes");
    assert_eq!((demoted.user_id, demoted.role), (ada, Role::Member));
    conflict(stage.store.set_role(stage.by(bob), team.id, bob, Role::Member).await);
    let same = stage
        .store
        .set_role(stage.by(bob), team.id, bob, Role::Admin)
        .await
        .expect("changes nothing");
    assert_eq!(same.role, Role::Admin);
}

/// Until there is another.
pub async fn the_last_admin_stays(stage: &Stage) {
    let [ada, bob] = stage.people(["ada", "bob"]).await;
    let team = stage.team_of(ada, [bob]).await;
    conflict(stage.store.remove_member(stage.by(ada), team.id, ada).await);
    stage.store.set_role(stage.by(ada), team.id, bob, Role::Admin).await.expect("promotes");
    stage.store.remove_member(stage.by(ada), team.id, ada).await.expect("leaves");
    not_found(stage.store.workspace(ada, team.id).await);
}

/// From the one who is removed, at once.
pub async fn removal_hides_everything(stage: &Stage) {
    let [ada, bob] = stage.people(["ada", "bob"]).await;
    let team = stage.team_of(ada, [bob]).await;
    let private = stage.private(bob, &team, "secret").await;
    let hidden = stage.private(ada, &team, "hidden").await;
    let dm = stage.dm(bob, &team, ada).await.expect("opens").mine.conversation.id;
    let message = stage.send(bob, team.general, "hello").await;
    let before = stage.access_rev(ada, team.general).await;
    let gone = stage
        .store
        .remove_member(stage.by(ada), team.id, bob)
        .await
        .expect("removes")
        .conversations;
    assert!(
        gone.contains(&(team.general, before.next())),
        "each with its new access_rev: {gone:?}"
    );
    let gone: Vec<_> = gone.into_iter().map(|(id, _)| id).collect();
    assert!([team.general, private, dm].iter().all(|id| gone.contains(id)), "{gone:?}");
    assert!(!gone.contains(&hidden));
    not_found(stage.store.workspace(bob, team.id).await);
    not_found(stage.store.message(bob, message.id).await);
    for id in [team.general, private, dm] {
        not_found(stage.store.summary(bob, id).await);
        not_found(stage.try_send(bob, id, "again", "hello").await);
    }
    let snapshot = stage.store.snapshot(bob).await.expect("reads");
    assert!(snapshot.workspaces.is_empty() && snapshot.conversations.is_empty());
    assert_eq!(stage.store.conversations(bob, all()).await.map(|p| p.items).ok(), Some(vec![]));
    let members = stage.store.channel_members(ada, team.general, all()).await.expect("lists").items;
    assert!(members.iter().all(|m| m.user_id != bob));
    not_found(stage.store.remove_member(stage.by(ada), team.id, bob).await);
}

/// In `general` alone, and in the old DM.
pub async fn who_comes_back_begins_anew(stage: &Stage) {
    let [ada, bob] = stage.people(["ada", "bob"]).await;
    let team = stage.team_of(ada, [bob]).await;
    let channel = stage.channel(ada, &team, "news").await;
    stage.join(bob, channel).await;
    let dm = stage.dm(bob, &team, ada).await.expect("opens").mine.conversation.id;
    stage.store.remove_member(stage.by(ada), team.id, bob).await.expect("removes");
    let back = stage.enter(&team, bob).await;
    assert!(back.general.entered);
    let dms: Vec<_> =
        back.dms.iter().map(|it| (it.summary.conversation.id, it.access_rev)).collect();
    assert_eq!(dms, [(dm, AccessRev(3))], "opened, left, back");
    assert!(back.dms[0].summary.joined && back.dms[0].summary.can_post);
    assert_eq!(stage.store.summary(bob, channel).await.map(|s| s.joined).ok(), Some(false));
    let again = stage.dm(ada, &team, bob).await.expect("opens").mine;
    assert!(again.conversation.id == dm && again.can_post);
}

/// Members too.
pub async fn anybody_may_leave(stage: &Stage) {
    let [ada, bob] = stage.people(["ada", "bob"]).await;
    let team = stage.team_of(ada, [bob]).await;
    let gone =
        stage.store.remove_member(stage.by(bob), team.id, bob).await.expect("leaves").conversations;
    assert_eq!(gone.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [team.general]);
    not_found(stage.store.workspace(bob, team.id).await);
}

/// From everybody.
pub async fn deletion_hides_everything(stage: &Stage) {
    let [ada, bob] = stage.people(["ada", "bob"]).await;
    let (team, other) = (stage.team_of(ada, [bob]).await, stage.team(ada).await);
    let channel = stage.private(bob, &team, "secret").await;
    let dm = stage.dm(bob, &team, ada).await.expect("opens").mine.conversation.id;
    let message = stage.send(ada, team.general, "hello").await;
    let mut gone =
        stage.store.delete_workspace(stage.by(ada), team.id, stage.at()).await.expect("deletes");
    gone.sort_unstable();
    let mut expected = vec![team.general, channel, dm];
    expected.sort_unstable();
    assert_eq!(gone, expected);
    for user in [ada, bob] {
        not_found(stage.store.workspace(user, team.id).await);
        not_found(stage.store.summary(user, team.general).await);
        not_found(stage.store.message(user, message.id).await);
    }
    not_found(stage.store.join_workspace(stage.by(bob), &team.code, stage.at()).await);
    not_found(stage.store.delete_workspace(stage.by(ada), team.id, stage.at()).await);
    let left = stage.store.workspaces(ada, all()).await.expect("lists").items;
    assert_eq!(left.iter().map(|w| w.id).collect::<Vec<_>>(), [other.id]);
}
