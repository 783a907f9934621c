//! The JSON of events, encoded once and shared by every receiver.

use bytes::Bytes;
use parlance_domain::{
    ChangeKind, Conversation, ConversationId, Member, Message, ReadState, Rev, SessionId, Summary,
    Timestamp, UserId, Workspace, WorkspaceId,
};
use serde::Serialize;

use crate::ports::store::{Committed, ReplayPage};

/// A frame's initial capacity in bytes: enough for a message of a few sentences.
const USUAL: usize = 1024;

/// One JSON object, ready for any number of sockets. Cloning it copies nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Frame(Bytes);

impl Frame {
    /// The object's bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.0
    }

    /// A frame that another node encoded.
    pub const fn from_encoded(bytes: Bytes) -> Self {
        Self(bytes)
    }

    /// Encodes any object. Read models always encode; if one did not, the frame would be an empty object, which clients
    /// ignore.
    pub fn encode(object: &impl Serialize) -> Self {
        Self::encode_within(USUAL, object)
    }

    /// Encodes an object that usually fits in this many bytes: growing the buffer costs more than encoding.
    pub fn encode_within(usual: usize, object: &impl Serialize) -> Self {
        let mut json = Vec::with_capacity(usual);
        match serde_json::to_writer(&mut json, object) {
            Ok(()) => Self(json.into()),
            Err(error) => {
                tracing::error!(%error, "an event could not be encoded");
                Self(Bytes::from_static(b"{}"))
            }
        }
    }

    /// A durable change.
    pub fn changed(
        kind: ChangeKind,
        rev: Rev,
        subject: &Committed,
        actor_id: UserId,
        at: Timestamp,
    ) -> Self {
        #[derive(Serialize)]
        struct Durable<'a> {
            #[serde(rename = "type")]
            kind: &'static str,
            conversation_id: ConversationId,
            rev: Rev,
            data: Data<'a>,
        }
        #[derive(Serialize)]
        struct Data<'a> {
            #[serde(skip_serializing_if = "Option::is_none")]
            message: Option<&'a Message>,
            #[serde(skip_serializing_if = "Option::is_none")]
            conversation: Option<&'a Conversation>,
            actor_id: UserId,
            at: Timestamp,
            change: What,
        }
        #[derive(Serialize)]
        struct What {
            kind: ChangeKind,
        }
        let (conversation_id, message, conversation) = match subject {
            Committed::Message(message) => (message.conversation_id, Some(message), None),
            Committed::Conversation(conversation) => (conversation.id, None, Some(conversation)),
        };
        let data = Data { message, conversation, actor_id, at, change: What { kind } };
        Self::encode(&Durable { kind: kind.event_type(), conversation_id, rev, data })
    }

    /// `conversation.joined`.
    pub fn joined(summary: &Summary) -> Self {
        #[derive(Serialize)]
        struct Data<'a> {
            conversation: &'a Summary,
        }
        Self::of_conversation(
            "conversation.joined",
            summary.conversation.id,
            Data { conversation: summary },
        )
    }

    /// `conversation.left`.
    pub fn left(conversation_id: ConversationId) -> Self {
        Self::of_conversation(
            "conversation.left",
            conversation_id,
            InConversation { conversation_id, user_id: None },
        )
    }

    /// `conversation.deleted`.
    pub fn deleted(conversation_id: ConversationId) -> Self {
        Self::of_conversation(
            "conversation.deleted",
            conversation_id,
            InConversation { conversation_id, user_id: None },
        )
    }

    /// `conversation.member_joined`.
    pub fn member_joined(conversation_id: ConversationId, user_id: UserId) -> Self {
        let data = InConversation { conversation_id, user_id: Some(user_id) };
        Self::of_conversation("conversation.member_joined", conversation_id, data)
    }

    /// `conversation.member_left`.
    pub fn member_left(conversation_id: ConversationId, user_id: UserId) -> Self {
        let data = InConversation { conversation_id, user_id: Some(user_id) };
        Self::of_conversation("conversation.member_left", conversation_id, data)
    }

    /// `read.updated`.
    pub fn read_updated(conversation_id: ConversationId, read: ReadState) -> Self {
        #[derive(Serialize)]
        struct Data {
            conversation_id: ConversationId,
            #[serde(flatten)]
            read: ReadState,
        }
        Self::of_conversation("read.updated", conversation_id, Data { conversation_id, read })
    }

    /// `typing.started`.
    pub fn typing_started(
        conversation_id: ConversationId,
        user_id: UserId,
        expires_in_ms: u64,
    ) -> Self {
        #[derive(Serialize)]
        struct Data {
            user_id: UserId,
            expires_in_ms: u64,
        }
        Self::of_conversation("typing.started", conversation_id, Data { user_id, expires_in_ms })
    }

    /// `typing.stopped`.
    pub fn typing_stopped(conversation_id: ConversationId, user_id: UserId) -> Self {
        #[derive(Serialize)]
        struct Data {
            user_id: UserId,
        }
        Self::of_conversation("typing.stopped", conversation_id, Data { user_id })
    }

    /// `workspace.updated`, for all members: without role and join code, which differ between them.
    pub fn workspace_updated(workspace: &Workspace) -> Self {
        #[derive(Serialize)]
        struct Data<'a> {
            workspace: Shared<'a>,
        }
        #[derive(Serialize)]
        struct Shared<'a> {
            id: WorkspaceId,
            name: &'a str,
            created_at: Timestamp,
        }
        let Workspace { id, name, created_at, .. } = workspace;
        let workspace = Shared { id: *id, name, created_at: *created_at };
        Self::state("workspace.updated", Data { workspace })
    }

    /// `workspace.deleted`.
    pub fn workspace_deleted(workspace_id: WorkspaceId) -> Self {
        #[derive(Serialize)]
        struct Data {
            workspace_id: WorkspaceId,
        }
        Self::state("workspace.deleted", Data { workspace_id })
    }

    /// `member.joined`.
    pub fn workspace_member_joined(member: &Member) -> Self {
        Self::state("member.joined", MemberData::new(member))
    }

    /// `member.updated`.
    pub fn workspace_member_updated(member: &Member) -> Self {
        Self::state("member.updated", MemberData::new(member))
    }

    /// `member.left`.
    pub fn workspace_member_left(workspace_id: WorkspaceId, user_id: UserId) -> Self {
        Self::state("member.left", MemberData { workspace_id, user_id, member: None })
    }

    /// `session.revoked`.
    pub fn session_revoked(session_id: SessionId) -> Self {
        #[derive(Serialize)]
        struct Data {
            session_id: SessionId,
        }
        Self::state("session.revoked", Data { session_id })
    }

    /// `server.draining`.
    pub fn draining(reconnect_after_ms: u64) -> Self {
        #[derive(Serialize)]
        struct Data {
            reconnect_after_ms: u64,
        }
        Self::state("server.draining", Data { reconnect_after_ms })
    }

    fn state(kind: &'static str, data: impl Serialize) -> Self {
        Self::encode(&Envelope { kind, conversation_id: None, data })
    }

    fn of_conversation(
        kind: &'static str,
        conversation_id: ConversationId,
        data: impl Serialize,
    ) -> Self {
        Self::encode(&Envelope { kind, conversation_id: Some(conversation_id), data })
    }
}

/// A replay page as its own frame.
pub fn replay_frame(page: &ReplayPage) -> Frame {
    #[derive(Serialize)]
    struct Replay<'a> {
        #[serde(rename = "type")]
        kind: &'static str,
        conversation_id: ConversationId,
        from_rev: Rev,
        to_rev: Rev,
        complete: bool,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        reset: bool,
        data: Data<'a>,
    }
    /// What a replay frame carries besides its range.
    #[derive(Serialize)]
    struct Data<'a> {
        /// The changed messages, in rev order.
        messages: &'a [Message],
        /// The conversation as it is now.
        conversation: &'a Conversation,
    }
    Frame::encode(&Replay {
        kind: "replay",
        conversation_id: page.conversation.id,
        from_rev: page.from_rev,
        to_rev: page.to_rev,
        complete: page.complete,
        reset: page.reset,
        data: Data { messages: &page.messages, conversation: &page.conversation },
    })
}

#[derive(Serialize)]
struct Envelope<T> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    conversation_id: Option<ConversationId>,
    data: T,
}

#[derive(Serialize)]
struct InConversation {
    conversation_id: ConversationId,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<UserId>,
}

#[derive(Serialize)]
struct MemberData<'a> {
    workspace_id: WorkspaceId,
    user_id: UserId,
    #[serde(skip_serializing_if = "Option::is_none")]
    member: Option<&'a Member>,
}

impl<'a> MemberData<'a> {
    fn new(member: &'a Member) -> Self {
        Self { workspace_id: member.workspace_id, user_id: member.user_id, member: Some(member) }
    }
}
