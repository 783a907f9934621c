//! Channels and DMs.

use serde::{Deserialize, Serialize};

use crate::{ConversationId, Rev, Seq, Timestamp, User, UserId, WorkspaceId};

/// What a conversation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum ConversationKind {
    /// Named, public or private, for any number of people.
    Channel,
    /// Between two people, one for each pair and workspace.
    Dm,
}

impl ConversationKind {
    /// Reads the name that the store and the wire have for it.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "channel" => Some(Self::Channel),
            "dm" => Some(Self::Dm),
            _ => None,
        }
    }
}

/// A conversation as everybody sees it: the part that events and replays carry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Conversation {
    /// The conversation's id; a channel's id is the same.
    pub id: ConversationId,
    /// The workspace it belongs to, for ever.
    pub workspace_id: WorkspaceId,
    /// Channel or DM.
    pub kind: ConversationKind,
    /// A channel's name; a DM has none.
    #[cfg_attr(feature = "schema", schema(required))]
    pub name: Option<String>,
    /// What a channel is about, maybe empty; null for a DM.
    #[cfg_attr(feature = "schema", schema(required))]
    pub topic: Option<String>,
    /// Whether only its members can read it. True for a DM.
    pub private: bool,
    /// When it was archived. Archiving is not built yet: always null.
    #[cfg_attr(feature = "schema", schema(required))]
    pub archived_at: Option<Timestamp>,
    /// The two people of a DM, in the order of their ids; null for a channel, whose members are listed by page.
    #[cfg_attr(feature = "schema", schema(required))]
    pub member_ids: Option<Vec<UserId>>,
    /// Number of durable changes so far: each adds one.
    pub rev: Rev,
    /// The `seq` of the newest message; 0 if there is none.
    pub last_seq: Seq,
    /// When the newest message was sent; null if there is none.
    #[cfg_attr(feature = "schema", schema(required))]
    pub last_message_at: Option<Timestamp>,
}

/// How far one person has read a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ReadState {
    /// Everything up to and including this `seq` is read.
    pub read_seq: Seq,
    /// Messages of others after it that are not deleted, counted exactly up to 100.
    pub unread_count: u64,
    /// Unread messages that mention the person. Mentions are not built yet: always 0.
    pub mention_count: u64,
}

impl ReadState {
    /// Unread messages are counted exactly up to this many.
    pub const COUNTED: u64 = 100;
}

/// A conversation as one person sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Summary {
    /// What everybody sees.
    #[serde(flatten)]
    pub conversation: Conversation,
    /// How far the person has read.
    #[serde(flatten)]
    pub read: ReadState,
    /// Whether the person may send here now.
    pub can_post: bool,
    /// Whether the person is in it: a public channel can be read from outside.
    pub joined: bool,
}

/// One person's membership of a channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ChannelMember {
    /// The member's id, the same as in `user`.
    pub user_id: UserId,
    /// When they joined.
    pub joined_at: Timestamp,
    /// The member as others see them.
    pub user: User,
}
