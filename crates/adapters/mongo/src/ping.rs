//! Whether a write reaches a majority. The server runs one ping at a time, so it needs no share of the connections.

use bson::{Document, doc};
use mongodb::Collection;
use parlance_application::Result;

use crate::{MongoStore, connect::answered};

impl MongoStore {
    /// Proves that a write reaches a majority.
    pub async fn ping(&self) -> Result<()> {
        let meta: Collection<Document> = self.db.collection("meta");
        let count = doc! { "$inc": { "value": 1_i64 } };
        answered(meta.update_one(doc! { "_id": "pings" }, count).upsert(true)).await.map(drop)
    }
}
