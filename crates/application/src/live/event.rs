use parlance_domain::{ConversationId, SessionId, UserId, WorkspaceId};
use serde::{Deserialize, Serialize};

use super::Frame;
use crate::ports::{Topic, store::Subject};

/// What nodes tell each other after a commit. Carries the frame for the sockets ready-made, so that no node encodes it again:
/// serialised is all but the frame, which a bus carries beside it as it is.
///
/// Nodes of two versions may share a bus: add variants and fields, never rename them.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A durable change of a conversation.
    Changed {
        /// Which.
        conversation_id: ConversationId,
        /// The change's rev.
        rev: u64,
        /// The conversation's count of changes of access at the commit.
        access_rev: u64,
        /// The store's count of ended sessions at the commit.
        #[serde(default)]
        session_rev: u64,
        /// Of a new message: who wrote it, and so no longer types.
        author_id: Option<UserId>,
        /// For everybody in it.
        #[serde(skip)]
        frame: Frame,
    },
    /// Somebody can read a conversation from now on.
    Joined {
        /// Which.
        conversation_id: ConversationId,
        /// Who.
        user_id: UserId,
        /// The rev that `frame` shows.
        rev: u64,
        /// The conversation's count of changes of access, this one included.
        access_rev: u64,
        /// How far `frame` shows that they have read. A node of an earlier version does not say.
        #[serde(default)]
        read_seq: u64,
        /// Of which workspace. A node of an earlier version does not say.
        #[serde(default)]
        workspace_id: Option<WorkspaceId>,
        /// For that person.
        #[serde(skip)]
        frame: Frame,
    },
    /// Somebody can no longer read a conversation.
    Left {
        /// Which.
        conversation_id: ConversationId,
        /// Who.
        user_id: UserId,
        /// The conversation's count of changes of access, this one included.
        access_rev: u64,
        /// For that person.
        #[serde(skip)]
        frame: Frame,
    },
    /// A conversation is gone.
    Deleted {
        /// Which.
        conversation_id: ConversationId,
        /// For everybody in it.
        #[serde(skip)]
        frame: Frame,
    },
    /// News of a conversation that is not part of its history.
    Conversation {
        /// Which.
        conversation_id: ConversationId,
        /// What it shows the state of. A node of an earlier version does not say.
        #[serde(default)]
        about: Option<Subject>,
        /// For everybody in it.
        #[serde(skip)]
        frame: Frame,
    },
    /// Somebody came into a workspace.
    WorkspaceJoined {
        /// Which.
        workspace_id: WorkspaceId,
        /// Who.
        user_id: UserId,
        /// For that person.
        #[serde(skip)]
        frame: Frame,
    },
    /// Somebody is no longer in a workspace.
    WorkspaceLeft {
        /// Which.
        workspace_id: WorkspaceId,
        /// Who.
        user_id: UserId,
    },
    /// A workspace is gone.
    WorkspaceDeleted {
        /// Which.
        workspace_id: WorkspaceId,
        /// For everybody in it.
        #[serde(skip)]
        frame: Frame,
    },
    /// News of a workspace.
    Workspace {
        /// Which.
        workspace_id: WorkspaceId,
        /// What it shows the state of. A node of an earlier version does not say.
        #[serde(default)]
        about: Option<Subject>,
        /// For everybody in it.
        #[serde(skip)]
        frame: Frame,
    },
    /// How far somebody has read.
    Read {
        /// Who.
        user_id: UserId,
        /// What.
        conversation_id: ConversationId,
        /// Up to where. A mark never goes back: a lower one that comes later is old.
        read_seq: u64,
        /// For that person.
        #[serde(skip)]
        frame: Frame,
    },
    /// Somebody has begun or ceased to type.
    Typing {
        /// Where.
        conversation_id: ConversationId,
        /// Who.
        user_id: UserId,
        /// For the others. May be dropped.
        #[serde(skip)]
        frame: Frame,
    },
    /// A session has ended: its connections close.
    SessionRevoked {
        /// Which.
        session_id: SessionId,
        /// The store's count of ended sessions, this one included.
        #[serde(default)]
        session_rev: u64,
        /// For its connections, before they close.
        #[serde(skip)]
        frame: Frame,
    },
}

impl Event {
    /// Which nodes it concerns. What decides who may listen goes to all of them.
    pub fn topic(&self) -> Topic {
        match self {
            Self::Changed { conversation_id, .. }
            | Self::Conversation { conversation_id, .. }
            | Self::Typing { conversation_id, .. } => Topic::Conversation(*conversation_id),
            Self::Read { user_id, .. } => Topic::User(*user_id),
            _ => Topic::Everybody,
        }
    }

    /// What the sockets are told.
    pub fn frame(&self) -> Option<&Frame> {
        match self {
            Self::Changed { frame, .. }
            | Self::Joined { frame, .. }
            | Self::Left { frame, .. }
            | Self::Deleted { frame, .. }
            | Self::Conversation { frame, .. }
            | Self::WorkspaceJoined { frame, .. }
            | Self::WorkspaceDeleted { frame, .. }
            | Self::Workspace { frame, .. }
            | Self::Read { frame, .. }
            | Self::Typing { frame, .. }
            | Self::SessionRevoked { frame, .. } => Some(frame),
            Self::WorkspaceLeft { .. } => None,
        }
    }

    /// The same event with the frame that came beside it.
    #[must_use]
    pub fn with_frame(mut self, received: Frame) -> Self {
        match &mut self {
            Self::Changed { frame, .. }
            | Self::Joined { frame, .. }
            | Self::Left { frame, .. }
            | Self::Deleted { frame, .. }
            | Self::Conversation { frame, .. }
            | Self::WorkspaceJoined { frame, .. }
            | Self::WorkspaceDeleted { frame, .. }
            | Self::Workspace { frame, .. }
            | Self::Read { frame, .. }
            | Self::Typing { frame, .. }
            | Self::SessionRevoked { frame, .. } => *frame = received,
            Self::WorkspaceLeft { .. } => {}
        }
        self
    }
}
