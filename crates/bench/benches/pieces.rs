//! The pieces of a message's path, each alone: `cargo bench -p parlance-bench`.
//!
//! Neither a lane nor a feed is public; what is measured is the path through both, from the sequencer down to the port
//! in front of the sockets, with a store that answers at once.

#![expect(clippy::expect_used, reason = "a bench fails by a panic")]

use std::{hint::black_box, sync::Arc};

use async_trait::async_trait;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use parlance_application::{
    Error, Tasks,
    live::{Attachment, Frame, Lanes, Live, LivePorts, Sequencer},
    ports::{
        Close, ConnectionId, Fanout, Urgency,
        store::{Change, Commit, Committed, Draft, Principal, Write},
    },
};
use parlance_domain::{
    AccessRev, ChangeKind, ConversationAction, ConversationId, ConversationKind, MessageId, NodeId,
    Rev, Role, SessionId, SessionRev, Standing, UserId, membership::Facts,
};
use parlance_embedded::EmbeddedStore;
use parlance_testkit::{
    MemoryStore, SilentBus, Stage, Team, TestAmbient, client_msg_id, head, message,
    mocks::MockMessages, socket,
};
use tokio::runtime::Runtime;
use uuid::Uuid;

/// As many writes as one connection may have in flight.
const WRITES: usize = 64;
const RECEIVERS: u32 = 1_000;

/// Takes frames as a worker does, and does nothing with them.
struct Nowhere;

#[async_trait]
impl Fanout for Nowhere {
    async fn deliver(&self, to: Arc<[ConnectionId]>, frame: Frame, _: Urgency) {
        black_box((to, frame));
    }

    async fn close(&self, _: ConnectionId, _: Close) {}
}

fn encode(criterion: &mut Criterion) {
    let (here, author) = (ConversationId(Uuid::from_u128(2)), UserId(Uuid::from_u128(3)));
    let subject = message(MessageId(Uuid::from_u128(4)), here, author, 4_711, &"x".repeat(120));
    let subject = Committed::Message(subject);
    criterion.bench_function("encode message.created", |bencher| {
        bencher.iter(|| {
            Frame::changed(
                ChangeKind::Created,
                Rev(4_711),
                black_box(&subject),
                author,
                TestAmbient::BEGIN,
            )
        });
    });
}

fn append(criterion: &mut Criterion) {
    let stored = Stored::new(1);
    let mut group = criterion.benchmark_group("append");
    for writes in [1, WRITES] {
        group.throughput(Throughput::Elements(writes as u64));
        group.bench_function(format!("{writes} at once, synced"), |bencher| {
            let drafts = || drafts(&stored.stage, stored.author, writes);
            let append =
                |drafts| stored.runtime.block_on(stored.stage.append(stored.team.general, drafts));
            bencher.iter_batched(drafts, append, BatchSize::SmallInput);
        });
    }
    group.finish();
}

/// From when the first is queued to the last one's answer, with all sockets told.
fn lane(criterion: &mut Criterion) {
    let (runtime, stage) = (runtime(), Stage::new(MemoryStore::default()));
    let (here, author) = (ConversationId(Uuid::from_u128(2)), UserId(Uuid::from_u128(3)));
    let guard = runtime.enter();
    let ports = LivePorts {
        node: NodeId(Uuid::from_u128(1)),
        bus: Arc::new(SilentBus),
        fanout: Arc::new(Nowhere),
        store: Arc::new(MemoryStore::default()),
        peers: None,
        connections_per_user: None,
    };
    let (services, tasks) = (Tasks::default(), Arc::new(Tasks::default()));
    let live = Live::start(ports, &services, &tasks);
    drop(guard);
    runtime.block_on(async {
        for number in 0..RECEIVERS {
            let session = SessionId(Uuid::from_u128(number.into()));
            live.register(socket(number), author, session, Arc::default()).await;
            let attachment =
                Attachment { conversations: vec![head(here, 0)], ..Attachment::default() };
            live.attach(socket(number), attachment).await;
        }
        live.settle().await;
    });
    let sequencer = Sequencer::new(Arc::new(at_once()), live.clone(), tasks, Lanes::Shared);
    let mut group = criterion.benchmark_group("lane");
    group.throughput(Throughput::Elements(WRITES as u64));
    group.bench_function(format!("{WRITES} sends to {RECEIVERS} connections"), |bencher| {
        let send = |writes: Vec<Write>| {
            runtime.block_on(async {
                let submit = |write| sequencer.submit(here, write);
                for answer in writes.into_iter().map(submit).collect::<Vec<_>>() {
                    answer.await.expect("is accepted");
                }
                live.settle().await;
            });
        };
        bencher.iter_batched(|| drafts(&stage, author, WRITES), send, BatchSize::SmallInput);
    });
    group.finish();
}

/// A store that accepts every send, and keeps none.
fn at_once() -> MockMessages {
    let (mut store, mut rev) = (MockMessages::new(), 0);
    store.expect_append().returning(move |here, writes| {
        let commit = |Write { by: Principal { user: actor, .. }, change, .. }| {
            let Change::Send(Draft { id, text, .. }) = change else {
                return Err(Error::NotFound("message"));
            };
            rev += 1;
            Ok(Commit {
                subject: Committed::Message(message(id, here, actor, rev, text.as_str())),
                change: Some((ChangeKind::Created, Rev(rev))),
                access_rev: AccessRev(1),
                session_rev: SessionRev(0),
            })
        };
        Ok(writes.into_iter().map(commit).collect())
    });
    store
}

fn permission(criterion: &mut Criterion) {
    let facts = Facts {
        role: Some(Role::Member),
        kind: ConversationKind::Channel,
        private: true,
        joined: true,
        creator: false,
        peer_present: true,
    };
    criterion.bench_function("permission, by the matrix", |bencher| {
        bencher.iter(|| Standing::of(black_box(facts)).permits(ConversationAction::Post));
    });
}

/// The look-up of a repeated send: whether the sender may post is read from the store, whatever the number of members.
fn earlier_send(criterion: &mut Criterion) {
    let id = client_msg_id("never sent");
    let mut group = criterion.benchmark_group("an earlier send, looked for by who may send");
    for members in [1, 1_000] {
        let stored = Stored::new(members);
        group.bench_function(format!("{members} members"), |bencher| {
            bencher.iter(|| {
                stored
                    .runtime
                    .block_on(stored.stage.store.sent(stored.author, stored.team.general, &id))
                    .expect("may send")
            });
        });
    }
    group.finish();
}

/// An embedded store on disk with people in a channel.
struct Stored {
    runtime: Runtime,
    stage: Stage,
    team: Team,
    author: UserId,
    _home: tempfile::TempDir,
}

impl Stored {
    fn new(members: usize) -> Self {
        let home = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory on disk");
        let store =
            EmbeddedStore::open(home.path(), "epoch".into(), TestAmbient::BEGIN).expect("opens");
        let (runtime, stage) = (runtime(), Stage::new(store));
        let (team, author) = runtime.block_on(async {
            let author = stage.person("ada").await;
            let team = stage.team(author).await;
            for n in 1..members {
                stage.enter(&team, stage.person(&format!("p{n}")).await).await;
            }
            (team, author)
        });
        Self { runtime, stage, team, author, _home: home }
    }
}

fn drafts(stage: &Stage, author: UserId, count: usize) -> Vec<Write> {
    let text = "x".repeat(120);
    let draft = |_| stage.draft(author, &stage.ambient.next_uuid().to_string(), &text);
    (0..count).map(draft).collect()
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime")
}

criterion_group!(pieces, encode, append, lane, permission, earlier_send);
criterion_main!(pieces);
