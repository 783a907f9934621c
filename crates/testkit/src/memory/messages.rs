//! Messages: the port's methods, and what they read.

use async_trait::async_trait;
use parlance_application::{
    Error, Result,
    ports::store::{
        Commit, History, HistoryQuery, MAX_PAGE, Messages, Reader, ReplayPage, ReplayQuery, Write,
    },
};
use parlance_domain::{
    ClientMsgId, ConversationAction, ConversationId, Message, MessageId, Rev, Seq, SessionRev,
    UserId,
};

use super::{
    MemoryStore, append,
    state::{ConversationRow, MessageRow},
};

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
            if let Reader::Session(_, session) | Reader::Listener(_, session) = reader {
                state.must_live(session)?;
            }
            let seen = match reader {
                Reader::Listener(user, _) => {
                    let read = ConversationAction::Read;
                    let seen = state.authorize(user, conversation, read, "conversation")?;
                    if seen.read_seq.is_none() {
                        return Err(Error::NotFound("conversation"));
                    }
                    seen
                }
                Reader::Session(user, _) => {
                    let read = ConversationAction::Read;
                    state.authorize(user, conversation, read, "conversation")?
                }
                Reader::Node => {
                    state.see(None, conversation).ok_or(Error::NotFound("conversation"))?
                }
            };
            Ok(ReplayPage { session_rev: state.session_rev, ..replay(seen.row, query) })
        })
        .await
    }

    async fn weigh(&self, cursors: Vec<(ConversationId, Rev)>, _most: usize) -> Result<Vec<usize>> {
        self.read("weigh", |state| {
            let weight = |(id, from_rev): &(ConversationId, Rev)| {
                let row = state.conversations.get(id)?;
                let all =
                    ReplayQuery { from_rev: *from_rev, limit: usize::MAX, budget: usize::MAX };
                Some(changed(row, all).0.iter().map(ReplayQuery::weight).sum())
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
    let mut items: Vec<Message> = if query.after_seq.is_some() {
        within.take(limit + 1).cloned().collect()
    } else {
        within.rev().take(limit + 1).cloned().collect()
    };
    let more = items.len() > limit;
    items.truncate(limit);
    let next = items.last().filter(|_| more).map(|last| last.seq);
    History { items, next, rev: row.conversation.rev }
}

fn replay(row: &ConversationRow, query: ReplayQuery) -> ReplayPage {
    let head = row.conversation.rev;
    let reset = query.from_rev > head;
    let (messages, complete) = if reset { (Vec::new(), true) } else { changed(row, query) };
    ReplayPage {
        from_rev: if reset { Rev(0) } else { query.from_rev },
        to_rev: messages.last().filter(|_| !complete).map_or(head, |last| last.rev),
        complete,
        reset,
        messages,
        conversation: row.conversation.clone(),
        access_rev: row.access_rev,
        session_rev: SessionRev(0),
    }
}

/// Messages that changed after a rev, as many as the limits allow, and whether these are all.
fn changed(row: &ConversationRow, query: ReplayQuery) -> (Vec<Message>, bool) {
    let mut messages: Vec<Message> = Vec::new();
    let mut bytes = 0;
    let later = row.revs.range(query.from_rev.next()..);
    for MessageRow { message, .. } in later.filter_map(|(_, seq)| row.message(*seq)) {
        bytes += ReplayQuery::weight(message);
        if !messages.is_empty() && (messages.len() >= query.limit || bytes > query.budget) {
            return (messages, false);
        }
        messages.push(message.clone());
    }
    (messages, true)
}
