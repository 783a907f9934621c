//! The pieces of a message's way, each alone: `cargo bench -p parlance-bench`.
//!
//! A feed is not public; what is measured is a node's live side around it, down to the port behind which the sockets are.

#![expect(clippy::expect_used, reason = "a bench fails by a panic")]

use std::{hint::black_box, sync::Arc};

use async_trait::async_trait;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use parlance_application::{
    Tasks,
    live::{Attachment, Event, Frame, Live, LivePorts},
    ports::{
        Close, ConnectionId, Fanout, Urgency,
        store::{Committed, Write},
    },
};
use parlance_domain::{
    ChangeKind, ConversationAction, ConversationId, ConversationKind, MessageId, NodeId, Role,
    SessionId, Standing, UserId, membership::Facts,
};
use parlance_embedded::EmbeddedStore;
use parlance_testkit::{
    MemoryStore, SilentBus, Stage, Team, TestAmbient, client_msg_id, head, message, socket,
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
                4_711,
                black_box(&subject),
                author,
                TestAmbient::BEGIN,
            )
        });
    });
}

fn append(criterion: &mut Criterion) {
    let stored = Stored::new();
    let mut group = criterion.benchmark_group("append");
    for writes in [1, WRITES] {
        group.throughput(Throughput::Elements(writes as u64));
        group.bench_function(format!("{writes} at once, synced"), |bencher| {
            let drafts = || stored.drafts(writes);
            let append =
                |drafts| stored.runtime.block_on(stored.stage.append(stored.team.general, drafts));
            bencher.iter_batched(drafts, append, BatchSize::SmallInput);
        });
    }
    group.finish();
}

fn feed(criterion: &mut Criterion) {
    let runtime = runtime();
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
    let (here, user) = (ConversationId(Uuid::from_u128(2)), UserId(Uuid::from_u128(3)));
    runtime.block_on(async {
        for number in 0..RECEIVERS {
            let session = SessionId(Uuid::from_u128(number.into()));
            live.register(socket(number), user, session, Arc::default()).await;
            let attachment =
                Attachment { conversations: vec![head(here, 0)], ..Attachment::default() };
            live.attach(socket(number), attachment).await;
        }
        live.settle().await;
    });
    let (frame, mut rev) = (Frame::encode(&"x".repeat(900)), 0);
    let mut group = criterion.benchmark_group("feed");
    group.throughput(Throughput::Elements(WRITES as u64));
    group.bench_function(format!("{WRITES} events to {RECEIVERS} connections"), |bencher| {
        bencher.iter(|| {
            runtime.block_on(async {
                for _ in 0..WRITES {
                    rev += 1;
                    let (author_id, frame) = (Some(user), frame.clone());
                    live.publish(Event::Changed {
                        conversation_id: here,
                        rev,
                        access_rev: 1,
                        session_rev: 0,
                        author_id,
                        frame,
                    })
                    .await;
                }
                live.settle().await;
            });
        });
    });
    group.finish();
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
    let stored = Stored::new();
    let (store, id) = (&stored.stage.store, client_msg_id("never sent"));
    criterion.bench_function("permission, read from the store", |bencher| {
        bencher.iter(|| {
            stored
                .runtime
                .block_on(store.sent(stored.author, stored.team.general, &id))
                .expect("may send")
        });
    });
}

/// An embedded store on disk with somebody in a channel.
struct Stored {
    runtime: Runtime,
    stage: Stage,
    team: Team,
    author: UserId,
    _home: tempfile::TempDir,
}

impl Stored {
    fn new() -> Self {
        let home = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory on disk");
        let store =
            EmbeddedStore::open(home.path(), "epoch".into(), TestAmbient::BEGIN).expect("opens");
        let (runtime, stage) = (runtime(), Stage::new(store));
        let (team, author) = runtime.block_on(async {
            let author = stage.person("ada").await;
            (stage.team(author).await, author)
        });
        Self { runtime, stage, team, author, _home: home }
    }

    fn drafts(&self, count: usize) -> Vec<Write> {
        let text = "x".repeat(120);
        let draft =
            |_| self.stage.draft(self.author, &self.stage.ambient.next_uuid().to_string(), &text);
        (0..count).map(draft).collect()
    }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime")
}

criterion_group!(pieces, encode, append, feed, permission);
criterion_main!(pieces);
