//! What a job is, as stored in the outbox and the queue. Rows outlive versions of the program: an unknown kind is left
//! for a node that knows it. `runner.rs` runs them.

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

impl Job {
    /// A job whose task was stored as JSON. `None` if only another version of the program can read it: leave it as it
    /// is.
    pub fn stored(id: JobId, task: &str) -> Option<Self> {
        match serde_json::from_str(task) {
            Ok(task) => Some(Self { id, task }),
            Err(error) => {
                tracing::warn!(job = %id, %error, "this program cannot read a job; it is left for one that can");
                None
            }
        }
    }
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
