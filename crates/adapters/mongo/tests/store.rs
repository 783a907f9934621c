//! The store on a MongoDB replica set: the contract suites of the testkit, and what is this adapter's own.

#![expect(clippy::expect_used, clippy::panic, reason = "tests may")]

#[path = "store/changes.rs"]
mod changes;
#[path = "store/contract.rs"]
mod contract;
#[path = "store/ended.rs"]
mod ended;
#[path = "store/load.rs"]
mod load;
#[path = "store/migrations.rs"]
mod migrations;
#[path = "store/nodes.rs"]
mod nodes;
#[path = "store/outbox.rs"]
mod outbox;
#[path = "store/silence.rs"]
mod silence;
#[path = "store/stuck.rs"]
mod stuck;
#[path = "store/world.rs"]
mod world;
