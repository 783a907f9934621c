//! Teams and who is in them.

use serde::Serialize;

use crate::{Role, Timestamp, User, UserId, WorkspaceId};

/// A team as one of its members sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Workspace {
    /// Which.
    pub id: WorkspaceId,
    /// What it is called.
    pub name: String,
    /// The asking person's role.
    pub role: Role,
    /// What lets people in. Only admins see it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub join_code: Option<String>,
    /// When it was created.
    pub created_at: Timestamp,
}

/// One person's membership of a workspace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Member {
    /// Of which workspace.
    pub workspace_id: WorkspaceId,
    /// Who.
    pub user_id: UserId,
    /// Their role.
    pub role: Role,
    /// When they came in.
    pub joined_at: Timestamp,
    /// The person.
    pub user: User,
}
