use parlance_domain::{
    ConversationId, Member, ReadState, SessionId, Summary, UserId, Workspace, WorkspaceId,
};
use serde::{Deserialize, Serialize};

use super::Frame;
use crate::ports::{Topic, store::Subject};

/// What nodes tell each other after a commit. Carries the frame for the sockets ready-made, so that no node encodes it again;
/// it is left out when the event is serialised, because a bus carries it beside the event as it is.
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

/// How the same thing is told wherever it is found out. What two nodes, or an event and a look, tell of one state has to be equal
/// to the byte: `Told` compares frames.
impl Event {
    /// Somebody can read a conversation, as the summary shows it to them.
    pub(crate) fn joined(user_id: UserId, summary: &Summary, access_rev: u64) -> Self {
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
    pub(crate) fn left(conversation_id: ConversationId, user_id: UserId, access_rev: u64) -> Self {
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

    /// For a workspace: somebody's membership shows something else, a role or a name.
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

    /// The subject whose state it shows, to all whom that concerns.
    pub(super) const fn about(&self) -> Option<Subject> {
        match self {
            Self::Workspace { about, .. } | Self::Conversation { about, .. } => *about,
            Self::WorkspaceDeleted { workspace_id, .. } => Some(Subject::Workspace(*workspace_id)),
            _ => None,
        }
    }

    /// The subject that it may have changed, if the store can be asked how that is now.
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
