//! Messages: the port's methods, and what they read.

use std::collections::HashMap;

use async_trait::async_trait;
use bson::{Document, doc};
use parlance_application::{
    Error, Result,
    ports::store::{
        Answers, Filling, History, HistoryQuery, MAX_PAGE, Messages, Reader, ReplayPage,
        ReplayQuery, Write, one_more,
    },
};
use parlance_domain::{
    ClientMsgId, ConversationAction, ConversationId, Message, MessageId, Rev, UserId, WorkspaceId,
};

use crate::{
    MongoStore,
    access::{authorize, head},
    accounts::{must_live, session_rev},
    documents::{ConversationDoc, MessageDoc, id, int, num, uuid},
    error::Outcome,
    lanes::Asker,
    tx::{Tx, atomic},
};

#[async_trait]
impl Messages for MongoStore {
    async fn append(&self, conversation: ConversationId, writes: Vec<Write>) -> Answers {
        if writes.is_empty() {
            return Ok(Vec::new());
        }
        self.append_in_group(conversation, writes).await
    }

    async fn sent(
        &self,
        author: UserId,
        conversation: ConversationId,
        client_msg_id: &ClientMsgId,
    ) -> Result<Option<MessageId>> {
        atomic!(self, |tx| {
            authorize(tx, author, conversation, ConversationAction::Post, "conversation").await?;
            let sent = doc! {
                "conversation_id": id(conversation.0),
                "author_id": id(author.0),
                "client_msg_id": client_msg_id.as_str(),
            };
            let found = tx.one::<MessageDoc>(sent).await?;
            Ok(found.map(|message| MessageId(uuid(message.id))))
        })
    }

    async fn message(&self, actor: UserId, message: MessageId) -> Result<Message> {
        atomic!(self, |tx| {
            let found = tx.one::<MessageDoc>(doc! { "_id": id(message.0) }).await?;
            let found = found.ok_or(Error::NotFound("message"))?;
            let conversation = ConversationId(uuid(found.conversation_id));
            let seen =
                authorize(tx, actor, conversation, ConversationAction::Read, "message").await?;
            Ok(found.message(WorkspaceId(uuid(seen.head.workspace_id))))
        })
    }

    async fn history(
        &self,
        actor: UserId,
        conversation: ConversationId,
        query: HistoryQuery,
    ) -> Result<History> {
        if let Some(page) = self.page_of_poster(actor, conversation, query).await? {
            return Ok(page);
        }
        atomic!(self, |tx| {
            let read = ConversationAction::Read;
            let seen = authorize(tx, actor, conversation, read, "conversation").await?;
            tx.learnt.posters(&seen.head, &HashMap::from([(actor, seen.standing)]));
            let span = Span::of(&seen.head, query);
            let found = tx.first(span.filter(&seen.head), span.order(), span.one_more).await?;
            Ok(span.page(&seen.head, found))
        })
    }

    async fn replay(
        &self,
        reader: Reader,
        conversation: ConversationId,
        query: ReplayQuery,
    ) -> Result<ReplayPage> {
        let asker = reader.person().map_or(Asker::Node, |_| Asker::Person);
        atomic!(self, asker, |tx| {
            let missing = Error::NotFound("conversation");
            let head = if let Some((by, listens)) = reader.person() {
                must_live(tx, by.session).await?;
                let read = ConversationAction::Read;
                let seen = authorize(tx, by.user, conversation, read, "conversation").await?;
                if listens && seen.read_seq.is_none() {
                    return Err(missing.into());
                }
                seen.head
            } else {
                head(tx, conversation).await?.ok_or(missing)?
            };
            let session_rev = session_rev(tx).await?;
            let mut page = Filling::new(query);
            let complete = query.from_rev >= num(head.rev) || fill(tx, &head, &mut page).await?;
            Ok(page.page(complete, head.conversation(), num(head.access_rev), session_rev))
        })
    }

    async fn weigh(&self, cursors: Vec<(ConversationId, Rev)>, most: usize) -> Result<Vec<usize>> {
        atomic!(self, |tx| {
            let mut weights = Vec::with_capacity(cursors.len());
            for (conversation, from_rev) in &cursors {
                weights.push(weight(tx, *conversation, *from_rev, most).await?);
            }
            Ok(weights)
        })
    }
}

impl MongoStore {
    /// The same in two queries and without a transaction, for somebody whom this node knows may post. `None` if a
    /// message has changed since the head was read: head and messages would not be from one moment.
    async fn page_of_poster(
        &self,
        actor: UserId,
        conversation: ConversationId,
        query: HistoryQuery,
    ) -> Result<Option<History>> {
        if !self.facts.knows_poster(conversation, actor) {
            return Ok(None);
        }
        let reads = self.reads().await?;
        let head = doc! { "_id": id(conversation.0), "deleted": false };
        let Some(head) = reads.one::<ConversationDoc>(head).await? else { return Ok(None) };
        if self.facts.posters(&head, &[actor]).is_none() {
            return Ok(None);
        }
        let span = Span::of(&head, query);
        let found: Vec<MessageDoc> =
            reads.first(span.filter(&head), span.order(), span.one_more).await?;
        let of_its_moment = found.iter().all(|message| message.rev <= head.rev);
        Ok(of_its_moment.then(|| span.page(&head, found)))
    }
}

/// The range of a page of history. `seq` is dense: both of its ends are known before it is read.
struct Span {
    ascending: bool,
    /// Both exclusive.
    between: (i64, i64),
    limit: usize,
    one_more: i64,
}

impl Span {
    fn of(head: &ConversationDoc, query: HistoryQuery) -> Self {
        let limit = query.limit.clamp(1, MAX_PAGE);
        let one_more = one_more(limit);
        let end = query.before_seq.map_or(head.last_seq + 1, int).min(head.last_seq + 1);
        let between = match query.after_seq.map(int) {
            Some(after) => (after, end.min(after.saturating_add(one_more + 1))),
            None => ((end - one_more - 1).max(0), end),
        };
        Self { ascending: query.after_seq.is_some(), between, limit, one_more }
    }

    fn filter(&self, head: &ConversationDoc) -> Document {
        let (after, before) = self.between;
        doc! { "conversation_id": head.id, "seq": { "$gt": after, "$lt": before } }
    }

    fn order(&self) -> Document {
        doc! { "seq": if self.ascending { 1 } else { -1 } }
    }

    fn page(&self, head: &ConversationDoc, found: Vec<MessageDoc>) -> History {
        let workspace = WorkspaceId(uuid(head.workspace_id));
        let found = found.into_iter().map(|doc| doc.message(workspace)).collect();
        History::page(found, self.limit, num(head.rev))
    }
}

/// Fills a page with messages that changed after its rev; whether these are all.
async fn fill(tx: &mut Tx, head: &ConversationDoc, page: &mut Filling) -> Outcome<bool> {
    let query = page.query();
    let workspace = WorkspaceId(uuid(head.workspace_id));
    let one_more = one_more(query.limit.max(1));
    let from = int(query.from_rev);
    // Most changes are new messages, with one rev each: then a page has as many revs as messages, and both its ends are
    // known.
    let near = from.saturating_add(one_more).min(head.rev);
    let mut complete = true;
    for (after, to) in [(from, near), (near, head.rev)] {
        if complete && after < to {
            let window = doc! { "conversation_id": head.id, "rev": { "$gt": after, "$lte": to } };
            let is_last = |doc: MessageDoc| {
                complete = page.takes(doc.message(workspace));
                !complete
            };
            tx.until(window, doc! { "rev": 1 }, one_more, is_last).await?;
        }
    }
    Ok(complete)
}

/// The weight of a replay of the changes after a rev, counted until it exceeds `most`.
async fn weight(
    tx: &mut Tx,
    conversation: ConversationId,
    from_rev: Rev,
    most: usize,
) -> Outcome<usize> {
    const AT_ONCE: i64 = 200;
    let (mut weight, mut after) = (0, int(from_rev));
    loop {
        let filter = doc! { "conversation_id": id(conversation.0), "rev": { "$gt": after } };
        let found: Vec<MessageDoc> = tx.first(filter, doc! { "rev": 1 }, AT_ONCE).await?;
        let last = found.last().map_or(after, |doc| doc.rev);
        let full = found.len() >= usize::try_from(AT_ONCE).unwrap_or(usize::MAX);
        let messages = found.into_iter().map(|doc| doc.message(WorkspaceId(conversation.0)));
        weight += messages.map(|message| ReplayQuery::weight(&message)).sum::<usize>();
        if weight > most || !full {
            return Ok(weight);
        }
        after = last;
    }
}
