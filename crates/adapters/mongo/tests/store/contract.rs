//! The contract suites of `parlance-testkit`, on MongoDB.

use crate::world::fresh;

parlance_testkit::store_contract!(fresh().await);
parlance_testkit::changes_contract!(fresh().await);
parlance_testkit::state_events_contract!(fresh().await);
