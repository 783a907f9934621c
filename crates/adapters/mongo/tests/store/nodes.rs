//! Several nodes on one database.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use bson::{DateTime, Document, doc};
use futures::future::join_all;
use mongodb::ClientSession;
use parlance_application::{
    Error, Result,
    ports::store::{Changes, Conversations, Messages, NewDm, Reader, ReplayQuery, Workspaces},
};
use parlance_domain::{AccessRev, ConversationId, Rev, Role, Seq};
use parlance_testkit::Stage;
use tokio::{sync::Notify, time::Instant};

use crate::world::{Database, fresh};

/// Of those racing for one document, one commits and the others retry. On a busy machine somebody may keep losing for
/// longer than a store is patient, and is told to come again.
async fn as_often_as_told<T>(attempt: impl AsyncFn() -> Result<T>) -> Result<T> {
    loop {
        match attempt().await {
            Err(Error::Unavailable { .. }) => {}
            outcome => return outcome,
        }
    }
}

#[tokio::test]
async fn appends_of_two_nodes_are_dense_and_in_order() {
    let database = Database::new();
    let nodes = [database.store().await, database.store().await];
    let stage = Stage::new(nodes[0].clone());
    let [ada, bob] = stage.people(["ada", "bob"]).await;
    let team = stage.team_of(ada, [bob]).await;
    let batches = (0..20).map(|n| {
        let actor = [ada, bob][n % 2];
        let writes = (0..3).map(|m| stage.draft(actor, &format!("{n} {m}"), "hello")).collect();
        nodes[n % 2].append(team.general, writes)
    });
    let mut revs = Vec::new();
    for batch in join_all(batches).await {
        let commits = batch.expect("appends");
        let of_batch: Vec<u64> = commits
            .into_iter()
            .map(|commit| commit.expect("sends").change.expect("is new").1.0)
            .collect();
        assert!(of_batch.is_sorted() && of_batch[2] - of_batch[0] == 2, "one commit: {of_batch:?}");
        revs.extend(of_batch);
    }
    revs.sort_unstable();
    assert!(revs.iter().copied().eq(1..=60), "{revs:?}");
    let page = nodes[1].replay(Reader::Node, team.general, ReplayQuery::after(Rev::ZERO)).await;
    let page = page.expect("a page");
    assert!(
        page.messages
            .iter()
            .zip(1..)
            .all(|(message, n)| (message.seq, message.rev) == (Seq(n), Rev(n)))
    );
    assert_eq!((page.to_rev, page.complete, page.conversation.last_seq), (Rev(60), true, Seq(60)));
}

/// Groups of two nodes conflict whenever they have a conversation in common.
#[tokio::test]
async fn two_nodes_write_to_the_same_conversations() {
    let database = Database::new();
    let nodes = [database.store().await, database.store().await];
    let stage = Stage::new(nodes[0].clone());
    let ada = stage.person("ada").await;
    let team = stage.team(ada).await;
    let mut channels = stage.channels(ada, &team, 5).await;
    channels.push(team.general);
    let all = nodes.iter().zip(1..).flat_map(|node| channels.iter().map(move |id| (node, *id)));
    let series = all.map(async |((node, number), channel)| {
        for n in 0..15 {
            let writes = (0..2).map(|m| stage.draft(ada, &format!("{number} {n} {m}"), "hello"));
            let outcomes = node.append(channel, writes.collect()).await.expect("appends");
            assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
        }
    });
    join_all(series).await;
    for channel in channels {
        let page = nodes[0].replay(Reader::Node, channel, ReplayQuery::after(Rev::ZERO)).await;
        let page = page.expect("a page");
        let revs = page.messages.iter().map(|message| (message.seq, message.rev));
        assert!(revs.eq((1..=60).map(|n| (Seq(n), Rev(n)))), "{:?}", page.messages);
        assert_eq!((page.to_rev, page.conversation.last_seq), (Rev(60), Seq(60)));
    }
}

/// Another node's open transaction, which has written these heads; and how many they are.
async fn lock_heads(raw: &mongodb::Database, key: Document) -> (ClientSession, u64) {
    let mut session = raw.client().start_session().await.expect("a session");
    session.start_transaction().await.expect("begins");
    let heads = raw.collection::<Document>("conversations");
    let lock = heads.update_many(key, doc! { "$inc": { "rev": 7_i64 } });
    let written = lock.session(&mut session).await.expect("writes");
    (session, written.matched_count)
}

/// Long before the server ends it itself.
#[tokio::test]
async fn what_a_dead_node_left_open_is_ended() {
    let database = Database::new();
    let store = database.store().await;
    let stage = Stage::new(store.clone());
    let ada = stage.person("ada").await;
    let team = stage.team(ada).await;
    let raw = database.raw().await;
    let (mut session, _) = lock_heads(&raw, doc! {}).await;
    let list = doc! { "_id": bson::Uuid::from_bytes([7; 16]), "sessions": [session.id().get("id")], "seen_at": DateTime::from_millis(1) };
    raw.collection::<Document>("nodes").insert_one(list).await.expect("inserts");

    let begun = Instant::now();
    let draft = || stage.draft(ada, "1", "hello");
    let append = as_often_as_told(async || store.append(team.general, vec![draft()]).await);
    let commit = append.await.expect("appends").remove(0).expect("sends");
    assert!(begun.elapsed() < Duration::from_secs(9), "{:?}", begun.elapsed());
    assert_eq!(commit.change.map(|(_, rev)| rev), Some(Rev(1)), "what was open is taken back");
    assert!(session.commit_transaction().await.is_err(), "ended");
}

/// However many of them there are.
#[tokio::test]
async fn conversations_that_another_node_has_locked_hold_no_other_up() {
    const LOCKED: usize = 30;
    let database = Database::new();
    let store = database.store().await;
    let stage = Stage::new(store.clone());
    let ada = stage.person("ada").await;
    let team = stage.team(ada).await;
    let channels = stage.channels(ada, &team, LOCKED + 10).await;
    let (locked, free) = channels.split_at(LOCKED);
    let raw = database.raw().await;
    let ids = locked.iter().map(|id| bson::Uuid::from_bytes(id.0.into_bytes()));
    let key = doc! { "_id": { "$in": ids.collect::<Vec<_>>() } };
    let (mut session, count) = lock_heads(&raw, key).await;
    assert_eq!(count, LOCKED as u64);

    let all_sent = AtomicBool::new(false);
    let append = async |channel: &ConversationId| {
        let draft = stage.draft(ada, "1", "hello");
        store.append(*channel, vec![draft]).await.map(|mut sent| sent.remove(0).expect("sends"))
    };
    let stuck = locked.iter().map(async |channel| {
        let answer = append(channel).await;
        assert!(all_sent.load(Ordering::Relaxed), "before those that are free: {answer:?}");
    });
    let sent = async {
        let sent = join_all(free.iter().map(append)).await;
        assert!(sent.iter().all(Result::is_ok), "{sent:?}");
        all_sent.store(true, Ordering::Relaxed);
    };
    tokio::join!(join_all(stuck), sent);
    session.abort_transaction().await.expect("aborts");
}

/// Those that share its transaction are written apart.
#[tokio::test]
async fn a_conversation_that_cannot_be_read_fails_alone() {
    let (store, database) = fresh().await;
    let stage = Stage::new(store.clone());
    let ada = stage.person("ada").await;
    let team = stage.team(ada).await;
    let channels = stage.channels(ada, &team, 9).await;
    let spoilt = channels[4];
    database.spoil(spoilt).await;
    let append = async |channel: &ConversationId| {
        let sent = store.append(*channel, vec![stage.draft(ada, "1", "hello")]).await;
        (*channel, sent)
    };
    for (channel, sent) in join_all(channels.iter().map(append)).await {
        if channel == spoilt {
            assert!(matches!(sent, Err(Error::Internal { .. })), "{sent:?}");
        } else {
            assert!(sent.expect("appends")[0].is_ok());
        }
    }
}

#[tokio::test]
async fn a_node_that_lives_keeps_its_sessions_listed() {
    let database = Database::new();
    let store = database.store().await;
    let stage = Stage::new(store.clone());
    stage.person("ada").await;
    let lists = database.raw().await.collection::<Document>("nodes");
    let list = async || lists.find_one(doc! {}).await.expect("reads").expect("is there");
    let first = list().await;
    assert!(first.get_array("sessions").is_ok_and(|sessions| !sessions.is_empty()), "{first:?}");
    let seen = |list: &Document| *list.get_datetime("seen_at").expect("a time");
    let renewed = async {
        while seen(&list().await) == seen(&first) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), renewed).await.expect("is renewed");
    // Nothing happens: no node that looks takes it for dead. A silent one would be buried after five seconds and a
    // look, so no shorter time would show it.
    let _other = database.store().await;
    let later = seen(&first).timestamp_millis() + 7_000;
    while seen(&list().await).timestamp_millis() < later {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test]
async fn the_same_send_on_two_nodes_is_one_message() {
    let database = Database::new();
    let nodes = [database.store().await, database.store().await];
    let stage = Stage::new(nodes[0].clone());
    let ada = stage.person("ada").await;
    let team = stage.team(ada).await;
    let sends =
        nodes.iter().map(|node| node.append(team.general, vec![stage.draft(ada, "once", "hello")]));
    let mut ids = Vec::new();
    for sent in join_all(sends).await {
        let commit = sent.expect("appends").remove(0).expect("sends");
        ids.push(Stage::message(&commit).id);
    }
    assert_eq!(ids[0], ids[1]);
}

#[tokio::test]
async fn two_admins_who_demote_each_other_leave_one() {
    let database = Database::new();
    let nodes = [database.store().await, database.store().await];
    let stage = Stage::new(nodes[0].clone());
    let [ada, bob] = stage.people(["ada", "bob"]).await;
    let team = stage.team_of(ada, [bob]).await;
    nodes[0].set_role(stage.by(ada), team.id, bob, Role::Admin).await.expect("promotes");
    let (one, other) = tokio::join!(
        nodes[0].set_role(stage.by(ada), team.id, bob, Role::Member),
        nodes[1].set_role(stage.by(bob), team.id, ada, Role::Member),
    );
    let refused = match (one, other) {
        (Ok(_), Err(refused)) | (Err(refused), Ok(_)) => refused,
        both => panic!("not one of the two: {both:?}"),
    };
    assert!(matches!(refused, Error::Forbidden(_) | Error::Conflict { .. }), "{refused:?}");
}

#[tokio::test]
async fn a_dm_opened_from_both_sides_is_one() {
    let database = Database::new();
    let nodes = [database.store().await, database.store().await];
    let stage = Stage::new(nodes[0].clone());
    let [ada, bob] = stage.people(["ada", "bob"]).await;
    let team = stage.team_of(ada, [bob]).await;
    let new = |n: u128, peer| NewDm {
        id: ConversationId(uuid::Uuid::from_u128(n)),
        workspace_id: team.id,
        peer,
        at: stage.at(),
    };
    let (mine, theirs) = tokio::join!(
        nodes[0].open_dm(stage.by(ada), new(1, bob)),
        nodes[1].open_dm(stage.by(bob), new(2, ada))
    );
    let (mine, theirs) = (mine.expect("opens"), theirs.expect("opens"));
    assert_eq!(mine.mine.conversation.id, theirs.mine.conversation.id);
    assert!(mine.theirs.is_some() != theirs.theirs.is_some(), "one of them created it");
}

/// The server does not queue a document's writers: occasional ones must not starve.
#[tokio::test]
async fn a_busy_channel_lets_people_in_and_out() {
    let database = Database::new();
    let nodes = [database.store().await, database.store().await];
    let stage = Stage::new(nodes[0].clone());
    let ada = stage.person("ada").await;
    let team = stage.team(ada).await;
    let busy = AtomicBool::new(true);
    let sends = nodes.iter().enumerate().map(async |(n, node)| {
        let mut sent = 0;
        while busy.load(Ordering::Relaxed) {
            let write = stage.draft(ada, &format!("{n} {sent}"), "hello");
            node.append(team.general, vec![write])
                .await
                .expect("appends")
                .remove(0)
                .expect("sends");
            sent += 1;
        }
        sent
    });
    let visits = async {
        for n in 0..5 {
            let visitor = stage.person(&format!("visitor{n}")).await;
            nodes[n % 2]
                .join_workspace(stage.by(visitor), &team.code, stage.at())
                .await
                .expect("joins");
            nodes[(n + 1) % 2]
                .remove_member(stage.by(ada), team.id, visitor)
                .await
                .expect("removes");
        }
        busy.store(false, Ordering::Relaxed);
    };
    let (sent, ()) = tokio::join!(join_all(sends), visits);
    let head = nodes[0].heads(vec![team.general]).await.expect("heads")[0];
    assert_eq!((head.rev, head.access_rev), (Rev(sent.iter().sum()), AccessRev(11)));
}

/// However the two race, no send is committed after the end of the access.
#[tokio::test]
async fn an_end_of_access_ends_the_sends() {
    let database = Database::new();
    let nodes = [database.store().await, database.store().await];
    let stage = Stage::new(nodes[0].clone());
    let [ada, bob] = stage.people(["ada", "bob"]).await;
    let team = stage.team_of(ada, [bob]).await;
    let has_sent = Notify::new();
    let sends = async {
        let mut counts = Vec::new();
        for n in 0..500 {
            let write = stage.draft(bob, &n.to_string(), "hello");
            match nodes[0].append(team.general, vec![write]).await.expect("appends").remove(0) {
                Ok(commit) => {
                    counts.push(commit.access_rev);
                    has_sent.notify_one();
                }
                Err(Error::NotFound(_)) => return counts,
                Err(other) => panic!("{other:?}"),
            }
        }
        panic!("the access has not ended");
    };
    let removal = async {
        has_sent.notified().await;
        nodes[1].remove_member(stage.by(ada), team.id, bob).await.expect("removes")
    };
    let (counts, departure) = tokio::join!(sends, removal);
    let (_, end) = departure.conversations[0];
    assert!(!counts.is_empty() && counts.iter().all(|count| *count < end), "{counts:?} {end}");
}

/// However the two race: a membership that outlived the workspace's would resurface with the next one.
#[tokio::test]
async fn who_is_removed_while_they_join_is_in_nothing() {
    let database = Database::new();
    let nodes = [database.store().await, database.store().await];
    let stage = Stage::new(nodes[0].clone());
    let [ada, bob] = stage.people(["ada", "bob"]).await;
    let team = stage.team(ada).await;
    let channels = stage.channels(ada, &team, 8).await;
    let enter = async || nodes[0].join_workspace(stage.by(bob), &team.code, stage.at()).await;
    let remove = async || nodes[1].remove_member(stage.by(ada), team.id, bob).await;
    for _ in 0..4 {
        as_often_as_told(enter).await.expect("joins");
        let joining = channels.iter().map(async |channel| {
            let join = async || nodes[0].join_channel(stage.by(bob), *channel, stage.at()).await;
            as_often_as_told(join).await
        });
        let (joined, removed) = tokio::join!(join_all(joining), as_often_as_told(remove));
        removed.expect("removes");
        for outcome in joined {
            assert!(matches!(outcome, Ok(_) | Err(Error::NotFound(_))), "{outcome:?}");
        }
        as_often_as_told(enter).await.expect("joins again");
        let now = nodes[0].snapshot(bob).await.expect("a snapshot");
        let places: Vec<_> =
            now.conversations.iter().map(|entry| entry.summary.conversation.id).collect();
        assert_eq!(places, [team.general]);
        as_often_as_told(remove).await.expect("removes again");
    }
}
