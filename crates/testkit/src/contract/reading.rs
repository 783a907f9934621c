//! Cases of [`parlance_application::ports::store::Conversations`]: what a `hello` tells, read marks and changes of
//! access.

use parlance_application::{
    Result,
    ports::store::{Change, Commit, MessageChange, Reader, ReplayQuery},
};
use parlance_domain::{ConversationId, ReadState, Rev, Seq, UserId};

use super::forbidden;
use crate::Stage;

async fn read(stage: &Stage, user: UserId, id: ConversationId) -> ReadState {
    stage.store.summary(user, id).await.expect("reads").read
}

/// That one is in, the most recently active first.
pub async fn a_snapshot_tells_everything(stage: &Stage) {
    let [ada, bob] = stage.people(["ada", "bob"]).await;
    let team = stage.team_of(ada, [bob]).await;
    let news = stage.channel(ada, &team, "news").await;
    let unjoined = stage.channel(bob, &team, "unjoined").await;
    let dm = stage.dm(ada, &team, bob).await.expect("opens").mine.conversation.id;
    for conversation in [dm, news, team.general] {
        stage.send(ada, conversation, "hello").await;
    }
    let last = stage.send(bob, dm, "you").await;
    let snapshot = stage.store.snapshot(ada).await.expect("reads");
    assert!(!snapshot.epoch.is_empty());
    assert_eq!(snapshot.workspaces, [stage.store.workspace(ada, team.id).await.expect("reads")]);
    let ids: Vec<_> = snapshot.conversations.iter().map(|e| e.summary.conversation.id).collect();
    assert_eq!(ids, [dm, team.general, news]);
    assert!(!ids.contains(&unjoined));
    for entry in &snapshot.conversations {
        let id = entry.summary.conversation.id;
        assert_eq!(stage.store.summary(ada, id).await.ok().as_ref(), Some(&entry.summary));
    }
    let of_dm = &snapshot.conversations[0].summary;
    assert_eq!(
        (of_dm.conversation.last_seq, of_dm.conversation.rev, of_dm.read.unread_count),
        (Seq(2), Rev(2), 1)
    );
    assert_eq!(of_dm.conversation.last_message_at, Some(last.created_at));
    let epoch = stage.store.snapshot(bob).await.expect("reads").epoch;
    assert_eq!(epoch, snapshot.epoch);
}

/// Up to the last message.
pub async fn a_read_mark_only_advances(stage: &Stage) {
    let [ada, bob, eve] = stage.people(["ada", "bob", "eve"]).await;
    let team = stage.team_of(ada, [bob, eve]).await;
    for n in 0..4 {
        stage.send(ada, team.general, &format!("number {n}")).await;
    }
    for (asked, at, unread, advanced) in [
        (2, 2, 2, true),
        (1, 2, 2, false),
        (2, 2, 2, false),
        (99, 4, 0, true),
        (u64::MAX, 4, 0, false),
        (0, 4, 0, false),
    ] {
        let mark = stage.store.mark_read(bob, team.general, Seq(asked)).await.expect("marks");
        let expected = ReadState { read_seq: Seq(at), unread_count: unread, mention_count: 0 };
        assert_eq!((mark.read, mark.advanced), (expected, advanced), "asked for {asked}");
        assert_eq!(read(stage, bob, team.general).await, expected);
    }
    assert_eq!(read(stage, eve, team.general).await.unread_count, 4);
    let news = stage.channel(ada, &team, "news").await;
    forbidden(stage.store.mark_read(bob, news, Seq(0)).await);
}

/// Unless they are deleted.
pub async fn unread_counts_others_messages(stage: &Stage) {
    let [ada, bob, eve] = stage.people(["ada", "bob", "eve"]).await;
    let team = stage.team_of(ada, [bob, eve]).await;
    let first = stage.send(ada, team.general, "one").await;
    stage.send(bob, team.general, "two").await;
    stage.send(ada, team.general, "three").await;
    assert_eq!(read(stage, eve, team.general).await.unread_count, 3);
    stage.delete(ada, &first).await.expect("deletes");
    assert_eq!(read(stage, eve, team.general).await.unread_count, 2);
    assert_eq!(
        stage.store.mark_read(eve, team.general, Seq(2)).await.map(|m| m.read.unread_count).ok(),
        Some(1)
    );
}

/// And nobody else's mark moves.
pub async fn a_send_moves_its_authors_mark(stage: &Stage) {
    let [ada, bob] = stage.people(["ada", "bob"]).await;
    let team = stage.team_of(ada, [bob]).await;
    stage.send(ada, team.general, "one").await;
    assert_eq!(
        read(stage, bob, team.general).await,
        ReadState { read_seq: Seq(0), unread_count: 1, mention_count: 0 }
    );
    stage.try_send(bob, team.general, "1", "two").await.expect("sends");
    assert_eq!(
        read(stage, bob, team.general).await,
        ReadState { read_seq: Seq(2), unread_count: 0, mention_count: 0 }
    );
    stage.send(ada, team.general, "three").await;
    stage.try_send(bob, team.general, "1", "two").await.expect("is a duplicate");
    assert_eq!(
        read(stage, bob, team.general).await,
        ReadState { read_seq: Seq(2), unread_count: 1, mention_count: 0 }
    );
}

/// And there they stop.
pub async fn unread_counts_up_to_a_hundred(stage: &Stage) {
    let [ada, bob] = stage.people(["ada", "bob"]).await;
    let team = stage.team_of(ada, [bob]).await;
    for (from, to, count) in [(0, 99, 99), (99, 100, 100), (100, 130, 100)] {
        let drafts = (from..to).map(|n| stage.draft(ada, &n.to_string(), "hello")).collect();
        assert!(stage.append(team.general, drafts).await.iter().all(Result::is_ok));
        assert_eq!(read(stage, bob, team.general).await.unread_count, count);
    }
    assert_eq!(
        stage.store.mark_read(bob, team.general, Seq(40)).await.map(|m| m.read.unread_count).ok(),
        Some(90)
    );
}

/// The same in a snapshot as one by one: own and deleted messages, many of them, and more than are counted.
pub async fn a_snapshot_counts_what_is_unread(stage: &Stage) {
    let [ada, bob] = stage.people(["ada", "bob"]).await;
    let team = stage.team_of(ada, [bob]).await;
    let mut expected = Vec::new();
    // Others' first, then deleted ones, then others' again.
    for (n, before, deleted, after) in [
        (0, 0, 0, 0),
        (1, 1, 0, 0),
        (2, 99, 0, 0),
        (3, 130, 0, 0),
        (4, 3, 140, 2),
        (5, 0, 5, 0),
        (6, 90, 50, 30),
    ] {
        let channel = stage.channel(ada, &team, &format!("channel-{n}")).await;
        stage.join(bob, channel).await;
        let drafts = |from: usize, count: usize| {
            (from..from + count).map(|n| stage.draft(bob, &n.to_string(), "hello")).collect()
        };
        stage.append(channel, drafts(0, before)).await;
        let sent = stage.append(channel, drafts(before, deleted)).await;
        stage.append(channel, drafts(before + deleted, after)).await;
        let delete = |commit: Result<Commit>| {
            let message_id = Stage::message(&commit.expect("sends")).id;
            stage.write(bob, Change::Message(message_id, MessageChange::Delete))
        };
        stage.append(channel, sent.into_iter().map(delete).collect()).await;
        expected.push((channel, (before + after).min(100) as u64));
    }
    let snapshot = stage.store.snapshot(ada).await.expect("reads");
    for (channel, unread) in expected {
        let entry = snapshot.conversations.iter().find(|e| e.summary.conversation.id == channel);
        let shown = &entry.expect("is in it").summary;
        assert_eq!(shown.read.unread_count, unread, "{:?}", shown.conversation.name);
        assert_eq!(stage.store.summary(ada, channel).await.ok().as_ref(), Some(shown));
    }
}

/// Whatever their order, and each answer is where the mark was.
pub async fn concurrent_marks_end_at_the_furthest(stage: &Stage) {
    let [ada, bob] = stage.people(["ada", "bob"]).await;
    let team = stage.team_of(ada, [bob]).await;
    let drafts = (0..30).map(|n| stage.draft(ada, &n.to_string(), "hello")).collect();
    stage.append(team.general, drafts).await;
    let mut running = tokio::task::JoinSet::new();
    for seq in (1..=20).map(|n| n * 7 % 23) {
        let store = stage.store.clone();
        running.spawn(async move { (seq, store.mark_read(bob, team.general, Seq(seq)).await) });
    }
    let mut advanced = Vec::new();
    while let Some(done) = running.join_next().await {
        let (seq, mark) = done.expect("runs");
        let mark = mark.expect("marks");
        assert!((seq..=22).contains(&mark.read.read_seq.0), "asked for {seq}: {mark:?}");
        assert_eq!(mark.read.unread_count, 30 - mark.read.read_seq.0);
        if mark.advanced {
            assert_eq!(mark.read.read_seq, Seq(seq));
            advanced.push(seq);
        }
    }
    advanced.sort_unstable();
    let all = advanced.len();
    advanced.dedup();
    assert_eq!((advanced.len(), advanced.last()), (all, Some(&22)), "each advance once");
    assert_eq!(read(stage, bob, team.general).await.read_seq, Seq(22));
}

/// A mark's count is as of the mark, and in the end all agree with a recount.
pub async fn marks_among_sends_count_exactly(stage: &Stage) {
    let [ada, bob] = stage.people(["ada", "bob"]).await;
    let team = stage.team_of(ada, [bob]).await;
    let sends = async {
        for _ in 0..20 {
            stage.send(ada, team.general, "hello").await;
        }
    };
    let marks = async {
        let (mut last, mut last_left) = (Seq::ZERO, 0);
        for seq in 1..=20 {
            let read =
                stage.store.mark_read(bob, team.general, Seq(seq)).await.expect("marks").read;
            assert!(read.read_seq <= Seq(seq) && read.read_seq >= last, "never goes back");
            let left = read.read_seq.0 + read.unread_count;
            assert!((last_left..=20).contains(&left), "counts what had been sent: {read:?}");
            (last, last_left) = (read.read_seq, left);
        }
        last
    };
    let ((), last) = tokio::join!(sends, marks);
    let shown = read(stage, bob, team.general).await;
    assert_eq!((shown.read_seq, shown.unread_count), (last, 20 - last.0));
    let mark = stage.store.mark_read(bob, team.general, Seq(0)).await.expect("marks");
    assert_eq!((mark.read, mark.advanced), (shown, false));
    let snapshot = stage.store.snapshot(bob).await.expect("reads");
    assert_eq!(snapshot.conversations[0].summary.read, shown);
}

/// Nor is what was said before one came in.
pub async fn own_sends_and_entry_are_not_unread(stage: &Stage) {
    let [ada, bob] = stage.people(["ada", "bob"]).await;
    let team = stage.team(ada).await;
    stage.send(ada, team.general, "hello").await;
    assert_eq!(read(stage, ada, team.general).await.unread_count, 0);
    let entered = stage.enter(&team, bob).await.general.summary;
    assert_eq!((entered.read.unread_count, entered.read.read_seq), (0, Seq(1)));
    stage.send(ada, team.general, "hello bob").await;
    assert_eq!(read(stage, bob, team.general).await.unread_count, 1);
}

/// By one each, and nothing else does.
pub async fn every_change_of_access_counts(stage: &Stage) {
    let [ada, bob, eve] = stage.people(["ada", "bob", "eve"]).await;
    let team = stage.team_of(ada, [bob]).await;
    let mut before = stage.access_rev(ada, team.general).await;
    let entered = stage.enter(&team, eve).await.general.access_rev;
    assert!(entered > before, "somebody came into the workspace");
    assert_eq!(stage.access_rev(ada, team.general).await, entered);
    stage.store.remove_member(stage.by(ada), team.id, eve).await.expect("removes");
    assert!(
        stage.access_rev(ada, team.general).await > entered,
        "somebody was removed from the workspace"
    );

    let entry = stage.entry(ada, &team, "news", false).await;
    let news = entry.summary.conversation.id;
    before = entry.access_rev;
    let joined = stage.join(bob, news).await.access_rev;
    assert_eq!(joined, before.next(), "somebody joined");
    let commit = stage.try_send(bob, news, "1", "hello").await.expect("sends");
    assert_eq!(commit.access_rev, joined, "a message changes no access");
    let left = stage.store.remove_channel_member(stage.by(bob), news, bob).await.expect("leaves");
    assert_eq!((left, stage.access_rev(ada, news).await), (joined.next(), left), "somebody left");
    let replay =
        stage.store.replay(Reader::Session(stage.by(ada)), news, ReplayQuery::after(Rev(0))).await;
    assert_eq!(replay.map(|page| page.access_rev).ok(), Some(left), "a replay says how far");
    let added = stage
        .store
        .add_channel_member(stage.by(ada), news, bob, stage.at())
        .await
        .expect("adds")
        .access_rev;
    assert_eq!(added, left.next(), "somebody was added");
    stage.store.remove_channel_member(stage.by(ada), news, bob).await.expect("removes");
    assert_eq!(stage.access_rev(ada, news).await, added.next(), "somebody was removed");

    let dm = stage.dm(ada, &team, bob).await.expect("opens");
    stage.store.remove_member(stage.by(ada), team.id, bob).await.expect("removes");
    let after = stage.access_rev(ada, dm.mine.conversation.id).await;
    assert!(after > dm.access_rev, "a side of a DM was removed");
}
