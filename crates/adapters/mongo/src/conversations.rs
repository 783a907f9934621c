//! Channels, DMs, who is in them and how far they have read.

use async_trait::async_trait;
use bson::{Document, doc};
use parlance_application::{
    Error, Result,
    ports::store::{
        Conversations, Entry, GENERAL_STAYS, NAME_TAKEN, NewChannel, NewDm, OpenedDm, Page,
        PageQuery, Principal, ReadMark, Snapshot, SnapshotEntry, Start, Subject,
    },
};
use parlance_domain::{
    AccessRev, ChannelMember, ConversationAction, ConversationId, Seq, Summary, Timestamp, UserId,
    WorkspaceAction, WorkspaceId,
};

use crate::{
    MongoStore,
    access::{Seen, authorize, authorize_workspace, lock, role_in, see_all, see_mine},
    accounts::must_live,
    dms,
    documents::{ConversationDoc, MemberDoc, id, int, num, time, uuid},
    error::Outcome,
    lanes::{Asker, Lane},
    members::{READ, counted, enter, insert_channel, joined},
    paging::narrow,
    traces::leave_trace,
    tx::{Tx, atomic, in_turn},
    unread,
    views::{self, users},
};

#[async_trait]
impl Conversations for MongoStore {
    async fn create_channel(&self, by: Principal, new: NewChannel) -> Result<Entry> {
        let actor = by.user;
        atomic!(self, |tx| {
            must_live(tx, by.session).await?;
            authorize_workspace(tx, actor, new.workspace_id, WorkspaceAction::CreateChannel)
                .await?;
            let workspace = id(new.workspace_id.0);
            if name_taken(tx, workspace, new.name.as_str(), id(new.id.0)).await? {
                return Err(Error::conflict(NAME_TAKEN).into());
            }
            insert_channel(tx, actor, &new, false).await?;
            enter(tx, new.id, actor, new.at).await
        })
    }

    async fn open_dm(&self, by: Principal, new: NewDm) -> Result<OpenedDm> {
        let actor = by.user;
        atomic!(self, |tx| {
            must_live(tx, by.session).await?;
            dms::open(tx, actor, &new).await
        })
    }

    async fn channels(
        &self,
        actor: UserId,
        workspace: WorkspaceId,
        page: PageQuery,
    ) -> Result<Page<Summary>> {
        let start = Start::of(&page)?;
        atomic!(self, |tx| {
            authorize_workspace(tx, actor, workspace, WorkspaceAction::Read).await?;
            let joined = joined(tx, actor).await?;
            let filter = doc! {
                "workspace_id": id(workspace.0),
                "deleted": false,
                "kind": "channel",
                "$or": [{ "private": false }, { "_id": { "$in": joined } }],
            };
            list(tx, filter, actor, start).await
        })
    }

    async fn dms(
        &self,
        actor: UserId,
        workspace: WorkspaceId,
        page: PageQuery,
    ) -> Result<Page<Summary>> {
        let start = Start::of(&page)?;
        atomic!(self, |tx| {
            authorize_workspace(tx, actor, workspace, WorkspaceAction::Read).await?;
            let filter = doc! {
                "_id": { "$in": joined(tx, actor).await? },
                "workspace_id": id(workspace.0),
                "deleted": false,
                "kind": "dm",
            };
            list(tx, filter, actor, start).await
        })
    }

    async fn conversations(&self, actor: UserId, page: PageQuery) -> Result<Page<Summary>> {
        let start = Start::of(&page)?;
        atomic!(self, |tx| {
            let filter = everything(tx, actor).await?;
            list(tx, filter, actor, start).await
        })
    }

    async fn summary(&self, actor: UserId, id: ConversationId) -> Result<Summary> {
        atomic!(self, Asker::Either, |tx| {
            let seen = authorize(tx, actor, id, ConversationAction::Read, "conversation").await?;
            seen.summary(tx, actor).await
        })
    }

    async fn snapshot(&self, actor: UserId) -> Result<Snapshot> {
        atomic!(self, |tx| {
            let workspaces = views::all(tx, actor).await?;
            let mut seen = see_mine(tx, actor).await?;
            seen.sort_by_key(|seen| {
                let active = seen.head.last_message_at.unwrap_or(seen.head.created_at);
                std::cmp::Reverse((active, seen.head.id.bytes()))
            });
            let unread = unread::all(tx, actor, &seen).await?;
            let entry = |seen: Seen| SnapshotEntry {
                summary: seen.summed_up(unread.get(&seen.head.id).copied().unwrap_or(0)),
                access_rev: num(seen.head.access_rev),
            };
            let conversations = seen.into_iter().map(entry).collect();
            Ok(Snapshot { epoch: self.epoch.to_string(), workspaces, conversations })
        })
    }

    async fn join_channel(
        &self,
        by: Principal,
        id: ConversationId,
        at: Timestamp,
    ) -> Result<Entry> {
        let actor = by.user;
        let _turn = self.lanes.turn(id.0).await?;
        in_turn!(self, |tx| {
            lock(tx, by, id, ConversationAction::Join).await?;
            enter(tx, id, actor, at).await
        })
    }

    async fn add_channel_member(
        &self,
        by: Principal,
        id: ConversationId,
        user: UserId,
        at: Timestamp,
    ) -> Result<Entry> {
        let _turn = self.lanes.turn(id.0).await?;
        in_turn!(self, |tx| {
            let seen = lock(tx, by, id, ConversationAction::AddMember).await?;
            let workspace = WorkspaceId(uuid(seen.head.workspace_id));
            role_in(tx, user, workspace).await?.ok_or(Error::NotFound("user"))?;
            enter(tx, id, user, at).await
        })
    }

    async fn remove_channel_member(
        &self,
        by: Principal,
        channel: ConversationId,
        user: UserId,
    ) -> Result<AccessRev> {
        let actor = by.user;
        let action = ConversationAction::removal(user, actor);
        let _turn = self.lanes.turn(channel.0).await?;
        in_turn!(self, |tx| {
            let seen = lock(tx, by, channel, action).await?;
            if seen.head.general {
                return Err(Error::conflict(GENERAL_STAYS).into());
            }
            let head =
                tx.change::<ConversationDoc>(doc! { "_id": seen.head.id }, counted()).await?;
            let head = head.ok_or(Error::NotFound("conversation"))?;
            let member = doc! { "conversation_id": head.id, "user_id": id(user.0) };
            if tx.delete::<MemberDoc>(member).await? == 0 {
                return Err(Error::NotFound("member").into());
            }
            leave_trace(tx, Subject::Participant(channel, user)).await?;
            Ok(num(head.access_rev))
        })
    }

    async fn channel_members(
        &self,
        actor: UserId,
        channel: ConversationId,
        page: PageQuery,
    ) -> Result<Page<ChannelMember>> {
        let start = Start::of(&page)?;
        atomic!(self, |tx| {
            let list = ConversationAction::ListMembers;
            authorize(tx, actor, channel, list, "conversation").await?;
            let filter =
                narrow(&start, doc! { "conversation_id": id(channel.0) }, "joined_at", "user_id");
            let order = doc! { "joined_at": 1, "user_id": 1 };
            let found = tx.first::<MemberDoc>(filter, order, start.rows()).await?;
            let mut users = users(tx, found.iter().map(|member| member.user_id)).await?;
            let row = |member: MemberDoc| {
                let user = users.remove(&member.user_id)?;
                let key = (member.joined_at.timestamp_millis(), uuid(member.user_id));
                Some((key.0, key.1, member.member(user)))
            };
            Ok(start.page(found.into_iter().filter_map(row).collect()))
        })
    }

    async fn delete_channel(&self, by: Principal, id: ConversationId, at: Timestamp) -> Result<()> {
        let _turn = self.lanes.turn(id.0).await?;
        in_turn!(self, |tx| {
            let seen = lock(tx, by, id, ConversationAction::Delete).await?;
            if seen.head.general {
                return Err(Error::conflict(GENERAL_STAYS).into());
            }
            let mut delete = counted();
            delete.insert("$set", doc! { "deleted": true, "deleted_at": time(at) });
            tx.update::<ConversationDoc>(doc! { "_id": seen.head.id }, delete).await?;
            Ok(())
        })
    }

    async fn mark_read(
        &self,
        actor: UserId,
        channel: ConversationId,
        seq: Seq,
    ) -> Result<ReadMark> {
        let _turn = self.lanes.turns(vec![Lane::Mark(channel.0, actor.0)]).await?;
        in_turn!(self, |tx| {
            let mark = ConversationAction::MarkRead;
            let mut seen = authorize(tx, actor, channel, mark, "conversation").await?;
            let seq = seq.min(num(seen.head.last_seq));
            let advanced = seen.read_seq.is_some_and(|read| read < seq);
            if advanced {
                let member = doc! { "conversation_id": seen.head.id, "user_id": id(actor.0) };
                let read = doc! { "read_seq": int(seq) };
                let set = doc! { "$set": read, "$currentDate": { READ: true } };
                tx.update::<MemberDoc>(member, set).await?;
                seen.read_seq = Some(seq);
            }
            Ok(ReadMark { read: seen.read(tx, actor).await?, advanced })
        })
    }

    async fn permit(
        &self,
        actor: UserId,
        id: ConversationId,
        action: ConversationAction,
    ) -> Result<()> {
        atomic!(self, |tx| authorize(tx, actor, id, action, "conversation").await.map(drop))
    }
}

/// Whether the workspace has another channel of that name.
pub(crate) async fn name_taken(
    tx: &mut Tx,
    workspace: bson::Uuid,
    name: &str,
    but: bson::Uuid,
) -> Outcome<bool> {
    let taken = doc! {
        "_id": { "$ne": but },
        "workspace_id": workspace,
        "name": name,
        "deleted": false,
        "kind": "channel",
    };
    Ok(tx.one::<ConversationDoc>(taken).await?.is_some())
}

/// A filter for all conversations of somebody in their workspaces.
async fn everything(tx: &mut Tx, actor: UserId) -> Outcome<Document> {
    let workspaces = views::roles(tx, actor).await?;
    let workspaces: Vec<_> = workspaces.into_iter().map(|role| role.workspace_id).collect();
    Ok(doc! {
        "_id": { "$in": joined(tx, actor).await? },
        "workspace_id": { "$in": workspaces },
        "deleted": false,
    })
}

/// A page of conversations as the actor sees them.
async fn list(
    tx: &mut Tx,
    filter: Document,
    actor: UserId,
    start: Start,
) -> Outcome<Page<Summary>> {
    let filter = narrow(&start, filter, "created_at", "_id");
    let order = doc! { "created_at": 1, "_id": 1 };
    let heads = tx.first::<ConversationDoc>(filter, order, start.rows()).await?;
    let mut rows = Vec::with_capacity(heads.len());
    for seen in see_all(tx, actor, heads).await? {
        let key = (seen.head.created_at.timestamp_millis(), uuid(seen.head.id));
        rows.push((key.0, key.1, seen.summary(tx, actor).await?));
    }
    Ok(start.page(rows))
}
