//! Channels, DMs, who is in them and how far they have read.

use std::{cmp::Reverse, collections::HashMap};

use async_trait::async_trait;
use parlance_application::{
    Error, Result,
    ports::store::{
        Conversations, Entry, GENERAL_STAYS, NAME_TAKEN, NewChannel, NewDm, OpenedDm, Page,
        PageQuery, Principal, ReadMark, Snapshot, SnapshotEntry, Start, dm_with_oneself,
    },
};
use parlance_domain::{
    AccessRev, ChannelMember, ConversationAction, ConversationId, Seq, Summary, Timestamp, UserId,
    WorkspaceAction, WorkspaceId,
};
use rusqlite::{Connection, OptionalExtension, params};
use uuid::Uuid;

use crate::{
    EmbeddedStore,
    access::{JOINED, Seen, authorize, authorize_workspace, role_in, see, seen},
    error::Tx,
    rows::{channel_member, int, num},
    workspaces,
};

/// A snapshot's initial capacity for conversations: growing from empty took a thirtieth of the time to open a
/// connection.
const USUAL: usize = 32;

#[async_trait]
impl Conversations for EmbeddedStore {
    async fn create_channel(&self, by: Principal, new: NewChannel) -> Result<Entry> {
        let actor = by.user;
        self.change(by.session, move |conn| {
            authorize_workspace(conn, actor, new.workspace_id, WorkspaceAction::CreateChannel)?;
            if name_taken(conn, new.workspace_id, new.name.as_str())? {
                return Err(Error::conflict(NAME_TAKEN).into());
            }
            insert_channel(conn, actor, &new, false)?;
            enter(conn, new.id, actor, new.at)
        })
        .await
    }

    async fn open_dm(&self, by: Principal, new: NewDm) -> Result<OpenedDm> {
        let actor = by.user;
        self.change(by.session, move |conn| open_dm(conn, actor, &new)).await
    }

    async fn channels(
        &self,
        actor: UserId,
        workspace: WorkspaceId,
        page: PageQuery,
    ) -> Result<Page<Summary>> {
        let start = Start::of(&page)?;
        self.read(move |conn| {
            authorize_workspace(conn, actor, workspace, WorkspaceAction::Read)?;
            list(
                conn,
                seen!(
                    "AND c.workspace_id = ?5 AND c.kind = 'channel' AND (c.private = 0 OR m.read_seq IS NOT NULL) \
                     AND (c.created_at, c.id) > (?2, ?3) ORDER BY c.created_at, c.id LIMIT ?4"
                ),
                actor,
                Some(workspace),
                start,
            )
        })
        .await
    }

    async fn dms(
        &self,
        actor: UserId,
        workspace: WorkspaceId,
        page: PageQuery,
    ) -> Result<Page<Summary>> {
        let start = Start::of(&page)?;
        self.read(move |conn| {
            authorize_workspace(conn, actor, workspace, WorkspaceAction::Read)?;
            list(
                conn,
                seen!(
                    "AND +c.workspace_id = ?5 AND c.kind = 'dm' AND m.user_id = ?1 \
                     AND (c.created_at, c.id) > (?2, ?3) ORDER BY c.created_at, c.id LIMIT ?4"
                ),
                actor,
                Some(workspace),
                start,
            )
        })
        .await
    }

    async fn conversations(&self, actor: UserId, page: PageQuery) -> Result<Page<Summary>> {
        let start = Start::of(&page)?;
        self.read(move |conn| {
            list(
                conn,
                seen!(
                    "AND m.user_id = ?1 AND w.user_id = ?1 AND ?5 IS NULL \
                     AND (c.created_at, c.id) > (?2, ?3) ORDER BY c.created_at, c.id LIMIT ?4"
                ),
                actor,
                None,
                start,
            )
        })
        .await
    }

    async fn summary(&self, actor: UserId, id: ConversationId) -> Result<Summary> {
        self.read(move |conn| {
            authorize(conn, actor, id, ConversationAction::Read, "conversation")?
                .summary(conn, actor)
        })
        .await
    }

    async fn snapshot(&self, actor: UserId) -> Result<Snapshot> {
        let epoch = self.epoch.clone();
        self.read(move |conn| {
            let workspaces = workspaces::all(conn, actor)?;
            let roles: HashMap<_, _> =
                workspaces.iter().map(|workspace| (workspace.id, workspace.role)).collect();
            let mut joined = conn.prepare_cached(JOINED)?;
            let mut rows = joined.query([actor.0])?;
            let mut found = Vec::with_capacity(USUAL);
            while let Some(row) = rows.next()? {
                if let Some(seen) = Seen::joined(row, actor, &roles)? {
                    let (active, access_rev) = (seen.last_active(), seen.access_rev);
                    let summary = seen.summary(conn, actor)?;
                    found.push((Reverse(active), SnapshotEntry { summary, access_rev }));
                }
            }
            found.sort_unstable_by_key(|(active, _)| *active);
            let conversations = found.into_iter().map(|(_, entry)| entry).collect();
            Ok(Snapshot { epoch: epoch.to_string(), workspaces, conversations })
        })
        .await
    }

    async fn join_channel(
        &self,
        by: Principal,
        id: ConversationId,
        at: Timestamp,
    ) -> Result<Entry> {
        let actor = by.user;
        self.change(by.session, move |conn| {
            authorize(conn, actor, id, ConversationAction::Join, "conversation")?;
            enter(conn, id, actor, at)
        })
        .await
    }

    async fn add_channel_member(
        &self,
        by: Principal,
        id: ConversationId,
        user: UserId,
        at: Timestamp,
    ) -> Result<Entry> {
        let actor = by.user;
        self.change(by.session, move |conn| {
            let seen = authorize(conn, actor, id, ConversationAction::AddMember, "conversation")?;
            role_in(conn, user, seen.conversation.workspace_id)?.ok_or(Error::NotFound("user"))?;
            enter(conn, id, user, at)
        })
        .await
    }

    async fn remove_channel_member(
        &self,
        by: Principal,
        id: ConversationId,
        user: UserId,
    ) -> Result<AccessRev> {
        let actor = by.user;
        self.change(by.session, move |conn| {
            let action = ConversationAction::removal(user, actor);
            let seen = authorize(conn, actor, id, action, "conversation")?;
            if seen.general {
                return Err(Error::conflict(GENERAL_STAYS).into());
            }
            let removed = conn
                .prepare_cached(
                    "DELETE FROM conversation_members WHERE conversation_id = ?1 AND user_id = ?2",
                )?
                .execute(params![id.0, user.0])?;
            if removed == 0 {
                return Err(Error::NotFound("member").into());
            }
            bump_access(conn, id)
        })
        .await
    }

    async fn channel_members(
        &self,
        actor: UserId,
        id: ConversationId,
        page: PageQuery,
    ) -> Result<Page<ChannelMember>> {
        let start = Start::of(&page)?;
        self.read(move |conn| {
            authorize(conn, actor, id, ConversationAction::ListMembers, "conversation")?;
            let rows = conn
                .prepare_cached(
                    "SELECT m.joined_at, u.id, u.display_name, u.created_at FROM conversation_members m \
                     JOIN users u ON u.id = m.user_id WHERE m.conversation_id = ?1 AND (m.joined_at, m.user_id) > (?2, ?3) \
                     ORDER BY m.joined_at, m.user_id LIMIT ?4",
                )?
                .query_map(params![id.0, start.at, start.id, start.rows()], |row| {
                    let member = channel_member(row)?;
                    Ok((member.joined_at.as_millis(), member.user_id.0, member))
                })?
                .collect::<Result<_, _>>()?;
            Ok(start.page(rows))
        })
        .await
    }

    async fn delete_channel(&self, by: Principal, id: ConversationId, at: Timestamp) -> Result<()> {
        let actor = by.user;
        self.change(by.session, move |conn| {
            let seen = authorize(conn, actor, id, ConversationAction::Delete, "conversation")?;
            if seen.general {
                return Err(Error::conflict(GENERAL_STAYS).into());
            }
            conn.prepare_cached("UPDATE conversations SET deleted_at = ?2, access_rev = access_rev + 1 WHERE id = ?1")?
                .execute(params![id.0, at.as_millis()])?;
            Ok(())
        })
        .await
    }

    async fn mark_read(&self, actor: UserId, id: ConversationId, seq: Seq) -> Result<ReadMark> {
        self.write(move |conn| {
            let mut seen = authorize(conn, actor, id, ConversationAction::MarkRead, "conversation")?;
            let seq = seq.min(seen.conversation.last_seq);
            let advanced = seen.read_seq.is_some_and(|read| read < seq);
            if advanced {
                conn.prepare_cached(
                    "UPDATE conversation_members SET read_seq = ?3 WHERE conversation_id = ?1 AND user_id = ?2",
                )?
                .execute(params![id.0, actor.0, int(seq)])?;
                seen.read_seq = Some(seq);
            }
            Ok(ReadMark { read: seen.read(conn, actor)?, advanced })
        })
        .await
    }

    async fn permit(
        &self,
        actor: UserId,
        id: ConversationId,
        action: ConversationAction,
    ) -> Result<()> {
        self.read(move |conn| authorize(conn, actor, id, action, "conversation").map(drop)).await
    }
}

/// Whether the workspace has a channel of that name.
pub(crate) fn name_taken(conn: &Connection, workspace: WorkspaceId, name: &str) -> Tx<bool> {
    Ok(conn
        .prepare_cached("SELECT 1 FROM conversations WHERE workspace_id = ?1 AND name = ?2 AND deleted_at IS NULL")?
        .exists(params![workspace.0, name])?)
}

/// Adds a channel with nobody in it.
pub(crate) fn insert_channel(
    conn: &Connection,
    creator: UserId,
    new: &NewChannel,
    general: bool,
) -> Tx<()> {
    conn.prepare_cached(
        "INSERT INTO conversations (n, id, workspace_id, kind, name, topic, private, general, created_by, created_at) \
         SELECT coalesce(max(n), 0) + 1, ?1, ?2, 'channel', ?3, ?4, ?5, ?6, ?7, ?8 FROM conversations",
    )?
    .execute(params![
        new.id.0,
        new.workspace_id.0,
        new.name.as_str(),
        new.topic.as_str(),
        new.private,
        general,
        creator.0,
        new.at.as_millis()
    ])?;
    Ok(())
}

/// Counts a change in who may read a conversation; returns the new `access_rev`.
pub(crate) fn bump_access(conn: &Connection, id: ConversationId) -> Tx<AccessRev> {
    Ok(conn
        .prepare_cached(
            "UPDATE conversations SET access_rev = access_rev + 1 WHERE id = ?1 RETURNING access_rev",
        )?
        .query_row([id.0], |row| num(row, 0))?)
}

/// Adds a person, with everything so far marked as read. False if they were already in.
fn insert_member(conn: &Connection, id: ConversationId, user: UserId, at: Timestamp) -> Tx<bool> {
    let inserted = conn
        .prepare_cached(
            "INSERT INTO conversation_members (conversation_id, user_id, read_seq, joined_at) \
             SELECT id, ?2, last_seq, ?3 FROM conversations WHERE id = ?1 ON CONFLICT DO NOTHING",
        )?
        .execute(params![id.0, user.0, at.as_millis()])?;
    Ok(inserted > 0)
}

/// Adds a person, unless they are in already.
pub(crate) fn enter(
    conn: &Connection,
    id: ConversationId,
    user: UserId,
    at: Timestamp,
) -> Tx<Entry> {
    let entered = insert_member(conn, id, user, at)?;
    if entered {
        bump_access(conn, id)?;
    }
    let membership = conn
        .prepare_cached(
            "SELECT m.joined_at, u.id, u.display_name, u.created_at FROM conversation_members m \
             JOIN users u ON u.id = m.user_id WHERE m.conversation_id = ?1 AND m.user_id = ?2",
        )?
        .query_row(params![id.0, user.0], channel_member)?;
    let seen = see(conn, Some(user), id)?.ok_or(Error::NotFound("conversation"))?;
    Ok(Entry {
        access_rev: seen.access_rev,
        summary: seen.summary(conn, user)?,
        membership,
        entered,
    })
}

fn open_dm(conn: &Connection, actor: UserId, new: &NewDm) -> Tx<OpenedDm> {
    authorize_workspace(conn, actor, new.workspace_id, WorkspaceAction::OpenDm)?;
    if new.peer == actor {
        return Err(dm_with_oneself().into());
    }
    let (low, high) = (actor.min(new.peer), actor.max(new.peer));
    let found: Option<Uuid> = conn
        .prepare_cached(
            "SELECT id FROM conversations WHERE workspace_id = ?1 AND peer_low = ?2 AND peer_high = ?3 AND deleted_at IS NULL \
             AND peer_low IS NOT NULL",
        )?
        .query_row(params![new.workspace_id.0, low.0, high.0], |row| row.get(0))
        .optional()?;
    let id = found.map_or(new.id, ConversationId);
    if found.is_none() {
        role_in(conn, new.peer, new.workspace_id)?.ok_or(Error::NotFound("user"))?;
        conn.prepare_cached(
            "INSERT INTO conversations (n, id, workspace_id, kind, private, created_by, peer_low, peer_high, created_at, access_rev) \
             SELECT coalesce(max(n), 0) + 1, ?1, ?2, 'dm', 1, ?3, ?4, ?5, ?6, 1 FROM conversations",
        )?
        .execute(params![id.0, new.workspace_id.0, actor.0, low.0, high.0, new.at.as_millis()])?;
        insert_member(conn, id, actor, new.at)?;
        insert_member(conn, id, new.peer, new.at)?;
    }
    let look =
        |user| see(conn, Some(user), id)?.ok_or_else(|| Error::NotFound("conversation").into());
    let mine: Tx<Seen> = look(actor);
    let mine = mine?;
    let access_rev = mine.access_rev;
    let theirs = match found {
        Some(_) => None,
        None => Some(look(new.peer)?.summary(conn, new.peer)?),
    };
    Ok(OpenedDm { mine: mine.summary(conn, actor)?, theirs, access_rev })
}

/// A page of conversations as the actor sees them.
fn list(
    conn: &Connection,
    sql: &str,
    actor: UserId,
    workspace: Option<WorkspaceId>,
    start: Start,
) -> Tx<Page<Summary>> {
    let seen: Vec<Seen> = conn
        .prepare_cached(sql)?
        .query_map(
            params![actor.0, start.at, start.id, start.rows(), workspace.map(|id| id.0)],
            |row| Seen::of(row, Some(actor)),
        )?
        .collect::<Result<_, _>>()?;
    let mut rows = Vec::with_capacity(seen.len());
    for seen in seen {
        let key = (seen.created_at.as_millis(), seen.conversation.id.0);
        rows.push((key.0, key.1, seen.summary(conn, actor)?));
    }
    Ok(start.page(rows))
}
