//! The store's part of workspaces and their members. Invariants: a workspace always has an admin, and all its members
//! are in `general`.

use async_trait::async_trait;
use parlance_domain::{
    AccessRev, ChannelName, ConversationId, JoinCode, Member, Role, Timestamp, Topic, UserId,
    Workspace, WorkspaceId, WorkspaceName,
};

use super::{Entry, NewChannel, Page, PageQuery, Principal, SnapshotEntry};
use crate::{Result, jobs::Job};

/// Message of the conflict over a workspace without an admin.
pub const LAST_ADMIN: &str = "the last admin can neither leave nor be demoted";
/// Message of the conflict over a person who is a member already.
pub const ALREADY_MEMBER: &str = "this person is a member already";

/// Workspaces and their members.
///
/// Common errors: `NotFound` for a workspace that does not exist or that the actor is not in; `Forbidden` for what only
/// admins may do. Lists have at most [`MAX_PAGE`](super::MAX_PAGE) items a page, and are `BadRequest` for a bad cursor.
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait Workspaces: Send + Sync {
    /// Creates a workspace with the actor as its admin, in its public channel `general`.
    async fn create_workspace(&self, by: Principal, new: NewWorkspace) -> Result<Admission>;

    /// The actor's workspaces, oldest membership first.
    async fn workspaces(&self, actor: UserId, page: PageQuery) -> Result<Page<Workspace>>;

    /// One workspace, as the actor sees it.
    async fn workspace(&self, actor: UserId, id: WorkspaceId) -> Result<Workspace>;

    /// Adds the actor by join code, as a member and to `general`. Idempotent: [`Joining::AlreadyIn`]. `NotFound` for a
    /// code that is not valid.
    async fn join_workspace(
        &self,
        by: Principal,
        code: &JoinCode,
        at: Timestamp,
    ) -> Result<Joining>;

    /// Replaces the join code. Admins only.
    async fn rotate_join_code(
        &self,
        by: Principal,
        id: WorkspaceId,
        code: JoinCode,
    ) -> Result<Workspace>;

    /// Changes the name. Admins only.
    async fn rename_workspace(
        &self,
        by: Principal,
        id: WorkspaceId,
        name: &WorkspaceName,
    ) -> Result<Workspace>;

    /// Deletes a workspace with everything in it; returns its conversations. Admins only.
    async fn delete_workspace(
        &self,
        by: Principal,
        id: WorkspaceId,
        at: Timestamp,
    ) -> Result<Vec<ConversationId>>;

    /// The workspace's members, oldest membership first.
    async fn members(
        &self,
        actor: UserId,
        id: WorkspaceId,
        page: PageQuery,
    ) -> Result<Page<Member>>;

    /// Adds a person with a role, and to `general`, together with the job that tells them. Admins only. `NotFound` for
    /// an unknown person, `Conflict` for a member.
    async fn add_member(&self, by: Principal, id: WorkspaceId, new: NewMember)
    -> Result<Admission>;

    /// Changes a role. Admins only. `NotFound` for somebody who is not in it, `Conflict` if no admin would be left.
    async fn set_role(
        &self,
        by: Principal,
        id: WorkspaceId,
        user: UserId,
        role: Role,
    ) -> Result<Member>;

    /// Removes somebody from the workspace and all its channels; their DMs stay in case they return. Members may always
    /// remove themselves. `NotFound` for somebody who is not in it, `Conflict` if no admin would be left.
    async fn remove_member(
        &self,
        by: Principal,
        id: WorkspaceId,
        user: UserId,
    ) -> Result<Departure>;
}

/// A workspace to create.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewWorkspace {
    /// The new workspace's id.
    pub id: WorkspaceId,
    /// Its name.
    pub name: WorkspaceName,
    /// Its first join code.
    pub join_code: JoinCode,
    /// The id of its `general`.
    pub general: ConversationId,
    /// When it is created, and the actor joins it.
    pub at: Timestamp,
}

impl NewWorkspace {
    /// The channel it starts with.
    pub fn first_channel(&self) -> NewChannel {
        NewChannel {
            id: self.general,
            workspace_id: self.id,
            name: ChannelName::general(),
            topic: Topic::none(),
            private: false,
            at: self.at,
        }
    }
}

/// A membership to create.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewMember {
    /// The new member.
    pub user_id: UserId,
    /// Their role.
    pub role: Role,
    /// When they join.
    pub at: Timestamp,
    /// Put into the outbox in the same commit.
    pub job: Job,
}

/// The outcome of adding somebody to a workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admission {
    /// The workspace as they see it.
    pub workspace: Workspace,
    /// Their membership.
    pub member: Member,
    /// Their entry into `general`.
    pub general: Entry,
    /// Their DMs of an earlier membership, which they can read again.
    pub dms: Vec<SnapshotEntry>,
}

/// The outcome of a join code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Joining {
    /// It let the person in.
    Entered(Box<Admission>),
    /// They were in it already.
    AlreadyIn(Workspace),
}

/// The outcome of removing somebody from a workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Departure {
    /// The conversations that they can no longer read, each with its new `access_rev`.
    pub conversations: Vec<(ConversationId, AccessRev)>,
}
