//! Cases of [`parlance_application::ports::store::Messages`]: history and replay.

use std::pin::pin;

use futures::future::{Either, select};
use parlance_application::{
    Error, Unauthenticated,
    ports::store::{HistoryQuery, Principal, Reader, ReplayPage, ReplayQuery},
};
use parlance_domain::{ConversationId, Rev, Seq, UserId};

use super::{
    messages::{rename, scene},
    not_found,
};
use crate::Stage;

async fn replay(
    stage: &Stage,
    id: ConversationId,
    from_rev: Rev,
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
    let query = HistoryQuery { before_seq: before.map(Seq), after_seq: after.map(Seq), limit: 3 };
    let page = stage.store.history(user, id, query).await.expect("reads");
    (page.items.iter().map(|m| m.seq.0).collect(), page.next.map(u64::from))
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
    assert_eq!(stage.store.history(bob, here, query).await.map(|page| page.rev).ok(), Some(Rev(7)));
    not_found(stage.store.history(eve, here, query).await);
}

/// In their places, and the current state of the others.
pub async fn history_shows_tombstones(stage: &Stage) {
    let (team, [ada, ..]) = scene(stage).await;
    let (one, two) =
        (stage.send(ada, team.general, "one").await, stage.send(ada, team.general, "two").await);
    let gone = Stage::message(&stage.delete(ada, &one).await.expect("deletes"));
    let edited = Stage::message(&stage.edit(ada, &two, "2").await.expect("edits"));
    let query = HistoryQuery { before_seq: None, after_seq: None, limit: 200 };
    let page = stage.store.history(ada, team.general, query).await.expect("reads");
    assert_eq!((page.items, page.next, page.rev), (vec![edited, gone], None, Rev(4)));
}

/// While somebody edits one message after another.
pub async fn history_is_of_one_moment(stage: &Stage) {
    const MESSAGES: u64 = 4;
    let (team, [ada, bob, _]) = scene(stage).await;
    let here = team.general;
    let mut messages = Vec::new();
    for n in 0..MESSAGES {
        messages.push(stage.send(ada, here, &n.to_string()).await);
    }
    let query = HistoryQuery { before_seq: None, after_seq: None, limit: 200 };
    let edits = async {
        for (n, message) in messages.iter().cycle().take(40).enumerate() {
            stage.edit(ada, message, &format!("edited {n}")).await.expect("edits");
        }
    };
    let mut edits = pin!(edits);
    let mut done = false;
    while !done {
        let page = stage.store.history(bob, here, query);
        let page = match select(&mut edits, page).await {
            Either::Left(((), page)) => {
                done = true;
                page.await
            }
            Either::Right((page, _)) => page,
        };
        let page = page.expect("reads");
        let mut revs: Vec<u64> = page.items.iter().map(|message| message.rev.0).collect();
        revs.sort_unstable();
        let expected: Vec<u64> = (page.rev.0 + 1 - MESSAGES..=page.rev.0).collect();
        assert_eq!(revs, expected, "at rev {}", page.rev);
    }
}

/// Even for those who have read it before: a member and a guest of a public channel, a member of a private one, both
/// sides of a DM.
pub async fn history_ends_with_access(stage: &Stage) {
    let (team, [ada, bob, eve]) = scene(stage).await;
    let (news, secret) =
        (stage.channel(ada, &team, "news").await, stage.private(ada, &team, "secret").await);
    stage.store.add_channel_member(stage.by(ada), secret, bob, stage.at()).await.expect("adds");
    stage.enter(&team, eve).await;
    let dm = stage.dm(bob, &team, eve).await.expect("opens").mine.conversation.id;
    let here = [team.general, news, secret, dm];
    for at in here {
        let author = if at == dm { bob } else { ada };
        stage.send(author, at, "hello").await;
        for _ in 0..3 {
            assert_eq!(history(stage, bob, at, None, None).await, (vec![1], None));
        }
    }
    assert_eq!(history(stage, eve, dm, None, None).await, (vec![1], None));
    let query = HistoryQuery { before_seq: None, after_seq: None, limit: 3 };

    stage.store.remove_channel_member(stage.by(ada), secret, bob).await.expect("removes");
    not_found(stage.store.history(bob, secret, query).await);
    stage.store.add_channel_member(stage.by(ada), secret, bob, stage.at()).await.expect("adds");
    assert_eq!(history(stage, bob, secret, None, None).await, (vec![1], None));

    stage.store.remove_member(stage.by(ada), team.id, bob).await.expect("removes");
    for at in here {
        not_found(stage.store.history(bob, at, query).await);
    }
    for at in [team.general, news, dm] {
        assert_eq!(history(stage, eve, at, None, None).await, (vec![1], None));
    }
    stage.store.delete_channel(stage.by(ada), news, stage.at()).await.expect("deletes");
    not_found(stage.store.history(ada, news, query).await);
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
    let page = replay(stage, here, Rev(0), 10, 10_000).await;
    assert_eq!(
        (page.from_rev, page.to_rev, page.complete, page.reset),
        (Rev(0), Rev(7), true, false)
    );
    assert_eq!(page.messages, [d, b.clone(), a.clone(), c.clone()]);
    assert_eq!(
        page.conversation,
        stage.store.summary(ada, here).await.expect("reads").conversation
    );
    let page = replay(stage, here, Rev(4), 10, 10_000).await;
    assert_eq!((page.from_rev, page.messages), (Rev(4), vec![b, a, c]));
    let page = replay(stage, here, Rev(7), 10, 10_000).await;
    assert_eq!(
        (page.from_rev, page.to_rev, page.complete, page.reset),
        (Rev(7), Rev(7), true, false)
    );
    assert_eq!(page.messages, []);
    stage.change(ada, here, rename(None, Some("new topic"))).await.expect("changes the topic");
    let page = replay(stage, here, Rev(7), 10, 10_000).await;
    assert_eq!((page.to_rev, page.complete, page.messages.len()), (Rev(8), true, 0));
    assert_eq!(page.conversation.topic.as_deref(), Some("new topic"));
}

/// Each ends where the next begins.
pub async fn replay_goes_by_pages(stage: &Stage) {
    let (team, [ada, ..]) = scene(stage).await;
    let drafts = (1..=5).map(|n| stage.draft(ada, &n.to_string(), "hello")).collect();
    stage.append(team.general, drafts).await;
    let first = replay(stage, team.general, Rev(0), 2, 10_000).await;
    assert_eq!((first.from_rev, first.to_rev, first.complete), (Rev(0), Rev(2), false));
    let second = replay(stage, team.general, Rev(2), 2, 10_000).await;
    assert_eq!((second.from_rev, second.to_rev, second.complete), (Rev(2), Rev(4), false));
    let last = replay(stage, team.general, Rev(4), 2, 10_000).await;
    assert_eq!((last.from_rev, last.to_rev, last.complete), (Rev(4), Rev(5), true));
    let all = [first.messages, second.messages, last.messages].concat();
    assert_eq!(all.iter().map(|m| m.rev.0).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    let exact = replay(stage, team.general, Rev(3), 2, 10_000).await;
    assert_eq!((exact.to_rev, exact.complete, exact.messages.len()), (Rev(5), true, 2));
}

/// But brings one at least.
pub async fn replay_keeps_to_its_budget(stage: &Stage) {
    let (team, [ada, ..]) = scene(stage).await;
    for n in 0..5 {
        stage
            .try_send(ada, team.general, &n.to_string(), &"\"".repeat(1_000))
            .await
            .expect("sends");
    }
    let one = replay(stage, team.general, Rev(0), 10, 1).await;
    assert_eq!((one.messages.len(), one.to_rev, one.complete), (1, Rev(1), false));
    let some = replay(stage, team.general, Rev(0), 10, 9_000).await;
    let json = serde_json::to_string(&some.messages).expect("encodes");
    assert!(json.len() <= 9_000, "{} bytes", json.len());
    assert!((2..=4).contains(&some.messages.len()), "{} messages", some.messages.len());
    assert_eq!((some.to_rev, some.complete), (Rev(some.messages.len() as u64), false));
    let last = replay(stage, team.general, Rev(4), 10, 1).await;
    assert_eq!((last.messages.len(), last.to_rev, last.complete), (1, Rev(5), true));
}

/// For every cursor, and never less than it is.
pub async fn weights_are_those_of_replays(stage: &Stage) {
    let (team, [ada, bob, _]) = scene(stage).await;
    let (here, other) = (team.general, stage.private(ada, &team, "other").await);
    for n in 0..3 {
        let text = "\"\\\n".repeat(300);
        stage.try_send(ada, here, &n.to_string(), &text).await.expect("sends");
    }
    let marked = stage.send(ada, here, "marked").await;
    for person in [ada, bob] {
        stage.react(person, &marked, "+1").await.expect("reacts");
    }
    let cursors = [(here, 0), (other, 0), (here, 3), (here, 6)];
    let cursors = cursors.map(|(conversation, rev)| (conversation, Rev(rev))).to_vec();
    let weights = stage.store.weigh(cursors.clone(), 1_000_000).await.expect("weighs");
    assert_eq!(weights.len(), 4);
    for ((conversation, from_rev), weight) in cursors.into_iter().zip(&weights) {
        let page = replay(stage, conversation, from_rev, 200, 1_000_000).await;
        let bytes = serde_json::to_string(&page.messages).expect("encodes").len();
        assert!(page.complete && *weight + 2 >= bytes, "{weight} for {bytes} bytes");
        assert!(*weight <= bytes + 1_500 * page.messages.len(), "{weight} for {bytes} bytes");
    }
    let too_much = stage.store.weigh(vec![(here, Rev(0))], 1_000).await.expect("weighs");
    assert!(too_much[0] > 1_000, "{too_much:?}");
}

/// To nothing.
pub async fn replay_beyond_the_head_resets(stage: &Stage) {
    let (team, [ada, ..]) = scene(stage).await;
    stage.send(ada, team.general, "hello").await;
    let page = replay(stage, team.general, Rev(2), 10, 10_000).await;
    assert!(page.reset);
    assert_eq!((page.from_rev, page.messages.len(), page.conversation.rev), (Rev(0), 0, Rev(1)));
}

/// And for nodes.
pub async fn replay_is_for_readers(stage: &Stage) {
    let (team, [ada, bob, eve]) = scene(stage).await;
    let secret = stage.private(ada, &team, "secret").await;
    let message = stage.send(ada, secret, "hello").await;
    let query = ReplayQuery { from_rev: Rev(0), limit: 10, budget: 10_000 };
    for reader in [Reader::Session(stage.by(ada)), Reader::Node] {
        let page = stage.store.replay(reader, secret, query).await.expect("reads");
        assert_eq!(page.messages, std::slice::from_ref(&message));
    }
    for user in [bob, eve] {
        not_found(stage.store.replay(Reader::Session(stage.by(user)), secret, query).await);
    }
    let session = stage.session(bob);
    stage.store.open_session(session.clone(), &Stage::hash()).await.expect("opens");
    let by = Principal { user: bob, session: session.id };
    let (as_guest, as_listener) = (Reader::Session(by), Reader::Listener(by));
    let public = stage.channel(ada, &team, "public").await;
    assert!(stage.store.replay(as_guest, public, query).await.is_ok());
    not_found(stage.store.replay(as_listener, public, query).await);
    stage.join(bob, public).await;
    assert!(stage.store.replay(as_listener, public, query).await.is_ok());
    stage.store.revoke_session(bob, session.id, stage.at()).await.expect("revokes");
    for reader in [as_guest, as_listener] {
        let refused = stage.store.replay(reader, public, query).await;
        assert!(matches!(refused, Err(Error::Unauthenticated(Unauthenticated::Revoked))));
    }
    let nowhere = ConversationId(stage.ambient.next_uuid());
    not_found(stage.store.replay(Reader::Node, nowhere, query).await);
}
