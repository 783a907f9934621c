//! Channels, DMs, who is in them and how far they have read.

use std::cmp::Reverse;

use async_trait::async_trait;
use parlance_application::{
    Error, Result,
    ports::store::{
        Conversations, Entry, GENERAL_STAYS, NAME_TAKEN, NewChannel, NewDm, OpenedDm, Page,
        PageQuery, Principal, ReadMark, Snapshot, SnapshotEntry, Start, Subject, dm_with_oneself,
    },
};
use parlance_domain::{
    AccessRev, ChannelMember, ConversationAction, ConversationId, ConversationKind, Seq, Summary,
    Timestamp, UserId, WorkspaceAction, WorkspaceId,
};

use super::{
    MemoryStore,
    access::{Seen, page},
    state::{MemberRow, State, id_taken},
};

#[async_trait]
impl Conversations for MemoryStore {
    async fn create_channel(&self, by: Principal, new: NewChannel) -> Result<Entry> {
        let actor = by.user;
        self.change("create_channel", by.session, |state| {
            let workspace = new.workspace_id;
            state.authorize_workspace(actor, workspace, WorkspaceAction::CreateChannel)?;
            if state.name_taken(workspace, new.name.as_str()) {
                return Err(Error::conflict(NAME_TAKEN));
            }
            if state.conversations.contains_key(&new.id) {
                return Err(id_taken());
            }
            let (id, at) = (new.id, new.at);
            state.insert_channel(actor, new, false);
            state.enter(id, actor, at)
        })
        .await
    }

    async fn open_dm(&self, by: Principal, new: NewDm) -> Result<OpenedDm> {
        let actor = by.user;
        self.change("open_dm", by.session, |state| state.open_dm(actor, &new)).await
    }

    async fn channels(
        &self,
        actor: UserId,
        workspace: WorkspaceId,
        query: PageQuery,
    ) -> Result<Page<Summary>> {
        self.read("channels", |state| {
            let start = Start::of(&query)?;
            state.authorize_workspace(actor, workspace, WorkspaceAction::Read)?;
            let readable = state.seen_by(actor, Some(workspace)).filter(|seen| {
                seen.row.conversation.kind == ConversationKind::Channel
                    && seen.standing.permits(ConversationAction::Read).is_ok()
            });
            Ok(summaries(&start, readable))
        })
        .await
    }

    async fn dms(
        &self,
        actor: UserId,
        workspace: WorkspaceId,
        query: PageQuery,
    ) -> Result<Page<Summary>> {
        self.read("dms", |state| {
            let start = Start::of(&query)?;
            state.authorize_workspace(actor, workspace, WorkspaceAction::Read)?;
            let dms = state.own(actor).filter(|seen| {
                seen.row.conversation.kind == ConversationKind::Dm
                    && seen.row.conversation.workspace_id == workspace
            });
            Ok(summaries(&start, dms))
        })
        .await
    }

    async fn conversations(&self, actor: UserId, query: PageQuery) -> Result<Page<Summary>> {
        self.read("conversations", |state| Ok(summaries(&Start::of(&query)?, state.own(actor))))
            .await
    }

    async fn summary(&self, actor: UserId, id: ConversationId) -> Result<Summary> {
        self.read("summary", |state| {
            let seen = state.authorize(actor, id, ConversationAction::Read, "conversation")?;
            Ok(seen.summary())
        })
        .await
    }

    async fn snapshot(&self, actor: UserId) -> Result<Snapshot> {
        self.read("snapshot", |state| {
            let mut workspaces = state.workspaces_of(actor);
            workspaces.sort_by_key(|(at, id, _)| (*at, *id));
            let mut own: Vec<Seen<'_>> = state.own(actor).collect();
            own.sort_by_key(|seen| {
                let (created_at, id) = seen.key();
                Reverse((seen.row.conversation.last_message_at.unwrap_or(created_at), id))
            });
            let entry = |seen: Seen<'_>| SnapshotEntry {
                summary: seen.summary(),
                access_rev: seen.row.access_rev,
            };
            Ok(Snapshot {
                epoch: "memory".to_owned(),
                workspaces: workspaces.into_iter().map(|(_, _, workspace)| workspace).collect(),
                conversations: own.into_iter().map(entry).collect(),
            })
        })
        .await
    }

    async fn join_channel(
        &self,
        by: Principal,
        id: ConversationId,
        at: Timestamp,
    ) -> Result<Entry> {
        let actor = by.user;
        self.change("join_channel", by.session, |state| {
            state.authorize(actor, id, ConversationAction::Join, "conversation")?;
            state.enter(id, actor, at)
        })
        .await
    }

    async fn add_channel_member(
        &self,
        by: Principal,
        id: ConversationId,
        user: UserId,
        at: Timestamp,
    ) -> Result<Entry> {
        let actor = by.user;
        self.change("add_channel_member", by.session, |state| {
            let seen = state.authorize(actor, id, ConversationAction::AddMember, "conversation")?;
            let role = state.role_in(user, seen.row.conversation.workspace_id);
            role.ok_or(Error::NotFound("user"))?;
            state.enter(id, user, at)
        })
        .await
    }

    async fn remove_channel_member(
        &self,
        by: Principal,
        id: ConversationId,
        user: UserId,
    ) -> Result<AccessRev> {
        let actor = by.user;
        self.change("remove_channel_member", by.session, |state| {
            let action = ConversationAction::removal(user, actor);
            if state.authorize(actor, id, action, "conversation")?.row.general {
                return Err(Error::conflict(GENERAL_STAYS));
            }
            let now = state.now();
            let row = state.conversation_mut(id)?;
            row.members.remove(&user).ok_or(Error::NotFound("member"))?;
            let access_rev = row.bump_access(now);
            state.trace(Subject::Participant(id, user));
            Ok(access_rev)
        })
        .await
    }

    async fn channel_members(
        &self,
        actor: UserId,
        id: ConversationId,
        query: PageQuery,
    ) -> Result<Page<ChannelMember>> {
        self.read("channel_members", |state| {
            let start = Start::of(&query)?;
            let seen =
                state.authorize(actor, id, ConversationAction::ListMembers, "conversation")?;
            let rows = seen.row.members.iter().map(|(user_id, member)| {
                let (user_id, joined_at) = (*user_id, member.joined_at);
                let user = state.user(user_id)?;
                Ok((joined_at, user_id.0, ChannelMember { user_id, joined_at, user }))
            });
            Ok(page(&start, rows.collect::<Result<_>>()?))
        })
        .await
    }

    async fn delete_channel(
        &self,
        by: Principal,
        id: ConversationId,
        _at: Timestamp,
    ) -> Result<()> {
        let actor = by.user;
        self.change("delete_channel", by.session, |state| {
            let seen = state.authorize(actor, id, ConversationAction::Delete, "conversation")?;
            if seen.row.general {
                return Err(Error::conflict(GENERAL_STAYS));
            }
            state.delete_conversation(id)
        })
        .await
    }

    async fn mark_read(&self, actor: UserId, id: ConversationId, seq: Seq) -> Result<ReadMark> {
        self.write("mark_read", |state| {
            state.authorize(actor, id, ConversationAction::MarkRead, "conversation")?;
            let now = state.now();
            let row = state.conversation_mut(id)?;
            let seq = seq.min(row.conversation.last_seq);
            let behind = row.members.get_mut(&actor).filter(|member| member.read_seq < seq);
            let mark = |member: &mut MemberRow| {
                (member.read_seq, member.marked) = (seq, Some(now));
            };
            let advanced = behind.map(mark).is_some();
            let seen = state.see(Some(actor), id).ok_or(Error::NotFound("conversation"))?;
            Ok(ReadMark { read: seen.read(), advanced })
        })
        .await
    }

    async fn permit(
        &self,
        actor: UserId,
        id: ConversationId,
        action: ConversationAction,
    ) -> Result<()> {
        self.read("permit", |state| state.authorize(actor, id, action, "conversation").map(|_| ()))
            .await
    }
}

impl State {
    /// Whether the workspace has a channel of that name.
    pub(super) fn name_taken(&self, workspace: WorkspaceId, name: &str) -> bool {
        self.conversations.values().any(|row| {
            !row.deleted
                && row.conversation.workspace_id == workspace
                && row.conversation.name.as_deref() == Some(name)
        })
    }

    /// Hides a conversation permanently.
    pub(super) fn delete_conversation(&mut self, id: ConversationId) -> Result<()> {
        let now = self.now();
        let row = self.conversation_mut(id)?;
        row.deleted = true;
        row.bump_access(now);
        Ok(())
    }

    /// What a person is in and may read: they stay in the DMs of a workspace that they have left.
    fn own(&self, user: UserId) -> impl Iterator<Item = Seen<'_>> {
        self.seen_by(user, None).filter(|seen| {
            seen.read_seq.is_some() && seen.standing.permits(ConversationAction::Read).is_ok()
        })
    }

    fn open_dm(&mut self, actor: UserId, new: &NewDm) -> Result<OpenedDm> {
        self.authorize_workspace(actor, new.workspace_id, WorkspaceAction::OpenDm)?;
        if new.peer == actor {
            return Err(dm_with_oneself());
        }
        let pair = [actor.min(new.peer), actor.max(new.peer)];
        let found = self
            .seen_by(actor, Some(new.workspace_id))
            .find(|seen| seen.row.conversation.member_ids.as_deref() == Some(&pair))
            .map(|seen| seen.row.conversation.id);
        if found.is_none() {
            self.role_in(new.peer, new.workspace_id).ok_or(Error::NotFound("user"))?;
            if self.conversations.contains_key(&new.id) {
                return Err(id_taken());
            }
            self.insert_dm(actor, new, pair);
        }
        let look = |user| {
            let seen = self.see(Some(user), found.unwrap_or(new.id));
            seen.ok_or(Error::NotFound("conversation"))
        };
        let mine = look(actor)?;
        Ok(OpenedDm {
            mine: mine.summary(),
            theirs: if found.is_none() { Some(look(new.peer)?.summary()) } else { None },
            access_rev: mine.row.access_rev,
        })
    }
}

/// A page of conversations, oldest first.
fn summaries<'a>(start: &Start, seen: impl Iterator<Item = Seen<'a>>) -> Page<Summary> {
    let rows = seen.map(|seen| (seen.row.created_at, seen.row.conversation.id.0, seen)).collect();
    let Page { items, next } = page(start, rows);
    Page { items: items.iter().map(Seen::summary).collect(), next }
}
