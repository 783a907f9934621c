//! The store in memory: the contract suites that every adapter passes, and what is this fake's own.

#![expect(clippy::expect_used, reason = "tests may")]

#[path = "memory/inspection.rs"]
mod inspection;
#[path = "memory/weather.rs"]
mod weather;

use parlance_testkit::MemoryStore;

parlance_testkit::store_contract!((MemoryStore::new(), ()));
parlance_testkit::changes_contract!((MemoryStore::new(), ()));
parlance_testkit::state_events_contract!((MemoryStore::new(), ()));
