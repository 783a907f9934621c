use crate::world::fresh;

parlance_testkit::store_contract!(fresh().await);
