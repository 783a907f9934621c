//! Teams and who is in them.

use async_trait::async_trait;
use parlance_application::{
    Error, Result,
    ports::store::{
        ALREADY_MEMBER, Admission, Departure, Joining, LAST_ADMIN, NewMember, NewWorkspace, Page,
        PageQuery, Principal, SnapshotEntry, Start, Workspaces,
    },
};
use parlance_domain::{
    ConversationId, JoinCode, Member, Role, Timestamp, UserId, Workspace, WorkspaceAction,
    WorkspaceId, WorkspaceName,
};
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::{
    EmbeddedStore,
    access::{authorize_workspace, role_in, see},
    conversations::{bump_access, enter, insert_channel},
    error::Tx,
    outbox,
    rows::{at, member, role},
};

#[async_trait]
impl Workspaces for EmbeddedStore {
    async fn create_workspace(&self, by: Principal, new: NewWorkspace) -> Result<Admission> {
        let actor = by.user;
        self.change(by.session, move |conn| {
            conn.prepare_cached(
                "INSERT INTO workspaces (id, name, join_code, created_at) VALUES (?1, ?2, ?3, ?4)",
            )?
            .execute(params![
                new.id.0,
                new.name.as_str(),
                new.join_code.as_str(),
                new.at.as_millis()
            ])?;
            insert_channel(conn, actor, &new.first_channel(), true)?;
            admit(conn, new.id, actor, Role::Admin, new.at)
        })
        .await
    }

    async fn workspaces(&self, actor: UserId, page: PageQuery) -> Result<Page<Workspace>> {
        let start = Start::of(&page)?;
        self.read(move |conn| {
            let rows = conn
                .prepare_cached(workspace_sql!(
                    "WHERE m.user_id = ?1 AND (m.joined_at, m.workspace_id) > (?2, ?3) \
                     ORDER BY m.joined_at, m.workspace_id LIMIT ?4"
                ))?
                .query_map(params![actor.0, start.at, start.id, start.rows()], |row| {
                    let workspace = read(row)?;
                    Ok((row.get(5)?, workspace.id.0, workspace))
                })?
                .collect::<Result<_, _>>()?;
            Ok(start.page(rows))
        })
        .await
    }

    async fn workspace(&self, actor: UserId, id: WorkspaceId) -> Result<Workspace> {
        self.read(move |conn| one(conn, actor, id)).await
    }

    async fn join_workspace(
        &self,
        by: Principal,
        code: &JoinCode,
        at: Timestamp,
    ) -> Result<Joining> {
        let actor = by.user;
        let code = code.as_str().to_owned();
        self.change(by.session, move |conn| {
            let id = conn
                .prepare_cached(
                    "SELECT id FROM workspaces WHERE join_code = ?1 AND deleted_at IS NULL",
                )?
                .query_row([code], |row| row.get(0).map(WorkspaceId))
                .optional()?
                .ok_or(Error::NotFound("join code"))?;
            if role_in(conn, actor, id)?.is_some() {
                return Ok(Joining::AlreadyIn(one(conn, actor, id)?));
            }
            Ok(Joining::Entered(Box::new(admit(conn, id, actor, Role::Member, at)?)))
        })
        .await
    }

    async fn rotate_join_code(
        &self,
        by: Principal,
        id: WorkspaceId,
        code: JoinCode,
    ) -> Result<Workspace> {
        let actor = by.user;
        self.change(by.session, move |conn| {
            authorize_workspace(conn, actor, id, WorkspaceAction::RotateJoinCode)?;
            conn.prepare_cached("UPDATE workspaces SET join_code = ?2 WHERE id = ?1")?
                .execute(params![id.0, code.as_str()])?;
            one(conn, actor, id)
        })
        .await
    }

    async fn rename_workspace(
        &self,
        by: Principal,
        id: WorkspaceId,
        name: &WorkspaceName,
    ) -> Result<Workspace> {
        let actor = by.user;
        let name = name.as_str().to_owned();
        self.change(by.session, move |conn| {
            authorize_workspace(conn, actor, id, WorkspaceAction::Update)?;
            conn.prepare_cached("UPDATE workspaces SET name = ?2 WHERE id = ?1")?
                .execute(params![id.0, name])?;
            one(conn, actor, id)
        })
        .await
    }

    async fn delete_workspace(
        &self,
        by: Principal,
        id: WorkspaceId,
        at: Timestamp,
    ) -> Result<Vec<ConversationId>> {
        let actor = by.user;
        self.change(by.session, move |conn| {
            authorize_workspace(conn, actor, id, WorkspaceAction::Delete)?;
            let conversations = ids(
                conn,
                "SELECT id FROM conversations WHERE workspace_id = ?1 AND deleted_at IS NULL ORDER BY created_at, id",
                params![id.0],
            )?;
            conn.prepare_cached(
                "UPDATE conversations SET deleted_at = ?2, access_rev = access_rev + 1 WHERE workspace_id = ?1 AND deleted_at IS NULL",
            )?
            .execute(params![id.0, at.as_millis()])?;
            conn.prepare_cached("UPDATE workspaces SET deleted_at = ?2 WHERE id = ?1")?
                .execute(params![id.0, at.as_millis()])?;
            conn.prepare_cached("DELETE FROM workspace_members WHERE workspace_id = ?1")?.execute([id.0])?;
            Ok(conversations)
        })
        .await
    }

    async fn members(
        &self,
        actor: UserId,
        id: WorkspaceId,
        page: PageQuery,
    ) -> Result<Page<Member>> {
        let start = Start::of(&page)?;
        self.read(move |conn| {
            authorize_workspace(conn, actor, id, WorkspaceAction::ListMembers)?;
            let rows = conn
                .prepare_cached(member_sql!(
                    "AND (m.joined_at, m.user_id) > (?2, ?3) ORDER BY m.joined_at, m.user_id LIMIT ?4"
                ))?
                .query_map(params![id.0, start.at, start.id, start.rows()], |row| {
                    let member = member(row, id)?;
                    Ok((member.joined_at.as_millis(), member.user_id.0, member))
                })?
                .collect::<Result<_, _>>()?;
            Ok(start.page(rows))
        })
        .await
    }

    async fn add_member(
        &self,
        by: Principal,
        id: WorkspaceId,
        new: NewMember,
    ) -> Result<Admission> {
        let actor = by.user;
        self.change(by.session, move |conn| {
            authorize_workspace(conn, actor, id, WorkspaceAction::AddMember)?;
            if !conn.prepare_cached("SELECT 1 FROM users WHERE id = ?1")?.exists([new.user_id.0])? {
                return Err(Error::NotFound("user").into());
            }
            if role_in(conn, new.user_id, id)?.is_some() {
                return Err(Error::conflict(ALREADY_MEMBER).into());
            }
            outbox::put(conn, &new.job)?;
            admit(conn, id, new.user_id, new.role, new.at)
        })
        .await
    }

    async fn set_role(
        &self,
        by: Principal,
        id: WorkspaceId,
        user: UserId,
        role: Role,
    ) -> Result<Member> {
        let actor = by.user;
        self.change(by.session, move |conn| {
            authorize_workspace(conn, actor, id, WorkspaceAction::ChangeRole)?;
            let before = role_in(conn, user, id)?.ok_or(Error::NotFound("member"))?;
            if role != Role::Admin {
                keep_an_admin(conn, id, before)?;
            }
            conn.prepare_cached(
                "UPDATE workspace_members SET role = ?3 WHERE workspace_id = ?1 AND user_id = ?2",
            )?
            .execute(params![id.0, user.0, role.name()])?;
            membership(conn, id, user)
        })
        .await
    }

    async fn remove_member(
        &self,
        by: Principal,
        id: WorkspaceId,
        user: UserId,
    ) -> Result<Departure> {
        let actor = by.user;
        self.change(by.session, move |conn| {
            let action = WorkspaceAction::removal(user, actor);
            authorize_workspace(conn, actor, id, action)?;
            let role = role_in(conn, user, id)?.ok_or(Error::NotFound("member"))?;
            keep_an_admin(conn, id, role)?;
            let conversations = ids(conn, MINE, params![user.0, id.0])?;
            conn.prepare_cached(
                "DELETE FROM workspace_members WHERE workspace_id = ?1 AND user_id = ?2",
            )?
            .execute(params![id.0, user.0])?;
            conn.prepare_cached(LEAVE)?.execute(params![user.0, id.0])?;
            let conversations = conversations
                .into_iter()
                .map(|id| Ok((id, bump_access(conn, id)?)))
                .collect::<Tx<_>>()?;
            Ok(Departure { conversations })
        })
        .await
    }
}

/// The conversations of workspace `?2` that `?1` is in. The `+` makes SQLite begin with the person's, which are fewer.
const MINE: &str = "SELECT c.id FROM conversation_members m JOIN conversations c ON c.id = m.conversation_id \
                    WHERE m.user_id = ?1 AND +c.workspace_id = ?2 AND c.deleted_at IS NULL ORDER BY c.created_at, c.id";

/// Removes `?1` from the channels of workspace `?2`. Goes through the conversations that the person is in; otherwise
/// SQLite would go through all of the workspace.
const LEAVE: &str = "DELETE FROM conversation_members WHERE user_id = ?1 AND \
                     (SELECT c.workspace_id = ?2 AND c.kind = 'channel' FROM conversations c WHERE c.id = conversation_id)";

/// The `SELECT` that [`read`] reads.
macro_rules! workspace_sql {
    ($tail:literal) => {
        concat!(
            "SELECT w.id, w.name, m.role, w.join_code, w.created_at, m.joined_at FROM workspace_members m ",
            "JOIN workspaces w ON w.id = m.workspace_id ",
            $tail
        )
    };
}
use workspace_sql;

/// The `SELECT` that [`member`] reads, in workspace `?1`.
macro_rules! member_sql {
    ($tail:literal) => {
        concat!(
            "SELECT m.joined_at, u.id, u.display_name, u.created_at, m.role FROM workspace_members m ",
            "JOIN users u ON u.id = m.user_id WHERE m.workspace_id = ?1 ",
            $tail
        )
    };
}
use member_sql;

fn read(row: &Row<'_>) -> rusqlite::Result<Workspace> {
    let role = role(row, 2)?;
    Ok(Workspace {
        id: WorkspaceId(row.get(0)?),
        name: row.get(1)?,
        role,
        join_code: if Role::permits(Some(role), WorkspaceAction::ReadJoinCode).is_ok() {
            row.get(3)?
        } else {
            None
        },
        created_at: at(row, 4)?,
    })
}

/// A workspace as one of its members sees it.
fn one(conn: &Connection, actor: UserId, id: WorkspaceId) -> Tx<Workspace> {
    Ok(conn
        .prepare_cached(workspace_sql!("WHERE m.workspace_id = ?1 AND m.user_id = ?2"))?
        .query_row(params![id.0, actor.0], read)
        .optional()?
        .ok_or(Error::NotFound("workspace"))?)
}

/// All of a person's workspaces, oldest membership first.
pub(crate) fn all(conn: &Connection, actor: UserId) -> Tx<Vec<Workspace>> {
    Ok(conn
        .prepare_cached(workspace_sql!(
            "WHERE m.user_id = ?1 ORDER BY m.joined_at, m.workspace_id"
        ))?
        .query_map([actor.0], read)?
        .collect::<Result<_, _>>()?)
}

/// All of a person's memberships, oldest first.
pub(crate) fn memberships(conn: &Connection, user: UserId) -> Tx<Vec<Member>> {
    all(conn, user)?.iter().map(|workspace| membership(conn, workspace.id, user)).collect()
}

/// One membership.
pub(crate) fn membership(conn: &Connection, id: WorkspaceId, user: UserId) -> Tx<Member> {
    Ok(conn
        .prepare_cached(member_sql!("AND m.user_id = ?2"))?
        .query_row(params![id.0, user.0], |row| member(row, id))?)
}

/// Adds a person who is not in yet: to the workspace, to `general`, and back to the DMs of an earlier membership.
fn admit(
    conn: &Connection,
    id: WorkspaceId,
    user: UserId,
    role: Role,
    at: Timestamp,
) -> Tx<Admission> {
    conn.prepare_cached(
        "INSERT INTO workspace_members (workspace_id, user_id, role, joined_at) VALUES (?1, ?2, ?3, ?4)",
    )?
    .execute(params![id.0, user.0, role.name(), at.as_millis()])?;
    let mut dms = Vec::new();
    for dm in ids(conn, MINE, params![user.0, id.0])? {
        let access_rev = bump_access(conn, dm)?;
        let seen = see(conn, Some(user), dm)?.ok_or(Error::NotFound("conversation"))?;
        dms.push(SnapshotEntry { summary: seen.summary(conn, user)?, access_rev });
    }
    let general = conn
        .prepare_cached("SELECT id FROM conversations WHERE workspace_id = ?1 AND general = 1")?
        .query_row([id.0], |row| row.get(0).map(ConversationId))?;
    let general = enter(conn, general, user, at)?;
    Ok(Admission {
        workspace: one(conn, user, id)?,
        member: membership(conn, id, user)?,
        general,
        dms,
    })
}

/// Refuses to remove the last admin's role.
fn keep_an_admin(conn: &Connection, id: WorkspaceId, role: Role) -> Tx<()> {
    if role == Role::Admin {
        let others: bool = conn
            .prepare_cached("SELECT count(*) > 1 FROM workspace_members WHERE workspace_id = ?1 AND role = 'admin'")?
            .query_row([id.0], |row| row.get(0))?;
        if !others {
            return Err(Error::conflict(LAST_ADMIN).into());
        }
    }
    Ok(())
}

fn ids(conn: &Connection, sql: &str, params: &[&dyn rusqlite::ToSql]) -> Tx<Vec<ConversationId>> {
    Ok(conn
        .prepare_cached(sql)?
        .query_map(params, |row| row.get(0).map(ConversationId))?
        .collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{db, migrate};

    /// Because all other writes wait for it.
    #[test]
    fn who_leaves_is_taken_out_of_what_they_are_in_without_a_look_at_the_rest() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut conn = db::connect(&dir.path().join("test.db")).expect("opens");
        migrate::run(&mut conn, Timestamp::from_millis(1)).expect("migrates");
        let steps = db::plan(&conn, LEAVE);
        assert!(steps[0].ends_with("PRIMARY KEY (user_id=?)"), "{steps:?}");
        assert!(steps.iter().all(|step| !step.starts_with("SCAN")), "{steps:?}");
    }
}
