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

mod simulated {
    //! The store of the simulation, which is the same but for where it runs, and which nodes can share.

    use std::sync::Arc;

    use async_trait::async_trait;
    use parlance_application::Result;
    use parlance_embedded::{
        EmbeddedStore,
        simulation::{Weather, Work},
    };

    struct Fair;

    #[async_trait]
    impl Weather for Fair {
        async fn before(&self, _: Work) -> Result<()> {
            Ok(())
        }

        async fn after(&self, _: Work) -> Result<()> {
            Ok(())
        }
    }

    parlance_testkit::changes_contract!({
        let store = EmbeddedStore::in_memory(Arc::new(Fair)).expect("opens");
        (store, ())
    });
}
