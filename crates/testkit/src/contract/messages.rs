//! Cases of [`parlance_application::ports::store::Messages`]: what is sent, edited, deleted and renamed.

use futures::future::join_all;
use parlance_application::{
    Error, Unauthenticated,
    ports::store::{Change, ChannelUpdate, Committed, MessageChange},
};
use parlance_domain::{
    ChangeKind, ChannelName, ConversationId, Message, MessageId, Rev, Seq, Topic, UserId,
};

use super::{conflict, forbidden, not_found, refused};
use crate::{Stage, Team, client_msg_id, text};

/// A workspace of an admin, a member, and one who is outside.
pub(super) async fn scene(stage: &Stage) -> (Team, [UserId; 3]) {
    let [ada, bob, eve] = stage.people(["ada", "bob", "eve"]).await;
    (stage.team_of(ada, [bob]).await, [ada, bob, eve])
}

pub(super) fn rename(name: Option<&str>, topic: Option<&str>) -> Change {
    Change::UpdateChannel(ChannelUpdate {
        name: name.map(|name| ChannelName::parse(name).expect("valid")),
        topic: topic.map(|topic| Topic::parse(topic).expect("valid")),
    })
}

/// In the batch's order, and from one batch to the next.
pub async fn seq_and_rev_are_dense(stage: &Stage) {
    let (team, [ada, bob, _]) = scene(stage).await;
    let drafts = vec![
        stage.draft(ada, "1", "one"),
        stage.draft(bob, "1", "two"),
        stage.draft(ada, "2", "three"),
    ];
    let mut seen = Vec::new();
    for outcome in stage.append(team.general, drafts.clone()).await {
        let commit = outcome.expect("sends");
        let message = Stage::message(&commit);
        assert_eq!(commit.change, Some((ChangeKind::Created, message.rev)));
        seen.push((message.seq, message.rev, message.text, message.author_id));
    }
    let told = |n, text: &str, who| (Seq(n), Rev(n), text.to_owned(), Some(who));
    assert_eq!(seen, [told(1, "one", ada), told(2, "two", bob), told(3, "three", ada)]);
    let edited =
        stage.edit(ada, &stage.send(ada, team.general, "four").await, "4").await.expect("edits");
    assert_eq!(edited.change, Some((ChangeKind::Edited, Rev(5))));
    let fifth = stage.send(ada, team.general, "five").await;
    assert_eq!((fifth.seq, fifth.rev), (Seq(5), Rev(6)));
    let conversation = stage.store.summary(ada, team.general).await.expect("reads").conversation;
    assert_eq!((conversation.last_seq, conversation.rev), (Seq(5), Rev(6)));
    assert_eq!(conversation.last_message_at, Some(fifth.created_at));
}

/// By its id, and by the author's.
pub async fn a_send_is_found_again(stage: &Stage) {
    let (team, [ada, bob, eve]) = scene(stage).await;
    let draft = stage.draft(ada, "mine", "hello");
    let message = Stage::message(
        stage.append(team.general, vec![draft.clone()]).await[0].as_ref().expect("sends"),
    );
    let Change::Send(sent) = draft.change else { panic!("a send") };
    assert_eq!(
        (message.id, message.client_msg_id.as_str(), message.created_at),
        (sent.id, "mine", draft.at)
    );
    assert_eq!((message.conversation_id, message.workspace_id), (team.general, team.id));
    assert_eq!(stage.store.message(bob, message.id).await.ok(), Some(message.clone()));
    not_found(stage.store.message(eve, message.id).await);
    not_found(stage.store.message(ada, MessageId(stage.ambient.next_uuid())).await);
    let sent = |user, id: &'static str| async move {
        stage.store.sent(user, team.general, &client_msg_id(id)).await
    };
    assert_eq!(sent(ada, "mine").await.ok(), Some(Some(message.id)));
    assert_eq!(sent(ada, "other").await.ok(), Some(None));
    assert_eq!(sent(bob, "mine").await.ok(), Some(None));
    not_found(sent(eve, "mine").await);
    let news = stage.channel(ada, &team, "news").await;
    forbidden(stage.store.sent(bob, news, &client_msg_id("mine")).await);
}

/// And changes nothing.
pub async fn a_repeat_in_a_batch_is_a_duplicate(stage: &Stage) {
    let (team, [ada, ..]) = scene(stage).await;
    let drafts = vec![
        stage.draft(ada, "1", "hello"),
        stage.draft(ada, "1", "hello"),
        stage.draft(ada, "2", "you"),
    ];
    let outcomes: Vec<_> =
        stage.append(team.general, drafts).await.into_iter().map(|o| o.expect("sends")).collect();
    assert_eq!(Stage::message(&outcomes[1]), Stage::message(&outcomes[0]));
    assert_eq!(outcomes[1].change, None);
    assert_eq!(Stage::message(&outcomes[2]).seq, Seq(2));
}

/// As the message is now.
pub async fn a_repeat_later_is_a_duplicate(stage: &Stage) {
    let (team, [ada, bob, _]) = scene(stage).await;
    let first =
        Stage::message(&stage.try_send(ada, team.general, "1", "hello").await.expect("sends"));
    let marked = Stage::message(&stage.react(bob, &first, "+1").await.expect("reacts"));
    let again = stage.try_send(ada, team.general, "1", "hello").await.expect("is a duplicate");
    assert_eq!((again.change, Stage::message(&again)), (None, marked));
    assert_eq!(
        stage.store.summary(ada, team.general).await.map(|s| s.conversation.last_seq).ok(),
        Some(Seq(1))
    );
}

/// And names the message; in a batch too.
pub async fn another_text_under_the_same_id_conflicts(stage: &Stage) {
    let (team, [ada, ..]) = scene(stage).await;
    let drafts = vec![stage.draft(ada, "1", "hello"), stage.draft(ada, "1", "good bye")];
    let mut outcomes = stage.append(team.general, drafts).await;
    let second = outcomes.pop().expect("two");
    let first = Stage::message(outcomes.pop().expect("two").as_ref().expect("sends"));
    for outcome in [second, stage.try_send(ada, team.general, "1", "later").await] {
        let error = refused(outcome);
        assert!(
            matches!(error, Error::Conflict { message_id: Some(id), .. } if id == first.id),
            "names no message: {error:?}"
        );
    }
    assert_eq!(stage.store.message(ada, first.id).await.ok(), Some(first));
}

/// Nobody takes another's.
pub async fn client_ids_are_per_author_and_conversation(stage: &Stage) {
    let (team, [ada, bob, _]) = scene(stage).await;
    let news = stage.channel(ada, &team, "news").await;
    for (author, conversation) in [(ada, team.general), (bob, team.general), (ada, news)] {
        let commit = stage.try_send(author, conversation, "1", "hello").await.expect("sends");
        assert!(commit.change.is_some());
    }
}

/// Which stay dense.
pub async fn a_refused_write_leaves_its_neighbours(stage: &Stage) {
    let (team, [ada, bob, eve]) = scene(stage).await;
    let message_id = MessageId(stage.ambient.next_uuid());
    let writes = vec![
        stage.draft(ada, "1", "one"),
        stage.draft(eve, "1", "not in here"),
        stage.write(ada, Change::Message(message_id, MessageChange::Delete)),
        stage.draft(bob, "1", "two"),
    ];
    let mut outcomes = stage.append(team.general, writes).await.into_iter();
    assert_eq!(Stage::message(&outcomes.next().expect("four").expect("sends")).rev, Rev(1));
    not_found(outcomes.next().expect("four"));
    not_found(outcomes.next().expect("four"));
    let last = Stage::message(&outcomes.next().expect("four").expect("sends"));
    assert_eq!((last.seq, last.rev), (Seq(2), Rev(2)));
}

/// Sends only, so that a store may assume that all succeed: what is refused, or was sent before, takes no place.
pub async fn refused_sends_take_no_place(stage: &Stage) {
    let (team, [ada, bob, eve]) = scene(stage).await;
    let stands = async || {
        let summary = stage.store.summary(ada, team.general).await.expect("reads");
        let now = summary.conversation;
        (now.last_seq, now.rev, now.last_message_at)
    };
    let refused = vec![stage.draft(eve, "1", "not in here"), stage.draft(eve, "2", "nor here")];
    stage.append(team.general, refused).await.into_iter().for_each(not_found);
    assert_eq!(stands().await, (Seq(0), Rev(0), None));
    let writes = vec![
        stage.draft(ada, "1", "one"),
        stage.draft(eve, "1", "not in here"),
        stage.draft(bob, "1", "two"),
        stage.draft(ada, "1", "one"),
    ];
    let mut outcomes = stage.append(team.general, writes).await.into_iter();
    let mut next = || outcomes.next().expect("four");
    assert_eq!(Stage::message(&next().expect("sends")).seq, Seq(1));
    not_found(next());
    let two = Stage::message(&next().expect("sends"));
    assert_eq!((two.seq, next().expect("answers").change), (Seq(2), None));
    assert_eq!(stands().await, (Seq(2), Rev(2), Some(two.created_at)));
    let repeat = stage.try_send(bob, team.general, "1", "two").await.expect("answers");
    assert_eq!((repeat.change, stands().await), (None, (Seq(2), Rev(2), Some(two.created_at))));
    let three = stage.try_send(ada, team.general, "2", "three").await.expect("sends");
    assert_eq!(Stage::message(&three).seq, Seq(3));
}

/// Each is answered separately, however a store groups them.
pub async fn appends_to_many_conversations_at_once(stage: &Stage) {
    let (team, [ada, bob, eve]) = scene(stage).await;
    let channels = stage.channels(ada, &team, 10).await;
    for channel in &channels {
        stage.join(bob, *channel).await;
    }
    let first = channels.iter().enumerate().map(async |(n, channel)| {
        let writes = vec![
            stage.draft(ada, "1", &format!("{n} of ada")),
            stage.draft(bob, "1", &format!("{n} of bob")),
        ];
        stage.append(*channel, writes).await
    });
    let mut first_of_all = Vec::new();
    for (n, outcomes) in join_all(first).await.into_iter().enumerate() {
        let sent: Vec<_> =
            outcomes.iter().map(|sent| Stage::message(sent.as_ref().expect("sends"))).collect();
        let seen = sent.iter().map(|m| (m.conversation_id, m.seq, m.rev, m.text.clone()));
        let expected = [(1, "ada"), (2, "bob")];
        let expected =
            expected.map(|(at, who)| (channels[n], Seq(at), Rev(at), format!("{n} of {who}")));
        assert_eq!(seen.collect::<Vec<_>>(), expected);
        first_of_all.push(sent[0].clone());
    }
    // A repeat, nobody's conversation, an outsider, an edit, a name that is taken, and plain ones, all at once.
    let nowhere = ConversationId(stage.ambient.next_uuid());
    let edit = Change::Message(first_of_all[3].id, MessageChange::Edit(text("edited")));
    let elsewhere = Change::Message(first_of_all[5].id, MessageChange::Delete);
    let appends = vec![
        (channels[0], vec![stage.draft(ada, "1", "0 of ada")]),
        (nowhere, vec![stage.draft(ada, "2", "nowhere")]),
        (channels[2], vec![stage.draft(eve, "2", "not in here")]),
        (channels[3], vec![stage.write(ada, edit)]),
        (channels[4], vec![stage.write(ada, rename(Some("news-0"), None))]),
        (channels[6], vec![stage.write(ada, elsewhere)]),
        (channels[7], vec![stage.draft(bob, "2", "plain")]),
        (channels[8], vec![stage.draft(ada, "2", "plain")]),
    ];
    let answers = stage.store.append_each(appends).await;
    let mut outcomes = answers.into_iter().map(|one| one.expect("appends").remove(0));
    let mut next = || outcomes.next().expect("eight");
    let repeat = next().expect("answers");
    assert_eq!((repeat.change, Stage::message(&repeat)), (None, first_of_all[0].clone()));
    not_found(next());
    not_found(next());
    let edited = next().expect("edits");
    assert_eq!(edited.change, Some((ChangeKind::Edited, Rev(3))));
    assert_eq!(Stage::message(&edited).text, "edited");
    conflict(next());
    not_found(next());
    for channel in &channels[7..9] {
        let plain = Stage::message(&next().expect("sends"));
        assert_eq!((plain.conversation_id, plain.seq, plain.rev), (*channel, Seq(3), Rev(3)));
    }
    for (n, revs) in [2, 2, 2, 3, 2, 2, 2, 3, 3, 2].into_iter().enumerate() {
        let now = stage.store.summary(bob, channels[n]).await.expect("reads").conversation;
        let last = if matches!(n, 7 | 8) { 3 } else { 2 };
        assert_eq!((now.rev, now.last_seq), (Rev(revs), Seq(last)), "channel {n}");
    }
}

/// Whoever may no longer send learns nothing of what they sent.
pub async fn access_comes_before_the_look_for_a_duplicate(stage: &Stage) {
    let (team, [ada, bob, eve]) = scene(stage).await;
    let news = stage.channel(ada, &team, "news").await;
    stage.join(bob, news).await;
    stage.try_send(bob, news, "1", "hello").await.expect("sends");
    stage.store.remove_channel_member(stage.by(bob), news, bob).await.expect("leaves");
    forbidden(stage.try_send(bob, news, "1", "hello").await);
    forbidden(stage.try_send(bob, news, "1", "other").await);
    stage.store.remove_member(stage.by(ada), team.id, bob).await.expect("removes");
    not_found(stage.try_send(bob, news, "1", "hello").await);
    not_found(stage.try_send(eve, news, "1", "hello").await);
    not_found(stage.try_send(ada, ConversationId(stage.ambient.next_uuid()), "1", "hello").await);
}

/// A refusal that the next sign-in lifts is not one of the conversation's.
pub async fn an_ended_session_comes_before_everything(stage: &Stage) {
    let (ada, session) = stage.sign_up("ada").await;
    let team = stage.team(ada.id).await;
    let nowhere = ConversationId(stage.ambient.next_uuid());
    not_found(stage.try_send(ada.id, nowhere, "1", "hello").await);
    stage.store.revoke_session(ada.id, session.id, stage.at()).await.expect("ends");
    for place in [team.general, nowhere] {
        let sent = stage.try_send(ada.id, place, "1", "hello").await;
        let revoked = Error::Unauthenticated(Unauthenticated::Revoked);
        assert_eq!(sent.err().map(|error| error.to_string()), Some(revoked.to_string()));
    }
}

/// Not even an admin.
pub async fn only_the_author_edits(stage: &Stage) {
    let (team, [ada, bob, eve]) = scene(stage).await;
    let message = stage.send(bob, team.general, "hello").await;
    forbidden(stage.edit(ada, &message, "changed").await);
    not_found(stage.edit(eve, &message, "changed").await);
    let commit = stage.edit(bob, &message, "changed").await.expect("edits");
    let edited = Stage::message(&commit);
    assert_eq!(commit.change, Some((ChangeKind::Edited, Rev(2))));
    assert_eq!((edited.text.as_str(), edited.rev, edited.seq), ("changed", Rev(2), Seq(1)));
    assert!(edited.edited_at > Some(message.created_at));
    assert_eq!(stage.store.message(ada, message.id).await.ok(), Some(edited));
    stage.store.remove_member(stage.by(ada), team.id, bob).await.expect("removes");
    not_found(stage.edit(bob, &message, "again").await);
}

/// Not even the time.
pub async fn the_same_text_changes_nothing(stage: &Stage) {
    let (team, [ada, ..]) = scene(stage).await;
    let message = stage.send(ada, team.general, "hello").await;
    let commit = stage.edit(ada, &message, "hello").await.expect("changes nothing");
    assert_eq!((commit.change, Stage::message(&commit)), (None, message));
}

/// And nobody else.
pub async fn author_and_admin_delete(stage: &Stage) {
    let (team, [ada, bob, eve]) = scene(stage).await;
    let (bobs, adas) =
        (stage.send(bob, team.general, "hello").await, stage.send(ada, team.general, "you").await);
    stage.react(ada, &bobs, "+1").await.expect("reacts");
    forbidden(stage.delete(bob, &adas).await);
    not_found(stage.delete(eve, &bobs).await);
    for (actor, message, rev) in [(ada, &bobs, 4), (ada, &adas, 5)] {
        let commit = stage.delete(actor, message).await.expect("deletes");
        let tombstone = Stage::message(&commit);
        assert_eq!(commit.change, Some((ChangeKind::Deleted, Rev(rev))));
        assert_eq!(
            (tombstone.id, tombstone.seq, tombstone.rev),
            (message.id, message.seq, Rev(rev))
        );
        assert_eq!((tombstone.text.as_str(), tombstone.reactions.len()), ("", 0));
        assert_eq!(
            (tombstone.author_id, tombstone.created_at),
            (message.author_id, message.created_at)
        );
        assert_eq!(tombstone.deleted_by, Some(actor));
        assert!(tombstone.deleted_at.is_some());
        assert_eq!(stage.store.message(bob, message.id).await.ok(), Some(tombstone));
    }
    let own = stage.send(bob, team.general, "mine").await;
    stage.delete(bob, &own).await.expect("deletes");
}

/// An admin still deletes all, others not even their own.
pub async fn who_has_left_a_channel_deletes_as_an_admin_only(stage: &Stage) {
    let (team, [ada, bob, _]) = scene(stage).await;
    let news = stage.channel(ada, &team, "news").await;
    stage.join(bob, news).await;
    let (adas, bobs) = (stage.send(ada, news, "mine").await, stage.send(bob, news, "mine").await);
    for user in [ada, bob] {
        stage.store.remove_channel_member(stage.by(user), news, user).await.expect("leaves");
    }
    forbidden(stage.delete(bob, &bobs).await);
    stage.delete(ada, &bobs).await.expect("deletes another's");
    stage.delete(ada, &adas).await.expect("deletes her own");
}

/// Whoever asks.
pub async fn a_second_deletion_changes_nothing(stage: &Stage) {
    let (team, [ada, bob, _]) = scene(stage).await;
    let message = stage.send(bob, team.general, "hello").await;
    let tombstone = Stage::message(&stage.delete(bob, &message).await.expect("deletes"));
    for actor in [bob, ada] {
        let again = stage.delete(actor, &message).await.expect("changes nothing");
        assert_eq!((again.change, Stage::message(&again)), (None, tombstone.clone()));
    }
}

/// Nor is it marked.
pub async fn a_tombstone_is_not_changed(stage: &Stage) {
    let (team, [ada, ..]) = scene(stage).await;
    let message = stage.send(ada, team.general, "hello").await;
    stage.react(ada, &message, "+1").await.expect("reacts");
    let tombstone = Stage::message(&stage.delete(ada, &message).await.expect("deletes"));
    conflict(stage.edit(ada, &message, "changed").await);
    conflict(stage.react(ada, &message, "+1").await);
    assert_eq!(stage.store.message(ada, message.id).await.ok(), Some(tombstone));
}

/// Even by those who may read both.
pub async fn messages_of_other_conversations_are_not_found(stage: &Stage) {
    let (team, [ada, ..]) = scene(stage).await;
    let news = stage.channel(ada, &team, "news").await;
    let message = stage.send(ada, team.general, "hello").await;
    let astray = Message { conversation_id: news, ..message.clone() };
    not_found(stage.delete(ada, &astray).await);
    not_found(stage.edit(ada, &astray, "changed").await);
    not_found(stage.react(ada, &astray, "+1").await);
    assert_eq!(stage.store.message(ada, message.id).await.ok(), Some(message));
}

/// With its messages.
pub async fn a_channel_is_renamed_in_order(stage: &Stage) {
    let (team, [ada, ..]) = scene(stage).await;
    let news = stage.channel(ada, &team, "news").await;
    stage.send(ada, news, "hello").await;
    let commit = stage.change(ada, news, rename(Some("olds"), None)).await.expect("renames");
    assert_eq!(commit.change, Some((ChangeKind::Renamed, Rev(2))));
    let Committed::Conversation(channel) = commit.subject else { panic!("about the channel") };
    assert_eq!(
        (channel.name.as_deref(), channel.rev, channel.last_seq),
        (Some("olds"), Rev(2), Seq(1))
    );
    let commit =
        stage.change(ada, news, rename(None, Some("what was"))).await.expect("changes the topic");
    assert_eq!(commit.change, Some((ChangeKind::TopicChanged, Rev(3))));
    let same = stage
        .change(ada, news, rename(Some("olds"), Some("what was")))
        .await
        .expect("changes nothing");
    assert_eq!(same.change, None);
    let both =
        stage.change(ada, news, rename(Some("news"), Some("new"))).await.expect("changes both");
    assert_eq!(both.change.map(|(_, rev)| rev), Some(Rev(4)));
    let seen = stage.store.summary(ada, news).await.expect("reads").conversation;
    assert_eq!(
        (seen.name.as_deref(), seen.topic.as_deref(), seen.rev),
        (Some("news"), Some("new"), Rev(4))
    );
    conflict(stage.change(ada, news, rename(Some("general"), None)).await);
    assert_eq!(stage.send(ada, news, "still").await.rev, Rev(5));
}

/// And nobody a DM.
pub async fn only_admins_rename(stage: &Stage) {
    let (team, [ada, bob, eve]) = scene(stage).await;
    let news = stage.channel(bob, &team, "news").await;
    forbidden(stage.change(bob, news, rename(Some("mine"), None)).await);
    not_found(stage.change(eve, news, rename(Some("mine"), None)).await);
    stage.change(ada, news, rename(Some("ours"), None)).await.expect("renames from outside");
    let dm = stage.dm(ada, &team, bob).await.expect("opens").mine.conversation.id;
    forbidden(stage.change(ada, dm, rename(Some("us"), None)).await);
}

/// Whatever the store does concurrently.
pub async fn concurrent_appends_are_dense(stage: &Stage) {
    let (team, [ada, bob, _]) = scene(stage).await;
    let mut running = tokio::task::JoinSet::new();
    for n in 0..40 {
        let (store, draft) = (
            stage.store.clone(),
            stage.draft(if n % 2 == 0 { ada } else { bob }, &n.to_string(), "hello"),
        );
        running.spawn(async move { store.append(team.general, vec![draft]).await });
    }
    let mut seqs = Vec::new();
    while let Some(done) = running.join_next().await {
        let mut outcomes = done.expect("runs").expect("appends");
        let message = Stage::message(&outcomes.remove(0).expect("sends"));
        assert_eq!(message.seq.0, message.rev.0);
        seqs.push(message.seq.0);
    }
    seqs.sort_unstable();
    assert_eq!(seqs, (1..=40).collect::<Vec<_>>());
}
