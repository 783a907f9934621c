//! Sends, replays and pages of history on SQLite, beyond the shared contract.

use parlance_application::{
    Error,
    ports::store::{
        Accounts, Change, ChannelUpdate, Committed, Conversations, HistoryQuery, MessageChange,
        Messages, Reader, ReplayQuery,
    },
};
use parlance_domain::{
    AccessRev, ChangeKind, ChannelName, ClientMsgId, Emoji, Message, Rev, Seq, Topic,
};

use crate::world::*;

fn react(n: u128, emoji: &str) -> Change {
    Change::Message(id(n), MessageChange::React(Emoji::parse(emoji).expect("an emoji")))
}

fn query(from_rev: Rev) -> ReplayQuery {
    ReplayQuery::after(from_rev)
}

#[tokio::test]
async fn sends_are_dense_and_idempotent_and_refusals_leave_no_trace() {
    let world = world().await;
    let mut answers = world
        .append(vec![
            send(ADA, 11, "a", "one"),
            send(BOB, 12, "a", "two"),
            send(ADA, 13, "a", "one"),
            send(ADA, 14, "a", "other"),
            write(BOB, Change::Message(id(11), MessageChange::Edit(text("mine")))),
            write(BOB, Change::Message(id(11), MessageChange::Delete)),
            write(ADA, Change::Message(id(99), MessageChange::Edit(text("what")))),
            send(ADA, 15, "b", "three"),
        ])
        .await
        .into_iter();
    let mut next = || answers.next().expect("an answer");
    let first = next().expect("the first is sent");
    assert_eq!(
        (first.change, first.access_rev),
        (Some((ChangeKind::Created, Rev(1))), AccessRev(2))
    );
    let second = message(next());
    assert_eq!((second.seq, second.rev), (Seq(2), Rev(2)));
    let again = next().expect("a duplicate");
    assert_eq!((again.subject, again.change), (first.subject, None));
    let other = next();
    assert!(
        matches!(other, Err(Error::Conflict { message_id: Some(found), .. }) if found == id(11)),
        "{other:?}"
    );
    assert!(
        matches!(next(), Err(Error::Forbidden(_))) && matches!(next(), Err(Error::Forbidden(_)))
    );
    assert!(not_found(next()));
    assert_eq!(message(next()).seq, Seq(3));

    // In another transaction too, after edits, and for a tombstone: the first text counts.
    message(
        world.one(write(ADA, Change::Message(id(11), MessageChange::Edit(text("one!"))))).await,
    );
    let again = world.one(send(ADA, 16, "a", "one")).await.expect("a duplicate");
    assert!(
        matches!(&again.subject, Committed::Message(m) if m.text == "one!" && m.id == id(11))
            && again.change.is_none()
    );
    assert!(conflict(world.one(send(ADA, 16, "a", "one!")).await));
    message(world.one(write(ADA, Change::Message(id(11), MessageChange::Delete))).await);
    assert!(message(world.one(send(ADA, 16, "a", "one")).await).deleted_at.is_some());

    let sent = world
        .store
        .sent(ADA, GENERAL, &ClientMsgId::parse("b").expect("a client's id"))
        .await
        .expect("reads");
    assert_eq!(sent, Some(id(15)));
    let summary = world.store.summary(BOB, GENERAL).await.expect("reads");
    assert_eq!((summary.conversation.last_seq, summary.conversation.rev), (Seq(3), Rev(5)));
    assert_eq!((summary.read.read_seq, summary.read.unread_count), (Seq(2), 1));
    let mark = world.store.mark_read(BOB, GENERAL, Seq(99)).await.expect("marks");
    assert!(mark.advanced && mark.read.read_seq == Seq(3) && mark.read.unread_count == 0);
    assert!(!world.store.mark_read(BOB, GENERAL, Seq(1)).await.expect("marks").advanced);
}

#[tokio::test]
async fn what_was_first_sent_is_known_however_often_it_changed() {
    let world = world().await;
    for (n, client) in [(11, "a"), (12, "b")] {
        message(world.one(send(ADA, n, client, "one")).await);
    }
    for words in ["two", "three"] {
        message(
            world.one(write(ADA, Change::Message(id(11), MessageChange::Edit(text(words))))).await,
        );
    }
    message(world.one(write(ADA, Change::Message(id(12), MessageChange::Delete))).await);
    for client in ["a", "b"] {
        for (words, same) in [("one", true), ("two", false), ("three", false)] {
            let again = world.one(send(ADA, 13, client, words)).await;
            assert_eq!(again.is_ok(), same, "{client} {words}");
            assert!(same || conflict(again));
        }
    }
}

#[tokio::test]
async fn replay_is_the_current_state_in_rev_order() {
    let world = world().await;
    for n in 11..=14 {
        message(world.one(send(ADA, n, &n.to_string(), "words")).await);
    }
    let edit = Change::Message(id(12), MessageChange::Edit(text("edited")));
    message(world.one(write(ADA, edit.clone())).await);
    assert_eq!(world.one(write(ADA, edit)).await.expect("is no error").change, None);
    message(world.one(write(BOB, react(11, "👍"))).await);
    message(world.one(write(ADA, react(13, "👍"))).await);
    message(world.one(write(ADA, Change::Message(id(13), MessageChange::Delete))).await);
    assert_eq!(
        world
            .one(write(ADA, Change::Message(id(13), MessageChange::Delete)))
            .await
            .expect("is no error")
            .change,
        None
    );
    assert!(conflict(world.one(write(ADA, react(13, "👍"))).await));
    let topic = Change::UpdateChannel(ChannelUpdate {
        name: None,
        topic: Some(Topic::parse("new").expect("a topic")),
    });
    assert_eq!(
        world.one(write(ADA, topic)).await.expect("updates").change,
        Some((ChangeKind::TopicChanged, Rev(9)))
    );

    let page =
        world.store.replay(Reader::Session(by(BOB)), GENERAL, query(Rev(1))).await.expect("reads");
    let shape: Vec<_> = page.messages.iter().map(|m| (m.id, m.rev.0)).collect();
    assert_eq!(shape, [(id(14), 4), (id(12), 5), (id(11), 6), (id(13), 8)]);
    assert!(page.complete && !page.reset && (page.from_rev, page.to_rev) == (Rev(1), Rev(9)));
    assert_eq!(page.conversation.topic.as_deref(), Some("new"));
    let [_, edited, marked, gone] = &page.messages[..] else { panic!("four") };
    assert!(edited.text == "edited" && edited.edited_at.is_some());
    assert_eq!((marked.reactions[0].count, &marked.reactions[0].user_ids[..]), (1, &[BOB][..]));
    assert!(gone.text.is_empty() && gone.reactions.is_empty() && gone.deleted_by == Some(ADA));

    let small = world
        .store
        .replay(Reader::Node, GENERAL, ReplayQuery { limit: 2, ..query(Rev(0)) })
        .await
        .expect("reads");
    assert!(!small.complete && small.to_rev == Rev(5) && small.messages.len() == 2);
    let tiny = world
        .store
        .replay(Reader::Node, GENERAL, ReplayQuery { budget: 1, ..query(Rev(5)) })
        .await
        .expect("reads");
    assert!(!tiny.complete && tiny.to_rev == Rev(6) && tiny.messages.len() == 1);
    let rest = world.store.replay(Reader::Node, GENERAL, query(Rev(8))).await.expect("reads");
    assert!(rest.complete && rest.to_rev == Rev(9) && rest.messages.is_empty());
    let beyond = world.store.replay(Reader::Node, GENERAL, query(Rev(10))).await.expect("reads");
    assert!(
        beyond.reset
            && beyond.complete
            && (beyond.from_rev, beyond.to_rev) == (Rev(0), Rev(9))
            && beyond.messages.is_empty()
    );
}

#[tokio::test]
async fn reactions_keep_their_order_and_their_bounds() {
    let world = world().await;
    message(world.one(send(ADA, 11, "a", "words")).await);
    for n in 0..Message::MAX_EMOJI {
        message(world.one(write(ADA, react(11, &format!(":{n}:")))).await);
    }
    let full = world.one(write(BOB, react(11, ":x:"))).await;
    assert!(
        matches!(&full, Err(Error::Validation(fields)) if fields[0].code == "too_many"),
        "{full:?}"
    );
    assert_eq!(message(world.one(write(BOB, react(11, ":3:"))).await).reactions[3].count, 2);
    assert_eq!(world.one(write(BOB, react(11, ":3:"))).await.expect("is no error").change, None);
    let undo = |n: &str| {
        Change::Message(id(11), MessageChange::Unreact(Emoji::parse(n).expect("an emoji")))
    };
    let left = message(world.one(write(ADA, undo(":3:"))).await);
    assert_eq!((left.reactions[3].count, &left.reactions[3].user_ids[..]), (1, &[BOB][..]));
    assert_eq!(world.one(write(ADA, undo(":3:"))).await.expect("is no error").change, None);
    let left = message(world.one(write(ADA, undo(":0:"))).await);
    assert_eq!((left.reactions.len(), left.reactions[0].emoji.as_str()), (19, ":1:"));
    assert_eq!(world.store.message(BOB, id(11)).await.expect("reads"), left);
}

#[tokio::test]
async fn a_name_is_taken_once() {
    let world = world().await;
    let rename = |name: &str| {
        let name = Some(ChannelName::parse(name).expect("a channel's name"));
        write(ADA, Change::UpdateChannel(ChannelUpdate { name, topic: None }))
    };
    let same = world.one(rename("general")).await.expect("is no error");
    assert_eq!(same.change, None);
    let renamed = world.one(rename("hall")).await.expect("renames");
    assert_eq!(renamed.change, Some((ChangeKind::Renamed, Rev(1))));
    assert!(
        matches!(renamed.subject, Committed::Conversation(c) if c.name.as_deref() == Some("hall") && c.rev == Rev(1))
    );
    let by_bob = Change::UpdateChannel(ChannelUpdate {
        name: None,
        topic: Some(Topic::parse("x").expect("a topic")),
    });
    assert!(matches!(world.one(write(BOB, by_bob)).await, Err(Error::Forbidden(_))));
}

#[tokio::test]
async fn history_pages_both_ways() {
    let world = world().await;
    let sends = (1..=5).map(|n| send(ADA, 10 + n, &n.to_string(), "words")).collect();
    world.append(sends).await;
    let page = async |before: Option<u64>, after: Option<u64>| {
        let (before_seq, after_seq) = (before.map(Seq), after.map(Seq));
        let query = HistoryQuery { before_seq, after_seq, limit: 2 };
        let page = world.store.history(BOB, GENERAL, query).await.expect("reads");
        assert_eq!(page.rev, Rev(5));
        (page.items.iter().map(|m| m.seq.0).collect::<Vec<_>>(), page.next.map(u64::from))
    };
    assert_eq!(page(None, None).await, (vec![5, 4], Some(4)));
    assert_eq!(page(Some(4), None).await, (vec![3, 2], Some(2)));
    assert_eq!(page(Some(2), None).await, (vec![1], None));
    assert_eq!(page(None, Some(3)).await, (vec![4, 5], None));
    assert_eq!(page(Some(5), Some(1)).await, (vec![2, 3], Some(3)));
    let people = world.store.people(BOB, vec![ADA, BOB, ADA]).await.expect("reads");
    assert_eq!(people.iter().map(|user| user.id).collect::<Vec<_>>(), [ADA, BOB]);
}
