//! Teams and who is in them.

use std::collections::BTreeMap;

use async_trait::async_trait;
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

use super::{
    MemoryStore,
    access::page,
    state::{State, WorkspaceRow, id_taken},
};

#[async_trait]
impl Workspaces for MemoryStore {
    async fn create_workspace(&self, by: Principal, new: NewWorkspace) -> Result<Admission> {
        let actor = by.user;
        self.change("create_workspace", by.session, |state| {
            state.user(actor)?;
            if state.workspaces.contains_key(&new.id)
                || state.conversations.contains_key(&new.general)
                || state.opened_by(&new.join_code).is_some()
            {
                return Err(id_taken());
            }
            let general = new.first_channel();
            let row = WorkspaceRow {
                name: new.name.into(),
                join_code: new.join_code.into(),
                general: new.general,
                created_at: new.at,
                deleted: false,
                changed: state.now(),
                members: BTreeMap::new(),
            };
            state.workspaces.insert(new.id, row);
            state.insert_channel(actor, general, true);
            state.admit(new.id, actor, Role::Admin, new.at)
        })
        .await
    }

    async fn workspaces(&self, actor: UserId, query: PageQuery) -> Result<Page<Workspace>> {
        self.read("workspaces", |state| Ok(page(&Start::of(&query)?, state.workspaces_of(actor))))
            .await
    }

    async fn workspace(&self, actor: UserId, id: WorkspaceId) -> Result<Workspace> {
        self.read("workspace", |state| state.workspace_of(actor, id)).await
    }

    async fn join_workspace(
        &self,
        by: Principal,
        code: &JoinCode,
        at: Timestamp,
    ) -> Result<Joining> {
        let actor = by.user;
        self.change("join_workspace", by.session, |state| {
            let id = state.opened_by(code).ok_or(Error::NotFound("join code"))?;
            if state.role_in(actor, id).is_some() {
                return state.workspace_of(actor, id).map(Joining::AlreadyIn);
            }
            state.user(actor)?;
            Ok(Joining::Entered(Box::new(state.admit(id, actor, Role::Member, at)?)))
        })
        .await
    }

    async fn rotate_join_code(
        &self,
        by: Principal,
        id: WorkspaceId,
        code: JoinCode,
    ) -> Result<Workspace> {
        let actor = by.user;
        self.change("rotate_join_code", by.session, |state| {
            state.authorize_workspace(actor, id, WorkspaceAction::RotateJoinCode)?;
            if state.opened_by(&code).is_some_and(|other| other != id) {
                return Err(id_taken());
            }
            state.change(id)?.join_code = code.into();
            state.workspace_of(actor, id)
        })
        .await
    }

    async fn rename_workspace(
        &self,
        by: Principal,
        id: WorkspaceId,
        name: &WorkspaceName,
    ) -> Result<Workspace> {
        let actor = by.user;
        self.change("rename_workspace", by.session, |state| {
            state.authorize_workspace(actor, id, WorkspaceAction::Update)?;
            name.as_str().clone_into(&mut state.change(id)?.name);
            state.trace(Subject::Workspace(id));
            state.workspace_of(actor, id)
        })
        .await
    }

    async fn delete_workspace(
        &self,
        by: Principal,
        id: WorkspaceId,
        _at: Timestamp,
    ) -> Result<Vec<ConversationId>> {
        let actor = by.user;
        self.change("delete_workspace", by.session, |state| {
            state.authorize_workspace(actor, id, WorkspaceAction::Delete)?;
            let mut keys: Vec<_> = state.seen_by(actor, Some(id)).map(|seen| seen.key()).collect();
            keys.sort_unstable();
            let conversations: Vec<_> = keys.into_iter().map(|(_, id)| id).collect();
            for conversation in &conversations {
                state.delete_conversation(*conversation)?;
            }
            let row = state.change(id)?;
            row.deleted = true;
            row.members.clear();
            state.trace(Subject::Workspace(id));
            Ok(conversations)
        })
        .await
    }

    async fn members(
        &self,
        actor: UserId,
        id: WorkspaceId,
        query: PageQuery,
    ) -> Result<Page<Member>> {
        self.read("members", |state| {
            let start = Start::of(&query)?;
            state.authorize_workspace(actor, id, WorkspaceAction::ListMembers)?;
            let members = state.workspaces.get(&id).into_iter().flat_map(|row| row.members.keys());
            let rows = members.map(|user| {
                let member = state.membership(id, *user)?;
                Ok((member.joined_at, user.0, member))
            });
            Ok(page(&start, rows.collect::<Result<_>>()?))
        })
        .await
    }

    async fn add_member(
        &self,
        by: Principal,
        id: WorkspaceId,
        new: NewMember,
    ) -> Result<Admission> {
        let actor = by.user;
        self.change("add_member", by.session, |state| {
            state.authorize_workspace(actor, id, WorkspaceAction::AddMember)?;
            state.user(new.user_id)?;
            if state.role_in(new.user_id, id).is_some() {
                return Err(Error::conflict(ALREADY_MEMBER));
            }
            state.put_job(new.job);
            state.admit(id, new.user_id, new.role, new.at)
        })
        .await
    }

    async fn set_role(
        &self,
        by: Principal,
        id: WorkspaceId,
        user: UserId,
        role: Role,
    ) -> Result<Member> {
        let actor = by.user;
        self.change("set_role", by.session, |state| {
            state.authorize_workspace(actor, id, WorkspaceAction::ChangeRole)?;
            let before = state.role_in(user, id).ok_or(Error::NotFound("member"))?;
            if role != Role::Admin {
                state.keep_an_admin(id, before)?;
            }
            if let Some(member) = state.change(id)?.members.get_mut(&user) {
                member.role = role;
            }
            state.trace(Subject::Role(id, user));
            state.membership(id, user)
        })
        .await
    }

    async fn remove_member(
        &self,
        by: Principal,
        id: WorkspaceId,
        user: UserId,
    ) -> Result<Departure> {
        let actor = by.user;
        self.change("remove_member", by.session, |state| {
            let action = WorkspaceAction::removal(user, actor);
            state.authorize_workspace(actor, id, action)?;
            let role = state.role_in(user, id).ok_or(Error::NotFound("member"))?;
            state.keep_an_admin(id, role)?;
            let (now, joined) = (state.now(), state.joined(user, id));
            state.change(id)?.members.remove(&user);
            state.trace(Subject::Member(id, user));
            let mut conversations = Vec::with_capacity(joined.len());
            for id in joined {
                let row = state.conversation_mut(id)?;
                // DMs stay, for their return.
                if row.conversation.kind == ConversationKind::Channel {
                    row.members.remove(&user);
                }
                conversations.push((id, row.bump_access(now)));
                state.trace(Subject::Participant(id, user));
            }
            Ok(Departure { conversations })
        })
        .await
    }
}

impl State {
    /// A workspace as one of its members sees it.
    pub(super) fn workspace_of(&self, user: UserId, id: WorkspaceId) -> Result<Workspace> {
        let row = self.workspaces.get(&id).ok_or(Error::NotFound("workspace"))?;
        let role = row.members.get(&user).ok_or(Error::NotFound("workspace"))?.role;
        let sees_code = Role::permits(Some(role), WorkspaceAction::ReadJoinCode).is_ok();
        Ok(Workspace {
            id,
            name: row.name.clone(),
            role,
            join_code: sees_code.then(|| row.join_code.clone()),
            created_at: row.created_at,
        })
    }

    /// All of a person's workspaces, each with its place in their list: since when they are in it.
    pub(super) fn workspaces_of(&self, user: UserId) -> Vec<(Timestamp, uuid::Uuid, Workspace)> {
        let rows = self.workspaces.iter().filter_map(|(id, row)| {
            let joined_at = row.members.get(&user)?.joined_at;
            Some((joined_at, id.0, self.workspace_of(user, *id).ok()?))
        });
        rows.collect()
    }

    /// The workspace that a code lets into.
    fn opened_by(&self, code: &JoinCode) -> Option<WorkspaceId> {
        let mut rows = self.workspaces.iter();
        rows.find(|(_, row)| !row.deleted && row.join_code == code.as_str()).map(|(id, _)| *id)
    }

    /// A workspace that is about to change.
    fn change(&mut self, id: WorkspaceId) -> Result<&mut WorkspaceRow> {
        let now = self.now();
        let row = self.workspace_mut(id)?;
        row.changed = now;
        Ok(row)
    }

    /// Refuses to remove the last admin's role.
    fn keep_an_admin(&self, id: WorkspaceId, role: Role) -> Result<()> {
        let members = self.workspaces.get(&id).into_iter().flat_map(|row| row.members.values());
        let admins = members.filter(|member| member.role == Role::Admin).count();
        if role == Role::Admin && admins <= 1 {
            return Err(Error::conflict(LAST_ADMIN));
        }
        Ok(())
    }
}
