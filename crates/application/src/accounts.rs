use std::{net::IpAddr, sync::Arc, time::Duration};

use futures::Future;
use parlance_domain::{
    Account, DisplayName, Email, JobId, Password, Session, SessionId, SessionRev, Timestamp, User,
    UserId,
};

use crate::{
    Board, Error, Result, Unauthenticated,
    attempts::{Attempts, Guesser},
    jobs::{Job, Task},
    live::{Event, Frame},
    ports::{
        AccessToken, Ambient, Claims, PasswordHasher, RefreshToken, TokenIssuer,
        store::{
            self, EndedSessions, NewPassword, NewSession, Page, PageQuery, Principal, Renamed,
            RotateRefresh, Rotation,
        },
    },
    publisher::Publisher,
};

/// How long an access token lasts.
pub const ACCESS_FOR: Duration = Duration::from_mins(15);
/// How long a session lasts without a refresh.
const SESSION_FOR: Duration = Duration::from_hours(30 * 24);
/// How long the preceding refresh token is still accepted, so that two tabs that refresh at once both survive.
const REFRESH_GRACE: Duration = Duration::from_mins(1);

/// Sign-up, sign-in, sessions, profiles.
pub struct Accounts {
    store: Arc<dyn store::Accounts>,
    hasher: Arc<dyn PasswordHasher>,
    tokens: Arc<dyn TokenIssuer>,
    ambient: Arc<dyn Ambient>,
    publisher: Publisher,
    attempts: Attempts,
}

/// A request for an account.
#[derive(Debug, Clone)]
pub struct Signup {
    /// The address to sign in with.
    pub email: Email,
    /// The password to sign in with.
    pub password: Password,
    /// What others see.
    pub display_name: DisplayName,
}

/// A session's tokens.
#[derive(Debug, Clone)]
pub struct SignedIn {
    /// Who.
    pub account: Account,
    /// For `Authorization: Bearer` and `hello`.
    pub access: AccessToken,
    /// For the next refresh, once.
    pub refresh: RefreshToken,
    /// How long `access` lasts.
    pub expires_in: Duration,
}

/// Who asks: from a verified access token of a live session.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The person.
    pub account: Account,
    /// The session.
    pub session_id: SessionId,
    /// When the token ends.
    pub expires_at: Timestamp,
}

impl Caller {
    /// Whoever a token names, if this is the owner of its session.
    pub(crate) fn of(claims: &Claims, owner: Option<Account>) -> Result<Self> {
        let owner = owner.filter(|account| account.id == claims.user_id);
        let account = owner.ok_or(Unauthenticated::Revoked)?;
        Ok(Self { account, session_id: claims.session_id, expires_at: claims.expires_at })
    }

    /// What their token says.
    pub fn claims(&self) -> Claims {
        Claims {
            user_id: self.account.id,
            session_id: self.session_id,
            expires_at: self.expires_at,
        }
    }

    /// The person's id.
    pub fn id(&self) -> UserId {
        self.account.id
    }

    /// The principal of their changes.
    pub fn principal(&self) -> Principal {
        Principal { user: self.account.id, session: self.session_id }
    }
}

impl Accounts {
    pub(crate) fn new(
        store: Arc<dyn store::Accounts>,
        hasher: Arc<dyn PasswordHasher>,
        tokens: Arc<dyn TokenIssuer>,
        ambient: Arc<dyn Ambient>,
        publisher: Publisher,
        attempts: Attempts,
    ) -> Self {
        Self { store, hasher, tokens, ambient, publisher, attempts }
    }

    /// Creates an account and signs it in. The welcome mail is committed with it. `Conflict` if the address is taken.
    pub async fn sign_up(&self, signup: Signup) -> Result<SignedIn> {
        let password = self.hasher.hash(signup.password).await?;
        let account = Account {
            id: UserId(self.ambient.uuid()),
            email: signup.email.into(),
            display_name: signup.display_name.into(),
            created_at: self.ambient.now(),
        };
        let (session, refresh) = self.new_session(account.id);
        let job =
            Job { id: JobId(self.ambient.uuid()), task: Task::WelcomeMail { user_id: account.id } };
        let session_id = session.id;
        let (store, new) = (self.store.clone(), account.clone());
        self.writing(async move { store.create_account(new, password, session, job).await })
            .await?;
        self.signed_in(account, session_id, refresh)
    }

    /// Begins a session for whoever typed an address and a password, at `from` if known. An unknown or malformed
    /// address fails with the same message and in the same time as a wrong password. `RateLimited` after too many wrong
    /// ones.
    pub async fn sign_in(
        &self,
        from: Option<IpAddr>,
        typed: &str,
        password: Password,
    ) -> Result<SignedIn> {
        let guesser = Guesser::typed(from, typed)?;
        let attempt = self.sign_in_unlimited(Email::parse(typed).ok(), password, |_| true);
        self.attempts.counted(&guesser, attempt).await
    }

    /// The same for board users only: all others are refused like an unknown address. A wrong password here also counts
    /// at [`Accounts::sign_in`], for any address, or an admin's password could be guessed in two places; here, the
    /// pause comes sooner.
    pub async fn sign_in_at_board(
        &self,
        board: &Board,
        from: Option<IpAddr>,
        typed: &str,
        password: Password,
    ) -> Result<SignedIn> {
        let (guesser, at_board) =
            (Guesser::typed(from, typed)?, Guesser::typed_at_board(from, typed)?);
        let may = |account: &Account| board.may(&account.email);
        let attempt = self.sign_in_unlimited(Email::parse(typed).ok(), password, may);
        let attempt = self.attempts.counted(&guesser, attempt);
        self.attempts.counted(&at_board, attempt).await
    }

    /// Those who may not are refused only after the same checks as the others: timing reveals nobody who may.
    async fn sign_in_unlimited(
        &self,
        email: Option<Email>,
        password: Password,
        may: impl Fn(&Account) -> bool,
    ) -> Result<SignedIn> {
        let known = match email {
            Some(email) => self.store.credentials(&email).await?,
            None => None,
        };
        let hash = known.as_ref().map(|known| known.password.clone());
        let right = self.hasher.verify(password, hash).await?;
        let Some(known) = known.filter(|known| right && may(&known.account)) else {
            return Err(Unauthenticated::Credentials.into());
        };
        let (session, refresh) = self.new_session(known.account.id);
        let session_id = session.id;
        let (store, password) = (self.store.clone(), known.password);
        self.writing(async move { store.open_session(session, &password).await }).await?;
        self.signed_in(known.account, session_id, refresh)
    }

    /// Exchanges a refresh token for its successor. A token older than the preceding one ends the session: somebody has
    /// a copy. `Unauthenticated` then, and for what is no token.
    pub async fn refresh(&self, presented: RefreshToken) -> Result<SignedIn> {
        let successor = self.tokens.successor(&presented);
        let now = self.ambient.now();
        let rotation = RotateRefresh {
            presented: self.tokens.digest(&presented),
            successor: self.tokens.digest(&successor),
            at: now,
            expires_at: now + SESSION_FOR,
            grace: REFRESH_GRACE,
        };
        let store = self.store.clone();
        let rotated = self.ending(async move {
            let rotated = store.rotate_refresh(rotation).await?;
            let ended = match &rotated {
                Rotation::Reused { session_id, session_rev } => {
                    EndedSessions { sessions: vec![*session_id], session_rev: *session_rev }
                }
                _ => EndedSessions { sessions: vec![], session_rev: SessionRev::ZERO },
            };
            Ok((rotated, ended))
        });
        match rotated.await? {
            Rotation::Rotated { account, session_id } => {
                self.signed_in(account, session_id, successor)
            }
            Rotation::Reused { .. } => Err(Unauthenticated::Revoked.into()),
            Rotation::Unknown => Err(Unauthenticated::BadToken.into()),
        }
    }

    /// Verifies an access token and that its session lives: `Unauthenticated` otherwise.
    pub async fn authenticate(&self, token: &str) -> Result<Caller> {
        let claims = self.claims(token)?;
        let owner = self.store.session_owner(claims.session_id, self.ambient.now()).await?;
        Caller::of(&claims, owner)
    }

    /// Verifies an access token, and not whether its session lives.
    pub fn claims(&self, token: &str) -> Result<Claims> {
        Ok(self.tokens.verify(token, self.ambient.now())?)
    }

    /// The caller's live sessions.
    pub async fn sessions(&self, caller: &Caller, page: PageQuery) -> Result<Page<Session>> {
        let mut sessions = self.store.sessions(caller.id(), self.ambient.now(), page).await?;
        for session in &mut sessions.items {
            session.current = session.id == caller.session_id;
        }
        Ok(sessions)
    }

    /// Ends one of the caller's sessions, and its access tokens and sockets with it, at once. `NotFound` if there is
    /// none.
    pub async fn revoke_session(&self, caller: &Caller, session: SessionId) -> Result<()> {
        let (store, user, at) = (self.store.clone(), caller.id(), self.ambient.now());
        self.ending(async move {
            let session_rev = store.revoke_session(user, session, at).await?;
            Ok(((), EndedSessions { sessions: vec![session], session_rev }))
        })
        .await
    }

    /// Ends the caller's own session. `Unauthenticated` if it has already ended.
    pub async fn sign_out(&self, caller: &Caller) -> Result<()> {
        match self.revoke_session(caller, caller.session_id).await {
            Err(Error::NotFound(_)) => Err(Unauthenticated::Revoked.into()),
            ended => ended,
        }
    }

    /// Changes what others see of the caller, and tells those who share a workspace with them.
    pub async fn rename(&self, caller: &Caller, name: DisplayName) -> Result<Account> {
        let (store, by) = (self.store.clone(), caller.principal());
        let renamed = async move {
            let Renamed { account, memberships } = store.rename(by, &name).await?;
            Ok((account, memberships.iter().map(Event::workspace_member_updated).collect()))
        };
        self.publisher.change(caller, renamed).await
    }

    /// Changes the caller's password and ends all their other sessions. Guessing here with a stolen token does not get
    /// far: `Forbidden` for a wrong password, and eventually `RateLimited`.
    pub async fn change_password(
        &self,
        caller: &Caller,
        current: Password,
        new: Password,
    ) -> Result<Account> {
        let change = self.change_verified(caller, current, new);
        let changed = self.attempts.counted(&Guesser::user(caller.id()), change).await;
        changed.map_err(|error| match error {
            Error::Unauthenticated(Unauthenticated::Credentials) => {
                Error::Forbidden("the current password is wrong")
            }
            other => other,
        })
    }

    /// A wrong password fails as at sign-in.
    async fn change_verified(
        &self,
        caller: &Caller,
        current: Password,
        new: Password,
    ) -> Result<Account> {
        let known = self.store.credentials_of(caller.id()).await?;
        if !self.hasher.verify(current, Some(known.password.clone())).await? {
            return Err(Unauthenticated::Credentials.into());
        }
        let change = NewPassword {
            user: caller.id(),
            verified: known.password,
            password: self.hasher.hash(new).await?,
            keep: caller.session_id,
            at: self.ambient.now(),
        };
        let store = self.store.clone();
        self.ending(async move { Ok((known.account, store.change_password(change).await?)) }).await
    }

    /// One person whom the caller may see; `NotFound` for all others.
    pub async fn person(&self, caller: &Caller, id: UserId) -> Result<User> {
        let mut people = self.store.people(caller.id(), vec![id]).await?;
        people.pop().ok_or(Error::NotFound("user"))
    }

    /// Those of `ids` whom the caller may see.
    pub async fn people(&self, caller: &Caller, ids: Vec<UserId>) -> Result<Vec<User>> {
        self.store.people(caller.id(), ids).await
    }

    /// Ends sessions and closes their sockets; returns once this node's are closed. Goes on if the caller hangs up: the
    /// sockets have to hear of what has been committed.
    async fn ending<T: Send + 'static>(
        &self,
        write: impl Future<Output = Result<(T, EndedSessions)>> + Send + 'static,
    ) -> Result<T> {
        let told = async move {
            let (output, EndedSessions { sessions, session_rev }) = write.await?;
            // Each end has raised the count by one. They are numbered in the order they are told.
            let mut ended = SessionRev(session_rev.0.saturating_sub(sessions.len() as u64));
            let ends = sessions.into_iter().map(|session_id| {
                ended = ended.next();
                let frame = Frame::session_revoked(session_id);
                Event::SessionRevoked { session_id, session_rev: ended, frame }
            });
            Ok((output, ends.collect()))
        };
        self.publisher.advance(told).await
    }

    /// A write that tells nobody. Goes on if the caller hangs up: a store may keep what it has begun to write locked.
    async fn writing(
        &self,
        write: impl Future<Output = Result<()>> + Send + 'static,
    ) -> Result<()> {
        self.publisher.advance(async move { Ok((write.await?, vec![])) }).await
    }

    fn new_session(&self, user_id: UserId) -> (NewSession, RefreshToken) {
        let refresh = RefreshToken(self.ambient.random());
        let at = self.ambient.now();
        let session = NewSession {
            id: SessionId(self.ambient.uuid()),
            user_id,
            refresh: self.tokens.digest(&refresh),
            at,
            expires_at: at + SESSION_FOR,
        };
        (session, refresh)
    }

    fn signed_in(
        &self,
        account: Account,
        session_id: SessionId,
        refresh: RefreshToken,
    ) -> Result<SignedIn> {
        let expires_at = self.ambient.now() + ACCESS_FOR;
        let access = self.tokens.issue(Claims { user_id: account.id, session_id, expires_at })?;
        Ok(SignedIn { account, access, refresh, expires_in: ACCESS_FOR })
    }
}
