//! A store whose appends stop until the test lets them through, to see what happens meanwhile.

use std::sync::Arc;

use async_trait::async_trait;
use parlance_application::{
    Result,
    ports::store::{
        Commit, History, HistoryQuery, Messages, Reader, ReplayPage, ReplayQuery, Write,
    },
};
use parlance_domain::{ClientMsgId, ConversationId, Message, MessageId, Rev, UserId};
use tokio::sync::{Semaphore, watch};

use crate::PATIENCE;

/// A store of messages whose every append waits at a gate that the test opens. Mocks themselves cannot wait.
pub struct GatedMessages<M> {
    inner: M,
    arrived: watch::Sender<usize>,
    gate: Semaphore,
}

impl<M: Messages> GatedMessages<M> {
    /// Closes the gate in front of `inner`.
    pub fn closed(inner: M) -> Arc<Self> {
        Arc::new(Self { inner, arrived: watch::Sender::new(0), gate: Semaphore::new(0) })
    }

    /// Lets that many appends through.
    pub fn open(&self, appends: usize) {
        self.gate.add_permits(appends);
    }

    /// Waits until that many appends in all have come to the gate.
    pub async fn arrived(&self, appends: usize) {
        let mut arrived = self.arrived.subscribe();
        let came =
            tokio::time::timeout(PATIENCE, arrived.wait_for(|count| *count >= appends)).await;
        assert!(matches!(came, Ok(Ok(_))), "no append number {appends} came");
    }
}

#[async_trait]
impl<M: Messages> Messages for GatedMessages<M> {
    async fn append(
        &self,
        conversation: ConversationId,
        writes: Vec<Write>,
    ) -> Result<Vec<Result<Commit>>> {
        self.arrived.send_modify(|count| *count += 1);
        self.gate.acquire().await.expect("the gate is never taken down").forget();
        self.inner.append(conversation, writes).await
    }

    async fn sent(
        &self,
        author: UserId,
        conversation: ConversationId,
        client_msg_id: &ClientMsgId,
    ) -> Result<Option<MessageId>> {
        self.inner.sent(author, conversation, client_msg_id).await
    }

    async fn message(&self, actor: UserId, id: MessageId) -> Result<Message> {
        self.inner.message(actor, id).await
    }

    async fn history(
        &self,
        actor: UserId,
        conversation: ConversationId,
        query: HistoryQuery,
    ) -> Result<History> {
        self.inner.history(actor, conversation, query).await
    }

    async fn replay(
        &self,
        reader: Reader,
        conversation: ConversationId,
        query: ReplayQuery,
    ) -> Result<ReplayPage> {
        self.inner.replay(reader, conversation, query).await
    }

    async fn weigh(&self, cursors: Vec<(ConversationId, Rev)>, most: usize) -> Result<Vec<usize>> {
        self.inner.weigh(cursors, most).await
    }
}
