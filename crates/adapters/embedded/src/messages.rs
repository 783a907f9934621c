//! Messages: the port's methods, and what they read.

use async_trait::async_trait;
use parlance_application::{
    Error, Result,
    ports::store::{
        Answers, History, HistoryQuery, MAX_PAGE, Messages, Reader, ReplayPage, ReplayQuery, Write,
        one_more,
    },
};
use parlance_domain::{
    ClientMsgId, ConversationAction, ConversationId, Message, MessageId, Rev, Seq, UserId,
};
use rusqlite::{Connection, OptionalExtension, params};

use crate::{
    EmbeddedStore,
    access::{Seen, authorize, see},
    accounts::must_live,
    append,
    error::Tx,
    replay,
    rows::{message, message_sql},
};

#[async_trait]
impl Messages for EmbeddedStore {
    async fn append(&self, conversation: ConversationId, writes: Vec<Write>) -> Answers {
        let answers = self.append_each(vec![(conversation, writes)]).await.pop();
        answers.unwrap_or_else(|| Err(Error::internal("an append has no answer")))
    }

    async fn append_each(&self, batches: Vec<(ConversationId, Vec<Write>)>) -> Vec<Answers> {
        let job = |(conversation, writes)| {
            move |conn: &Connection| append::run(conn, conversation, writes)
        };
        self.write_here(batches.into_iter().map(job).collect()).await
    }

    async fn sent(
        &self,
        author: UserId,
        conversation: ConversationId,
        client_msg_id: &ClientMsgId,
    ) -> Result<Option<MessageId>> {
        let client_msg_id = client_msg_id.as_str().to_owned();
        self.read(move |conn| {
            let post = ConversationAction::Post;
            let seen = authorize(conn, author, conversation, post, "conversation")?;
            Ok(conn
                .prepare_cached(
                    "SELECT id FROM messages WHERE conversation = ?1 AND author_id = ?2 AND client_msg_id = ?3",
                )?
                .query_row(params![seen.shelf.0, author.0, client_msg_id], |row| row.get(0).map(MessageId))
                .optional()?)
        })
        .await
    }

    async fn message(&self, actor: UserId, id: MessageId) -> Result<Message> {
        self.read(move |conn| {
            let conversation = conn
                .prepare_cached(
                    "SELECT c.id FROM messages m JOIN conversations c ON c.n = m.conversation WHERE m.id = ?1",
                )?
                .query_row([id.0], |row| row.get(0).map(ConversationId))
                .optional()?
                .ok_or(Error::NotFound("message"))?;
            let seen = authorize(conn, actor, conversation, ConversationAction::Read, "message")?;
            Ok(conn
                .prepare_cached(message_sql!("WHERE id = ?1"))?
                .query_row([id.0], |row| message(row, &seen.conversation))?)
        })
        .await
    }

    async fn history(
        &self,
        actor: UserId,
        conversation: ConversationId,
        query: HistoryQuery,
    ) -> Result<History> {
        self.read(move |conn| {
            let seen =
                authorize(conn, actor, conversation, ConversationAction::Read, "conversation")?;
            history(conn, &seen, query)
        })
        .await
    }

    async fn replay(
        &self,
        reader: Reader,
        conversation: ConversationId,
        query: ReplayQuery,
    ) -> Result<ReplayPage> {
        self.read(move |conn| {
            let missing = Error::NotFound("conversation");
            let seen = if let Some((by, listens)) = reader.person() {
                must_live(conn, by.session)?;
                let read = ConversationAction::Read;
                let seen = authorize(conn, by.user, conversation, read, "conversation")?;
                if listens && seen.read_seq.is_none() {
                    return Err(missing.into());
                }
                seen
            } else {
                see(conn, None, conversation)?.ok_or(missing)?
            };
            replay::page(conn, seen, query)
        })
        .await
    }

    async fn weigh(&self, cursors: Vec<(ConversationId, Rev)>, most: usize) -> Result<Vec<usize>> {
        self.read(move |conn| {
            cursors.iter().map(|(id, rev)| replay::weight(conn, *id, *rev, most)).collect()
        })
        .await
    }
}

fn history(conn: &Connection, seen: &Seen, query: HistoryQuery) -> Tx<History> {
    let limit = query.limit.clamp(1, MAX_PAGE);
    let mut rows = conn.prepare_cached(if query.after_seq.is_some() {
        message_sql!("WHERE n > ?1 AND n < ?2 ORDER BY n LIMIT ?3")
    } else {
        message_sql!("WHERE n > ?1 AND n < ?2 ORDER BY n DESC LIMIT ?3")
    })?;
    let after = seen.shelf.key(query.after_seq.unwrap_or(Seq::ZERO));
    let before = seen.shelf.key(query.before_seq.unwrap_or(Seq(u64::MAX)));
    let one_more = one_more(limit);
    let found = rows
        .query_map([after, before, one_more], |row| message(row, &seen.conversation))?
        .collect::<Result<_, _>>()?;
    Ok(History::page(found, limit, seen.conversation.rev))
}
