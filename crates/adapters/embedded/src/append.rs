//! A batch of one conversation's changes.
//!
//! The head is read once, advanced in memory, and written once at the end. Each write checks everything before it
//! changes anything, so that a refused one leaves no trace; an error of the engine ends the whole batch.

use std::mem;

use parlance_application::{
    Error, Result,
    ports::store::{
        Change, Changeable, ChannelUpdate, Commit, Committed, Draft, MessageChange, NAME_TAKEN,
        Principal, SENT_BEFORE, Write,
    },
};
use parlance_domain::{
    AccessRev, ChangeKind, Conversation, ConversationId, Message, MessageId, MessageText, Rev, Seq,
    SessionId, SessionRev, Standing, Timestamp, UserId,
};
use rusqlite::{Connection, OptionalExtension, params};
use sha2::{Digest, Sha256};

use crate::{
    access::see,
    accounts::{must_live, session_rev},
    conversations::name_taken,
    error::{Fail, Tx},
    reactions,
    rows::{DIGEST, Shelf, int, message, message_sql, write_reactions},
};

/// Runs all writes of a batch.
pub(crate) fn run(
    conn: &Connection,
    id: ConversationId,
    writes: Vec<Write>,
) -> Tx<Vec<Result<Commit>>> {
    let mut batch = Batch { conn, id, head: None, actors: Vec::new(), live: Vec::new() };
    let mut answers = Vec::with_capacity(writes.len());
    for write in writes {
        answers.push(match batch.one(write) {
            Ok(commit) => Ok(commit),
            Err(Fail::Refused(error)) => Err(error),
            Err(fail) => return Err(fail),
        });
    }
    batch.finish()?;
    Ok(answers)
}

struct Batch<'a> {
    conn: &'a Connection,
    id: ConversationId,
    head: Option<Head>,
    actors: Vec<Actor>,
    /// Their sessions known to be live.
    live: Vec<SessionId>,
}

struct Head {
    conversation: Conversation,
    access_rev: AccessRev,
    session_rev: SessionRev,
    shelf: Shelf,
    changed: bool,
}

/// Somebody who writes in this batch. Nothing in a batch changes their relation to the conversation.
struct Actor {
    id: UserId,
    standing: Standing,
    /// The last message they sent in it.
    sent: Option<Seq>,
}

/// A write's subject, and what happened to it.
type Outcome = (Committed, Option<ChangeKind>);

impl Batch<'_> {
    fn one(&mut self, write: Write) -> Tx<Commit> {
        let Write { by: Principal { user: actor, session }, at, change } = write;
        self.must_live(session)?;
        let what = change.subject();
        let standing = self.standing(actor, what)?;
        standing.permits(change.action()).map_err(|denied| Error::denied(denied, what))?;
        let (subject, kind) = match change {
            Change::Send(draft) => self.send(actor, at, draft)?,
            Change::UpdateChannel(update) => self.update_channel(update)?,
            Change::Message(id, change) => {
                let message = self.message(id)?;
                if change.takes_effect(standing, Changeable::of(&message, actor))? {
                    self.change(message, actor, at, change)?
                } else {
                    (Committed::Message(message), None)
                }
            }
        };
        let head = self.head()?;
        Ok(Commit {
            subject,
            change: kind.map(|kind| (kind, head.conversation.rev)),
            access_rev: head.access_rev,
            session_rev: head.session_rev,
        })
    }

    fn must_live(&mut self, session: SessionId) -> Tx<()> {
        if !self.live.contains(&session) {
            must_live(self.conn, session)?;
            self.live.push(session);
        }
        Ok(())
    }

    /// The person's relation to the conversation. The first call also reads the head.
    fn standing(&mut self, id: UserId, what: &'static str) -> Tx<Standing> {
        if let Some(actor) = self.actors.iter().find(|actor| actor.id == id) {
            return Ok(actor.standing);
        }
        let seen = see(self.conn, Some(id), self.id)?.ok_or(Error::NotFound(what))?;
        self.actors.push(Actor { id, standing: seen.standing, sent: None });
        if self.head.is_none() {
            self.head = Some(Head {
                conversation: seen.conversation,
                access_rev: seen.access_rev,
                session_rev: session_rev(self.conn)?,
                shelf: seen.shelf,
                changed: false,
            });
        }
        Ok(seen.standing)
    }

    fn head(&mut self) -> Tx<&mut Head> {
        Ok(self.head.as_mut().ok_or_else(|| Error::internal("a write without a head"))?)
    }

    /// The rev of the change that is about to be made.
    fn advance(&mut self) -> Tx<Rev> {
        let head = self.head()?;
        head.changed = true;
        head.conversation.rev = head.conversation.rev.next();
        Ok(head.conversation.rev)
    }

    fn message(&mut self, id: MessageId) -> Tx<Message> {
        let conn = self.conn;
        let Head { conversation, shelf, .. } = self.head()?;
        Ok(conn
            .prepare_cached(message_sql!("WHERE id = ?1 AND conversation = ?2"))?
            .query_row(params![id.0, shelf.0], |row| message(row, conversation))
            .optional()?
            .ok_or(Error::NotFound("message"))?)
    }

    fn send(&mut self, author: UserId, at: Timestamp, draft: Draft) -> Tx<Outcome> {
        let conn = self.conn;
        let Draft { id, client_msg_id, text } = draft;
        let Head { conversation, shelf, .. } = self.head()?;
        let (workspace_id, seq, rev) =
            (conversation.workspace_id, conversation.last_seq.next(), conversation.rev.next());
        let inserted = conn
            .prepare_cached(
                "INSERT INTO messages (n, id, sent_rev, author_id, client_msg_id, text, created_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) \
                 ON CONFLICT (conversation, author_id, client_msg_id) DO NOTHING",
            )?
            .execute(params![
                shelf.key(seq),
                id.0,
                int(rev),
                author.0,
                client_msg_id.as_str(),
                text.as_str(),
                at.as_millis()
            ])?;
        if inserted == 0 {
            let (first, before) = conn
                .prepare_cached(message_sql!(
                    "WHERE conversation = ?1 AND author_id = ?2 AND client_msg_id = ?3"
                ))?
                .query_row(params![shelf.0, author.0, client_msg_id.as_str()], |row| {
                    Ok((row.get::<_, Option<[u8; 32]>>(DIGEST)?, message(row, conversation)?))
                })?;
            let same = match first {
                None => before.text == text.as_str(),
                Some(first) => first == digest(text.as_str()),
            };
            if !same {
                return Err(
                    Error::Conflict { message: SENT_BEFORE, message_id: Some(before.id) }.into()
                );
            }
            return Ok((Committed::Message(before), None));
        }
        self.advance()?;
        let head = self.head()?;
        head.conversation.last_seq = seq;
        head.conversation.last_message_at = Some(at);
        if let Some(actor) = self.actors.iter_mut().find(|actor| actor.id == author) {
            actor.sent = Some(seq);
        }
        let message = Message {
            seq,
            rev,
            author_id: Some(author),
            text: text.into(),
            client_msg_id: client_msg_id.into(),
            created_at: at,
            ..Message::blank(id, self.id, workspace_id)
        };
        Ok((Committed::Message(message), Some(ChangeKind::Created)))
    }

    fn change(
        &mut self,
        mut message: Message,
        actor: UserId,
        at: Timestamp,
        change: MessageChange,
    ) -> Tx<Outcome> {
        match change {
            MessageChange::Edit(text) => self.edit(message, at, text),
            MessageChange::Delete => self.delete(message, actor, at),
            MessageChange::React(emoji) => {
                let new = reactions::add(self.conn, &mut message, actor, emoji.as_str())?;
                self.reacted(message, new.then_some(ChangeKind::ReactionAdded))
            }
            MessageChange::Unreact(emoji) => {
                let gone = reactions::remove(self.conn, &mut message, actor, emoji.as_str())?;
                self.reacted(message, gone.then_some(ChangeKind::ReactionRemoved))
            }
        }
    }

    fn edit(&mut self, mut message: Message, at: Timestamp, text: MessageText) -> Tx<Outcome> {
        let before = mem::replace(&mut message.text, text.into());
        message.edited_at = Some(at);
        message.rev = self.advance()?;
        self.conn
            .prepare_cached(
                "UPDATE messages SET changed_rev = ?2, text = ?3, edited_at = ?4, digest = coalesce(digest, ?5) WHERE id = ?1",
            )?
            .execute(params![
                message.id.0,
                int(message.rev),
                message.text,
                at.as_millis(),
                digest(&before)
            ])?;
        Ok((Committed::Message(message), Some(ChangeKind::Edited)))
    }

    fn delete(&mut self, mut message: Message, actor: UserId, at: Timestamp) -> Tx<Outcome> {
        if !message.reactions.is_empty() {
            reactions::clear(self.conn, &mut message)?;
        }
        let before = mem::take(&mut message.text);
        message.deleted_at = Some(at);
        message.deleted_by = Some(actor);
        message.rev = self.advance()?;
        self.conn
            .prepare_cached(
                "UPDATE messages SET changed_rev = ?2, text = '', reactions = NULL, deleted_at = ?3, deleted_by = ?4, \
                 digest = coalesce(digest, ?5) WHERE id = ?1",
            )?
            .execute(params![
                message.id.0,
                int(message.rev),
                at.as_millis(),
                actor.0,
                digest(&before)
            ])?;
        Ok((Committed::Message(message), Some(ChangeKind::Deleted)))
    }

    fn reacted(&mut self, mut message: Message, kind: Option<ChangeKind>) -> Tx<Outcome> {
        if kind.is_some() {
            message.rev = self.advance()?;
            self.conn
                .prepare_cached(
                    "UPDATE messages SET changed_rev = ?2, reactions = ?3 WHERE id = ?1",
                )?
                .execute(params![
                    message.id.0,
                    int(message.rev),
                    write_reactions(&message.reactions)?
                ])?;
        }
        Ok((Committed::Message(message), kind))
    }

    fn update_channel(&mut self, update: ChannelUpdate) -> Tx<Outcome> {
        let (conn, id) = (self.conn, self.id);
        let now = &self.head()?.conversation;
        let Some((news, kind)) = update.news(now.name.as_deref(), now.topic.as_deref()) else {
            return Ok((Committed::Conversation(now.clone()), None));
        };
        if let Some(name) = &news.name
            && name_taken(conn, now.workspace_id, name.as_str())?
        {
            return Err(Error::conflict(NAME_TAKEN).into());
        }
        self.advance()?;
        let conversation = &mut self.head()?.conversation;
        news.apply(&mut conversation.name, &mut conversation.topic);
        conn.prepare_cached("UPDATE conversations SET name = ?2, topic = ?3 WHERE id = ?1")?
            .execute(params![id.0, conversation.name, conversation.topic])?;
        Ok((Committed::Conversation(conversation.clone()), Some(kind)))
    }

    /// Writes the head, and how far the senders have read.
    fn finish(self) -> Tx<()> {
        let Some(Head { conversation, changed: true, .. }) = self.head else { return Ok(()) };
        self.conn
            .prepare_cached("UPDATE conversations SET last_seq = ?2, rev = ?3, last_message_at = ?4 WHERE id = ?1")?
            .execute(params![
                self.id.0,
                int(conversation.last_seq),
                int(conversation.rev),
                conversation.last_message_at.map(Timestamp::as_millis)
            ])?;
        let mut read = self.conn.prepare_cached(
            "UPDATE conversation_members SET read_seq = ?3 WHERE conversation_id = ?1 AND user_id = ?2",
        )?;
        for actor in self.actors {
            if let Some(seq) = actor.sent {
                read.execute(params![self.id.0, actor.id.0, int(seq)])?;
            }
        }
        Ok(())
    }
}

/// Tells whether a repeated send has the original text, even after the message's text has changed.
pub(crate) fn digest(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}
