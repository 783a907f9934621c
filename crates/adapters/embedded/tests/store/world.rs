//! A store in a temporary directory, and short ways to fill it.

use parlance_application::{
    Error, Result,
    jobs::{Job, Task},
    ports::{
        PasswordHash, RefreshDigest,
        store::{
            Accounts, Change, Commit, Committed, Draft, Messages, NewMember, NewSession,
            NewWorkspace, PageQuery, Principal, Workspaces, Write,
        },
    },
};
use parlance_domain::{
    Account, ClientMsgId, ConversationId, JobId, JoinCode, Message, MessageId, MessageText, Role,
    SessionId, Timestamp, UserId, WorkspaceId, WorkspaceName,
};
use parlance_embedded::EmbeddedStore;
use tempfile::TempDir;
use uuid::Uuid;

pub(crate) const NOW: Timestamp = Timestamp::from_millis(1_000_000);
pub(crate) const WORKSPACE: WorkspaceId = WorkspaceId(Uuid::from_u128(0x1000));
pub(crate) const GENERAL: ConversationId = ConversationId(Uuid::from_u128(0x2000));
pub(crate) const ADA: UserId = UserId(Uuid::from_u128(1));
pub(crate) const BOB: UserId = UserId(Uuid::from_u128(2));

pub(crate) const ALL: PageQuery = PageQuery { after: None, limit: 200 };

pub(crate) struct World {
    pub(crate) store: EmbeddedStore,
    pub(crate) dir: TempDir,
}

pub(crate) fn job(n: u128, user_id: UserId) -> Job {
    Job { id: JobId(Uuid::from_u128(n)), task: Task::WelcomeMail { user_id } }
}

pub(crate) fn digest(n: u8) -> RefreshDigest {
    RefreshDigest([n; 32])
}

pub(crate) fn session(n: u8, user_id: UserId) -> NewSession {
    NewSession {
        id: SessionId(Uuid::from_u128(u128::from(n))),
        user_id,
        refresh: digest(n),
        at: NOW,
        expires_at: Timestamp::from_millis(9_000_000),
    }
}

/// A store with two people in a workspace: Ada, its admin, and Bob.
pub(crate) async fn world() -> World {
    let dir = tempfile::tempdir().expect("a directory");
    let store = EmbeddedStore::open(dir.path(), "first".to_owned(), NOW).expect("opens");
    let world = World { store, dir };
    world.person(ADA).await;
    world.person(BOB).await;
    let new = NewWorkspace {
        id: WORKSPACE,
        name: WorkspaceName::parse("Team").expect("a workspace's name"),
        join_code: JoinCode::from_random([7; 32]),
        general: GENERAL,
        at: NOW,
    };
    world.store.create_workspace(by(ADA), new).await.expect("creates");
    world.add(BOB, Role::Member).await;
    world
}

impl World {
    pub(crate) async fn person(&self, id: UserId) {
        let n = u8::try_from(id.0.as_u128()).expect("an id below 256");
        let account = Account {
            id,
            email: format!("p{n}@x.org"),
            display_name: format!("P{n}"),
            created_at: NOW,
        };
        self.store
            .create_account(
                account,
                PasswordHash("hash".to_owned()),
                session(n, id),
                job(id.0.as_u128(), id),
            )
            .await
            .expect("creates");
    }

    pub(crate) async fn add(&self, user_id: UserId, role: Role) {
        let job = Job {
            id: JobId(Uuid::from_u128(0x9000 + user_id.0.as_u128() + role as u128 * 100)),
            ..job(0, user_id)
        };
        self.store
            .add_member(by(ADA), WORKSPACE, NewMember { user_id, role, at: NOW, job })
            .await
            .expect("adds");
    }

    pub(crate) async fn append(&self, writes: Vec<Write>) -> Vec<Result<Commit>> {
        self.store.append(GENERAL, writes).await.expect("commits")
    }

    pub(crate) async fn one(&self, write: Write) -> Result<Commit> {
        self.append(vec![write]).await.pop().expect("one answer")
    }
}

pub(crate) fn write(actor: UserId, change: Change) -> Write {
    Write { by: by(actor), at: NOW, change }
}

/// The session that [`World::person`] has opened.
pub(crate) fn session_of(user: UserId) -> SessionId {
    SessionId(user.0)
}

pub(crate) fn by(user: UserId) -> Principal {
    Principal { user, session: session_of(user) }
}

pub(crate) fn text(text: &str) -> MessageText {
    MessageText::parse(text).expect("a text")
}

pub(crate) fn id(n: u128) -> MessageId {
    MessageId(Uuid::from_u128(n))
}

pub(crate) fn send(actor: UserId, n: u128, client: &str, words: &str) -> Write {
    let client_msg_id = ClientMsgId::parse(client).expect("a client's id");
    write(actor, Change::Send(Draft { id: id(n), client_msg_id, text: text(words) }))
}

pub(crate) fn message(commit: Result<Commit>) -> Message {
    match commit.expect("committed").subject {
        Committed::Message(message) => message,
        other @ Committed::Conversation(_) => panic!("{other:?}"),
    }
}

pub(crate) fn not_found<T: std::fmt::Debug>(result: Result<T>) -> bool {
    matches!(result, Err(Error::NotFound(_)))
}

pub(crate) fn conflict<T: std::fmt::Debug>(result: Result<T>) -> bool {
    matches!(result, Err(Error::Conflict { .. }))
}
