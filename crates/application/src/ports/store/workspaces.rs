use async_trait::async_trait;
use parlance_domain::{
    ConversationId, JoinCode, Member, Role, Timestamp, UserId, Workspace, WorkspaceId,
    WorkspaceName,
};

use super::{Entry, Page, PageQuery, SnapshotEntry};
use crate::{Result, jobs::Job};

/// The words of the conflict over a workspace without an admin.
pub const LAST_ADMIN: &str = "the last admin can neither leave nor be demoted";
/// The words of the conflict over who is to be let in.
pub const ALREADY_MEMBER: &str = "this person is a member already";

/// Teams and who is in them. `NotFound` for a workspace that the actor is not in.
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait Workspaces: Send + Sync {
    /// Creates a workspace with the actor as its admin, in its public channel `general`.
    async fn create_workspace(&self, actor: UserId, new: NewWorkspace) -> Result<Admission>;

    /// The actor's workspaces, oldest membership first.
    async fn workspaces(&self, actor: UserId, page: PageQuery) -> Result<Page<Workspace>>;

    /// One workspace.
    async fn workspace(&self, actor: UserId, id: WorkspaceId) -> Result<Workspace>;

    /// Lets a person in by code, as a member and into `general`. `NotFound` for a code that opens nothing.
    async fn join_workspace(
        &self,
        actor: UserId,
        code: &JoinCode,
        at: Timestamp,
    ) -> Result<Joining>;

    /// Replaces the join code.
    async fn rotate_join_code(
        &self,
        actor: UserId,
        id: WorkspaceId,
        code: JoinCode,
    ) -> Result<Workspace>;

    /// Changes the name.
    async fn rename_workspace(
        &self,
        actor: UserId,
        id: WorkspaceId,
        name: &WorkspaceName,
    ) -> Result<Workspace>;

    /// Deletes a workspace with everything in it; returns its conversations.
    async fn delete_workspace(
        &self,
        actor: UserId,
        id: WorkspaceId,
        at: Timestamp,
    ) -> Result<Vec<ConversationId>>;

    /// Who is in it, oldest membership first.
    async fn members(
        &self,
        actor: UserId,
        id: WorkspaceId,
        page: PageQuery,
    ) -> Result<Page<Member>>;

    /// Adds a person with a role, into `general` too, and the job that tells them. `NotFound` for an unknown person,
    /// `Conflict` for one who is in already.
    async fn add_member(&self, actor: UserId, id: WorkspaceId, new: NewMember)
    -> Result<Admission>;

    /// Changes a role. `Conflict` if nobody would be left as admin.
    async fn set_role(
        &self,
        actor: UserId,
        id: WorkspaceId,
        user: UserId,
        role: Role,
    ) -> Result<Member>;

    /// Ends somebody's membership, and with it that of all the workspace's channels. Oneself may always be removed by
    /// oneself. `Conflict` if nobody would be left as admin.
    async fn remove_member(
        &self,
        actor: UserId,
        id: WorkspaceId,
        user: UserId,
    ) -> Result<Departure>;
}

/// A workspace to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewWorkspace {
    /// Which.
    pub id: WorkspaceId,
    /// What it is called.
    pub name: WorkspaceName,
    /// What lets people in.
    pub join_code: JoinCode,
    /// The id of its `general`.
    pub general: ConversationId,
    /// When.
    pub at: Timestamp,
}

/// A membership to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewMember {
    /// Who.
    pub user_id: UserId,
    /// As what.
    pub role: Role,
    /// When.
    pub at: Timestamp,
    /// Goes to the outbox in the same commit.
    pub job: Job,
}

/// Somebody has come in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admission {
    /// The workspace as they see it.
    pub workspace: Workspace,
    /// Their membership.
    pub member: Member,
    /// Their way into `general`.
    pub general: Entry,
    /// DMs of an earlier time, which they can read again.
    pub dms: Vec<SnapshotEntry>,
}

/// What a join code did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Joining {
    /// It let the person in.
    Entered(Box<Admission>),
    /// They were in already.
    AlreadyIn(Workspace),
}

/// Somebody has gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Departure {
    /// The conversations that they could read, and now cannot, each with its new count of changes of access.
    pub conversations: Vec<(ConversationId, u64)>,
}
