//! Cases of [`parlance_application::ports::store::Messages`].

use parlance_application::{
    Error,
    ports::store::{Change, Committed, HistoryQuery, Reader, ReplayPage, ReplayQuery},
};
use parlance_domain::{ChangeKind, ChannelName, ConversationId, Message, MessageId, Topic, UserId};

use super::{conflict, forbidden, not_found, refused};
use crate::{Stage, Team, client_msg_id};

/// A workspace of an admin, a member, and one who is outside.
async fn scene(stage: &Stage) -> (Team, [UserId; 3]) {
    let [ada, bob, eve] = stage.people(["ada", "bob", "eve"]).await;
    (stage.team_of(ada, [bob]).await, [ada, bob, eve])
}

async fn replay(
    stage: &Stage,
    id: ConversationId,
    from_rev: u64,
    limit: usize,
    budget: usize,
) -> ReplayPage {
    stage
        .store
        .replay(Reader::Node, id, ReplayQuery { from_rev, limit, budget })
        .await
        .expect("reads")
}

async fn history(
    stage: &Stage,
    user: UserId,
    id: ConversationId,
    before: Option<u64>,
    after: Option<u64>,
) -> (Vec<u64>, Option<u64>) {
    let query = HistoryQuery { before_seq: before, after_seq: after, limit: 3 };
    let page = stage.store.history(user, id, query).await.expect("reads");
    (page.items.iter().map(|m| m.seq).collect(), page.next)
}

fn rename(name: Option<&str>, topic: Option<&str>) -> Change {
    Change::UpdateChannel {
        name: name.map(|name| ChannelName::parse(name).expect("valid")),
        topic: topic.map(|topic| Topic::parse(topic).expect("valid")),
    }
}

fn emoji(message: &Message) -> Vec<(&str, u64)> {
    message.reactions.iter().map(|r| (r.emoji.as_str(), r.count)).collect()
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
    let told = |n, text: &str, who| (n, n, text.to_owned(), Some(who));
    assert_eq!(seen, [told(1, "one", ada), told(2, "two", bob), told(3, "three", ada)]);
    let edited =
        stage.edit(ada, &stage.send(ada, team.general, "four").await, "4").await.expect("edits");
    assert_eq!(edited.change, Some((ChangeKind::Edited, 5)));
    let fifth = stage.send(ada, team.general, "five").await;
    assert_eq!((fifth.seq, fifth.rev), (5, 6));
    let conversation = stage.store.summary(ada, team.general).await.expect("reads").conversation;
    assert_eq!((conversation.last_seq, conversation.rev), (5, 6));
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
    assert_eq!(Stage::message(&outcomes[2]).seq, 2);
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
        Some(1)
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
        stage.write(ada, Change::Delete { message_id }),
        stage.draft(bob, "1", "two"),
    ];
    let mut outcomes = stage.append(team.general, writes).await.into_iter();
    assert_eq!(Stage::message(&outcomes.next().expect("four").expect("sends")).rev, 1);
    not_found(outcomes.next().expect("four"));
    not_found(outcomes.next().expect("four"));
    let last = Stage::message(&outcomes.next().expect("four").expect("sends"));
    assert_eq!((last.seq, last.rev), (2, 2));
}

/// Who may no longer send learns nothing of what they sent.
pub async fn access_comes_before_the_look_for_a_duplicate(stage: &Stage) {
    let (team, [ada, bob, eve]) = scene(stage).await;
    let news = stage.channel(ada, &team, "news").await;
    stage.join(bob, news).await;
    stage.try_send(bob, news, "1", "hello").await.expect("sends");
    stage.store.remove_channel_member(bob, news, bob).await.expect("leaves");
    forbidden(stage.try_send(bob, news, "1", "hello").await);
    forbidden(stage.try_send(bob, news, "1", "other").await);
    stage.store.remove_member(ada, team.id, bob).await.expect("removes");
    not_found(stage.try_send(bob, news, "1", "hello").await);
    not_found(stage.try_send(eve, news, "1", "hello").await);
    not_found(stage.try_send(ada, ConversationId(stage.ambient.next_uuid()), "1", "hello").await);
}

/// Not even an admin.
pub async fn only_the_author_edits(stage: &Stage) {
    let (team, [ada, bob, eve]) = scene(stage).await;
    let message = stage.send(bob, team.general, "hello").await;
    forbidden(stage.edit(ada, &message, "changed").await);
    not_found(stage.edit(eve, &message, "changed").await);
    let commit = stage.edit(bob, &message, "changed").await.expect("edits");
    let edited = Stage::message(&commit);
    assert_eq!(commit.change, Some((ChangeKind::Edited, 2)));
    assert_eq!((edited.text.as_str(), edited.rev, edited.seq), ("changed", 2, 1));
    assert!(edited.edited_at > Some(message.created_at));
    assert_eq!(stage.store.message(ada, message.id).await.ok(), Some(edited));
    stage.store.remove_member(ada, team.id, bob).await.expect("removes");
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
        assert_eq!(commit.change, Some((ChangeKind::Deleted, rev)));
        assert_eq!((tombstone.id, tombstone.seq, tombstone.rev), (message.id, message.seq, rev));
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

/// Each once.
pub async fn reactions_come_and_go(stage: &Stage) {
    let (team, [ada, bob, eve]) = scene(stage).await;
    let message = stage.send(ada, team.general, "hello").await;
    let commit = stage.react(bob, &message, "+1").await.expect("reacts");
    assert_eq!(commit.change, Some((ChangeKind::ReactionAdded, 2)));
    let marked = Stage::message(&commit);
    assert_eq!((emoji(&marked), marked.rev, marked.edited_at), (vec![("+1", 1)], 2, None));
    assert_eq!(marked.reactions[0].user_ids, [bob]);
    let again = stage.react(bob, &message, "+1").await.expect("changes nothing");
    assert_eq!((again.change, Stage::message(&again)), (None, marked));
    let second = stage.react(ada, &message, "+1").await.expect("reacts");
    assert_eq!(Stage::message(&second).reactions[0].user_ids, [bob, ada]);
    not_found(stage.react(eve, &message, "+1").await);

    let missing = stage.unreact(bob, &message, "-1").await.expect("changes nothing");
    assert_eq!(missing.change, None);
    let back = stage.unreact(bob, &message, "+1").await.expect("takes back");
    assert_eq!(back.change, Some((ChangeKind::ReactionRemoved, 4)));
    assert_eq!(Stage::message(&back).reactions[0].user_ids, [ada]);
    let none = stage.unreact(ada, &message, "+1").await.expect("takes back");
    assert_eq!(Stage::message(&none).reactions, []);
    assert_eq!(stage.store.message(bob, message.id).await.map(|m| m.reactions).ok(), Some(vec![]));
}

/// Not of the alphabet, nor of the count.
pub async fn reactions_are_in_order_of_first_use(stage: &Stage) {
    let (team, [ada, bob, _]) = scene(stage).await;
    let message = stage.send(ada, team.general, "hello").await;
    for (user, mark) in [(ada, "z"), (bob, "a"), (ada, "m"), (bob, "m"), (ada, "a")] {
        stage.react(user, &message, mark).await.expect("reacts");
    }
    let seen = stage.store.message(bob, message.id).await.expect("reads");
    assert_eq!(emoji(&seen), [("z", 1), ("a", 2), ("m", 2)]);
    let replayed = replay(stage, team.general, 0, 10, 10_000).await.messages;
    assert_eq!(replayed, [seen]);
}

/// Different ones; more people may use them.
pub async fn twenty_reactions_at_most(stage: &Stage) {
    let (team, [ada, bob, _]) = scene(stage).await;
    let message = stage.send(ada, team.general, "hello").await;
    for n in 0..Message::MAX_EMOJI {
        stage.react(ada, &message, &format!(":{n}:")).await.expect("reacts");
    }
    let error = refused(stage.react(bob, &message, ":one-more:").await);
    assert!(matches!(error, Error::Validation(_)), "not `Validation`: {error:?}");
    stage.react(bob, &message, ":7:").await.expect("reacts");
    stage.unreact(ada, &message, ":3:").await.expect("takes back");
    let full = Stage::message(&stage.react(bob, &message, ":one-more:").await.expect("reacts"));
    assert_eq!(full.reactions.len(), Message::MAX_EMOJI);
}

/// And counts all.
pub async fn a_reaction_names_fifty(stage: &Stage) {
    let ada = stage.person("ada").await;
    let team = stage.team(ada).await;
    let message = stage.send(ada, team.general, "hello").await;
    let mut people = Vec::new();
    for n in 0..=Message::REACTION_USERS {
        let user = stage.person(&format!("user{n}")).await;
        stage.enter(&team, user).await;
        stage.react(user, &message, "+1").await.expect("reacts");
        people.push(user);
    }
    let seen = stage.store.message(ada, message.id).await.expect("reads").reactions.remove(0);
    assert_eq!((seen.count, seen.user_ids), (51, people[..50].to_vec()));
}

/// With its messages.
pub async fn a_channel_is_renamed_in_order(stage: &Stage) {
    let (team, [ada, ..]) = scene(stage).await;
    let news = stage.channel(ada, &team, "news").await;
    stage.send(ada, news, "hello").await;
    let commit = stage.change(ada, news, rename(Some("olds"), None)).await.expect("renames");
    assert_eq!(commit.change, Some((ChangeKind::Renamed, 2)));
    let Committed::Conversation(channel) = commit.subject else { panic!("about the channel") };
    assert_eq!((channel.name.as_deref(), channel.rev, channel.last_seq), (Some("olds"), 2, 1));
    let commit =
        stage.change(ada, news, rename(None, Some("what was"))).await.expect("changes the topic");
    assert_eq!(commit.change, Some((ChangeKind::TopicChanged, 3)));
    let same = stage
        .change(ada, news, rename(Some("olds"), Some("what was")))
        .await
        .expect("changes nothing");
    assert_eq!(same.change, None);
    let both =
        stage.change(ada, news, rename(Some("news"), Some("new"))).await.expect("changes both");
    assert_eq!(both.change.map(|(_, rev)| rev), Some(4));
    let seen = stage.store.summary(ada, news).await.expect("reads").conversation;
    assert_eq!(
        (seen.name.as_deref(), seen.topic.as_deref(), seen.rev),
        (Some("news"), Some("new"), 4)
    );
    conflict(stage.change(ada, news, rename(Some("general"), None)).await);
    assert_eq!(stage.send(ada, news, "still").await.rev, 5);
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

/// To both ends.
pub async fn history_goes_both_ways(stage: &Stage) {
    let (team, [ada, bob, eve]) = scene(stage).await;
    let here = team.general;
    assert_eq!(history(stage, bob, here, None, None).await, (vec![], None));
    let drafts = (1..=7).map(|n| stage.draft(ada, &n.to_string(), "hello")).collect();
    stage.append(here, drafts).await;
    assert_eq!(history(stage, bob, here, None, None).await, (vec![7, 6, 5], Some(5)));
    assert_eq!(history(stage, bob, here, Some(5), None).await, (vec![4, 3, 2], Some(2)));
    assert_eq!(history(stage, bob, here, Some(2), None).await, (vec![1], None));
    assert_eq!(history(stage, bob, here, Some(4), None).await, (vec![3, 2, 1], None));
    assert_eq!(history(stage, bob, here, None, Some(0)).await, (vec![1, 2, 3], Some(3)));
    assert_eq!(history(stage, bob, here, None, Some(3)).await, (vec![4, 5, 6], Some(6)));
    assert_eq!(history(stage, bob, here, None, Some(6)).await, (vec![7], None));
    assert_eq!(history(stage, bob, here, None, Some(4)).await, (vec![5, 6, 7], None));
    assert_eq!(history(stage, bob, here, None, Some(u64::MAX)).await, (vec![], None));
    let query = HistoryQuery { before_seq: None, after_seq: None, limit: 3 };
    assert_eq!(stage.store.history(bob, here, query).await.map(|page| page.rev).ok(), Some(7));
    not_found(stage.store.history(eve, here, query).await);
}

/// In their places, and the present state of the others.
pub async fn history_shows_tombstones(stage: &Stage) {
    let (team, [ada, ..]) = scene(stage).await;
    let (one, two) =
        (stage.send(ada, team.general, "one").await, stage.send(ada, team.general, "two").await);
    let gone = Stage::message(&stage.delete(ada, &one).await.expect("deletes"));
    let edited = Stage::message(&stage.edit(ada, &two, "2").await.expect("edits"));
    let query = HistoryQuery { before_seq: None, after_seq: None, limit: 200 };
    let page = stage.store.history(ada, team.general, query).await.expect("reads");
    assert_eq!((page.items, page.next, page.rev), (vec![edited, gone], None, 4));
}

/// Of rev.
pub async fn replay_is_current_state_in_order(stage: &Stage) {
    let (team, [ada, bob, _]) = scene(stage).await;
    let here = team.general;
    let (a, b, c, d) = (
        stage.send(ada, here, "a").await,
        stage.send(ada, here, "b").await,
        stage.send(ada, here, "c").await,
        stage.send(ada, here, "d").await,
    );
    let b = Stage::message(&stage.edit(ada, &b, "B").await.expect("edits"));
    let a = Stage::message(&stage.delete(ada, &a).await.expect("deletes"));
    let c = Stage::message(&stage.react(bob, &c, "+1").await.expect("reacts"));
    let page = replay(stage, here, 0, 10, 10_000).await;
    assert_eq!((page.from_rev, page.to_rev, page.complete, page.reset), (0, 7, true, false));
    assert_eq!(page.messages, [d, b.clone(), a.clone(), c.clone()]);
    assert_eq!(
        page.conversation,
        stage.store.summary(ada, here).await.expect("reads").conversation
    );
    let page = replay(stage, here, 4, 10, 10_000).await;
    assert_eq!((page.from_rev, page.messages), (4, vec![b, a, c]));
    let page = replay(stage, here, 7, 10, 10_000).await;
    assert_eq!((page.from_rev, page.to_rev, page.complete, page.reset), (7, 7, true, false));
    assert_eq!(page.messages, []);
    stage.change(ada, here, rename(None, Some("new topic"))).await.expect("changes the topic");
    let page = replay(stage, here, 7, 10, 10_000).await;
    assert_eq!((page.to_rev, page.complete, page.messages.len()), (8, true, 0));
    assert_eq!(page.conversation.topic.as_deref(), Some("new topic"));
}

/// Each ends where the next begins.
pub async fn replay_goes_by_pages(stage: &Stage) {
    let (team, [ada, ..]) = scene(stage).await;
    let drafts = (1..=5).map(|n| stage.draft(ada, &n.to_string(), "hello")).collect();
    stage.append(team.general, drafts).await;
    let first = replay(stage, team.general, 0, 2, 10_000).await;
    assert_eq!((first.from_rev, first.to_rev, first.complete), (0, 2, false));
    let second = replay(stage, team.general, 2, 2, 10_000).await;
    assert_eq!((second.from_rev, second.to_rev, second.complete), (2, 4, false));
    let last = replay(stage, team.general, 4, 2, 10_000).await;
    assert_eq!((last.from_rev, last.to_rev, last.complete), (4, 5, true));
    let all = [first.messages, second.messages, last.messages].concat();
    assert_eq!(all.iter().map(|m| m.rev).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    let exact = replay(stage, team.general, 3, 2, 10_000).await;
    assert_eq!((exact.to_rev, exact.complete, exact.messages.len()), (5, true, 2));
}

/// But brings one at least.
pub async fn replay_keeps_to_its_budget(stage: &Stage) {
    let (team, [ada, ..]) = scene(stage).await;
    for n in 0..5 {
        stage.try_send(ada, team.general, &n.to_string(), &"x".repeat(1_000)).await.expect("sends");
    }
    let one = replay(stage, team.general, 0, 10, 1).await;
    assert_eq!((one.messages.len(), one.to_rev, one.complete), (1, 1, false));
    let some = replay(stage, team.general, 0, 10, 2_500).await;
    assert!((2..=3).contains(&some.messages.len()), "{} messages", some.messages.len());
    assert_eq!((some.to_rev, some.complete), (some.messages.len() as u64, false));
    let last = replay(stage, team.general, 4, 10, 1).await;
    assert_eq!((last.messages.len(), last.to_rev, last.complete), (1, 5, true));
}

/// To nothing.
pub async fn replay_beyond_the_head_resets(stage: &Stage) {
    let (team, [ada, ..]) = scene(stage).await;
    stage.send(ada, team.general, "hello").await;
    let page = replay(stage, team.general, 2, 10, 10_000).await;
    assert!(page.reset);
    assert_eq!((page.from_rev, page.messages.len(), page.conversation.rev), (0, 0, 1));
}

/// And for nodes.
pub async fn replay_is_for_readers(stage: &Stage) {
    let (team, [ada, bob, eve]) = scene(stage).await;
    let secret = stage.private(ada, &team, "secret").await;
    let message = stage.send(ada, secret, "hello").await;
    let query = ReplayQuery { from_rev: 0, limit: 10, budget: 10_000 };
    for reader in [Reader::User(ada), Reader::Node] {
        let page = stage.store.replay(reader, secret, query).await.expect("reads");
        assert_eq!(page.messages, [message.clone()]);
    }
    for user in [bob, eve] {
        not_found(stage.store.replay(Reader::User(user), secret, query).await);
    }
    let nowhere = ConversationId(stage.ambient.next_uuid());
    not_found(stage.store.replay(Reader::Node, nowhere, query).await);
}

/// Whatever the store does at once.
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
        assert_eq!(message.seq, message.rev);
        seqs.push(message.seq);
    }
    seqs.sort_unstable();
    assert_eq!(seqs, (1..=40).collect::<Vec<_>>());
}
