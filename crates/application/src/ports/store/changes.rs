use async_trait::async_trait;
use parlance_domain::{
    ConversationId, Member, SessionId, Timestamp, UserId, Workspace, WorkspaceId,
};
use serde::{Deserialize, Serialize};

use crate::Result;

/// How a node of several finds out what the others have done when the bus did not tell: a look at the store. For stores
/// that several nodes share; its cost follows the number of changes, not of connections.
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait Changes: Send + Sync {
    /// What has changed since an earlier look ended; some changes are told by several looks, none by no look. Without an
    /// earlier one: nothing but the store's present time.
    async fn changes(&self, since: Option<Timestamp>) -> Result<Look>;

    /// Where conversations stand. Those that do not exist, or no more, are left out.
    async fn heads(&self, conversations: Vec<ConversationId>) -> Result<Vec<Head>>;

    /// Which of `users` are in a conversation and may read it, and at which count of changes of access; nothing if it has been
    /// deleted.
    async fn readers(
        &self,
        conversation: ConversationId,
        users: Vec<UserId>,
    ) -> Result<Option<Readers>>;

    /// Which of these sessions have ended: at least those that are in any count of ended sessions that was told before.
    async fn ended_sessions(&self, of: Vec<SessionId>) -> Result<Vec<SessionId>>;

    /// The count of ended sessions: it holds all whose end was acknowledged before this was asked.
    async fn session_rev(&self) -> Result<u64>;

    /// Which of `users` are in a workspace; none of a deleted one.
    async fn workspace_members(
        &self,
        workspace: WorkspaceId,
        users: Vec<UserId>,
    ) -> Result<Vec<UserId>>;

    /// How these are now: as late at least as any trace of them that was told before. Left out is what belongs to a deleted
    /// workspace or conversation.
    async fn states(&self, of: Vec<Subject>) -> Result<Vec<(Subject, State)>>;
}

/// What a look has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// Where conversations stand that changed, the deleted ones too.
    pub heads: Vec<Head>,
    /// Who has come into which conversation.
    pub admitted: Vec<(ConversationId, UserId)>,
    /// Workspaces that changed, or whose members did.
    pub workspaces: Vec<WorkspaceId>,
    /// What changed without a count that would tell, each with the stamp of its last change.
    pub traces: Vec<(Subject, Timestamp)>,
    /// How far people have read who said so.
    pub marks: Vec<Mark>,
    /// The store's count of ended sessions.
    pub session_rev: u64,
    /// By the store's clock: where the next look begins.
    pub until: Timestamp,
    /// Whether there was more than fits one look.
    pub more: bool,
}

impl Look {
    /// Of one that has found nothing.
    pub fn empty(session_rev: u64, until: Timestamp) -> Self {
        Self {
            heads: Vec::new(),
            admitted: Vec::new(),
            workspaces: Vec::new(),
            traces: Vec::new(),
            marks: Vec::new(),
            session_rev,
            until,
            more: false,
        }
    }
}

/// What a state event is about: each of these is told as a whole, and no count tells its changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// A workspace's own fields, and whether it is there.
    Workspace(WorkspaceId),
    /// Whether somebody is in a workspace.
    Member(WorkspaceId, UserId),
    /// Somebody's role in a workspace.
    Role(WorkspaceId, UserId),
    /// Whether somebody is in a conversation.
    Participant(ConversationId, UserId),
}

/// How the subject of a state event is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// The workspace, as a member sees it.
    Workspace(Workspace),
    /// Somebody in a workspace, and that as a member sees it.
    Member(Box<(Member, Workspace)>),
    /// Somebody is in the conversation.
    Inside,
    /// There is no such workspace any more, or nobody such in it.
    Gone,
}

/// How far somebody has read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// What.
    pub conversation_id: ConversationId,
    /// Who.
    pub user_id: UserId,
    /// Up to where.
    pub read_seq: u64,
}

/// Where a conversation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Which.
    pub conversation_id: ConversationId,
    /// Its count of durable changes.
    pub rev: u64,
    /// Its count of changes of access.
    pub access_rev: u64,
}

/// Who is in a conversation and may read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readers {
    /// At which count of changes of access.
    pub access_rev: u64,
    /// Of those who were asked for.
    pub users: Vec<UserId>,
}
