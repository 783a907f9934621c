//! Teams and who is in them.

use serde::Serialize;

use crate::{Role, Timestamp, User, UserId, WorkspaceId};

/// A team as one of its members sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Workspace {
    /// The workspace's id.
    pub id: WorkspaceId,
    /// Its name. Names are not unique.
    pub name: String,
    /// The asking person's role.
    pub role: Role,
    /// The code that lets people in. Only admins see it; absent for members.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub join_code: Option<String>,
    /// When it was created.
    pub created_at: Timestamp,
}

/// One person's membership of a workspace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Member {
    /// The workspace.
    pub workspace_id: WorkspaceId,
    /// The member's id, the same as in `user`.
    pub user_id: UserId,
    /// Their role.
    pub role: Role,
    /// When they joined.
    pub joined_at: Timestamp,
    /// The member as others see them.
    pub user: User,
}
