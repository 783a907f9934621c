//! People, their passwords and their sessions.

use async_trait::async_trait;
use parlance_application::{
    Error, Result, Unauthenticated,
    jobs::Job,
    ports::{
        PasswordHash, RefreshDigest,
        store::{
            Accounts, Credentials, EMAIL_TAKEN, EndedSessions, NewPassword, NewSession, Page,
            PageQuery, Presented, Principal, Renamed, RotateRefresh, Rotation, Start,
            forgotten_before,
        },
    },
};
use parlance_domain::{
    Account, DisplayName, Email, Session, SessionId, SessionRev, Timestamp, User, UserId,
};
use rusqlite::{Connection, OptionalExtension, params};
use uuid::Uuid;

use crate::{
    EmbeddedStore,
    error::Tx,
    outbox,
    owners::Concerns,
    rows::{account, at, int, num, user},
    workspaces::memberships,
};

#[async_trait]
impl Accounts for EmbeddedStore {
    async fn create_account(
        &self,
        account: Account,
        password: PasswordHash,
        session: NewSession,
        job: Job,
    ) -> Result<()> {
        self.write(move |conn| {
            let inserted = conn
                .prepare_cached(
                    "INSERT INTO users (id, email, display_name, password, created_at) VALUES (?1, ?2, ?3, ?4, ?5) \
                     ON CONFLICT (email) DO NOTHING",
                )?
                .execute(params![
                    account.id.0,
                    account.email,
                    account.display_name,
                    password.0,
                    account.created_at.as_millis()
                ])?;
            if inserted == 0 {
                return Err(Error::conflict(EMAIL_TAKEN).into());
            }
            open(conn, &session)?;
            outbox::put(conn, &job)
        })
        .await
    }

    async fn credentials(&self, email: &Email) -> Result<Option<Credentials>> {
        let email = email.as_str().to_owned();
        self.read(move |conn| {
            Ok(conn
                .prepare_cached("SELECT id, email, display_name, created_at, password FROM users WHERE email = ?1")?
                .query_row([&email], credentials)
                .optional()?)
        })
        .await
    }

    async fn credentials_of(&self, user: UserId) -> Result<Credentials> {
        self.read(move |conn| {
            Ok(conn
                .prepare_cached(
                    "SELECT id, email, display_name, created_at, password FROM users WHERE id = ?1",
                )?
                .query_row([user.0], credentials)
                .optional()?
                .ok_or(Error::NotFound("user"))?)
        })
        .await
    }

    async fn user_id(&self, email: &Email) -> Result<Option<UserId>> {
        let email = email.as_str().to_owned();
        self.read(move |conn| {
            Ok(conn
                .prepare_cached("SELECT id FROM users WHERE email = ?1")?
                .query_row([&email], |row| Ok(UserId(row.get(0)?)))
                .optional()?)
        })
        .await
    }

    async fn account(&self, user: UserId) -> Result<Account> {
        self.read(move |conn| {
            Ok(conn
                .prepare_cached(
                    "SELECT id, email, display_name, created_at FROM users WHERE id = ?1",
                )?
                .query_row([user.0], |row| account(row, 0))
                .optional()?
                .ok_or(Error::NotFound("user"))?)
        })
        .await
    }

    async fn open_session(&self, session: NewSession, verified: &PasswordHash) -> Result<()> {
        let verified = verified.clone();
        self.write(move |conn| {
            require_password(conn, session.user_id, &verified)?;
            open(conn, &session)
        })
        .await
    }

    async fn rotate_refresh(&self, rotation: RotateRefresh) -> Result<Rotation> {
        let presented = rotation.presented;
        // Anybody may present a made-up token; that must not occupy the writer.
        if !self.read(move |conn| is_token(conn, &presented)).await? {
            return Ok(Rotation::Unknown);
        }
        let owners = self.owners.clone();
        let rotated = self.write(move |conn| {
            let rotated = rotate(conn, &rotation)?;
            // Only the write learns whose session it is. The guard travels with the answer here, too.
            let writing = match &rotated {
                Rotation::Reused { session_id, .. } => {
                    Some(owners.write(Concerns::Session(*session_id)))
                }
                Rotation::Rotated { .. } | Rotation::Unknown => None,
            };
            Ok((rotated, writing))
        });
        rotated.await.map(|(rotated, _)| rotated)
    }

    async fn session_owner(&self, session: SessionId, at: Timestamp) -> Result<Option<Account>> {
        let asked = match self.owners.get(session, at) {
            Ok(account) => return Ok(Some(account)),
            Err(asked) => asked,
        };
        let owner = self.read(move |conn| {
            Ok(conn
                .prepare_cached(
                    "SELECT u.id, u.email, u.display_name, u.created_at, s.expires_at FROM sessions s \
                     JOIN users u ON u.id = s.user_id WHERE s.id = ?1 AND s.revoked_at IS NULL AND s.expires_at > ?2",
                )?
                .query_row(params![session.0, at.as_millis()], |row| {
                    Ok((account(row, 0)?, crate::rows::at(row, 4)?))
                })
                .optional()?)
        });
        let Some((account, expires_at)) = owner.await? else { return Ok(None) };
        self.owners.put(asked, session, &account, expires_at);
        Ok(Some(account))
    }

    async fn sessions(
        &self,
        user: UserId,
        now: Timestamp,
        page: PageQuery,
    ) -> Result<Page<Session>> {
        let start = Start::of(&page)?;
        let (before, id) = start.mirrored();
        self.read(move |conn| {
            let rows = conn
                .prepare_cached(
                    "SELECT id, created_at, last_used_at FROM sessions WHERE user_id = ?1 AND revoked_at IS NULL \
                     AND expires_at > ?2 AND (created_at, id) < (?3, ?4) ORDER BY created_at DESC, id DESC LIMIT ?5",
                )?
                .query_map(params![user.0, now.as_millis(), before, id, start.rows()], |row| {
                    let session = Session {
                        id: SessionId(row.get(0)?),
                        created_at: at(row, 1)?,
                        last_used_at: at(row, 2)?,
                        current: false,
                    };
                    Ok((session.created_at.as_millis(), session.id.0, session))
                })?
                .collect::<Result<_, _>>()?;
            Ok(start.page_back(rows))
        })
        .await
    }

    async fn revoke_session(
        &self,
        user: UserId,
        session: SessionId,
        at: Timestamp,
    ) -> Result<SessionRev> {
        self.write_owners(Concerns::Session(session), move |conn| {
            if !lives(conn, session, user, at)? {
                return Err(Error::NotFound("session").into());
            }
            revoke(conn, session, at)?;
            session_rev(conn)
        })
        .await
    }

    async fn rename(&self, by: Principal, name: &DisplayName) -> Result<Renamed> {
        let Principal { user, session } = by;
        let name = name.as_str().to_owned();
        self.write_owners(Concerns::User(user), move |conn| {
            must_live(conn, session)?;
            let account = conn
                .prepare_cached(
                    "UPDATE users SET display_name = ?2 WHERE id = ?1 RETURNING id, email, display_name, created_at",
                )?
                .query_row(params![user.0, name], |row| account(row, 0))
                .optional()?
                .ok_or(Error::NotFound("user"))?;
            Ok(Renamed { account, memberships: memberships(conn, user)? })
        })
        .await
    }

    async fn change_password(&self, change: NewPassword) -> Result<EndedSessions> {
        let NewPassword { user, verified, password, keep, at } = change;
        self.write_owners(Concerns::User(user), move |conn| {
            if !lives(conn, keep, user, at)? {
                return Err(Error::from(Unauthenticated::Revoked).into());
            }
            require_password(conn, user, &verified)?;
            conn.prepare_cached("UPDATE users SET password = ?2 WHERE id = ?1")?
                .execute(params![user.0, password.0])?;
            let others: Vec<Uuid> = conn
                .prepare_cached(
                    "SELECT id FROM sessions WHERE user_id = ?1 AND id <> ?2 AND revoked_at IS NULL AND expires_at > ?3",
                )?
                .query_map(params![user.0, keep.0, at.as_millis()], |row| row.get(0))?
                .collect::<Result<_, _>>()?;
            let others: Vec<SessionId> = others.into_iter().map(SessionId).collect();
            for session in &others {
                revoke(conn, *session, at)?;
            }
            Ok(EndedSessions { sessions: others, session_rev: session_rev(conn)? })
        })
        .await
    }

    async fn people(&self, viewer: UserId, ids: Vec<UserId>) -> Result<Vec<User>> {
        self.read(move |conn| {
            let mut visible = conn.prepare_cached(
                "SELECT u.id, u.display_name, u.created_at FROM users u WHERE u.id = ?2 AND (u.id = ?1 \
                 OR EXISTS (SELECT 1 FROM workspace_members a JOIN workspace_members b ON b.workspace_id = a.workspace_id \
                   WHERE a.user_id = ?1 AND b.user_id = ?2) \
                 OR EXISTS (SELECT 1 FROM workspace_members w JOIN conversations c ON c.workspace_id = w.workspace_id \
                   WHERE w.user_id = ?1 AND c.deleted_at IS NULL \
                   AND ((c.kind = 'channel' AND c.private = 0) OR EXISTS (SELECT 1 FROM conversation_members j \
                     WHERE j.conversation_id = c.id AND j.user_id = ?1)) \
                   AND EXISTS (SELECT 1 FROM messages m WHERE m.conversation = c.n AND m.author_id = ?2)))",
            )?;
            let mut people: Vec<User> = Vec::with_capacity(ids.len());
            for &id in &ids {
                if people.iter().all(|known| known.id != id) {
                    people.extend(visible.query_row(params![viewer.0, id.0], |row| user(row, 0)).optional()?);
                }
            }
            Ok(people)
        })
        .await
    }
}

fn credentials(row: &rusqlite::Row<'_>) -> rusqlite::Result<Credentials> {
    Ok(Credentials { account: account(row, 0)?, password: PasswordHash(row.get(4)?) })
}

/// Begins a session, and deletes the person's expired and revoked ones.
fn open(conn: &Connection, session: &NewSession) -> Tx<()> {
    conn.prepare_cached(
        "DELETE FROM sessions WHERE user_id = ?1 AND (expires_at <= ?2 OR revoked_at IS NOT NULL)",
    )?
    .execute(params![session.user_id.0, session.at.as_millis()])?;
    conn.prepare_cached(
        "INSERT INTO sessions (id, user_id, created_at, last_used_at, expires_at, rotated_at) VALUES (?1, ?2, ?3, ?3, ?4, ?3)",
    )?
    .execute(params![session.id.0, session.user_id.0, session.at.as_millis(), session.expires_at.as_millis()])?;
    token(conn, &session.refresh.0, session.id, 0)
}

/// Refuses if the person's password no longer has this hash.
fn require_password(conn: &Connection, user: UserId, verified: &PasswordHash) -> Tx<()> {
    let mut same = conn.prepare_cached("SELECT 1 FROM users WHERE id = ?1 AND password = ?2")?;
    if same.exists(params![user.0, verified.0])? {
        return Ok(());
    }
    Err(Error::from(Unauthenticated::Credentials).into())
}

fn lives(conn: &Connection, session: SessionId, user: UserId, at: Timestamp) -> Tx<bool> {
    let mut live = conn.prepare_cached(
        "SELECT 1 FROM sessions WHERE id = ?1 AND user_id = ?2 AND revoked_at IS NULL AND expires_at > ?3",
    )?;
    Ok(live.exists(params![session.0, user.0, at.as_millis()])?)
}

/// Adds a refresh token, unless it is there already.
fn token(conn: &Connection, digest: &[u8; 32], session: SessionId, generation: u64) -> Tx<()> {
    conn.prepare_cached(
        "INSERT INTO refresh_tokens (digest, session_id, generation) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
    )?
    .execute(params![digest.as_slice(), session.0, int(generation)])?;
    Ok(())
}

/// Refuses an ended session: the request may have been let in before.
pub(crate) fn must_live(conn: &Connection, session: SessionId) -> Tx<()> {
    if has_ended(conn, session)? {
        Err(Error::from(Unauthenticated::Revoked).into())
    } else {
        Ok(())
    }
}

/// Whether there is such a refresh token.
fn is_token(conn: &Connection, digest: &RefreshDigest) -> Tx<bool> {
    Ok(conn
        .prepare_cached("SELECT 1 FROM refresh_tokens WHERE digest = ?1")?
        .exists([digest.0.as_slice()])?)
}

/// Ends a session. Its tokens are unknown from then on.
fn revoke(conn: &Connection, session: SessionId, at: Timestamp) -> Tx<()> {
    conn.prepare_cached("UPDATE sessions SET revoked_at = ?2 WHERE id = ?1")?
        .execute(params![session.0, at.as_millis()])?;
    conn.prepare_cached("DELETE FROM refresh_tokens WHERE session_id = ?1")?
        .execute([session.0])?;
    conn.prepare_cached(
        "INSERT INTO meta (key, value) VALUES ('session_rev', '1') \
         ON CONFLICT (key) DO UPDATE SET value = CAST(value AS INTEGER) + 1",
    )?
    .execute([])?;
    Ok(())
}

/// Whether a session has been revoked or deleted.
pub(crate) fn has_ended(conn: &Connection, session: SessionId) -> Tx<bool> {
    let mut live =
        conn.prepare_cached("SELECT 1 FROM sessions WHERE id = ?1 AND revoked_at IS NULL")?;
    Ok(!live.exists([session.0])?)
}

/// How many sessions have ended so far.
pub(crate) fn session_rev(conn: &Connection) -> Tx<SessionRev> {
    Ok(conn
        .prepare_cached("SELECT CAST(value AS INTEGER) FROM meta WHERE key = 'session_rev'")?
        .query_row([], |row| num(row, 0))
        .optional()?
        .unwrap_or(SessionRev::ZERO))
}

fn rotate(conn: &Connection, rotation: &RotateRefresh) -> Tx<Rotation> {
    let found = conn
        .prepare_cached(
            "SELECT u.id, u.email, u.display_name, u.created_at, s.id, t.generation, s.generation, s.rotated_at \
             FROM refresh_tokens t JOIN sessions s ON s.id = t.session_id JOIN users u ON u.id = s.user_id \
             WHERE t.digest = ?1 AND s.revoked_at IS NULL AND s.expires_at > ?2",
        )?
        .query_row(params![rotation.presented.0.as_slice(), rotation.at.as_millis()], |row| {
            let generations: (u64, u64) = (num(row, 5)?, num(row, 6)?);
            Ok((account(row, 0)?, SessionId(row.get(4)?), generations, at(row, 7)?))
        })
        .optional()?;
    let Some((account, session_id, (presented, latest), rotated_at)) = found else {
        return Ok(Rotation::Unknown);
    };
    match rotation.judge(presented, latest, rotated_at) {
        Presented::Latest => next_generation(conn, rotation, session_id, latest + 1)?,
        Presented::Preceding => token(conn, &rotation.successor.0, session_id, latest)?,
        Presented::Reused => {
            revoke(conn, session_id, rotation.at)?;
            return Ok(Rotation::Reused { session_id, session_rev: session_rev(conn)? });
        }
    }
    Ok(Rotation::Rotated { account, session_id })
}

fn next_generation(
    conn: &Connection,
    rotation: &RotateRefresh,
    session: SessionId,
    generation: u64,
) -> Tx<()> {
    token(conn, &rotation.successor.0, session, generation)?;
    conn.prepare_cached(
        "UPDATE sessions SET generation = ?2, rotated_at = ?3, last_used_at = ?3, expires_at = ?4 WHERE id = ?1",
    )?
    .execute(params![
        session.0,
        int(generation),
        rotation.at.as_millis(),
        rotation.expires_at.as_millis()
    ])?;
    if let Some(oldest) = forgotten_before(generation) {
        conn.prepare_cached(
            "DELETE FROM refresh_tokens WHERE session_id = ?1 AND generation < ?2",
        )?
        .execute(params![session.0, int(oldest)])?;
    }
    Ok(())
}
