//! Queries outside of transactions.

use bson::Document;
use futures::TryStreamExt as _;
use parlance_application::Result;
use serde::de::DeserializeOwned;
use tokio::sync::SemaphorePermit;

use crate::{MongoStore, connect::answered, documents::Stored, lanes::Asker};

impl MongoStore {
    /// Reads outside transactions, once a share of the connections is free.
    pub(crate) async fn reads(&self) -> Result<Reads<'_>> {
        Ok(Reads { store: self, _share: self.lanes.share(Asker::Person).await? })
    }

    /// The same for the node's own queries.
    pub(crate) async fn own_reads(&self) -> Result<Reads<'_>> {
        Ok(Reads { store: self, _share: self.lanes.share(Asker::Node).await? })
    }
}

/// Queries outside transactions, one after the other. They see what a majority has confirmed.
pub(crate) struct Reads<'a> {
    store: &'a MongoStore,
    _share: SemaphorePermit<'a>,
}

impl Reads<'_> {
    /// The document that matches.
    pub(crate) async fn one<D: Stored>(&self, filter: Document) -> Result<Option<D>> {
        answered(self.store.of::<D>().find_one(filter)).await
    }

    /// The first that match, in an order.
    pub(crate) async fn first<D: Stored>(
        &self,
        filter: Document,
        order: Document,
        limit: i64,
    ) -> Result<Vec<D>> {
        let find = self.store.of::<D>();
        let read = async { find.find(filter).sort(order).limit(limit).await?.try_collect().await };
        answered(read).await
    }

    /// All documents that match.
    pub(crate) async fn all<D: Stored>(&self, filter: Document) -> Result<Vec<D>> {
        answered(async { self.store.of::<D>().find(filter).await?.try_collect().await }).await
    }

    /// The result of an aggregation.
    pub(crate) async fn aggregate<D: Stored, T>(&self, stages: Vec<Document>) -> Result<Vec<T>>
    where
        T: DeserializeOwned + Send + Sync + Unpin,
    {
        let read = async {
            let find = self.store.of::<D>();
            find.aggregate(stages).with_type::<T>().await?.try_collect().await
        };
        answered(read).await
    }
}
