use async_trait::async_trait;
use parlance_domain::{
    ChannelMember, ChannelName, Conversation, ConversationAction, ConversationId, ReadState,
    Summary, Timestamp, Topic, UserId, Workspace, WorkspaceId,
};

use super::{Head, Page, PageQuery};
use crate::{Error, Result};

/// The words of the conflict over a channel's name.
pub const NAME_TAKEN: &str = "a channel of that name exists already";
/// The words of the conflict over `general`.
pub const GENERAL_STAYS: &str = "general can be neither left nor deleted";

/// The refusal of a DM with oneself.
pub fn dm_with_oneself() -> Error {
    Error::refused("user_id", "invalid", "must be somebody else")
}

/// Channels, DMs, who is in them and how far they have read. `NotFound` for what the actor may not read.
///
/// Every change of who may read a conversation adds one to its `access_rev` in the same commit.
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait Conversations: Send + Sync {
    /// Creates a channel with the actor in it. `Conflict` if the workspace has one of that name.
    async fn create_channel(&self, actor: UserId, new: NewChannel) -> Result<Entry>;

    /// Finds the pair's one DM, or creates it. Both must be in the workspace.
    async fn open_dm(&self, actor: UserId, new: NewDm) -> Result<OpenedDm>;

    /// The workspace's channels that the actor may read, oldest first.
    async fn channels(
        &self,
        actor: UserId,
        workspace: WorkspaceId,
        page: PageQuery,
    ) -> Result<Page<Summary>>;

    /// The actor's DMs in the workspace, oldest first.
    async fn dms(
        &self,
        actor: UserId,
        workspace: WorkspaceId,
        page: PageQuery,
    ) -> Result<Page<Summary>>;

    /// All conversations that the actor is in, oldest first.
    async fn conversations(&self, actor: UserId, page: PageQuery) -> Result<Page<Summary>>;

    /// One conversation as the actor sees it.
    async fn summary(&self, actor: UserId, id: ConversationId) -> Result<Summary>;

    /// Everything that a `hello` tells, read at one point in time, most recently active conversation first.
    async fn snapshot(&self, actor: UserId) -> Result<Snapshot>;

    /// Lets the actor into a channel. `Conflict` never: who is in already stays in.
    async fn join_channel(&self, actor: UserId, id: ConversationId, at: Timestamp)
    -> Result<Entry>;

    /// Lets somebody of the workspace into a channel.
    async fn add_channel_member(
        &self,
        actor: UserId,
        id: ConversationId,
        user: UserId,
        at: Timestamp,
    ) -> Result<Entry>;

    /// Ends somebody's membership of a channel, maybe the actor's own; returns the channel's new count of changes of access.
    /// `Conflict` for `general`.
    async fn remove_channel_member(
        &self,
        actor: UserId,
        id: ConversationId,
        user: UserId,
    ) -> Result<u64>;

    /// Who is in a channel, oldest membership first.
    async fn channel_members(
        &self,
        actor: UserId,
        id: ConversationId,
        page: PageQuery,
    ) -> Result<Page<ChannelMember>>;

    /// Deletes a channel with its messages. `Conflict` for `general`.
    async fn delete_channel(&self, actor: UserId, id: ConversationId, at: Timestamp) -> Result<()>;

    /// Moves the actor's read mark forward, never back and never beyond the last message.
    async fn mark_read(&self, actor: UserId, id: ConversationId, seq: u64) -> Result<ReadMark>;

    /// Whether the actor may do that now.
    async fn permit(
        &self,
        actor: UserId,
        id: ConversationId,
        action: ConversationAction,
    ) -> Result<()>;
}

/// A channel to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewChannel {
    /// Which.
    pub id: ConversationId,
    /// Where.
    pub workspace_id: WorkspaceId,
    /// What it is called.
    pub name: ChannelName,
    /// What it is about.
    pub topic: Topic,
    /// Whether its members alone can read it.
    pub private: bool,
    /// When.
    pub at: Timestamp,
}

/// A DM to be, unless the pair has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewDm {
    /// Its id if it is created.
    pub id: ConversationId,
    /// Where.
    pub workspace_id: WorkspaceId,
    /// The other side.
    pub peer: UserId,
    /// When.
    pub at: Timestamp,
}

/// Somebody's way into a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The conversation as that person sees it.
    pub summary: Summary,
    /// When they came in.
    pub membership: ChannelMember,
    /// The conversation's count of changes of access.
    pub access_rev: u64,
    /// False if they were in already, and nothing changed.
    pub entered: bool,
}

/// A DM, found or created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenedDm {
    /// As the actor sees it.
    pub mine: Summary,
    /// As the other side sees it, if it was created now.
    pub theirs: Option<Summary>,
    /// The conversation's count of changes of access.
    pub access_rev: u64,
}

/// What a `hello` tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The name of the store's history. Another one after a restore.
    pub epoch: String,
    /// The person's workspaces.
    pub workspaces: Vec<Workspace>,
    /// The person's conversations.
    pub conversations: Vec<SnapshotEntry>,
}

/// One conversation of a [`Snapshot`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotEntry {
    /// As the person sees it.
    pub summary: Summary,
    /// Its count of changes of access.
    pub access_rev: u64,
}

impl SnapshotEntry {
    /// Where the conversation stands.
    pub const fn head(&self) -> Head {
        let Conversation { id, rev, .. } = self.summary.conversation;
        Head { conversation_id: id, rev, access_rev: self.access_rev }
    }
}

/// A read mark after it was asked to move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadMark {
    /// Where it is now.
    pub read: ReadState,
    /// Whether it moved.
    pub advanced: bool,
}
