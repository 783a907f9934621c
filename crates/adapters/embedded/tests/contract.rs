//! The contract suites of the testkit, on `SQLite` in a directory of each test's own, and on the in-process bus.

#![expect(clippy::expect_used, reason = "tests may")]

use parlance_embedded::{EmbeddedStore, InProcessBus};
use parlance_testkit::TestAmbient;
use tempfile::TempDir;

fn fresh() -> (EmbeddedStore, TempDir) {
    let dir = tempfile::tempdir().expect("a directory");
    let store =
        EmbeddedStore::open(dir.path(), "epoch".to_owned(), TestAmbient::BEGIN).expect("opens");
    (store, dir)
}

parlance_testkit::store_contract!(fresh());
parlance_testkit::bus_contract!(InProcessBus::default());
