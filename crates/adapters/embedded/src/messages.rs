//! Messages: the port's methods, and what they read.

use async_trait::async_trait;
use parlance_application::{
    Error, Result, Unauthenticated,
    ports::store::{
        Commit, History, HistoryQuery, Messages, Reader, ReplayPage, ReplayQuery, Write,
    },
};
use parlance_domain::{
    ClientMsgId, ConversationAction, ConversationId, Message, MessageId, UserId, WorkspaceId,
};
use rusqlite::{Connection, OptionalExtension, params};

use crate::{
    EmbeddedStore,
    access::{authorize, see},
    accounts::{has_ended, session_rev},
    append,
    error::Tx,
    rows::{int, message, message_sql},
};

#[async_trait]
impl Messages for EmbeddedStore {
    async fn append(
        &self,
        conversation: ConversationId,
        writes: Vec<Write>,
    ) -> Result<Vec<Result<Commit>>> {
        self.write(move |conn| append::run(conn, conversation, writes)).await
    }

    async fn sent(
        &self,
        author: UserId,
        conversation: ConversationId,
        client_msg_id: &ClientMsgId,
    ) -> Result<Option<MessageId>> {
        let client_msg_id = client_msg_id.as_str().to_owned();
        self.read(move |conn| {
            authorize(conn, author, conversation, ConversationAction::Post, "conversation")?;
            Ok(conn
                .prepare_cached(
                    "SELECT id FROM messages WHERE conversation_id = ?1 AND author_id = ?2 AND client_msg_id = ?3",
                )?
                .query_row(params![conversation.0, author.0, client_msg_id], |row| row.get(0).map(MessageId))
                .optional()?)
        })
        .await
    }

    async fn message(&self, actor: UserId, id: MessageId) -> Result<Message> {
        self.read(move |conn| {
            let conversation = conn
                .prepare_cached("SELECT conversation_id FROM messages WHERE id = ?1")?
                .query_row([id.0], |row| row.get(0).map(ConversationId))
                .optional()?
                .ok_or(Error::NotFound("message"))?;
            let seen = authorize(conn, actor, conversation, ConversationAction::Read, "message")?;
            Ok(conn
                .prepare_cached(message_sql!("WHERE id = ?1"))?
                .query_row([id.0], |row| message(row, seen.conversation.workspace_id))?)
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
            history(
                conn,
                conversation,
                seen.conversation.workspace_id,
                query,
                seen.conversation.rev,
            )
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
            let seen = match reader {
                Reader::Session(_, session) | Reader::Listener(_, session)
                    if has_ended(conn, session)? =>
                {
                    return Err(Error::from(Unauthenticated::Revoked).into());
                }
                Reader::Listener(user, _) => {
                    let read = ConversationAction::Read;
                    let seen = authorize(conn, user, conversation, read, "conversation")?;
                    if seen.read_seq.is_none() {
                        return Err(Error::NotFound("conversation").into());
                    }
                    seen
                }
                Reader::User(user) | Reader::Session(user, _) => {
                    authorize(conn, user, conversation, ConversationAction::Read, "conversation")?
                }
                Reader::Node => {
                    see(conn, None, conversation)?.ok_or(Error::NotFound("conversation"))?
                }
            };
            let session_rev = session_rev(conn)?;
            let conversation = seen.conversation;
            let head = conversation.rev;
            if query.from_rev > head {
                let messages = Vec::new();
                return Ok(ReplayPage {
                    from_rev: 0,
                    to_rev: head,
                    complete: true,
                    reset: true,
                    messages,
                    conversation,
                    access_rev: seen.access_rev,
                    session_rev,
                });
            }
            let (messages, complete) = if query.from_rev == head {
                (Vec::new(), true)
            } else {
                changed(conn, conversation.id, conversation.workspace_id, query)?
            };
            let to_rev = messages.last().filter(|_| !complete).map_or(head, |last| last.rev);
            Ok(ReplayPage {
                from_rev: query.from_rev,
                to_rev,
                complete,
                reset: false,
                messages,
                conversation,
                access_rev: seen.access_rev,
                session_rev,
            })
        })
        .await
    }

    async fn weigh(&self, cursors: Vec<(ConversationId, u64)>, most: usize) -> Result<Vec<usize>> {
        self.read(move |conn| {
            cursors.iter().map(|(id, from_rev)| weight(conn, *id, *from_rev, most)).collect()
        })
        .await
    }
}

fn history(
    conn: &Connection,
    id: ConversationId,
    workspace: WorkspaceId,
    query: HistoryQuery,
    rev: u64,
) -> Tx<History> {
    let limit = query.limit.clamp(1, 200);
    let mut rows = conn.prepare_cached(if query.after_seq.is_some() {
        message_sql!("WHERE conversation_id = ?1 AND seq > ?2 AND seq < ?3 ORDER BY seq LIMIT ?4")
    } else {
        message_sql!(
            "WHERE conversation_id = ?1 AND seq > ?2 AND seq < ?3 ORDER BY seq DESC LIMIT ?4"
        )
    })?;
    let after = int(query.after_seq.unwrap_or(0));
    let before = query.before_seq.map_or(i64::MAX, int);
    let one_more = i64::try_from(limit).unwrap_or(200) + 1;
    let mut items: Vec<Message> = rows
        .query_map(params![id.0, after, before, one_more], |row| message(row, workspace))?
        .collect::<Result<_, _>>()?;
    let more = items.len() > limit;
    items.truncate(limit);
    let next = items.last().filter(|_| more).map(|last| last.seq);
    Ok(History { items, next, rev })
}

/// Messages that changed after a rev, as many as the limits allow, and whether these are all.
fn changed(
    conn: &Connection,
    id: ConversationId,
    workspace: WorkspaceId,
    query: ReplayQuery,
) -> Tx<(Vec<Message>, bool)> {
    let mut statement =
        conn.prepare_cached(message_sql!("WHERE conversation_id = ?1 AND rev > ?2 ORDER BY rev"))?;
    let mut rows = statement.query(params![id.0, int(query.from_rev)])?;
    let mut messages: Vec<Message> = Vec::new();
    let mut bytes = 0;
    while let Some(row) = rows.next()? {
        let message = message(row, workspace)?;
        bytes += ReplayQuery::weight(&message);
        if !messages.is_empty() && (messages.len() >= query.limit || bytes > query.budget) {
            return Ok((messages, false));
        }
        messages.push(message);
    }
    Ok((messages, true))
}

/// How much of a replay the changes after a rev are, counted until it is too much.
fn weight(conn: &Connection, id: ConversationId, from_rev: u64, most: usize) -> Tx<usize> {
    let mut statement = conn.prepare_cached(
        "SELECT client_msg_id, text, octet_length(reactions) FROM messages WHERE conversation_id = ?1 AND rev > ?2 ORDER BY rev",
    )?;
    let mut rows = statement.query(params![id.0, int(from_rev)])?;
    let mut weight = 0;
    while let Some(row) = rows.next()? {
        let text = |column| row.get_ref(column)?.as_str().map_err(rusqlite::Error::from);
        let reactions = row.get::<_, Option<u32>>(2)?.unwrap_or(0) as usize;
        // As they are stored they have no field names.
        weight += ReplayQuery::weight_of(text(0)?, text(1)?, 3 * reactions);
        if weight > most {
            break;
        }
    }
    Ok(weight)
}
