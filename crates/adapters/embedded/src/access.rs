//! A person's relation to a conversation, read inside the transaction whose permission depends on it.

use std::collections::HashMap;

use parlance_application::{Error, Result};
use parlance_domain::{
    AccessRev, Conversation, ConversationAction, ConversationId, ReadState, Role, Seq, Standing,
    Summary, Timestamp, UserId, WorkspaceAction, WorkspaceId, membership::Facts,
};
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::{
    error::Tx,
    rows::{Shelf, at, conversation, int, maybe_role, num, role},
};

/// The columns that [`Seen`] is read from; the role is that of the person `?1` in the workspace.
macro_rules! columns {
    ($role:literal) => {
        concat!(
            "c.id, c.workspace_id, c.kind, c.name, c.topic, c.private, c.archived_at, c.peer_low, c.peer_high, c.rev, ",
            "c.last_seq, c.last_message_at, c.access_rev, c.general, c.created_by, c.created_at, m.read_seq, ",
            $role,
            ", c.n, c.kind = 'dm' AND EXISTS (SELECT 1 FROM workspace_members p WHERE p.workspace_id = c.workspace_id ",
            "AND p.user_id = CASE WHEN c.peer_low = ?1 THEN c.peer_high ELSE c.peer_low END) ",
        )
    };
}
pub(crate) use columns;

/// The `SELECT` that [`Seen::of`] reads: a conversation that is not deleted, and person `?1`'s relation to it.
macro_rules! seen {
    ($tail:literal) => {
        concat!(
            "SELECT ",
            $crate::access::columns!("w.role"),
            "FROM conversations c ",
            "LEFT JOIN conversation_members m ON m.conversation_id = c.id AND m.user_id = ?1 ",
            "LEFT JOIN workspace_members w ON w.workspace_id = c.workspace_id AND w.user_id = ?1 ",
            "WHERE c.deleted_at IS NULL ",
            $tail
        )
    };
}
pub(crate) use seen;

/// The `SELECT` that [`Seen::joined`] reads: whatever person `?1` is in, without roles or ordering, which cost SQLite
/// more than the caller.
pub(crate) const JOINED: &str = concat!(
    "SELECT ",
    columns!("NULL"),
    "FROM conversation_members m CROSS JOIN conversations c ON c.id = m.conversation_id ",
    "WHERE m.user_id = ?1 AND c.deleted_at IS NULL"
);

/// A conversation as one person sees it.
pub(crate) struct Seen {
    pub(crate) conversation: Conversation,
    pub(crate) access_rev: AccessRev,
    pub(crate) general: bool,
    pub(crate) created_at: Timestamp,
    /// The person's read mark, if they are in it.
    pub(crate) read_seq: Option<Seq>,
    pub(crate) standing: Standing,
    pub(crate) shelf: Shelf,
}

impl Seen {
    /// Reads a row of [`seen!`].
    pub(crate) fn of(row: &Row<'_>, viewer: Option<UserId>) -> rusqlite::Result<Self> {
        Self::with_role(row, viewer, maybe_role(row, 17)?)
    }

    /// Reads a row of [`JOINED`]; `None` if the person has left its workspace.
    pub(crate) fn joined(
        row: &Row<'_>,
        person: UserId,
        roles: &HashMap<WorkspaceId, Role>,
    ) -> rusqlite::Result<Option<Self>> {
        let Some(role) = roles.get(&WorkspaceId(row.get(1)?)) else { return Ok(None) };
        Self::with_role(row, Some(person), Some(*role)).map(Some)
    }

    fn with_role(
        row: &Row<'_>,
        viewer: Option<UserId>,
        role: Option<Role>,
    ) -> rusqlite::Result<Self> {
        let conversation = conversation(row)?;
        let read_seq: Option<i64> = row.get(16)?;
        let standing = Standing::of(Facts {
            role,
            kind: conversation.kind,
            private: conversation.private,
            joined: read_seq.is_some(),
            creator: viewer == Some(UserId(row.get(14)?)),
            peer_present: row.get(19)?,
        });
        Ok(Self {
            conversation,
            access_rev: num(row, 12)?,
            general: row.get(13)?,
            created_at: at(row, 15)?,
            read_seq: read_seq.map(|n| Seq(u64::try_from(n).unwrap_or(0))),
            standing,
            shelf: Shelf(row.get(18)?),
        })
    }

    /// The sort key of a person's conversations, latest first.
    pub(crate) fn last_active(&self) -> (Timestamp, ConversationId) {
        let Conversation { id, last_message_at, .. } = self.conversation;
        (last_message_at.unwrap_or(self.created_at), id)
    }

    /// Asks the domain's permission matrix.
    pub(crate) fn permits(&self, action: ConversationAction, what: &'static str) -> Result<()> {
        self.standing.permits(action).map_err(|denied| Error::denied(denied, what))
    }

    /// The person's view of it, with the unread count.
    pub(crate) fn summary(self, conn: &Connection, viewer: UserId) -> Tx<Summary> {
        let read = self.read(conn, viewer)?;
        Ok(Summary {
            read,
            can_post: self.standing.permits(ConversationAction::Post).is_ok(),
            joined: self.read_seq.is_some(),
            conversation: self.conversation,
        })
    }

    /// How far the person has read. For somebody outside, nothing is unread.
    pub(crate) fn read(&self, conn: &Connection, viewer: UserId) -> Tx<ReadState> {
        let last_seq = self.conversation.last_seq;
        let read_seq = self.read_seq.unwrap_or(last_seq);
        let unread_count = if read_seq >= last_seq {
            0
        } else {
            conn.prepare_cached(
                "SELECT count(*) FROM (SELECT 1 FROM messages WHERE n > ?1 AND n <= ?2 AND author_id <> ?3 \
                 AND deleted_at IS NULL LIMIT ?4)",
            )?
            .query_row(
                params![
                    self.shelf.key(read_seq),
                    self.shelf.key(last_seq),
                    viewer.0,
                    int(ReadState::COUNTED)
                ],
                |row| num(row, 0),
            )?
        };
        Ok(ReadState { read_seq, unread_count, mention_count: 0 })
    }
}

/// A conversation as one person (or nobody) sees it, if it exists.
pub(crate) fn see(
    conn: &Connection,
    viewer: Option<UserId>,
    id: ConversationId,
) -> Tx<Option<Seen>> {
    Ok(conn
        .prepare_cached(seen!("AND c.id = ?2"))?
        .query_row(params![viewer.map(|user| user.0), id.0], |row| Seen::of(row, viewer))
        .optional()?)
}

/// The conversation, if the person may do the action.
pub(crate) fn authorize(
    conn: &Connection,
    actor: UserId,
    id: ConversationId,
    action: ConversationAction,
    what: &'static str,
) -> Tx<Seen> {
    let seen = see(conn, Some(actor), id)?.ok_or(Error::NotFound(what))?;
    seen.permits(action, what)?;
    Ok(seen)
}

/// A person's role in a workspace that is not deleted.
pub(crate) fn role_in(conn: &Connection, user: UserId, workspace: WorkspaceId) -> Tx<Option<Role>> {
    Ok(conn
        .prepare_cached(
            "SELECT role FROM workspace_members WHERE workspace_id = ?1 AND user_id = ?2",
        )?
        .query_row(params![workspace.0, user.0], |row| role(row, 0))
        .optional()?)
}

/// Refuses what the person may not do with the workspace.
pub(crate) fn authorize_workspace(
    conn: &Connection,
    actor: UserId,
    workspace: WorkspaceId,
    action: WorkspaceAction,
) -> Tx<()> {
    let role = role_in(conn, actor, workspace)?;
    Ok(Role::permits(role, action).map_err(|denied| Error::denied(denied, "workspace"))?)
}
