//! Channels and DMs.

use serde::Serialize;

use crate::{ConversationId, Timestamp, User, UserId, WorkspaceId};

/// What a conversation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum ConversationKind {
    /// Named, public or private, for any number of people.
    Channel,
    /// Between two people, one for each pair and workspace.
    Dm,
}

/// A conversation as everybody sees it: the part that events and replays carry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Conversation {
    /// Which.
    pub id: ConversationId,
    /// Of which workspace.
    pub workspace_id: WorkspaceId,
    /// Channel or DM.
    pub kind: ConversationKind,
    /// A channel's name; a DM has none.
    pub name: Option<String>,
    /// What a channel is about, maybe empty.
    pub topic: Option<String>,
    /// Whether its members alone can read it.
    pub private: bool,
    /// When it was archived. Nothing archives yet.
    pub archived_at: Option<Timestamp>,
    /// The two people of a DM, in the order of their ids; null for a channel, whose members are listed by page.
    pub member_ids: Option<Vec<UserId>>,
    /// Grows by one with every durable change.
    pub rev: u64,
    /// The newest message's place; 0 where there is none.
    pub last_seq: u64,
    /// When the newest message was sent.
    pub last_message_at: Option<Timestamp>,
}

/// How far one person has read a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ReadState {
    /// All up to this `seq` is read.
    pub read_seq: u64,
    /// Messages of others after it that are not deleted, counted exactly up to 100.
    pub unread_count: u64,
    /// Unread messages that mention the person. Nothing mentions yet.
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
    /// What all see.
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
    /// Who.
    pub user_id: UserId,
    /// When they came in.
    pub joined_at: Timestamp,
    /// The person.
    pub user: User,
}
