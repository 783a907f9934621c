use parlance_domain::{JobId, UserId, WorkspaceId};
use serde::{Deserialize, Serialize};

/// A task with an identity: adding it twice is adding it once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// From the outbox to its end.
    pub id: JobId,
    /// What to do.
    pub task: Task,
}

/// What can be done later. Stored as JSON: add variants and fields, never rename them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Task {
    /// Greets somebody who has signed up.
    WelcomeMail {
        /// Whom.
        user_id: UserId,
    },
    /// Tells somebody that an admin has added them to a workspace.
    AddedToWorkspaceMail {
        /// Whom.
        user_id: UserId,
        /// To which.
        workspace_id: WorkspaceId,
    },
}

impl Task {
    /// Its name in logs and tables.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::WelcomeMail { .. } => "welcome_mail",
            Self::AddedToWorkspaceMail { .. } => "added_to_workspace_mail",
        }
    }
}
