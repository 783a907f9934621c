//! How writes share commits, and in what order they are told.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use futures::FutureExt as _;
use parlance_application::{
    Error, Result,
    live::{Event, Lanes, Peers, Sequencer},
    ports::{
        Bus, Subscription, Topic,
        store::{Change, Commit, Committed, Draft, Messages, Principal, Write},
    },
};
use parlance_domain::{
    AccessRev, ChangeKind, ConversationId, MessageId, NodeId, Rev, SessionId, SessionRev, UserId,
};
use parlance_testkit::{
    GatedMessages, SilentBus, TestNode, client_msg_id, message,
    mocks::{MockChanges, MockConversations, MockMessages},
    socket, text,
};

use super::scene::nothing_new;

pub(super) type Batches = Arc<Mutex<Vec<Vec<String>>>>;

pub(super) fn write(node: &TestNode, actor: UserId, says: &str) -> Write {
    let id = MessageId(node.ambient.next_uuid());
    let draft = Draft { id, client_msg_id: client_msg_id(says), text: text(says) };
    let by = Principal { user: actor, session: SessionId(actor.0) };
    Write { by, at: node.ambient.tick(), change: Change::Send(draft) }
}

/// Commits every send, refuses those that say `no`, and notes the batches.
pub(super) fn committing(batches: Batches) -> MockMessages {
    let mut store = MockMessages::new();
    let mut revs: HashMap<_, Rev> = HashMap::new();
    store.expect_append().returning(move |conversation, writes| {
        let mut batch = Vec::new();
        let rev = revs.entry(conversation).or_default();
        let mut commit = |write: Write| -> Result<Commit> {
            let Change::Send(draft) = write.change else {
                return Err(Error::internal("not a send"));
            };
            batch.push(draft.text.to_string());
            if draft.text.as_str().starts_with("no") {
                return Err(Error::Forbidden("no"));
            }
            *rev = rev.next();
            let subject = Committed::Message(message(
                draft.id,
                conversation,
                write.by.user,
                rev.0,
                draft.text.as_str(),
            ));
            Ok(Commit {
                subject,
                change: Some((ChangeKind::Created, *rev)),
                access_rev: AccessRev(1),
                session_rev: SessionRev::ZERO,
            })
        };
        let outcomes = writes.into_iter().map(&mut commit).collect();
        batches.lock().expect("unpoisoned").push(batch);
        Ok(outcomes)
    });
    store
}

fn sequencer(store: Arc<impl Messages + 'static>, node: &TestNode, lanes: Lanes) -> Sequencer {
    Sequencer::new(store, node.live.clone(), node.tasks.clone(), lanes)
}

pub(super) fn said(commit: &Commit) -> (u64, String) {
    match &commit.subject {
        Committed::Message(message) => (message.rev.0, message.text.clone()),
        Committed::Conversation(_) => unreachable!("only messages here"),
    }
}

#[tokio::test]
async fn what_waits_for_an_append_shares_the_next() {
    let batches = Batches::default();
    let store = GatedMessages::closed(committing(batches.clone()));
    let node = TestNode::start(MockMessages::new());
    let (ada, here) = (UserId(node.ambient.next_uuid()), ConversationId(node.ambient.next_uuid()));
    node.connect(socket(1), ada, &[(here, 0)]).await;
    let sequencer = sequencer(store.clone(), &node, Lanes::Apart);

    let first = sequencer.submit(here, write(&node, ada, "0"));
    store.arrived(1).await;
    // Not one of them is polled before all are queued.
    let rest: Vec<_> =
        (1..=50).map(|n| sequencer.submit(here, write(&node, ada, &n.to_string()))).collect();
    store.open(2);
    assert_eq!(said(&first.await.expect("commits")), (1, "0".to_owned()));
    for (n, outcome) in (1..=50_u64).zip(rest) {
        assert_eq!(said(&outcome.await.expect("commits")), (n + 1, n.to_string()));
    }
    let expected: Vec<Vec<String>> =
        vec![vec!["0".to_owned()], (1..=50).map(|n| n.to_string()).collect()];
    assert_eq!(*batches.lock().expect("unpoisoned"), expected);

    node.fanout.until(|records| records.len() == 51).await;
    let revs: Vec<u64> =
        node.fanout.frames(socket(1)).iter().filter_map(|frame| frame["rev"].as_u64()).collect();
    assert_eq!(revs, (1..=51).collect::<Vec<_>>());
    assert!(node.fanout.types(socket(1)).iter().all(|kind| kind == "message.created"));
}

/// Four who write again as soon as they are answered share all commits but the first: the lane waits for them. And
/// whoever writes alone waits for nobody.
#[tokio::test(start_paused = true)]
async fn those_who_write_again_at_once_keep_sharing_commits() {
    let batches = Batches::default();
    let node = TestNode::start(MockMessages::new());
    let (ada, here) = (UserId(node.ambient.next_uuid()), ConversationId(node.ambient.next_uuid()));
    let store = GatedMessages::closed(committing(batches.clone()));
    let sequencer = sequencer(store.clone(), &node, Lanes::Apart);
    let commits = async {
        for n in 1.. {
            store.arrived(n).await;
            tokio::time::sleep(Duration::from_millis(1)).await;
            store.open(1);
        }
    };
    let writers = (0..4).map(async |writer| {
        for n in 0..10 {
            // Not one of them is as fast as the others.
            for _ in 0..writer {
                tokio::task::yield_now().await;
            }
            let write = write(&node, ada, &format!("{writer}-{n}"));
            sequencer.submit(here, write).await.expect("commits");
        }
    });
    tokio::select! {
        _ = futures::future::join_all(writers) => {}
        () = commits => {}
    }
    let sizes: Vec<_> = batches.lock().expect("unpoisoned").iter().map(Vec::len).collect();
    assert_eq!(sizes, [&[1][..], &[4; 9], &[3]].concat());

    store.open(10);
    let elsewhere = ConversationId(node.ambient.next_uuid());
    let began = tokio::time::Instant::now();
    for n in 0..10 {
        sequencer.submit(elsewhere, write(&node, ada, &n.to_string())).await.expect("commits");
    }
    assert_eq!(began.elapsed(), Duration::ZERO);
}

/// Ada has been answered and Bob waits; Ada writes again after a while, and somebody else before her. It takes `telling` until
/// there is room for what the listeners are told.
async fn batches_where_ada_is_back_after(
    away: Duration,
    listeners: u32,
    telling: Duration,
) -> Vec<Vec<String>> {
    let batches = Batches::default();
    let node = TestNode::start(MockMessages::new());
    let [ada, bob, eve] = [(); 3].map(|()| UserId(node.ambient.next_uuid()));
    let here = ConversationId(node.ambient.next_uuid());
    for n in 0..listeners {
        node.connect(socket(n), UserId(node.ambient.next_uuid()), &[(here, 0)]).await;
    }
    let store = GatedMessages::closed(committing(batches.clone()));
    let sequencer = sequencer(store.clone(), &node, Lanes::Apart);
    let first = sequencer.submit(here, write(&node, ada, "ada"));
    store.arrived(1).await;
    drop(sequencer.submit(here, write(&node, bob, "bob")));
    node.fanout.hold(!telling.is_zero());
    store.open(10);
    first.await.expect("commits");
    let fanout = node.fanout.clone();
    tokio::spawn(tokio::time::sleep(telling).map(move |()| fanout.hold(false)));
    pass(away / 2).await;
    drop(sequencer.submit(here, write(&node, eve, "eve")));
    pass(away / 2).await;
    drop(sequencer.submit(here, write(&node, ada, "ada again")));
    node.tasks.wait().await;
    let batches = batches.lock().expect("unpoisoned");
    batches.clone()
}

/// No time at all still lets everybody else do what they can.
async fn pass(time: Duration) {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
    tokio::time::sleep(time).await;
}

#[tokio::test(start_paused = true)]
async fn it_is_waited_for_those_who_were_answered_and_nobody_else() {
    let batches = batches_where_ada_is_back_after(Duration::ZERO, 1, Duration::ZERO).await;
    assert_eq!(batches, [&["ada"][..], &["bob", "eve", "ada again"]]);
}

/// Another batch would cost more there, and nobody would hear of it before they have heard of the last.
#[tokio::test(start_paused = true)]
async fn it_is_waited_longer_where_many_are_told() {
    let away = Duration::from_millis(3);
    for telling in [0, 2].map(Duration::from_millis) {
        let batches = batches_where_ada_is_back_after(away, 1_000, telling).await;
        assert_eq!(batches, [&["ada"][..], &["bob", "eve", "ada again"]], "{telling:?}");
    }
    let batches = batches_where_ada_is_back_after(away, 10, Duration::ZERO).await;
    assert_eq!(batches, [&["ada"][..], &["bob"], &["eve"], &["ada again"]]);
}

/// Two who meet by chance, time and again, with nobody writing in between.
#[tokio::test(start_paused = true)]
async fn a_wait_in_vain_is_remembered_when_nobody_has_written_for_a_while() {
    let node = TestNode::start(MockMessages::new());
    let [ada, bob] = [(); 2].map(|()| UserId(node.ambient.next_uuid()));
    let here = ConversationId(node.ambient.next_uuid());
    let store = GatedMessages::closed(committing(Batches::default()));
    let sequencer = sequencer(store.clone(), &node, Lanes::Shared);
    let mut waits = Vec::new();
    for n in 0..7 {
        drop(sequencer.submit(here, write(&node, ada, &format!("ada {n}"))));
        store.arrived(2 * n + 1).await;
        let bobs = sequencer.submit(here, write(&node, bob, &format!("bob {n}")));
        let began = tokio::time::Instant::now();
        store.open(2);
        bobs.await.expect("commits");
        waits.push(began.elapsed() > Duration::ZERO);
        node.tasks.wait().await;
    }
    assert_eq!(waits, [true, false, true, false, false, false, true]);
}

#[tokio::test]
async fn a_refusal_is_its_senders_own() {
    let node = TestNode::start(MockMessages::new());
    let (ada, here) = (UserId(node.ambient.next_uuid()), ConversationId(node.ambient.next_uuid()));
    node.connect(socket(1), ada, &[(here, 0)]).await;
    let store = Arc::new(committing(Batches::default()));
    let sequencer = sequencer(store, &node, Lanes::Apart);
    let [one, no, two] =
        ["one", "no", "two"].map(|says| sequencer.submit(here, write(&node, ada, says)));
    assert!(matches!(no.await, Err(Error::Forbidden(_))));
    assert_eq!(said(&one.await.expect("commits")).0, 1);
    assert_eq!(said(&two.await.expect("commits")).0, 2);
    node.fanout.until(|records| records.len() == 2).await;
}

#[tokio::test]
async fn conversations_do_not_wait_for_each_other() {
    let store = GatedMessages::closed(committing(Batches::default()));
    let node = TestNode::start(MockMessages::new());
    let ada = UserId(node.ambient.next_uuid());
    let sequencer = sequencer(store.clone(), &node, Lanes::Apart);
    for says in ["one", "two", "three"] {
        // Dropped at once: the write goes on.
        drop(sequencer.submit(ConversationId(node.ambient.next_uuid()), write(&node, ada, says)));
    }
    store.arrived(3).await;
    store.open(3);
    node.tasks.wait().await;
}

#[tokio::test]
async fn a_store_that_fails_fails_all_of_its_batch_and_nothing_is_told() {
    let mut store = MockMessages::new();
    store.expect_append().times(1..=2).returning(|_, _| Err(Error::unavailable("gone")));
    let node = TestNode::start(MockMessages::new());
    let (ada, here) = (UserId(node.ambient.next_uuid()), ConversationId(node.ambient.next_uuid()));
    node.connect(socket(1), ada, &[(here, 0)]).await;
    let sequencer = sequencer(Arc::new(store), &node, Lanes::Apart);
    let [one, two] = ["one", "two"].map(|says| sequencer.submit(here, write(&node, ada, says)));
    assert!(matches!(one.await, Err(Error::Unavailable { .. })));
    assert!(matches!(two.await, Err(Error::Unavailable { .. })));
    node.tasks.wait().await;
    node.live.settle().await;
    assert_eq!(node.fanout.frames(socket(1)), Vec::<serde_json::Value>::new());
}

/// One of them would be answered, and its listeners told, for another.
#[tokio::test]
async fn a_store_that_answers_for_another_number_of_conversations_is_not_believed() {
    let (node, batches) = (TestNode::start(MockMessages::new()), Batches::default());
    let inner = committing(batches.clone());
    let mut store = MockMessages::new();
    store.expect_append_each().once().returning(move |mut asked| {
        let (conversation, writes) = asked.remove(1);
        let answer = inner.append(conversation, writes).now_or_never();
        vec![answer.expect("a mock waits for nothing")]
    });
    let ada = UserId(node.ambient.next_uuid());
    let here = [(); 2].map(|()| ConversationId(node.ambient.next_uuid()));
    node.connect(socket(1), ada, &here.map(|conversation| (conversation, 0))).await;
    let sequencer = sequencer(Arc::new(store), &node, Lanes::Shared);
    for sent in here.map(|here| sequencer.submit(here, write(&node, ada, "hello"))) {
        let answer = sent.await;
        assert!(matches!(answer, Err(Error::Internal { .. })), "{answer:?}");
    }
    node.tasks.wait().await;
    node.live.settle().await;
    assert_eq!(batches.lock().expect("unpoisoned").len(), 1);
    assert_eq!(node.fanout.frames(socket(1)), Vec::<serde_json::Value>::new());
}

/// The messages of one commit, by conversations: each appended by itself, all told before the next commit.
#[tokio::test]
async fn a_shared_lane_writes_all_conversations_together_and_each_in_order() {
    let batches = Batches::default();
    let store = GatedMessages::closed(committing(batches.clone()));
    let node = TestNode::start(MockMessages::new());
    let ada = UserId(node.ambient.next_uuid());
    let here = [(); 3].map(|()| ConversationId(node.ambient.next_uuid()));
    node.connect(socket(1), ada, &here.map(|conversation| (conversation, 0))).await;
    let sequencer = sequencer(store.clone(), &node, Lanes::Shared);
    let first = sequencer.submit(here[0], write(&node, ada, "first"));
    store.arrived(1).await;
    let rest: Vec<_> = ["a0", "b0", "a1", "no", "c0", "b1"]
        .into_iter()
        .map(|says| {
            let at = usize::from(says.as_bytes()[0] - b'a').min(2);
            (says, sequencer.submit(here[at], write(&node, ada, says)))
        })
        .collect();
    store.open(1);
    first.await.expect("commits");
    // All three at once: none waits for another's end.
    store.arrived(4).await;
    store.open(3);
    for (says, outcome) in rest {
        match outcome.await {
            Ok(commit) => assert_eq!(said(&commit).1, says),
            Err(error) => {
                assert!(says == "no" && matches!(error, Error::Forbidden(_)), "{error:?}");
            }
        }
    }
    let expected = [&["first"][..], &["a0", "a1"], &["b0", "b1"], &["no", "c0"]];
    assert_eq!(*batches.lock().expect("unpoisoned"), expected);
    node.tasks.wait().await;
    node.live.settle().await;
    let told = node.fanout.frames(socket(1));
    let told: Vec<_> =
        told.iter().filter_map(|frame| frame["data"]["message"]["text"].as_str()).collect();
    assert_eq!(told, ["first", "a0", "a1", "b0", "b1", "c0"]);
}

/// A lane of many has room for each of them.
#[tokio::test]
async fn a_flooded_conversation_takes_no_place_of_another() {
    let store = GatedMessages::closed(committing(Batches::default()));
    let node = TestNode::start(MockMessages::new());
    let ada = UserId(node.ambient.next_uuid());
    let [flooded, calm] = [(); 2].map(|()| ConversationId(node.ambient.next_uuid()));
    let sequencer = sequencer(store.clone(), &node, Lanes::Shared);
    let submit = |at, n: u32| sequencer.submit(at, write(&node, ada, &n.to_string()));
    let flood: Vec<_> = (0..4_000).map(|n| submit(flooded, n)).collect();
    let other = submit(calm, 0);
    store.open(usize::MAX >> 4);
    other.await.expect("commits");
    let outcomes = futures::future::join_all(flood).await;
    let refused = outcomes.iter().position(Result::is_err).expect("a bound");
    assert!((1_000..4_000).contains(&refused), "{refused}");
    assert!(outcomes[refused..].iter().all(|o| matches!(o, Err(Error::Unavailable { .. }))));
    submit(flooded, 5_000).await.expect("there is room again");
}

/// Two thousand that came before it do not hold a write to another conversation up for longer than one commit.
#[tokio::test]
async fn a_flood_lets_others_have_their_turn() {
    let batches = Batches::default();
    let store = GatedMessages::closed(committing(batches.clone()));
    let node = TestNode::start(MockMessages::new());
    let ada = UserId(node.ambient.next_uuid());
    let [flooded, calm] = [(); 2].map(|()| ConversationId(node.ambient.next_uuid()));
    let sequencer = sequencer(store.clone(), &node, Lanes::Shared);
    let submit = |at, n: u32| sequencer.submit(at, write(&node, ada, &n.to_string()));
    let first = submit(flooded, 0);
    store.arrived(1).await;
    let flood: Vec<_> = (1..2_000).map(|n| submit(flooded, n)).collect();
    let other = submit(calm, 9_999);
    store.open(3);
    first.await.expect("commits");
    other.await.expect("commits");
    store.open(usize::MAX >> 4);
    for (n, outcome) in (1..).zip(flood) {
        assert_eq!(said(&outcome.await.expect("commits")).1, n.to_string());
    }
    let all = batches.lock().expect("unpoisoned").concat();
    let others = all.iter().position(|says| says == "9999").expect("committed");
    assert!(others <= 1 + 256, "{others}");
}

#[tokio::test]
async fn more_conversations_than_a_commit_holds_have_their_turn_in_the_next() {
    let store = GatedMessages::closed(committing(Batches::default()));
    let node = TestNode::start(MockMessages::new());
    let ada = UserId(node.ambient.next_uuid());
    let sequencer = sequencer(store.clone(), &node, Lanes::Shared);
    let everywhere = |n: u32| {
        let here = ConversationId(node.ambient.next_uuid());
        sequencer.submit(here, write(&node, ada, &n.to_string()))
    };
    let all: Vec<_> = (0..600).map(everywhere).collect();
    store.open(usize::MAX >> 4);
    let patience = Duration::from_secs(10);
    let answers = tokio::time::timeout(patience, futures::future::join_all(all)).await;
    assert!(answers.expect("all are answered").iter().all(Result::is_ok));
}

#[tokio::test]
async fn a_node_that_ends_finishes_what_is_begun_and_refuses_what_waits() {
    let store = GatedMessages::closed(committing(Batches::default()));
    let node = TestNode::start(MockMessages::new());
    let (ada, here) = (UserId(node.ambient.next_uuid()), ConversationId(node.ambient.next_uuid()));
    let sequencer = sequencer(store.clone(), &node, Lanes::Apart);
    let submit = |says| sequencer.submit(here, write(&node, ada, says));
    let begun = submit("begun");
    store.arrived(1).await;
    let waiting = [submit("one"), submit("two")];
    sequencer.close();
    for refused in waiting.into_iter().chain([submit("late")]) {
        assert!(matches!(refused.await, Err(Error::Unavailable { .. })));
    }
    store.open(9);
    assert_eq!(said(&begun.await.expect("commits")).1, "begun");
    node.tasks.wait().await;
}

/// Brings nothing, and notes the revs that it is told together.
#[derive(Clone, Default)]
struct NotingBus(Arc<Mutex<Vec<Vec<u64>>>>);

#[async_trait]
impl Bus for NotingBus {
    fn is_remote(&self) -> bool {
        false
    }

    async fn publish(&self, _from: NodeId, events: Vec<Arc<Event>>) -> Result<()> {
        let rev = |event: &Arc<Event>| match &**event {
            Event::Changed { rev, .. } => Some(rev.0),
            _ => None,
        };
        self.0.lock().expect("unpoisoned").push(events.iter().filter_map(rev).collect());
        Ok(())
    }

    async fn subscribe(&self, node: NodeId) -> Result<Box<dyn Subscription>> {
        SilentBus.subscribe(node).await
    }

    fn listen(&self, _node: NodeId, _topics: Vec<Topic>) {}

    fn ignore(&self, _node: NodeId, _topics: Vec<Topic>) {}
}

/// What they are not told they find by a look only, seconds later.
#[tokio::test]
async fn other_nodes_are_told_all_of_a_commit_together_and_in_order() {
    let (bus, mut changes) = (NotingBus::default(), MockChanges::new());
    changes.expect_changes().returning(|_| Ok(nothing_new()));
    let conversations = Arc::new(MockConversations::new());
    let peers = Peers { changes: Arc::new(changes), conversations };
    let node = TestNode::among(MockMessages::new(), Arc::new(bus.clone()), peers);
    let store = GatedMessages::closed(committing(Batches::default()));
    let (ada, here) = (UserId(node.ambient.next_uuid()), ConversationId(node.ambient.next_uuid()));
    let sequencer = sequencer(store.clone(), &node, Lanes::Apart);
    let first = sequencer.submit(here, write(&node, ada, "first"));
    store.arrived(1).await;
    let rest: Vec<_> =
        (0..5).map(|n| sequencer.submit(here, write(&node, ada, &n.to_string()))).collect();
    store.open(2);
    for outcome in [first].into_iter().chain(rest) {
        outcome.await.expect("commits");
    }
    node.tasks.wait().await;
    assert_eq!(*bus.0.lock().expect("unpoisoned"), [vec![1], vec![2, 3, 4, 5, 6]]);
}
