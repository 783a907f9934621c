use parlance_domain::{ConversationId, SessionId, UserId, WorkspaceId};

use super::Frame;

/// What nodes tell each other after a commit. Carries the frame for the sockets ready-made, so that no node encodes it again.
#[derive(Debug, Clone)]
pub enum Event {
    /// A durable change of a conversation.
    Changed {
        /// Which.
        conversation_id: ConversationId,
        /// The change's rev.
        rev: u64,
        /// Of a new message: who wrote it, and so no longer types.
        author_id: Option<UserId>,
        /// For everybody in it.
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
        /// For that person.
        frame: Frame,
    },
    /// Somebody can no longer read a conversation.
    Left {
        /// Which.
        conversation_id: ConversationId,
        /// Who.
        user_id: UserId,
        /// For that person.
        frame: Frame,
    },
    /// A conversation is gone.
    Deleted {
        /// Which.
        conversation_id: ConversationId,
        /// For everybody in it.
        frame: Frame,
    },
    /// News of a conversation that is not part of its history.
    Conversation {
        /// Which.
        conversation_id: ConversationId,
        /// For everybody in it.
        frame: Frame,
    },
    /// Somebody came into a workspace.
    WorkspaceJoined {
        /// Which.
        workspace_id: WorkspaceId,
        /// Who.
        user_id: UserId,
        /// For that person.
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
        frame: Frame,
    },
    /// News of a workspace.
    Workspace {
        /// Which.
        workspace_id: WorkspaceId,
        /// For everybody in it.
        frame: Frame,
    },
    /// News for one person's connections.
    User {
        /// Who.
        user_id: UserId,
        /// For that person.
        frame: Frame,
    },
    /// Somebody has begun or ceased to type.
    Typing {
        /// Where.
        conversation_id: ConversationId,
        /// Who.
        user_id: UserId,
        /// For the others. May be dropped.
        frame: Frame,
    },
    /// A session has ended: its connections close.
    SessionRevoked {
        /// Which.
        session_id: SessionId,
        /// For its connections, before they close.
        frame: Frame,
    },
}
