//! What a job is, as it lies in the outbox and in the queue. Rows outlive versions of the program: a kind that is not
//! known here is left for a node that knows it. `runner.rs` runs them.

use parlance_domain::{JobId, UserId, WorkspaceId};
use serde::{Deserialize, Serialize};

/// A task with an id: adding it twice is adding it once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// The same in the outbox, the queue and the mail's `Message-ID`.
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
        /// The new person, who gets the mail.
        user_id: UserId,
    },
    /// Tells somebody that an admin has added them to a workspace.
    AddedToWorkspaceMail {
        /// The person who was added, who gets the mail.
        user_id: UserId,
        /// The workspace that they were added to.
        workspace_id: WorkspaceId,
    },
}

impl Task {
    /// The task's name in logs and in the queue.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::WelcomeMail { .. } => "welcome_mail",
            Self::AddedToWorkspaceMail { .. } => "added_to_workspace_mail",
        }
    }
}
