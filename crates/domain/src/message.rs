//! Messages and what can change about them.

use serde::Serialize;

use crate::{ConversationId, MessageId, Rev, Seq, Timestamp, UserId, WorkspaceId};

/// A message in its current state. A deleted one keeps ids and times, and has neither text nor reactions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Message {
    /// The message's id.
    pub id: MessageId,
    /// The conversation it was sent to.
    pub conversation_id: ConversationId,
    /// The conversation's workspace.
    pub workspace_id: WorkspaceId,
    /// Its position in the conversation: from 1, without gaps, never reused.
    pub seq: Seq,
    /// The conversation's revision at this message's last change.
    pub rev: Rev,
    /// What wrote it. Always `user`.
    pub kind: MessageKind,
    /// Who wrote it.
    #[cfg_attr(feature = "schema", schema(required))]
    pub author_id: Option<UserId>,
    /// What it says; empty once deleted.
    pub text: String,
    /// Threads are not built yet: always null.
    #[cfg_attr(feature = "schema", schema(required))]
    pub thread_root_id: Option<MessageId>,
    /// Always 0, for the same reason.
    pub reply_count: u64,
    /// Always null, for the same reason.
    #[cfg_attr(feature = "schema", schema(required))]
    pub last_reply_at: Option<Timestamp>,
    /// Always empty, for the same reason.
    pub reply_user_ids: Vec<UserId>,
    /// In the order in which each emoji was first used; at most 20 of them.
    pub reactions: Vec<Reaction>,
    /// Mentions are not built yet: always empty.
    pub mentions: Mentions,
    /// Always empty.
    #[cfg_attr(feature = "schema", schema(value_type = Vec<String>, max_items = 0))]
    pub attachments: [(); 0],
    /// Pins are not built yet: always null.
    #[cfg_attr(feature = "schema", schema(required))]
    pub pinned_at: Option<Timestamp>,
    /// Always null, for the same reason.
    #[cfg_attr(feature = "schema", schema(required))]
    pub pinned_by: Option<UserId>,
    /// The id that its author gave to the send.
    pub client_msg_id: String,
    /// When the send was accepted.
    pub created_at: Timestamp,
    /// When the text last changed; null if it never did.
    #[cfg_attr(feature = "schema", schema(required))]
    pub edited_at: Option<Timestamp>,
    /// When it was deleted; null if it was not.
    #[cfg_attr(feature = "schema", schema(required))]
    pub deleted_at: Option<Timestamp>,
    /// Who deleted it; null if it was not.
    #[cfg_attr(feature = "schema", schema(required))]
    pub deleted_by: Option<UserId>,
}

impl Message {
    /// The most different emoji on one message.
    pub const MAX_EMOJI: usize = 20;
    /// The most people a reaction names, the first ones; `count` counts all.
    pub const REACTION_USERS: usize = 50;

    /// A blank for a store to fill in: no text, and nothing has happened to it.
    pub const fn blank(
        id: MessageId,
        conversation_id: ConversationId,
        workspace_id: WorkspaceId,
    ) -> Self {
        Self {
            id,
            conversation_id,
            workspace_id,
            seq: Seq::ZERO,
            rev: Rev::ZERO,
            kind: MessageKind::User,
            author_id: None,
            text: String::new(),
            thread_root_id: None,
            reply_count: 0,
            last_reply_at: None,
            reply_user_ids: Vec::new(),
            reactions: Vec::new(),
            mentions: Mentions { user_ids: Vec::new(), everyone: false },
            attachments: [],
            pinned_at: None,
            pinned_by: None,
            client_msg_id: String::new(),
            created_at: Timestamp::from_millis(0),
            edited_at: None,
            deleted_at: None,
            deleted_by: None,
        }
    }
}

/// What wrote a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum MessageKind {
    /// A person.
    User,
}

/// One emoji under a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Reaction {
    /// The emoji, or the `:name:` of one.
    pub emoji: String,
    /// How many people reacted with it.
    pub count: u64,
    /// The first 50 of them.
    pub user_ids: Vec<UserId>,
}

/// The people that a message addresses.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Mentions {
    /// People.
    pub user_ids: Vec<UserId>,
    /// The whole conversation.
    pub everyone: bool,
}

/// What a durable event says has happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// A message was sent.
    Created,
    /// A message's text changed.
    Edited,
    /// A message was deleted.
    Deleted,
    /// Somebody added a reaction.
    ReactionAdded,
    /// Somebody removed a reaction.
    ReactionRemoved,
    /// A channel has another name.
    Renamed,
    /// A channel has another topic.
    TopicChanged,
}

impl ChangeKind {
    /// The event's type on the wire.
    pub const fn event_type(self) -> &'static str {
        match self {
            Self::Created => "message.created",
            Self::Edited | Self::ReactionAdded | Self::ReactionRemoved => "message.updated",
            Self::Deleted => "message.deleted",
            Self::Renamed | Self::TopicChanged => "conversation.updated",
        }
    }
}
