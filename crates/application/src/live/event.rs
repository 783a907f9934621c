//! What nodes tell each other after a commit, and which sockets it is for. Nodes of different versions exchange events,
//! so their format may only grow. How a bus may treat them: `ports/bus.rs`.

use parlance_domain::{
    AccessRev, ConversationId, Member, ReadState, Rev, Seq, SessionId, SessionRev, Summary, UserId,
    Workspace, WorkspaceId,
};
use serde::{Deserialize, Serialize};

use super::Frame;
use crate::ports::{Topic, store::Subject};

/// What nodes tell each other after a commit. The frame for the sockets is encoded once, by the node that commits; a
/// bus carries it beside the serialised event.
///
/// Nodes of two versions may share a bus: add variants and fields, never rename them.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A durable change of a conversation.
    Changed {
        /// The conversation that changed.
        conversation_id: ConversationId,
        /// Its `rev` with this change.
        rev: Rev,
        /// Its `access_rev` at the commit.
        access_rev: AccessRev,
        /// The store's count of ended sessions at the commit.
        #[serde(default)]
        session_rev: SessionRev,
        /// The author of a new message, who has stopped typing; none for other changes.
        author_id: Option<UserId>,
        /// For everybody in the conversation.
        #[serde(skip)]
        frame: Frame,
    },
    /// Somebody can read a conversation from now on.
    Joined {
        /// The conversation that they can read.
        conversation_id: ConversationId,
        /// The person who joined.
        user_id: UserId,
        /// The conversation's `rev` as `frame` shows it.
        rev: Rev,
        /// The conversation's `access_rev`, this change included.
        access_rev: AccessRev,
        /// The person's read mark as `frame` shows it; 0 from a node of an earlier version.
        #[serde(default)]
        read_seq: Seq,
        /// The conversation's workspace; none from a node of an earlier version.
        #[serde(default)]
        workspace_id: Option<WorkspaceId>,
        /// For that person.
        #[serde(skip)]
        frame: Frame,
    },
    /// Somebody can no longer read a conversation.
    Left {
        /// The conversation that they can no longer read.
        conversation_id: ConversationId,
        /// The person who left or was removed.
        user_id: UserId,
        /// The conversation's `access_rev`, this change included.
        access_rev: AccessRev,
        /// For that person.
        #[serde(skip)]
        frame: Frame,
    },
    /// A conversation is gone.
    Deleted {
        /// The conversation that was deleted.
        conversation_id: ConversationId,
        /// For everybody who was in it.
        #[serde(skip)]
        frame: Frame,
    },
    /// News of a conversation that is not part of its history.
    Conversation {
        /// The conversation that the news is about.
        conversation_id: ConversationId,
        /// The subject whose state `frame` shows; none from a node of an earlier version.
        #[serde(default)]
        about: Option<Subject>,
        /// For everybody in it.
        #[serde(skip)]
        frame: Frame,
    },
    /// Somebody has joined a workspace.
    WorkspaceJoined {
        /// The workspace.
        workspace_id: WorkspaceId,
        /// The person who joined.
        user_id: UserId,
        /// For that person.
        #[serde(skip)]
        frame: Frame,
    },
    /// Somebody is no longer in a workspace.
    WorkspaceLeft {
        /// The workspace.
        workspace_id: WorkspaceId,
        /// The person who left or was removed.
        user_id: UserId,
    },
    /// A workspace is gone.
    WorkspaceDeleted {
        /// The workspace that was deleted.
        workspace_id: WorkspaceId,
        /// For everybody who was in it.
        #[serde(skip)]
        frame: Frame,
    },
    /// News of a workspace.
    Workspace {
        /// The workspace that the news is about.
        workspace_id: WorkspaceId,
        /// The subject whose state `frame` shows; none from a node of an earlier version.
        #[serde(default)]
        about: Option<Subject>,
        /// For everybody in it.
        #[serde(skip)]
        frame: Frame,
    },
    /// How far somebody has read.
    Read {
        /// The person who has read.
        user_id: UserId,
        /// The conversation that they have read.
        conversation_id: ConversationId,
        /// The last `seq` read. Marks never go back, so a lower one that comes later is outdated.
        read_seq: Seq,
        /// For that person.
        #[serde(skip)]
        frame: Frame,
    },
    /// Somebody has started or stopped typing.
    Typing {
        /// The conversation in which they type.
        conversation_id: ConversationId,
        /// The person who types.
        user_id: UserId,
        /// For the other members. May be dropped.
        #[serde(skip)]
        frame: Frame,
    },
    /// A session has ended: its connections close.
    SessionRevoked {
        /// The session that ended.
        session_id: SessionId,
        /// The store's count of ended sessions, this one included.
        #[serde(default)]
        session_rev: SessionRev,
        /// For its connections, before they close.
        #[serde(skip)]
        frame: Frame,
    },
}

/// The only constructor of each event, wherever it originates. Frames of the same state must be identical to the byte,
/// whether an event or a look brings them: `Told` compares them.
impl Event {
    /// Somebody can read a conversation, as the summary shows it to them.
    pub(crate) fn joined(user_id: UserId, summary: &Summary, access_rev: AccessRev) -> Self {
        Self::Joined {
            conversation_id: summary.conversation.id,
            user_id,
            rev: summary.conversation.rev,
            access_rev,
            read_seq: summary.read.read_seq,
            workspace_id: Some(summary.conversation.workspace_id),
            frame: Frame::joined(summary),
        }
    }

    /// Somebody can no longer read a conversation.
    pub(crate) fn left(
        conversation_id: ConversationId,
        user_id: UserId,
        access_rev: AccessRev,
    ) -> Self {
        Self::Left { conversation_id, user_id, access_rev, frame: Frame::left(conversation_id) }
    }

    /// A conversation is gone.
    pub(crate) fn deleted(conversation_id: ConversationId) -> Self {
        Self::Deleted { conversation_id, frame: Frame::deleted(conversation_id) }
    }

    /// For the others in a conversation: somebody is in it.
    pub(crate) fn member_joined(conversation_id: ConversationId, user_id: UserId) -> Self {
        let frame = Frame::member_joined(conversation_id, user_id);
        Self::of_participant(conversation_id, user_id, frame)
    }

    /// For the others in a conversation: somebody is no longer in it.
    pub(crate) fn member_left(conversation_id: ConversationId, user_id: UserId) -> Self {
        let frame = Frame::member_left(conversation_id, user_id);
        Self::of_participant(conversation_id, user_id, frame)
    }

    /// Somebody is in a workspace.
    pub(crate) fn workspace_joined(user_id: UserId, workspace: &Workspace) -> Self {
        let frame = Frame::workspace_updated(workspace);
        Self::WorkspaceJoined { workspace_id: workspace.id, user_id, frame }
    }

    /// A workspace's own fields.
    pub(crate) fn workspace_updated(workspace: &Workspace) -> Self {
        let about = Subject::Workspace(workspace.id);
        Self::of_workspace(workspace.id, about, Frame::workspace_updated(workspace))
    }

    /// A workspace is gone.
    pub(crate) fn workspace_deleted(workspace_id: WorkspaceId) -> Self {
        Self::WorkspaceDeleted { workspace_id, frame: Frame::workspace_deleted(workspace_id) }
    }

    /// For a workspace: somebody is in it.
    pub(crate) fn workspace_member_joined(member: &Member) -> Self {
        let about = Subject::Member(member.workspace_id, member.user_id);
        Self::of_workspace(member.workspace_id, about, Frame::workspace_member_joined(member))
    }

    /// For a workspace: somebody's role or name has changed.
    pub(crate) fn workspace_member_updated(member: &Member) -> Self {
        let about = Subject::Role(member.workspace_id, member.user_id);
        Self::of_workspace(member.workspace_id, about, Frame::workspace_member_updated(member))
    }

    /// For a workspace: somebody is no longer in it.
    pub(crate) fn workspace_member_left(workspace_id: WorkspaceId, user_id: UserId) -> Self {
        let frame = Frame::workspace_member_left(workspace_id, user_id);
        Self::of_workspace(workspace_id, Subject::Member(workspace_id, user_id), frame)
    }

    /// How far somebody has read.
    pub(crate) fn read(user_id: UserId, conversation_id: ConversationId, read: ReadState) -> Self {
        let frame = Frame::read_updated(conversation_id, read);
        Self::Read { user_id, conversation_id, read_seq: read.read_seq, frame }
    }

    const fn of_participant(
        conversation_id: ConversationId,
        user_id: UserId,
        frame: Frame,
    ) -> Self {
        let about = Some(Subject::Participant(conversation_id, user_id));
        Self::Conversation { conversation_id, about, frame }
    }

    const fn of_workspace(workspace_id: WorkspaceId, about: Subject, frame: Frame) -> Self {
        Self::Workspace { workspace_id, about: Some(about), frame }
    }
}

impl Event {
    /// The nodes it concerns. What decides who may listen goes to all of them.
    pub fn topic(&self) -> Topic {
        match self {
            Self::Changed { conversation_id, .. }
            | Self::Conversation { conversation_id, .. }
            | Self::Typing { conversation_id, .. } => Topic::Conversation(*conversation_id),
            Self::Read { user_id, .. } => Topic::User(*user_id),
            Self::Joined { .. }
            | Self::Left { .. }
            | Self::Deleted { .. }
            | Self::WorkspaceJoined { .. }
            | Self::WorkspaceLeft { .. }
            | Self::Workspace { .. }
            | Self::WorkspaceDeleted { .. }
            | Self::SessionRevoked { .. } => Topic::Everybody,
        }
    }

    /// The subject whose state it shows to everybody concerned.
    pub(super) const fn about(&self) -> Option<Subject> {
        match self {
            Self::Workspace { about, .. } | Self::Conversation { about, .. } => *about,
            Self::WorkspaceDeleted { workspace_id, .. } => Some(Subject::Workspace(*workspace_id)),
            _ => None,
        }
    }

    /// The subject it may have changed, if the store can be asked for its current state.
    pub(super) const fn hint(&self) -> Option<Subject> {
        match self {
            Self::Workspace { about, .. } | Self::Conversation { about, .. } => *about,
            Self::WorkspaceJoined { workspace_id, user_id, .. }
            | Self::WorkspaceLeft { workspace_id, user_id } => {
                Some(Subject::Member(*workspace_id, *user_id))
            }
            _ => None,
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

    /// The same event with the frame that came with it.
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
