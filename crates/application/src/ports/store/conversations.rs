//! The store's part of channels, DMs, their members and read marks. Invariant: every change of who may read a
//! conversation adds one to its `access_rev` in the same commit, so that other nodes notice it.

use async_trait::async_trait;
use parlance_domain::{
    AccessRev, ChannelMember, ChannelName, Conversation, ConversationAction, ConversationId,
    ReadState, Seq, Summary, Timestamp, Topic, UserId, Workspace, WorkspaceId,
};

use super::{Head, Page, PageQuery, Principal};
use crate::{Error, Result};

/// Message of the conflict over a channel's name.
pub const NAME_TAKEN: &str = "a channel of that name exists already";
/// Message of the conflict over `general`.
pub const GENERAL_STAYS: &str = "general can be neither left nor deleted";

/// The refusal of a DM with oneself.
pub fn dm_with_oneself() -> Error {
    Error::refused("user_id", "invalid", "must be somebody else")
}

/// Channels, DMs, who is in them and how far they have read.
///
/// Common errors: `NotFound` for what does not exist or the actor may not read; `Forbidden` for what they may read, but
/// not do. Lists have at most [`MAX_PAGE`](super::MAX_PAGE) items a page, and are `BadRequest` for a bad cursor.
///
/// Every change of who may read a conversation adds one to its `access_rev` in the same commit.
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait Conversations: Send + Sync {
    /// Creates a channel with the actor in it. `Conflict` if the workspace has one of that name.
    async fn create_channel(&self, by: Principal, new: NewChannel) -> Result<Entry>;

    /// Finds the pair's one DM, or creates it: `NotFound` then unless both are in the workspace. `Validation` for
    /// oneself.
    async fn open_dm(&self, by: Principal, new: NewDm) -> Result<OpenedDm>;

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

    /// All conversations that the actor is in, of the workspaces that they are in, oldest first.
    async fn conversations(&self, actor: UserId, page: PageQuery) -> Result<Page<Summary>>;

    /// One conversation as the actor sees it.
    async fn summary(&self, actor: UserId, id: ConversationId) -> Result<Summary>;

    /// Everything the answer to a `hello` holds, read at one moment, most recently active conversation first. Not
    /// paged.
    async fn snapshot(&self, actor: UserId) -> Result<Snapshot>;

    /// Adds the actor to a channel. Idempotent: `entered` is false for a member.
    async fn join_channel(&self, by: Principal, id: ConversationId, at: Timestamp)
    -> Result<Entry>;

    /// Adds a member of the workspace to a channel. Idempotent: `entered` is false for a member. `NotFound` for
    /// somebody outside the workspace.
    async fn add_channel_member(
        &self,
        by: Principal,
        id: ConversationId,
        user: UserId,
        at: Timestamp,
    ) -> Result<Entry>;

    /// Removes somebody from a channel, possibly the actor; returns the new `access_rev`. `NotFound` for somebody else
    /// who is not in it, `Conflict` for `general`.
    async fn remove_channel_member(
        &self,
        by: Principal,
        id: ConversationId,
        user: UserId,
    ) -> Result<AccessRev>;

    /// The channel's members, oldest membership first. `NotFound` for a DM.
    async fn channel_members(
        &self,
        actor: UserId,
        id: ConversationId,
        page: PageQuery,
    ) -> Result<Page<ChannelMember>>;

    /// Deletes a channel with its messages. `Conflict` for `general`.
    async fn delete_channel(&self, by: Principal, id: ConversationId, at: Timestamp) -> Result<()>;

    /// Moves the actor's read mark forward, never back and never beyond the last message.
    async fn mark_read(&self, actor: UserId, id: ConversationId, seq: Seq) -> Result<ReadMark>;

    /// Whether the actor may do that now: one of the common errors if not.
    async fn permit(
        &self,
        actor: UserId,
        id: ConversationId,
        action: ConversationAction,
    ) -> Result<()>;
}

/// A channel to create.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewChannel {
    /// The new channel's id.
    pub id: ConversationId,
    /// Its workspace.
    pub workspace_id: WorkspaceId,
    /// Its name, unique among the workspace's channels.
    pub name: ChannelName,
    /// What it is about.
    pub topic: Topic,
    /// Whether only its members can read it.
    pub private: bool,
    /// When it is created, and the actor joins it.
    pub at: Timestamp,
}

/// A DM to create, unless the pair has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewDm {
    /// Its id if it is created.
    pub id: ConversationId,
    /// Its workspace.
    pub workspace_id: WorkspaceId,
    /// The other person.
    pub peer: UserId,
    /// When it is created.
    pub at: Timestamp,
}

/// The outcome of adding somebody to a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The conversation as that person sees it.
    pub summary: Summary,
    /// Their membership, possibly an older one.
    pub membership: ChannelMember,
    /// The conversation's `access_rev`, this change included.
    pub access_rev: AccessRev,
    /// False if they were in it already, and nothing changed.
    pub entered: bool,
}

/// A DM, found or created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenedDm {
    /// As the actor sees it.
    pub mine: Summary,
    /// As the other person sees it; none if it already existed.
    pub theirs: Option<Summary>,
    /// The conversation's `access_rev`.
    pub access_rev: AccessRev,
}

/// What the answer to a `hello` holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The name of the store's history, which changes on a restore.
    pub epoch: String,
    /// The person's workspaces, oldest membership first.
    pub workspaces: Vec<Workspace>,
    /// The person's conversations.
    pub conversations: Vec<SnapshotEntry>,
}

/// One conversation of a [`Snapshot`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotEntry {
    /// As the person sees it.
    pub summary: Summary,
    /// Its `access_rev`.
    pub access_rev: AccessRev,
}

impl SnapshotEntry {
    /// The conversation's head.
    pub const fn head(&self) -> Head {
        let Conversation { id, rev, .. } = self.summary.conversation;
        Head { conversation_id: id, rev, access_rev: self.access_rev }
    }
}

/// A read mark, after a request to move it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadMark {
    /// Where it is now.
    pub read: ReadState,
    /// Whether it moved.
    pub advanced: bool,
}
