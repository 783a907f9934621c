//! The contract suites of the testkit, on `SQLite` in a directory of each test's own, and on the in-process bus.

#![expect(clippy::expect_used, reason = "tests may")]

use parlance_embedded::{EmbeddedStore, InProcessBus};
use parlance_testkit::{TestAmbient, contract::jobs::Jobs};
use tempfile::TempDir;

fn fresh() -> (EmbeddedStore, TempDir) {
    let dir = tempfile::tempdir().expect("a directory");
    let store =
        EmbeddedStore::open(dir.path(), "epoch".to_owned(), TestAmbient::BEGIN).expect("opens");
    (store, dir)
}

parlance_testkit::store_contract!(fresh());
parlance_testkit::job_contract!({
    let (store, dir) = fresh();
    (Jobs::new(store), dir)
});
parlance_testkit::bus_contract!(InProcessBus::default());
parlance_testkit::board_contract!({
    let (store, dir) = fresh();
    (parlance_testkit::contract::board::BoardStage::ticking(store), dir)
});
