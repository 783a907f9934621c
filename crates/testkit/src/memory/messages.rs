//! Messages: the port's methods, and what they read.

use std::ops::Bound;

use async_trait::async_trait;
use parlance_application::{
    Error, Result,
    ports::store::{
        Commit, Filling, History, HistoryQuery, MAX_PAGE, Messages, Reader, ReplayPage,
        ReplayQuery, Write,
    },
};
use parlance_domain::{
    ClientMsgId, ConversationAction, ConversationId, Message, MessageId, Rev, Seq, UserId,
};

use super::{MemoryStore, append, state::ConversationRow};

#[async_trait]
impl Messages for MemoryStore {
    async fn append(
        &self,
        conversation: ConversationId,
        writes: Vec<Write>,
    ) -> Result<Vec<Result<Commit>>> {
        self.write("append", |state| {
            Ok(writes.into_iter().map(|write| append::one(state, conversation, write)).collect())
        })
        .await
    }

    async fn sent(
        &self,
        author: UserId,
        conversation: ConversationId,
        client_msg_id: &ClientMsgId,
    ) -> Result<Option<MessageId>> {
        self.read("sent", |state| {
            let post = ConversationAction::Post;
            let row = state.authorize(author, conversation, post, "conversation")?.row;
            let sent = row.sends.get(&(author, client_msg_id.as_str().to_owned()));
            Ok(sent.and_then(|(seq, _)| row.message(*seq)).map(|row| row.message.id))
        })
        .await
    }

    async fn message(&self, actor: UserId, id: MessageId) -> Result<Message> {
        self.read("message", |state| {
            let &(conversation, seq) = state.places.get(&id).ok_or(Error::NotFound("message"))?;
            let seen = state.authorize(actor, conversation, ConversationAction::Read, "message")?;
            let row = seen.row.message(seq).ok_or(Error::NotFound("message"))?;
            Ok(row.message.clone())
        })
        .await
    }

    async fn history(
        &self,
        actor: UserId,
        conversation: ConversationId,
        query: HistoryQuery,
    ) -> Result<History> {
        self.read("history", |state| {
            let read = ConversationAction::Read;
            Ok(history(state.authorize(actor, conversation, read, "conversation")?.row, query))
        })
        .await
    }

    async fn replay(
        &self,
        reader: Reader,
        conversation: ConversationId,
        query: ReplayQuery,
    ) -> Result<ReplayPage> {
        self.read("replay", |state| {
            let missing = Error::NotFound("conversation");
            let seen = if let Some((by, listens)) = reader.person() {
                state.must_live(by.session)?;
                let read = ConversationAction::Read;
                let seen = state.authorize(by.user, conversation, read, "conversation")?;
                if listens && seen.read_seq.is_none() {
                    return Err(missing);
                }
                seen
            } else {
                state.see(None, conversation).ok_or(missing)?
            };
            let row = seen.row;
            let mut page = Filling::new(query);
            let complete = later(row, query.from_rev).all(|message| page.takes(message.clone()));
            let conversation = row.conversation.clone();
            Ok(page.page(complete, conversation, row.access_rev, state.session_rev))
        })
        .await
    }

    async fn weigh(&self, cursors: Vec<(ConversationId, Rev)>, _most: usize) -> Result<Vec<usize>> {
        self.read("weigh", |state| {
            let weight = |(id, from_rev): &(ConversationId, Rev)| {
                let row = state.conversations.get(id)?;
                Some(later(row, *from_rev).map(ReplayQuery::weight).sum())
            };
            Ok(cursors.iter().map(|cursor| weight(cursor).unwrap_or(0)).collect())
        })
        .await
    }
}

fn history(row: &ConversationRow, query: HistoryQuery) -> History {
    let limit = query.limit.clamp(1, MAX_PAGE);
    let (after, before) =
        (query.after_seq.unwrap_or_default(), query.before_seq.unwrap_or(Seq(u64::MAX)));
    let within = row.messages.iter().map(|row| &row.message);
    let within = within.filter(|message| message.seq > after && message.seq < before);
    let found = if query.after_seq.is_some() {
        within.take(limit + 1).cloned().collect()
    } else {
        within.rev().take(limit + 1).cloned().collect()
    };
    History::page(found, limit, row.conversation.rev)
}

/// Messages that changed after a rev, in the order of revs.
fn later(row: &ConversationRow, from_rev: Rev) -> impl Iterator<Item = &Message> {
    let later = row.revs.range((Bound::Excluded(from_rev), Bound::Unbounded));
    later.filter_map(|(_, seq)| row.message(*seq)).map(|row| &row.message)
}
