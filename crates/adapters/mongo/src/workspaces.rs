//! Teams and who is in them. Every change writes the workspace first, so that if two admins demote each other at once,
//! one is left.

use async_trait::async_trait;
use bson::{Document, doc};
use parlance_application::{
    Error, Result,
    ports::store::{
        ALREADY_MEMBER, Admission, Departure, Joining, LAST_ADMIN, NewMember, NewWorkspace, Page,
        PageQuery, Principal, Start, Subject, Workspaces,
    },
};
use parlance_domain::{
    ConversationId, ConversationKind, JoinCode, Member, Role, Timestamp, UserId, Workspace,
    WorkspaceAction, WorkspaceId, WorkspaceName,
};

use crate::{
    MongoStore,
    access::{authorize_workspace, role_in},
    accounts::must_live,
    admission::admit,
    documents::{ConversationDoc, MemberDoc, RoleDoc, UserDoc, WorkspaceDoc, id, time, uuid},
    error::Outcome,
    members::{CHANGED, bump, counted, insert_channel, lock_all, mine, stamped},
    outbox,
    paging::narrow,
    traces::{leave_trace, leave_traces},
    tx::{Tx, atomic, in_turn},
    views::{membership, one, users, with_workspaces},
};

#[async_trait]
impl Workspaces for MongoStore {
    async fn create_workspace(&self, by: Principal, new: NewWorkspace) -> Result<Admission> {
        let actor = by.user;
        let general = new.first_channel();
        let workspace = WorkspaceDoc {
            id: id(new.id.0),
            name: new.name.into(),
            join_code: new.join_code.into(),
            general: id(new.general.0),
            created_at: time(new.at),
            deleted: false,
        };
        atomic!(self, |tx| {
            must_live(tx, by.session).await?;
            tx.insert_stamped(doc! { "_id": workspace.id }, &workspace, CHANGED).await?;
            insert_channel(tx, actor, &general, true).await?;
            admit(tx, &workspace, actor, Role::Admin, new.at).await
        })
    }

    async fn workspaces(&self, actor: UserId, page: PageQuery) -> Result<Page<Workspace>> {
        let start = Start::of(&page)?;
        atomic!(self, |tx| {
            let filter =
                narrow(&start, doc! { "user_id": id(actor.0) }, "joined_at", "workspace_id");
            let order = doc! { "joined_at": 1, "workspace_id": 1 };
            let roles = tx.first::<RoleDoc>(filter, order, start.rows()).await?;
            let rows = with_workspaces(tx, roles).await?.into_iter().map(|(role, workspace)| {
                let key = (role.joined_at.timestamp_millis(), uuid(role.workspace_id));
                (key.0, key.1, workspace)
            });
            Ok(start.page(rows.collect()))
        })
    }

    async fn workspace(&self, actor: UserId, id: WorkspaceId) -> Result<Workspace> {
        atomic!(self, |tx| one(tx, actor, id).await)
    }

    async fn join_workspace(
        &self,
        by: Principal,
        code: &JoinCode,
        at: Timestamp,
    ) -> Result<Joining> {
        let actor = by.user;
        let open = doc! { "join_code": code.as_str(), "deleted": false };
        let found = self.reads().await?.one::<WorkspaceDoc>(open.clone()).await?;
        let found = found.ok_or(Error::NotFound("join code"))?;
        let id = WorkspaceId(uuid(found.id));
        match self.workspace(actor, id).await {
            Err(Error::NotFound(_)) => {}
            already => return already.map(Joining::AlreadyIn),
        }
        let heads = self.heads_in(actor, id).await?;
        let _turns = self.turns(id.0, &heads).await?;
        in_turn!(self, |tx| {
            lock_all(tx, &heads).await?;
            must_live(tx, by.session).await?;
            let found = tx.one::<WorkspaceDoc>(open.clone()).await?;
            found.ok_or(Error::NotFound("join code"))?;
            if role_in(tx, actor, id).await?.is_some() {
                return Ok(Joining::AlreadyIn(one(tx, actor, id).await?));
            }
            let workspace = change(tx, id, doc! {}).await?;
            let admission = admit(tx, &workspace, actor, Role::Member, at).await?;
            Ok(Joining::Entered(Box::new(admission)))
        })
    }

    async fn rotate_join_code(
        &self,
        by: Principal,
        id: WorkspaceId,
        code: JoinCode,
    ) -> Result<Workspace> {
        let actor = by.user;
        let _turn = self.lanes.turn(id.0).await?;
        in_turn!(self, |tx| {
            must_live(tx, by.session).await?;
            authorize_workspace(tx, actor, id, WorkspaceAction::RotateJoinCode).await?;
            change(tx, id, doc! { "join_code": code.as_str() }).await?;
            one(tx, actor, id).await
        })
    }

    async fn rename_workspace(
        &self,
        by: Principal,
        id: WorkspaceId,
        name: &WorkspaceName,
    ) -> Result<Workspace> {
        let actor = by.user;
        let _turn = self.lanes.turn(id.0).await?;
        in_turn!(self, |tx| {
            must_live(tx, by.session).await?;
            authorize_workspace(tx, actor, id, WorkspaceAction::Update).await?;
            change(tx, id, doc! { "name": name.as_str() }).await?;
            leave_trace(tx, Subject::Workspace(id)).await?;
            one(tx, actor, id).await
        })
    }

    async fn delete_workspace(
        &self,
        by: Principal,
        workspace: WorkspaceId,
        at: Timestamp,
    ) -> Result<Vec<ConversationId>> {
        let actor = by.user;
        self.foresee(actor, workspace, WorkspaceAction::Delete).await?;
        let live = doc! { "workspace_id": id(workspace.0), "deleted": false };
        let heads = self.reads().await?.all::<ConversationDoc>(live).await?;
        let heads: Vec<_> = heads.into_iter().map(|head| head.id).collect();
        let _turns = self.turns(workspace.0, &heads).await?;
        in_turn!(self, |tx| {
            lock_all(tx, &heads).await?;
            must_live(tx, by.session).await?;
            authorize_workspace(tx, actor, workspace, WorkspaceAction::Delete).await?;
            let gone = doc! { "deleted": true, "deleted_at": time(at) };
            change(tx, workspace, gone.clone()).await?;
            leave_trace(tx, Subject::Workspace(workspace)).await?;
            let mut delete = counted();
            delete.insert("$set", gone);
            let all = doc! { "workspace_id": id(workspace.0), "deleted": false };
            let mut heads = tx.find::<ConversationDoc>(all.clone()).await?;
            heads.sort_by_key(|head| (head.created_at, head.id.bytes()));
            tx.update_all::<ConversationDoc>(all, delete).await?;
            tx.delete::<RoleDoc>(doc! { "workspace_id": id(workspace.0) }).await?;
            Ok(heads.into_iter().map(|head| ConversationId(uuid(head.id))).collect())
        })
    }

    async fn members(
        &self,
        actor: UserId,
        workspace: WorkspaceId,
        page: PageQuery,
    ) -> Result<Page<Member>> {
        let start = Start::of(&page)?;
        atomic!(self, |tx| {
            authorize_workspace(tx, actor, workspace, WorkspaceAction::ListMembers).await?;
            let filter =
                narrow(&start, doc! { "workspace_id": id(workspace.0) }, "joined_at", "user_id");
            let order = doc! { "joined_at": 1, "user_id": 1 };
            let found = tx.first::<RoleDoc>(filter, order, start.rows()).await?;
            let mut users = users(tx, found.iter().map(|role| role.user_id)).await?;
            let row = |role: RoleDoc| {
                let user = users.remove(&role.user_id)?;
                let key = (role.joined_at.timestamp_millis(), uuid(role.user_id));
                Some((key.0, key.1, role.member(user)))
            };
            Ok(start.page(found.into_iter().filter_map(row).collect()))
        })
    }

    async fn add_member(
        &self,
        by: Principal,
        workspace: WorkspaceId,
        new: NewMember,
    ) -> Result<Admission> {
        let actor = by.user;
        self.foresee(actor, workspace, WorkspaceAction::AddMember).await?;
        let heads = self.heads_in(new.user_id, workspace).await?;
        let _turns = self.turns(workspace.0, &heads).await?;
        in_turn!(self, |tx| {
            lock_all(tx, &heads).await?;
            must_live(tx, by.session).await?;
            authorize_workspace(tx, actor, workspace, WorkspaceAction::AddMember).await?;
            let known = tx.one::<UserDoc>(doc! { "_id": id(new.user_id.0) }).await?;
            known.ok_or(Error::NotFound("user"))?;
            if role_in(tx, new.user_id, workspace).await?.is_some() {
                return Err(Error::conflict(ALREADY_MEMBER).into());
            }
            let found = change(tx, workspace, doc! {}).await?;
            outbox::put(tx, &new.job).await?;
            admit(tx, &found, new.user_id, new.role, new.at).await
        })
    }

    async fn set_role(
        &self,
        by: Principal,
        workspace: WorkspaceId,
        user: UserId,
        role: Role,
    ) -> Result<Member> {
        let actor = by.user;
        let _turn = self.lanes.turn(workspace.0).await?;
        in_turn!(self, |tx| {
            must_live(tx, by.session).await?;
            authorize_workspace(tx, actor, workspace, WorkspaceAction::ChangeRole).await?;
            let before = role_in(tx, user, workspace).await?.ok_or(Error::NotFound("member"))?;
            change(tx, workspace, doc! {}).await?;
            if role != Role::Admin {
                keep_an_admin(tx, workspace, before.role).await?;
            }
            let key = doc! { "workspace_id": id(workspace.0), "user_id": id(user.0) };
            let set = doc! { "$set": { "role": role.name() } };
            tx.update::<RoleDoc>(key, set).await?;
            leave_trace(tx, Subject::Role(workspace, user)).await?;
            membership(tx, &RoleDoc { role, ..before }).await
        })
    }

    async fn remove_member(
        &self,
        by: Principal,
        workspace: WorkspaceId,
        user: UserId,
    ) -> Result<Departure> {
        let actor = by.user;
        let action = WorkspaceAction::removal(user, actor);
        self.foresee(actor, workspace, action).await?;
        let heads = self.heads_in(user, workspace).await?;
        let _turns = self.turns(workspace.0, &heads).await?;
        in_turn!(self, |tx| {
            lock_all(tx, &heads).await?;
            must_live(tx, by.session).await?;
            authorize_workspace(tx, actor, workspace, action).await?;
            let before = role_in(tx, user, workspace).await?.ok_or(Error::NotFound("member"))?;
            change(tx, workspace, doc! {}).await?;
            keep_an_admin(tx, workspace, before.role).await?;
            let heads = mine(tx, user, workspace).await?;
            let conversations = bump(tx, &heads).await?;
            let key = doc! { "workspace_id": id(workspace.0), "user_id": id(user.0) };
            tx.delete::<RoleDoc>(key).await?;
            let left =
                |head: &ConversationDoc| Subject::Participant(ConversationId(uuid(head.id)), user);
            let traces = heads.iter().map(left).chain([Subject::Member(workspace, user)]);
            leave_traces(tx, traces).await?;
            let channels: Vec<_> = heads
                .iter()
                .filter(|head| head.kind == ConversationKind::Channel)
                .map(|channel| channel.id)
                .collect();
            let key = doc! { "user_id": id(user.0), "conversation_id": { "$in": channels } };
            tx.delete::<MemberDoc>(key).await?;
            Ok(Departure { conversations })
        })
    }
}

/// Sets fields of a workspace, maybe none, and its stamp.
async fn change(tx: &mut Tx, workspace: WorkspaceId, set: Document) -> Outcome<WorkspaceDoc> {
    let mut update = stamped();
    if !set.is_empty() {
        update.insert("$set", set);
    }
    let key = doc! { "_id": id(workspace.0), "deleted": false };
    Ok(tx.change::<WorkspaceDoc>(key, update).await?.ok_or(Error::NotFound("workspace"))?)
}

/// Refuses to remove the last admin's role.
async fn keep_an_admin(tx: &mut Tx, workspace: WorkspaceId, role: Role) -> Outcome<()> {
    if role == Role::Admin {
        let admins = doc! { "workspace_id": id(workspace.0), "role": "admin" };
        if tx.count::<RoleDoc>(admins, 2).await? < 2 {
            return Err(Error::conflict(LAST_ADMIN).into());
        }
    }
    Ok(())
}
