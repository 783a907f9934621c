use std::sync::Arc;

use parlance_domain::{
    ChannelMember, ChannelName, ConversationAction, ConversationId, ReadState, Summary, Topic,
    UserId, WorkspaceId,
};

use crate::{
    Caller, Error, Result,
    live::{Event, Sequencer},
    ports::{
        Ambient,
        store::{self, Change, Entry, NewChannel, NewDm, Page, PageQuery, Write},
    },
    publisher::Publisher,
};

/// Channels, DMs, and how far people have read. When a method returns, what it has ended has taken effect on this node's sockets;
/// so has what has begun, or will a little later where the store is shared, and has to be asked who may hear it.
pub struct Channels {
    store: Arc<dyn store::Conversations>,
    ambient: Arc<dyn Ambient>,
    sequencer: Sequencer,
    publisher: Publisher,
}

impl Channels {
    pub(crate) fn new(
        store: Arc<dyn store::Conversations>,
        ambient: Arc<dyn Ambient>,
        sequencer: Sequencer,
        publisher: Publisher,
    ) -> Self {
        Self { store, ambient, sequencer, publisher }
    }

    /// Creates a channel with the caller in it.
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
        let (store, actor) = (self.store.clone(), caller.id());
        self.publisher
            .change(async move {
                let entry = store.create_channel(actor, new).await?;
                let events = entered(&entry);
                Ok((entry.summary, events))
            })
            .await
    }

    /// The pair's one DM, and whether it was created now.
    pub async fn open_dm(
        &self,
        caller: &Caller,
        workspace_id: WorkspaceId,
        peer: UserId,
    ) -> Result<(Summary, bool)> {
        let id = ConversationId(self.ambient.uuid());
        let new = NewDm { id, workspace_id, peer, at: self.ambient.now() };
        let (store, actor) = (self.store.clone(), caller.id());
        self.publisher
            .change(async move {
                let opened = store.open_dm(actor, new).await?;
                let created = opened.theirs.is_some();
                let mut events = Vec::new();
                if let Some(theirs) = &opened.theirs {
                    events.push(Event::joined(actor, &opened.mine, opened.access_rev));
                    events.push(Event::joined(peer, theirs, opened.access_rev));
                }
                Ok(((opened.mine, created), events))
            })
            .await
    }

    /// The workspace's channels that the caller may read.
    pub async fn list(
        &self,
        caller: &Caller,
        workspace: WorkspaceId,
        page: PageQuery,
    ) -> Result<Page<Summary>> {
        self.store.channels(caller.id(), workspace, page).await
    }

    /// The caller's DMs in the workspace.
    pub async fn dms(
        &self,
        caller: &Caller,
        workspace: WorkspaceId,
        page: PageQuery,
    ) -> Result<Page<Summary>> {
        self.store.dms(caller.id(), workspace, page).await
    }

    /// All conversations that the caller is in.
    pub async fn conversations(&self, caller: &Caller, page: PageQuery) -> Result<Page<Summary>> {
        self.store.conversations(caller.id(), page).await
    }

    /// One conversation as the caller sees it.
    pub async fn get(&self, caller: &Caller, id: ConversationId) -> Result<Summary> {
        self.store.summary(caller.id(), id).await
    }

    /// Lets the caller into a channel.
    pub async fn join(&self, caller: &Caller, id: ConversationId) -> Result<Summary> {
        let (store, actor, at) = (self.store.clone(), caller.id(), self.ambient.now());
        self.publisher
            .change(async move {
                let entry = store.join_channel(actor, id, at).await?;
                let events = entered(&entry);
                Ok((entry.summary, events))
            })
            .await
    }

    /// Lets somebody of the workspace into a channel.
    pub async fn add_member(
        &self,
        caller: &Caller,
        id: ConversationId,
        user: UserId,
    ) -> Result<(ChannelMember, bool)> {
        let (store, actor, at) = (self.store.clone(), caller.id(), self.ambient.now());
        self.publisher
            .change(async move {
                let entry = store.add_channel_member(actor, id, user, at).await?;
                let events = entered(&entry);
                Ok(((entry.membership, entry.entered), events))
            })
            .await
    }

    /// Ends somebody's membership of a channel, maybe the caller's own.
    pub async fn remove_member(
        &self,
        caller: &Caller,
        id: ConversationId,
        user: UserId,
    ) -> Result<()> {
        let (store, actor) = (self.store.clone(), caller.id());
        self.publisher
            .change(async move {
                let access_rev = store.remove_channel_member(actor, id, user).await?;
                Ok(((), went_out(id, user, access_rev).into()))
            })
            .await
    }

    /// Who is in a channel.
    pub async fn members(
        &self,
        caller: &Caller,
        id: ConversationId,
        page: PageQuery,
    ) -> Result<Page<ChannelMember>> {
        self.store.channel_members(caller.id(), id, page).await
    }

    /// Changes a channel's name or topic: a durable change, in order with its messages.
    pub async fn update(
        &self,
        caller: &Caller,
        id: ConversationId,
        name: Option<ChannelName>,
        topic: Option<Topic>,
    ) -> Result<Summary> {
        let change = Change::UpdateChannel { name, topic };
        let (session, at) = (caller.session_id, self.ambient.now());
        let write = Write { actor: caller.id(), session, at, change };
        self.sequencer.submit(id, write).await?;
        // Who has lost access meanwhile has changed it all the same, and every other error would say that they have not.
        let read = self.store.summary(caller.id(), id).await;
        read.map_err(|error| match error {
            Error::Internal { .. } | Error::Unavailable { .. } => error,
            other => Error::unavailable(format!("changed, and not read again: {other}")),
        })
    }

    /// Deletes a channel with its messages.
    pub async fn delete(&self, caller: &Caller, id: ConversationId) -> Result<()> {
        let (store, actor, at) = (self.store.clone(), caller.id(), self.ambient.now());
        self.publisher
            .change(async move {
                store.delete_channel(actor, id, at).await?;
                Ok(((), vec![Event::deleted(id)]))
            })
            .await
    }

    /// Moves the caller's read mark forward.
    pub async fn mark_read(
        &self,
        caller: &Caller,
        id: ConversationId,
        seq: u64,
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

    /// Whether the caller may do that now.
    pub async fn permit(
        &self,
        caller: &Caller,
        id: ConversationId,
        action: ConversationAction,
    ) -> Result<()> {
        self.store.permit(caller.id(), id, action).await
    }
}

/// What somebody's way into a conversation tells: them, and those who are in it.
pub(crate) fn entered(entry: &Entry) -> Vec<Event> {
    if !entry.entered {
        return vec![];
    }
    came_in(entry.membership.user_id, &entry.summary, entry.access_rev).into()
}

/// What it tells that somebody is in a conversation from now on.
pub(crate) fn came_in(user_id: UserId, summary: &Summary, access_rev: u64) -> [Event; 2] {
    // The others first: the newcomer has just been told by `conversation.joined`.
    [
        Event::member_joined(summary.conversation.id, user_id),
        Event::joined(user_id, summary, access_rev),
    ]
}

/// What it tells that somebody is no longer in a conversation.
pub(crate) fn went_out(id: ConversationId, user: UserId, access_rev: u64) -> [Event; 2] {
    [Event::left(id, user, access_rev), Event::member_left(id, user)]
}
