//! People, their passwords and their sessions.

use async_trait::async_trait;
use parlance_application::{
    Error, Result, Unauthenticated,
    jobs::Job,
    ports::{
        PasswordHash,
        store::{
            Accounts, Credentials, EMAIL_TAKEN, EndedSessions, NewPassword, NewSession, Page,
            PageQuery, Presented, Principal, Renamed, RotateRefresh, Rotation, Start, Subject,
        },
    },
};
use parlance_domain::{
    Account, ConversationAction, DisplayName, Email, Session, SessionId, SessionRev, Timestamp,
    User, UserId,
};

use super::{
    MemoryStore,
    access::page_back,
    state::{SessionRow, State, UserRow, id_taken},
};

#[async_trait]
impl Accounts for MemoryStore {
    async fn create_account(
        &self,
        account: Account,
        password: PasswordHash,
        session: NewSession,
        job: Job,
    ) -> Result<()> {
        self.write("create_account", |state| {
            if state.addresses.contains_key(&account.email) {
                return Err(Error::conflict(EMAIL_TAKEN));
            }
            if state.users.contains_key(&account.id) || state.sessions.contains_key(&session.id) {
                return Err(id_taken());
            }
            state.addresses.insert(account.email.clone(), account.id);
            state.users.insert(account.id, UserRow { account, password });
            state.open(&session);
            state.put_job(job);
            Ok(())
        })
        .await
    }

    async fn credentials(&self, email: &Email) -> Result<Option<Credentials>> {
        self.read("credentials", |state| {
            let Some(user) = state.addresses.get(email.as_str()) else { return Ok(None) };
            state.credentials(*user).map(Some)
        })
        .await
    }

    async fn credentials_of(&self, user: UserId) -> Result<Credentials> {
        self.read("credentials_of", |state| state.credentials(user)).await
    }

    async fn user_id(&self, email: &Email) -> Result<Option<UserId>> {
        self.read("user_id", |state| Ok(state.addresses.get(email.as_str()).copied())).await
    }

    async fn account(&self, user: UserId) -> Result<Account> {
        self.read("account", |state| {
            let row = state.users.get(&user).ok_or(Error::NotFound("user"))?;
            Ok(row.account.clone())
        })
        .await
    }

    async fn open_session(&self, session: NewSession, verified: &PasswordHash) -> Result<()> {
        self.write("open_session", |state| {
            state.user_with_password(session.user_id, verified)?;
            if state.sessions.contains_key(&session.id) {
                return Err(id_taken());
            }
            state.open(&session);
            Ok(())
        })
        .await
    }

    async fn rotate_refresh(&self, rotation: RotateRefresh) -> Result<Rotation> {
        self.write("rotate_refresh", |state| state.rotate(&rotation)).await
    }

    async fn session_owner(&self, session: SessionId, at: Timestamp) -> Result<Option<Account>> {
        self.read("session_owner", |state| {
            let live = state.sessions.get(&session).filter(|row| row.lives(at));
            let owner = live.and_then(|row| state.users.get(&row.user_id));
            Ok(owner.map(|row| row.account.clone()))
        })
        .await
    }

    async fn sessions(
        &self,
        user: UserId,
        at: Timestamp,
        query: PageQuery,
    ) -> Result<Page<Session>> {
        self.read("sessions", |state| {
            let live =
                state.sessions.iter().filter(|(_, row)| row.user_id == user && row.lives(at));
            let rows = live.map(|(id, row)| {
                let (created_at, last_used_at) = (row.created_at, row.last_used_at);
                let session = Session { id: *id, created_at, last_used_at, current: false };
                (created_at, id.0, session)
            });
            Ok(page_back(&Start::of(&query)?, rows.collect()))
        })
        .await
    }

    async fn revoke_session(
        &self,
        user: UserId,
        session: SessionId,
        at: Timestamp,
    ) -> Result<SessionRev> {
        self.write("revoke_session", |state| {
            let found = state.sessions.get(&session);
            if !found.is_some_and(|row| row.user_id == user && row.lives(at)) {
                return Err(Error::NotFound("session"));
            }
            state.end(session);
            Ok(state.session_rev)
        })
        .await
    }

    async fn rename(&self, by: Principal, name: &DisplayName) -> Result<Renamed> {
        let user = by.user;
        self.change("rename", by.session, |state| {
            let row = state.users.get_mut(&user).ok_or(Error::NotFound("user"))?;
            name.as_str().clone_into(&mut row.account.display_name);
            let account = row.account.clone();
            let mut memberships = state.memberships(user)?;
            memberships.sort_by_key(|member| (member.joined_at, member.workspace_id));
            for member in &memberships {
                state.trace(Subject::Role(member.workspace_id, user));
            }
            Ok(Renamed { account, memberships })
        })
        .await
    }

    async fn change_password(&self, change: NewPassword) -> Result<EndedSessions> {
        let NewPassword { user, verified, password, keep, at } = change;
        self.write("change_password", |state| {
            let kept = state.sessions.get(&keep);
            if !kept.is_some_and(|row| row.user_id == user && row.lives(at)) {
                return Err(Unauthenticated::Revoked.into());
            }
            state.user_with_password(user, &verified)?.password = password;
            let others = state.sessions.iter();
            let others: Vec<SessionId> = others
                .filter(|(id, row)| row.user_id == user && **id != keep && row.lives(at))
                .map(|(id, _)| *id)
                .collect();
            for session in &others {
                state.end(*session);
            }
            Ok(EndedSessions { sessions: others, session_rev: state.session_rev })
        })
        .await
    }

    async fn people(&self, viewer: UserId, ids: Vec<UserId>) -> Result<Vec<User>> {
        self.read("people", |state| {
            let mut people: Vec<User> = Vec::with_capacity(ids.len());
            for id in ids {
                if people.iter().all(|known| known.id != id) && state.is_known_to(id, viewer) {
                    people.extend(state.user(id).ok());
                }
            }
            Ok(people)
        })
        .await
    }
}

impl State {
    fn credentials(&self, user: UserId) -> Result<Credentials> {
        let row = self.users.get(&user).ok_or(Error::NotFound("user"))?;
        Ok(Credentials { account: row.account.clone(), password: row.password.clone() })
    }

    /// Somebody whose password still has this hash.
    fn user_with_password(
        &mut self,
        user: UserId,
        verified: &PasswordHash,
    ) -> Result<&mut UserRow> {
        let row = self.users.get_mut(&user).filter(|row| row.password == *verified);
        row.ok_or(Unauthenticated::Credentials.into())
    }

    fn open(&mut self, session: &NewSession) {
        let row = SessionRow {
            user_id: session.user_id,
            created_at: session.at,
            last_used_at: session.at,
            expires_at: session.expires_at,
            generation: 0,
            rotated_at: session.at,
            ended: false,
        };
        self.sessions.insert(session.id, row);
        self.tokens.insert(session.refresh.0, (session.id, 0));
    }

    /// Ends a session. Its tokens are unknown from then on.
    fn end(&mut self, session: SessionId) {
        if let Some(row) = self.sessions.get_mut(&session) {
            row.ended = true;
            self.session_rev = self.session_rev.next();
        }
        self.tokens.retain(|_, (of, _)| *of != session);
    }

    fn rotate(&mut self, rotation: &RotateRefresh) -> Result<Rotation> {
        let Some(&(session_id, presented)) = self.tokens.get(&rotation.presented.0) else {
            return Ok(Rotation::Unknown);
        };
        let Some(session) = self.sessions.get_mut(&session_id).filter(|row| row.lives(rotation.at))
        else {
            return Ok(Rotation::Unknown);
        };
        let account = self.users.get(&session.user_id).ok_or(Error::NotFound("user"))?;
        let account = account.account.clone();
        match rotation.judge(presented, session.generation, session.rotated_at) {
            Presented::Latest => {
                session.generation += 1;
                session.rotated_at = rotation.at;
                session.last_used_at = rotation.at;
                session.expires_at = rotation.expires_at;
            }
            Presented::Preceding => {}
            Presented::Reused => {
                self.end(session_id);
                return Ok(Rotation::Reused { session_id, session_rev: self.session_rev });
            }
        }
        self.tokens.insert(rotation.successor.0, (session_id, session.generation));
        Ok(Rotation::Rotated { account, session_id })
    }

    /// Whether they are the same, share a workspace, or the viewer can read a message of theirs.
    fn is_known_to(&self, user: UserId, viewer: UserId) -> bool {
        let shared = || {
            let mut workspaces = self.workspaces.values();
            workspaces
                .any(|row| row.members.contains_key(&viewer) && row.members.contains_key(&user))
        };
        let read = || {
            self.seen_by(viewer, None)
                .filter(|seen| seen.standing.permits(ConversationAction::Read).is_ok())
                .flat_map(|seen| &seen.row.messages)
                .any(|row| row.message.author_id == Some(user))
        };
        user == viewer || shared() || read()
    }
}
