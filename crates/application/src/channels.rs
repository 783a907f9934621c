//! Use cases of channels, DMs and read marks. Permissions and invariants are checked by the store, inside the
//! transaction of the write; here a change is committed, then published ([`Publisher`]). The events that tell it are
//! made at the end of this file.

use std::sync::Arc;

use parlance_domain::{
    AccessRev, ChannelMember, ChannelName, ConversationAction, ConversationId, ReadState, Seq,
    Summary, Topic, UserId, WorkspaceId,
};
use tokio::time::Instant;

use crate::{
    Caller, Error, Result,
    live::{Event, Sequencer},
    ports::{
        Ambient,
        store::{self, Change, ChannelUpdate, Entry, NewChannel, NewDm, Page, PageQuery, Write},
    },
    publisher::Publisher,
    rate_limit::WriteLimit,
};

/// Channels, DMs, and how far people have read.
///
/// Common errors: `NotFound`: the conversation or workspace does not exist, or the caller may not read it. `Forbidden`:
/// they may read it, but not do that. `RateLimited`: a change beyond the caller's share. `Unavailable` and `Internal`:
/// the outcome is unknown; the call may be repeated.
/// `BadRequest` for a page's cursor that is not one of ours.
///
/// When a change returns, an end of access has taken effect on this node's sockets. So has a new access with a store of
/// the node's own; with a shared one, it follows once the store has said who may hear of it.
pub struct Channels {
    store: Arc<dyn store::Conversations>,
    ambient: Arc<dyn Ambient>,
    sequencer: Sequencer,
    publisher: Publisher,
    limit: Arc<WriteLimit>,
}

/// The outcome of finding or making something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Made<T> {
    /// This call made it.
    New(T),
    /// It already existed.
    Found(T),
}

impl<T> Made<T> {
    /// The thing, whoever made it.
    pub fn into_inner(self) -> T {
        match self {
            Self::New(it) | Self::Found(it) => it,
        }
    }

    fn of(it: T, is_new: bool) -> Self {
        if is_new { Self::New(it) } else { Self::Found(it) }
    }
}

impl Channels {
    pub(crate) fn new(
        store: Arc<dyn store::Conversations>,
        ambient: Arc<dyn Ambient>,
        sequencer: Sequencer,
        publisher: Publisher,
        limit: Arc<WriteLimit>,
    ) -> Self {
        Self { store, ambient, sequencer, publisher, limit }
    }

    /// Creates a channel with the caller in it. `Conflict` if the workspace has a channel of that name; after an
    /// unknown outcome that may be this one.
    pub async fn create(
        &self,
        caller: &Caller,
        workspace_id: WorkspaceId,
        name: ChannelName,
        topic: Topic,
        private: bool,
    ) -> Result<Summary> {
        let id = ConversationId(self.ambient.uuid());
        let new = NewChannel { id, workspace_id, name, topic, private, at: self.ambient.now() };
        let (store, by) = (self.store.clone(), caller.principal());
        self.publisher
            .change(caller, async move {
                let entry = store.create_channel(by, new).await?;
                let events = entered(&entry);
                Ok((entry.summary, events))
            })
            .await
    }

    /// Finds the pair's one DM in the workspace, or creates it. `Validation` for a DM with
    /// oneself, `NotFound` for a `peer` who is not in the workspace when it would be created.
    pub async fn open_dm(
        &self,
        caller: &Caller,
        workspace_id: WorkspaceId,
        peer: UserId,
    ) -> Result<Made<Summary>> {
        let id = ConversationId(self.ambient.uuid());
        let new = NewDm { id, workspace_id, peer, at: self.ambient.now() };
        let (store, by) = (self.store.clone(), caller.principal());
        self.publisher
            .change(caller, async move {
                let opened = store.open_dm(by, new).await?;
                let mut events = Vec::new();
                if let Some(theirs) = &opened.theirs {
                    events.push(Event::joined(by.user, &opened.mine, opened.access_rev));
                    events.push(Event::joined(peer, theirs, opened.access_rev));
                }
                let dm = Made::of(opened.mine, opened.theirs.is_some());
                Ok((dm, events))
            })
            .await
    }

    /// The workspace's channels that the caller may read, oldest first.
    pub async fn list(
        &self,
        caller: &Caller,
        workspace: WorkspaceId,
        page: PageQuery,
    ) -> Result<Page<Summary>> {
        self.store.channels(caller.id(), workspace, page).await
    }

    /// The caller's DMs in the workspace, oldest first.
    pub async fn dms(
        &self,
        caller: &Caller,
        workspace: WorkspaceId,
        page: PageQuery,
    ) -> Result<Page<Summary>> {
        self.store.dms(caller.id(), workspace, page).await
    }

    /// All conversations that the caller is in, of all their workspaces, oldest first.
    pub async fn conversations(&self, caller: &Caller, page: PageQuery) -> Result<Page<Summary>> {
        self.store.conversations(caller.id(), page).await
    }

    /// One conversation as the caller sees it.
    pub async fn get(&self, caller: &Caller, id: ConversationId) -> Result<Summary> {
        self.store.summary(caller.id(), id).await
    }

    /// Adds the caller to a channel; idempotent. A DM is `Forbidden`.
    pub async fn join(&self, caller: &Caller, id: ConversationId) -> Result<Summary> {
        let (store, by, at) = (self.store.clone(), caller.principal(), self.ambient.now());
        self.publisher
            .change(caller, async move {
                let entry = store.join_channel(by, id, at).await?;
                let events = entered(&entry);
                Ok((entry.summary, events))
            })
            .await
    }

    /// Adds a member of the workspace to a channel; idempotent. `NotFound` for somebody who is not in the workspace.
    pub async fn add_member(
        &self,
        caller: &Caller,
        id: ConversationId,
        user: UserId,
    ) -> Result<Made<ChannelMember>> {
        let (store, by, at) = (self.store.clone(), caller.principal(), self.ambient.now());
        self.publisher
            .change(caller, async move {
                let entry = store.add_channel_member(by, id, user, at).await?;
                let events = entered(&entry);
                Ok((Made::of(entry.membership, entry.entered), events))
            })
            .await
    }

    /// Removes somebody from a channel, possibly the caller. `NotFound` for somebody else who is not in it, `Conflict`
    /// for `general`.
    pub async fn remove_member(
        &self,
        caller: &Caller,
        id: ConversationId,
        user: UserId,
    ) -> Result<()> {
        let (store, by) = (self.store.clone(), caller.principal());
        self.publisher
            .change(caller, async move {
                let access_rev = store.remove_channel_member(by, id, user).await?;
                Ok(((), went_out(id, user, access_rev).into()))
            })
            .await
    }

    /// The channel's members, oldest membership first. A DM is `NotFound`.
    pub async fn members(
        &self,
        caller: &Caller,
        id: ConversationId,
        page: PageQuery,
    ) -> Result<Page<ChannelMember>> {
        self.store.channel_members(caller.id(), id, page).await
    }

    /// Changes a channel's name or topic: a durable change, ordered with its messages. `Conflict` if the name is taken,
    /// `Unauthenticated` if the caller's session has ended. `Unavailable` also if too many writes wait for the channel,
    /// or if the change was made but could not be read back.
    pub async fn update(
        &self,
        caller: &Caller,
        id: ConversationId,
        name: Option<ChannelName>,
        topic: Option<Topic>,
    ) -> Result<Summary> {
        self.limit.take(caller.id(), Instant::now())?;
        let (by, at) = (caller.principal(), self.ambient.now());
        let write = Write { by, at, change: Change::UpdateChannel(ChannelUpdate { name, topic }) };
        self.sequencer.submit(id, write).await?;
        // The change is committed even if the caller has lost access since: any other error would suggest it is not.
        let read = self.store.summary(caller.id(), id).await;
        read.map_err(|error| match error {
            Error::Internal { .. } | Error::Unavailable { .. } => error,
            other => Error::unavailable(format!("changed, and not read again: {other}")),
        })
    }

    /// Deletes a channel with its messages. `Conflict` for `general`.
    pub async fn delete(&self, caller: &Caller, id: ConversationId) -> Result<()> {
        let (store, by, at) = (self.store.clone(), caller.principal(), self.ambient.now());
        self.publisher
            .change(caller, async move {
                store.delete_channel(by, id, at).await?;
                Ok(((), vec![Event::deleted(id)]))
            })
            .await
    }

    /// Moves the caller's read mark forward to `seq` or the newest message, whichever is earlier. It never moves back.
    pub async fn mark_read(
        &self,
        caller: &Caller,
        id: ConversationId,
        seq: Seq,
    ) -> Result<ReadState> {
        let (store, actor) = (self.store.clone(), caller.id());
        self.publisher
            .advance(async move {
                let mark = store.mark_read(actor, id, seq).await?;
                let told = mark.advanced.then(|| Event::read(actor, id, mark.read));
                Ok((mark.read, told.into_iter().collect()))
            })
            .await
    }

    /// Whether the caller may do that now: one of the common errors if not.
    pub async fn permit(
        &self,
        caller: &Caller,
        id: ConversationId,
        action: ConversationAction,
    ) -> Result<()> {
        self.store.permit(caller.id(), id, action).await
    }
}

/// Events of an addition to a conversation: for the person, and for its other members. None if they were in it.
pub(crate) fn entered(entry: &Entry) -> Vec<Event> {
    if !entry.entered {
        return vec![];
    }
    came_in(entry.membership.user_id, &entry.summary, entry.access_rev).into()
}

/// The events that say that somebody is in a conversation from now on.
pub(crate) fn came_in(user_id: UserId, summary: &Summary, access_rev: AccessRev) -> [Event; 2] {
    // The others first: the newcomer has just been told by `conversation.joined`.
    [
        Event::member_joined(summary.conversation.id, user_id),
        Event::joined(user_id, summary, access_rev),
    ]
}

/// The events that say that somebody is no longer in a conversation.
pub(crate) fn went_out(id: ConversationId, user: UserId, access_rev: AccessRev) -> [Event; 2] {
    [Event::left(id, user, access_rev), Event::member_left(id, user)]
}
