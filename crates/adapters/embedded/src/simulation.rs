//! The store of a simulation: the real statements, in memory and on the caller's thread, so that a run under a paused
//! clock is reproducible. Several nodes can share it, and faults ("weather") can come before and after each call.

use std::sync::{Arc, Mutex, PoisonError, atomic::AtomicI64};

use async_trait::async_trait;
use parlance_application::{
    Error, Result,
    ports::store::{Changes, Head, Look, Readers, State, Subject},
};
use parlance_domain::{
    ConversationAction, ConversationId, Message, Role, SessionId, SessionRev, Timestamp, UserId,
    Workspace, WorkspaceId,
};
use rusqlite::{Connection, OptionalExtension, Row, params};
use uuid::Uuid;

use crate::{
    EmbeddedStore, Engine,
    access::{role_in, see},
    accounts::{has_ended, session_rev},
    db::{exec, guarded},
    error::{Tx, sql},
    history, migrate,
    owners::Owners,
    rows::{at, message, message_sql, num},
    workspaces::membership,
};

/// What may go wrong on a node's way to the store.
#[async_trait]
pub trait Weather: Send + Sync {
    /// Called before the statements run. On an error they do not.
    async fn before(&self, work: Work) -> Result<()>;

    /// Called after the commit. On an error the caller is not told of it.
    async fn after(&self, work: Work) -> Result<()>;
}

/// What a node wants from the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Work {
    Read,
    Write,
}

/// An engine that runs everything on the caller's thread.
#[derive(Clone)]
pub(crate) struct Inline {
    conn: Arc<Mutex<Connection>>,
    weather: Arc<dyn Weather>,
}

impl EmbeddedStore {
    /// A new store in memory.
    pub fn in_memory(weather: Arc<dyn Weather>) -> Result<Self> {
        let mut conn = Connection::open_in_memory().map_err(|e| sql(&e))?;
        conn.set_prepared_statement_cache_capacity(256);
        migrate::run(&mut conn, Timestamp::from_millis(0))?;
        history::renew(&conn, "simulated")?;
        let engine = Engine::Inline(Inline { conn: Arc::new(Mutex::new(conn)), weather });
        let asked_at = Arc::new(AtomicI64::new(i64::MIN));
        Ok(Self { engine, epoch: "simulated".into(), asked_at, owners: Owners::default() })
    }

    /// Another handle on the same store.
    #[must_use]
    pub fn behind(&self, weather: Arc<dyn Weather>) -> Self {
        let engine = match &self.engine {
            Engine::Threads(db) => Engine::Threads(db.clone()),
            Engine::Inline(inline) => Engine::Inline(Inline { weather, ..inline.clone() }),
        };
        Self { engine, ..self.clone() }
    }

    /// All messages of a conversation by `seq`.
    pub fn messages(&self, conversation: ConversationId) -> Result<Vec<Message>> {
        self.inspect(|conn| {
            let Some(seen) = see(conn, None, conversation)? else { return Ok(vec![]) };
            let mut all =
                conn.prepare_cached(message_sql!("WHERE conversation = ?1 ORDER BY n"))?;
            let all = all.query_map([seen.shelf.0], |row| message(row, &seen.conversation))?;
            Ok(all.collect::<Result<_, _>>()?)
        })
    }

    /// The heads of all conversations.
    pub fn all_heads(&self) -> Result<Vec<Head>> {
        self.inspect(heads)
    }

    /// What a workspace is called.
    pub fn name(&self, workspace: WorkspaceId) -> Result<Option<String>> {
        self.inspect(|conn| Ok(shared(conn, workspace)?.map(|workspace| workspace.name)))
    }

    /// Whether somebody is in a workspace.
    pub fn is_in(&self, workspace: WorkspaceId, user: UserId) -> Result<bool> {
        self.inspect(|conn| Ok(role_in(conn, user, workspace)?.is_some()))
    }

    /// The members of a conversation who may read it.
    pub fn members(&self, conversation: ConversationId) -> Result<Vec<UserId>> {
        self.inspect(|conn| {
            Ok(admitted(conn)?
                .into_iter()
                .filter(|(id, _)| *id == conversation)
                .map(|(_, user)| user)
                .collect())
        })
    }

    fn inspect<T>(&self, look: impl FnOnce(&Connection) -> Tx<T>) -> Result<T> {
        match &self.engine {
            Engine::Threads(_) => Err(Error::internal("only a simulated store can be inspected")),
            Engine::Inline(inline) => {
                let conn = inline.conn.lock().unwrap_or_else(PoisonError::into_inner);
                look(&conn).map_err(Error::from)
            }
        }
    }
}

impl Inline {
    pub(crate) async fn write<T, F>(&self, job: F) -> Result<T>
    where
        F: FnOnce(&Connection) -> Tx<T>,
    {
        self.weather.before(Work::Write).await?;
        let outcome = self.run(job, "COMMIT");
        self.weather.after(Work::Write).await?;
        outcome
    }

    pub(crate) async fn read<T, F>(&self, job: F) -> Result<T>
    where
        F: FnOnce(&Connection) -> Tx<T>,
    {
        self.weather.before(Work::Read).await?;
        let outcome = self.run(job, "ROLLBACK");
        self.weather.after(Work::Read).await?;
        outcome
    }

    fn run<T>(&self, job: impl FnOnce(&Connection) -> Tx<T>, end: &str) -> Result<T> {
        let conn = self.conn.lock().unwrap_or_else(PoisonError::into_inner);
        exec(&conn, "BEGIN").map_err(|e| sql(&e))?;
        let outcome = guarded(|| job(&conn));
        let end = if outcome.is_ok() { end } else { "ROLLBACK" };
        exec(&conn, end).map_err(|e| sql(&e))?;
        outcome
    }
}

/// Each look returns everything: it is little, and looks may repeat themselves.
#[async_trait]
impl Changes for EmbeddedStore {
    async fn changes(&self, since: Option<Timestamp>) -> Result<Look> {
        self.read(move |conn| {
            let nothing = Look::empty(session_rev(conn)?, Timestamp::from_millis(0));
            if since.is_none() {
                return Ok(nothing);
            }
            Ok(Look {
                heads: heads(conn)?,
                admitted: admitted(conn)?,
                workspaces: ids(conn, "SELECT id FROM workspaces ORDER BY id")?
                    .map(WorkspaceId)
                    .collect(),
                traces: [names(conn)?, members(conn)?].concat(),
                ..nothing
            })
        })
        .await
    }

    async fn heads(&self, conversations: Vec<ConversationId>) -> Result<Vec<Head>> {
        self.read(move |conn| {
            let mut found = Vec::with_capacity(conversations.len());
            for &id in &conversations {
                if let Some(seen) = see(conn, None, id)? {
                    let (rev, access_rev) = (seen.conversation.rev, seen.access_rev);
                    found.push(Head { conversation_id: id, rev, access_rev });
                }
            }
            Ok(found)
        })
        .await
    }

    async fn readers(
        &self,
        conversation: ConversationId,
        users: Vec<UserId>,
    ) -> Result<Option<Readers>> {
        self.read(move |conn| {
            let Some(seen) = see(conn, None, conversation)? else { return Ok(None) };
            let mut readers = Readers { access_rev: seen.access_rev, users: vec![] };
            for &user in &users {
                let Some(seen) = see(conn, Some(user), conversation)? else { continue };
                let inside = seen.read_seq.is_some();
                if inside && seen.standing.permits(ConversationAction::Read).is_ok() {
                    readers.users.push(user);
                }
            }
            Ok(Some(readers))
        })
        .await
    }

    async fn ended_sessions(&self, of: Vec<SessionId>) -> Result<Vec<SessionId>> {
        self.read(move |conn| {
            let mut ended = Vec::new();
            for &session in &of {
                if has_ended(conn, session)? {
                    ended.push(session);
                }
            }
            Ok(ended)
        })
        .await
    }

    async fn session_rev(&self) -> Result<SessionRev> {
        self.read(session_rev).await
    }

    async fn workspace_members(
        &self,
        workspace: WorkspaceId,
        users: Vec<UserId>,
    ) -> Result<Vec<UserId>> {
        self.read(move |conn| {
            let mut still = Vec::new();
            for &user in &users {
                if role_in(conn, user, workspace)?.is_some() {
                    still.push(user);
                }
            }
            Ok(still)
        })
        .await
    }

    async fn states(&self, of: Vec<Subject>) -> Result<Vec<(Subject, State)>> {
        self.read(move |conn| {
            let mut found = Vec::with_capacity(of.len());
            for &subject in &of {
                found.extend(present(conn, subject)?.map(|state| (subject, state)));
            }
            Ok(found)
        })
        .await
    }
}

fn present(conn: &Connection, subject: Subject) -> Tx<Option<State>> {
    Ok(match subject {
        Subject::Workspace(id) => Some(shared(conn, id)?.map_or(State::Gone, State::Workspace)),
        Subject::Member(id, user) | Subject::Role(id, user) => match shared(conn, id)? {
            Some(workspace) if role_in(conn, user, id)?.is_some() => {
                Some(State::Member(Box::new((membership(conn, id, user)?, workspace))))
            }
            Some(_) => Some(State::Gone),
            None => None,
        },
        Subject::Participant(id, user) => see(conn, Some(user), id)?.map(|seen| {
            let inside =
                seen.read_seq.is_some() && seen.standing.permits(ConversationAction::Read).is_ok();
            if inside { State::Inside } else { State::Gone }
        }),
    })
}

/// A workspace as a member sees it.
fn shared(conn: &Connection, id: WorkspaceId) -> Tx<Option<Workspace>> {
    let workspace = |row: &Row<'_>| {
        let (name, created_at) = (row.get(0)?, at(row, 1)?);
        Ok(Workspace { id, name, role: Role::Member, join_code: None, created_at })
    };
    let mut named = conn.prepare_cached(
        "SELECT name, created_at FROM workspaces WHERE id = ?1 AND deleted_at IS NULL",
    )?;
    Ok(named.query_row([id.0], workspace).optional()?)
}

fn heads(conn: &Connection) -> Tx<Vec<Head>> {
    let head = |row: &Row<'_>| {
        let (rev, access_rev) = (num(row, 1)?, num(row, 2)?);
        Ok(Head { conversation_id: ConversationId(row.get(0)?), rev, access_rev })
    };
    let mut all =
        conn.prepare_cached("SELECT id, rev, access_rev FROM conversations ORDER BY id")?;
    Ok(all.query_map([], head)?.collect::<Result<_, _>>()?)
}

fn admitted(conn: &Connection) -> Tx<Vec<(ConversationId, UserId)>> {
    let mut all = conn.prepare_cached(
        "SELECT m.conversation_id, m.user_id FROM conversation_members m \
         JOIN conversations c ON c.id = m.conversation_id AND c.deleted_at IS NULL \
         JOIN workspace_members w ON w.workspace_id = c.workspace_id AND w.user_id = m.user_id ORDER BY 1, 2",
    )?;
    let pair = |row: &Row<'_>| Ok((ConversationId(row.get(0)?), UserId(row.get(1)?)));
    Ok(all.query_map(params![], pair)?.collect::<Result<_, _>>()?)
}

/// Each with a stamp that changes with the name.
fn names(conn: &Connection) -> Tx<Vec<(Subject, Timestamp)>> {
    let trace = |row: &Row<'_>| {
        let (id, name): (Uuid, String) = (row.get(0)?, row.get(1)?);
        let stamp =
            name.bytes().fold(7_i64, |stamp, byte| (stamp * 31 + i64::from(byte)) % (1 << 40));
        Ok((Subject::Workspace(WorkspaceId(id)), Timestamp::from_millis(stamp)))
    };
    let mut all = conn.prepare_cached("SELECT id, name FROM workspaces ORDER BY id")?;
    Ok(all.query_map([], trace)?.collect::<Result<_, _>>()?)
}

/// Only current members. Those who have left are asked about at each look.
fn members(conn: &Connection) -> Tx<Vec<(Subject, Timestamp)>> {
    let trace = |row: &Row<'_>| {
        let (workspace, user) = (WorkspaceId(row.get(0)?), UserId(row.get(1)?));
        Ok((Subject::Member(workspace, user), at(row, 2)?))
    };
    let mut all = conn.prepare_cached(
        "SELECT workspace_id, user_id, joined_at FROM workspace_members ORDER BY 1, 2",
    )?;
    Ok(all.query_map([], trace)?.collect::<Result<_, _>>()?)
}

fn ids(conn: &Connection, query: &str) -> Tx<std::vec::IntoIter<Uuid>> {
    let found: Vec<Uuid> =
        conn.prepare_cached(query)?.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    Ok(found.into_iter())
}
