//! What a node asks a shared store about other nodes' changes. Invariant: every commit is in some look, even if the bus
//! lost it. `live/look.rs` looks once a second; MongoDB's stamps are in `mongo/changes.rs`.

use async_trait::async_trait;
use parlance_domain::{
    AccessRev, ConversationId, Member, Rev, Seq, SessionId, SessionRev, Timestamp, UserId,
    Workspace, WorkspaceId,
};
use serde::{Deserialize, Serialize};

use crate::Result;

/// How a node learns what other nodes have done when the bus did not tell it. Only for a store that several nodes
/// share. The cost grows with the number of changes, not of connections.
///
/// Read-only: after an error, the question may be repeated. A `Vec` of questions is answered in any order.
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait Changes: Send + Sync {
    /// What has changed since an earlier look ended. A change may be in several looks, but is in at least one. Without
    /// `since`: only the store's current time and count of ended sessions.
    async fn changes(&self, since: Option<Timestamp>) -> Result<Look>;

    /// The heads of conversations. Omits those that do not exist or are deleted.
    async fn heads(&self, conversations: Vec<ConversationId>) -> Result<Vec<Head>>;

    /// Which of `users` are in a conversation and may read it, and its `access_rev`, read at the same moment. `None` if
    /// it does not exist or is deleted.
    async fn readers(
        &self,
        conversation: ConversationId,
        users: Vec<UserId>,
    ) -> Result<Option<Readers>>;

    /// Which of these sessions have ended: at least all those included in any count of ended sessions returned before.
    async fn ended_sessions(&self, of: Vec<SessionId>) -> Result<Vec<SessionId>>;

    /// The count of ended sessions, including every end that was acknowledged before the call.
    async fn session_rev(&self) -> Result<SessionRev>;

    /// Which of `users` are in a workspace: nobody if it is deleted.
    async fn workspace_members(
        &self,
        workspace: WorkspaceId,
        users: Vec<UserId>,
    ) -> Result<Vec<UserId>>;

    /// The current state of each, at least as recent as any trace already returned. Omits what belongs to something
    /// deleted.
    async fn states(&self, of: Vec<Subject>) -> Result<Vec<(Subject, State)>>;
}

/// What a look has found. Bounded: what does not fit is in the next look ([`Look::more`]).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// Heads of the conversations that changed, deleted ones included.
    pub heads: Vec<Head>,
    /// People who were added to a conversation.
    pub admitted: Vec<(ConversationId, UserId)>,
    /// Workspaces that changed, or whose membership did.
    pub workspaces: Vec<WorkspaceId>,
    /// Subjects changed, which no rev shows, each with the stamp of its latest change.
    pub traces: Vec<(Subject, Timestamp)>,
    /// Read marks that were set.
    pub marks: Vec<Mark>,
    /// The store's count of ended sessions.
    pub session_rev: SessionRev,
    /// Where the next look begins, by the store's clock.
    pub until: Timestamp,
    /// Whether there was more than fits in one look.
    pub more: bool,
}

impl Look {
    /// A look that found nothing.
    pub fn empty(session_rev: SessionRev, until: Timestamp) -> Self {
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

/// What a state event is about. It is told as a whole, and no rev shows its changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// A workspace's own fields, and whether it exists.
    Workspace(WorkspaceId),
    /// Whether somebody is in a workspace.
    Member(WorkspaceId, UserId),
    /// Somebody's role in a workspace.
    Role(WorkspaceId, UserId),
    /// Whether somebody is in a conversation.
    Participant(ConversationId, UserId),
}

/// The state of a [`Subject`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// The workspace, as a member sees it.
    Workspace(Workspace),
    /// A membership, and its workspace as that member sees it.
    Member(Box<(Member, Workspace)>),
    /// The person is in the conversation.
    Inside,
    /// The workspace no longer exists, or the person is not in the workspace or conversation.
    Gone,
}

/// How far somebody has read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// The conversation.
    pub conversation_id: ConversationId,
    /// The person.
    pub user_id: UserId,
    /// The last `seq` that they have read.
    pub read_seq: Seq,
}

/// How far a conversation has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The conversation.
    pub conversation_id: ConversationId,
    /// Its number of durable changes.
    pub rev: Rev,
    /// Its number of changes of who may read it.
    pub access_rev: AccessRev,
}

/// Who is in a conversation and may read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readers {
    /// The conversation's `access_rev` at the same moment.
    pub access_rev: AccessRev,
    /// Those of the people asked about who are in it and may read it.
    pub users: Vec<UserId>,
}
