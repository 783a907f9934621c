//! Cases of [`parlance_application::ports::store::Conversations`].

use parlance_application::Error;
use parlance_domain::{
    ConversationAction as Action, ConversationId, ConversationKind, ReadState, Rev, Seq, UserId,
};

use super::{all, by_twos, conflict, forbidden, not_found, refused};
use crate::Stage;

async fn members(stage: &Stage, user: UserId, id: ConversationId) -> Vec<UserId> {
    let page = stage.store.channel_members(user, id, all()).await.expect("lists");
    page.items.iter().map(|member| member.user_id).collect()
}

/// Private ones count, deleted ones do not.
pub async fn channel_names_are_unique_in_their_workspace(stage: &Stage) {
    let [ada, bob] = stage.people(["ada", "bob"]).await;
    let (team, other) = (stage.team_of(ada, [bob]).await, stage.team(ada).await);
    let secret = stage.private(ada, &team, "secret").await;
    conflict(
        stage.store.create_channel(stage.by(bob), stage.new_channel(&team, "secret", false)).await,
    );
    conflict(
        stage.store.create_channel(stage.by(bob), stage.new_channel(&team, "general", false)).await,
    );
    stage.channel(ada, &other, "secret").await;
    stage.store.delete_channel(stage.by(ada), secret, stage.at()).await.expect("deletes");
    stage.channel(bob, &team, "secret").await;
}

/// Alone, with nothing in it.
pub async fn a_new_channel_has_its_creator_in_it(stage: &Stage) {
    let [ada, eve] = stage.people(["ada", "eve"]).await;
    let team = stage.team(ada).await;
    let entry = stage.entry(ada, &team, "news", false).await;
    assert!(entry.entered && entry.summary.joined && entry.summary.can_post);
    let channel = &entry.summary.conversation;
    assert_eq!((channel.kind, channel.workspace_id), (ConversationKind::Channel, team.id));
    assert_eq!((channel.name.as_deref(), channel.topic.as_deref()), (Some("news"), Some("")));
    assert_eq!((channel.rev, channel.last_seq, &channel.member_ids), (Rev(0), Seq(0), &None));
    assert_eq!(members(stage, ada, channel.id).await, [ada]);
    assert_eq!(stage.store.summary(ada, channel.id).await.ok(), Some(entry.summary));
    not_found(
        stage.store.create_channel(stage.by(eve), stage.new_channel(&team, "mine", false)).await,
    );
}

/// From admins too.
pub async fn private_channels_are_hidden(stage: &Stage) {
    let [ada, bob] = stage.people(["ada", "bob"]).await;
    let team = stage.team_of(ada, [bob]).await;
    let secret = stage.private(bob, &team, "secret").await;
    not_found(stage.store.summary(ada, secret).await);
    not_found(stage.store.join_channel(stage.by(ada), secret, stage.at()).await);
    not_found(stage.store.channel_members(ada, secret, all()).await);
    not_found(stage.store.mark_read(ada, secret, Seq(0)).await);
    not_found(stage.store.delete_channel(stage.by(ada), secret, stage.at()).await);
    not_found(stage.store.permit(ada, secret, Action::Read).await);
    let seen = stage.store.channels(ada, team.id, all()).await.expect("lists").items;
    assert_eq!(seen.iter().map(|s| s.conversation.id).collect::<Vec<_>>(), [team.general]);
    assert_eq!(
        stage.store.channels(bob, team.id, all()).await.map(|p| p.items.len()).ok(),
        Some(2)
    );
}

/// Twice each.
pub async fn joining_and_leaving(stage: &Stage) {
    let [ada, bob, eve] = stage.people(["ada", "bob", "eve"]).await;
    let team = stage.team_of(ada, [bob]).await;
    let news = stage.channel(ada, &team, "news").await;
    let guest = stage.store.summary(bob, news).await.expect("reads");
    assert!(!guest.joined && !guest.can_post);
    let first = stage.join(bob, news).await;
    assert!(
        first.entered
            && first.summary.joined
            && first.summary.can_post
            && first.membership.user_id == bob
    );
    let again = stage.join(bob, news).await;
    assert!(!again.entered && again.summary.joined);
    assert_eq!((again.membership, again.access_rev), (first.membership, first.access_rev));
    assert_eq!(members(stage, ada, news).await, [ada, bob]);
    stage.store.remove_channel_member(stage.by(bob), news, bob).await.expect("leaves");
    assert_eq!(members(stage, bob, news).await, [ada]);
    assert_eq!(
        stage.store.summary(bob, news).await.map(|s| (s.joined, s.can_post)).ok(),
        Some((false, false))
    );
    not_found(stage.store.join_channel(stage.by(eve), news, stage.at()).await);
}

/// With everybody in it.
pub async fn general_stays(stage: &Stage) {
    let [ada, bob] = stage.people(["ada", "bob"]).await;
    let team = stage.team_of(ada, [bob]).await;
    conflict(stage.store.remove_channel_member(stage.by(bob), team.general, bob).await);
    conflict(stage.store.remove_channel_member(stage.by(ada), team.general, bob).await);
    conflict(stage.store.delete_channel(stage.by(ada), team.general, stage.at()).await);
    forbidden(stage.store.delete_channel(stage.by(bob), team.general, stage.at()).await);
    assert_eq!(members(stage, ada, team.general).await, [ada, bob]);
}

/// By admins, and by the creator of a private channel.
pub async fn members_are_added_by_permission(stage: &Stage) {
    let [ada, bob, eve, out] = stage.people(["ada", "bob", "eve", "out"]).await;
    let team = stage.team_of(ada, [bob, eve]).await;
    let (news, secret) =
        (stage.channel(bob, &team, "news").await, stage.private(bob, &team, "secret").await);
    forbidden(stage.store.add_channel_member(stage.by(bob), news, eve, stage.at()).await);
    let added =
        stage.store.add_channel_member(stage.by(ada), news, eve, stage.at()).await.expect("adds");
    assert!(added.entered && added.membership.user_id == eve && added.summary.joined);
    let again = stage
        .store
        .add_channel_member(stage.by(ada), news, eve, stage.at())
        .await
        .expect("changes nothing");
    assert!(!again.entered && again.access_rev == added.access_rev);
    not_found(stage.store.add_channel_member(stage.by(ada), secret, eve, stage.at()).await);
    stage.store.add_channel_member(stage.by(bob), secret, eve, stage.at()).await.expect("adds");
    forbidden(stage.store.add_channel_member(stage.by(eve), secret, ada, stage.at()).await);
    not_found(stage.store.add_channel_member(stage.by(bob), secret, out, stage.at()).await);
    assert_eq!(members(stage, eve, secret).await, [bob, eve]);
}

/// By admins who can see it, and by themselves.
pub async fn members_are_removed_by_permission(stage: &Stage) {
    let [ada, bob, eve] = stage.people(["ada", "bob", "eve"]).await;
    let team = stage.team_of(ada, [bob, eve]).await;
    let secret = stage.private(bob, &team, "secret").await;
    stage.store.add_channel_member(stage.by(bob), secret, eve, stage.at()).await.expect("adds");
    forbidden(stage.store.remove_channel_member(stage.by(bob), secret, eve).await);
    not_found(stage.store.remove_channel_member(stage.by(ada), secret, eve).await);
    stage.store.add_channel_member(stage.by(bob), secret, ada, stage.at()).await.expect("adds");
    stage.store.remove_channel_member(stage.by(ada), secret, eve).await.expect("removes");
    not_found(stage.store.summary(eve, secret).await);
    stage.store.remove_channel_member(stage.by(bob), secret, bob).await.expect("leaves");
    not_found(stage.store.summary(bob, secret).await);
    assert_eq!(members(stage, ada, secret).await, [ada]);
}

/// Oldest first.
pub async fn lists_go_by_pages(stage: &Stage) {
    let [ada, bob, eve, dan] = stage.people(["ada", "bob", "eve", "dan"]).await;
    let team = stage.team_of(ada, [bob, eve, dan]).await;
    let (b, a) = (stage.channel(ada, &team, "b").await, stage.channel(bob, &team, "a").await);
    let mut dms = Vec::new();
    for peer in [eve, bob, dan] {
        dms.push(stage.dm(ada, &team, peer).await.expect("opens").mine.conversation.id);
    }
    for user in [dan, bob, eve] {
        stage.join(user, b).await;
    }
    let seen = by_twos(|page| stage.store.channels(ada, team.id, page)).await;
    assert_eq!(seen.iter().map(|s| s.conversation.id).collect::<Vec<_>>(), [team.general, b, a]);
    assert_eq!(seen.iter().map(|s| s.joined).collect::<Vec<_>>(), [true, true, false]);
    let seen = by_twos(|page| stage.store.dms(ada, team.id, page)).await;
    assert_eq!(seen.iter().map(|s| s.conversation.id).collect::<Vec<_>>(), dms);
    let seen = by_twos(|page| stage.store.conversations(ada, page)).await;
    let mine: Vec<_> = [team.general, b].into_iter().chain(dms).collect();
    assert_eq!(seen.iter().map(|s| s.conversation.id).collect::<Vec<_>>(), mine);
    let seen = by_twos(|page| stage.store.channel_members(ada, b, page)).await;
    assert_eq!(seen.iter().map(|m| m.user_id).collect::<Vec<_>>(), [ada, dan, bob, eve]);
}

/// For everybody, with its messages.
pub async fn a_deleted_channel_is_gone(stage: &Stage) {
    let [ada, bob] = stage.people(["ada", "bob"]).await;
    let team = stage.team_of(ada, [bob]).await;
    let news = stage.channel(bob, &team, "news").await;
    let message = stage.send(bob, news, "hello").await;
    forbidden(stage.store.delete_channel(stage.by(bob), news, stage.at()).await);
    stage.store.delete_channel(stage.by(ada), news, stage.at()).await.expect("deletes");
    for user in [ada, bob] {
        not_found(stage.store.summary(user, news).await);
        not_found(stage.store.message(user, message.id).await);
        not_found(stage.store.join_channel(stage.by(user), news, stage.at()).await);
        not_found(stage.try_send(user, news, "again", "hello").await);
    }
    not_found(stage.store.delete_channel(stage.by(ada), news, stage.at()).await);
    let mine = stage.store.conversations(bob, all()).await.expect("lists").items;
    assert_eq!(mine.iter().map(|s| s.conversation.id).collect::<Vec<_>>(), [team.general]);
}

/// Whoever opens it.
pub async fn a_pair_has_one_dm(stage: &Stage) {
    let [ada, bob, eve] = stage.people(["ada", "bob", "eve"]).await;
    let team = stage.team_of(ada, [bob, eve]).await;
    let opened = stage.dm(ada, &team, bob).await.expect("opens");
    let theirs = opened.theirs.expect("is new");
    assert!(opened.mine.joined && opened.mine.can_post && theirs.joined && theirs.can_post);
    let dm = &opened.mine.conversation;
    let mut pair = vec![ada, bob];
    pair.sort_unstable();
    assert_eq!(
        (dm.kind, &dm.name, dm.member_ids.as_ref()),
        (ConversationKind::Dm, &None, Some(&pair))
    );
    for (actor, peer) in [(ada, bob), (bob, ada)] {
        let again = stage.dm(actor, &team, peer).await.expect("finds");
        assert_eq!((again.mine.conversation.id, again.theirs), (dm.id, None));
    }
    not_found(stage.store.summary(eve, dm.id).await);
    let other = stage.dm(eve, &team, ada).await.expect("opens").mine.conversation.id;
    assert_ne!(other, dm.id);
    let elsewhere = stage.team_of(ada, [bob]).await;
    let there = stage.dm(ada, &elsewhere, bob).await.expect("opens");
    assert!(there.theirs.is_some() && there.mine.conversation.id != dm.id);
}

/// Otherwise they are indistinguishable from nobody.
pub async fn both_sides_of_a_dm_must_be_in_the_workspace(stage: &Stage) {
    let [ada, eve] = stage.people(["ada", "eve"]).await;
    let team = stage.team(ada).await;
    not_found(stage.dm(ada, &team, eve).await);
    not_found(stage.dm(eve, &team, ada).await);
    not_found(stage.dm(ada, &team, UserId(stage.ambient.next_uuid())).await);
    // And they are two.
    assert!(matches!(refused(stage.dm(ada, &team, ada).await), Error::Validation(_)));
}

/// By the one who stayed.
pub async fn a_dm_alone_can_be_read_only(stage: &Stage) {
    let [ada, bob] = stage.people(["ada", "bob"]).await;
    let team = stage.team_of(ada, [bob]).await;
    let dm = stage.dm(bob, &team, ada).await.expect("opens").mine.conversation.id;
    let message = stage.send(bob, dm, "good bye").await;
    stage.store.remove_member(stage.by(ada), team.id, bob).await.expect("removes");
    let summary = stage.store.summary(ada, dm).await.expect("reads");
    assert!(summary.joined && !summary.can_post);
    assert_eq!(stage.dm(ada, &team, bob).await.expect("finds").mine, summary);
    not_found(stage.dm(bob, &team, ada).await);
    assert_eq!(stage.store.message(ada, message.id).await.ok(), Some(message.clone()));
    forbidden(stage.try_send(ada, dm, "1", "are you there").await);
    forbidden(stage.react(ada, &message, "+1").await);
    forbidden(stage.store.permit(ada, dm, Action::Post).await);
    not_found(stage.store.permit(ada, dm, Action::ListMembers).await);
    stage.store.permit(ada, dm, Action::Read).await.expect("may read");
    assert!(stage.store.mark_read(ada, dm, Seq(1)).await.expect("may mark").advanced);
    assert!(stage.store.snapshot(ada).await.expect("reads").conversations.iter().any(
        |e| e.summary == {
            let mut read = summary.clone();
            read.read = ReadState { read_seq: Seq(1), unread_count: 0, mention_count: 0 };
            read
        }
    ));
}

/// A sample of it; the domain tests the whole.
pub async fn permission_is_that_of_the_matrix(stage: &Stage) {
    let [ada, bob, eve] = stage.people(["ada", "bob", "eve"]).await;
    let team = stage.team_of(ada, [bob]).await;
    let news = stage.channel(bob, &team, "news").await;
    let permit = |user, action| stage.store.permit(user, news, action);
    permit(ada, Action::Read).await.expect("a guest reads");
    permit(ada, Action::Update).await.expect("an admin updates from outside");
    forbidden(permit(ada, Action::Post).await);
    permit(bob, Action::Post).await.expect("a member posts");
    forbidden(permit(bob, Action::Update).await);
    not_found(permit(eve, Action::Read).await);
    not_found(
        stage.store.permit(ada, ConversationId(stage.ambient.next_uuid()), Action::Read).await,
    );
}
