//! Use cases of workspaces and their members. The store checks permissions, and that an admin is left, inside the
//! transaction of the write; here a change is committed, then published ([`Publisher`]).

use std::sync::Arc;

use parlance_domain::{
    ConversationId, Email, JobId, JoinCode, Member, Role, UserId, Workspace, WorkspaceAction,
    WorkspaceId, WorkspaceName,
};

use crate::{
    Caller, Error, Result,
    channels::{came_in, entered, went_out},
    jobs::{Job, Task},
    live::Event,
    ports::{
        Ambient,
        store::{self, Admission, Joining, NewMember, NewWorkspace, Page, PageQuery},
    },
    publisher::Publisher,
};

/// Workspaces and their members.
///
/// Common errors: `NotFound`: the workspace does not exist, or the caller is not in it. `Forbidden`: only admins may.
/// `RateLimited`: a change beyond the caller's share. `Unavailable` and `Internal`: the outcome is unknown; the call
/// may be repeated. `BadRequest` for a page's cursor that is not one of ours.
///
/// When a change returns, an end of access has taken effect on this node's sockets. So has a new access with a store of
/// the node's own; with a shared one, it follows once the store has said who may hear of it.
pub struct Workspaces {
    store: Arc<dyn store::Workspaces>,
    accounts: Arc<dyn store::Accounts>,
    ambient: Arc<dyn Ambient>,
    publisher: Publisher,
}

impl Workspaces {
    pub(crate) fn new(
        store: Arc<dyn store::Workspaces>,
        accounts: Arc<dyn store::Accounts>,
        ambient: Arc<dyn Ambient>,
        publisher: Publisher,
    ) -> Self {
        Self { store, accounts, ambient, publisher }
    }

    /// Creates a workspace with the caller as its admin, and its channel `general`. Repeated, it creates another one.
    pub async fn create(&self, caller: &Caller, name: WorkspaceName) -> Result<Workspace> {
        let new = NewWorkspace {
            id: WorkspaceId(self.ambient.uuid()),
            name,
            join_code: self.new_join_code(),
            general: ConversationId(self.ambient.uuid()),
            at: self.ambient.now(),
        };
        let (store, by) = (self.store.clone(), caller.principal());
        self.publisher
            .change(caller, async move {
                let admission = store.create_workspace(by, new).await?;
                let events = admitted(&admission);
                Ok((admission.workspace, events))
            })
            .await
    }

    /// The caller's workspaces, oldest membership first.
    pub async fn list(&self, caller: &Caller, page: PageQuery) -> Result<Page<Workspace>> {
        self.store.workspaces(caller.id(), page).await
    }

    /// One of the caller's workspaces.
    pub async fn get(&self, caller: &Caller, id: WorkspaceId) -> Result<Workspace> {
        self.store.workspace(caller.id(), id).await
    }

    /// Adds the caller by join code, as a member and to `general`; changes nothing if they are in it already.
    /// `NotFound` for a code that is not, or no longer, valid.
    pub async fn join(&self, caller: &Caller, code: JoinCode) -> Result<Workspace> {
        let (store, by, at) = (self.store.clone(), caller.principal(), self.ambient.now());
        self.publisher
            .change(caller, async move {
                Ok(match store.join_workspace(by, &code, at).await? {
                    Joining::AlreadyIn(workspace) => (workspace, vec![]),
                    Joining::Entered(admission) => {
                        let events = admitted(&admission);
                        (admission.workspace, events)
                    }
                })
            })
            .await
    }

    /// Replaces the join code; the old one is no longer valid. Admins only.
    pub async fn rotate_join_code(&self, caller: &Caller, id: WorkspaceId) -> Result<Workspace> {
        let (store, by, code) = (self.store.clone(), caller.principal(), self.new_join_code());
        self.publisher
            .change(
                caller,
                async move { Ok((store.rotate_join_code(by, id, code).await?, vec![])) },
            )
            .await
    }

    /// Changes the name. Admins only.
    pub async fn rename(
        &self,
        caller: &Caller,
        id: WorkspaceId,
        name: WorkspaceName,
    ) -> Result<Workspace> {
        let (store, by) = (self.store.clone(), caller.principal());
        self.publisher
            .change(caller, async move {
                let workspace = store.rename_workspace(by, id, &name).await?;
                let event = Event::workspace_updated(&workspace);
                Ok((workspace, vec![event]))
            })
            .await
    }

    /// Deletes a workspace with everything in it. Admins only.
    pub async fn delete(&self, caller: &Caller, id: WorkspaceId) -> Result<()> {
        let (store, by, at) = (self.store.clone(), caller.principal(), self.ambient.now());
        self.publisher
            .change(caller, async move {
                let conversations = store.delete_workspace(by, id, at).await?;
                let mut events: Vec<_> = conversations.into_iter().map(Event::deleted).collect();
                events.push(Event::workspace_deleted(id));
                Ok(((), events))
            })
            .await
    }

    /// The workspace's members, oldest membership first.
    pub async fn members(
        &self,
        caller: &Caller,
        id: WorkspaceId,
        page: PageQuery,
    ) -> Result<Page<Member>> {
        self.store.members(caller.id(), id, page).await
    }

    /// Adds a person by id, and to `general`; a mail tells them. Admins only. `NotFound` for an unknown person,
    /// `Conflict` for a member.
    pub async fn add_member(
        &self,
        caller: &Caller,
        id: WorkspaceId,
        user_id: UserId,
        role: Role,
    ) -> Result<Member> {
        let job = Job {
            id: JobId(self.ambient.uuid()),
            task: Task::AddedToWorkspaceMail { user_id, workspace_id: id },
        };
        let new = NewMember { user_id, role, at: self.ambient.now(), job };
        let (store, by) = (self.store.clone(), caller.principal());
        self.publisher
            .change(caller, async move {
                let admission = store.add_member(by, id, new).await?;
                let events = admitted(&admission);
                Ok((admission.member, events))
            })
            .await
    }

    /// The same by address. Whoever may not add members is refused before the address is looked up, so that they learn
    /// nothing about it.
    pub async fn add_member_by_email(
        &self,
        caller: &Caller,
        id: WorkspaceId,
        email: &Email,
        role: Role,
    ) -> Result<Member> {
        let own = self.store.workspace(caller.id(), id).await?;
        Role::permits(Some(own.role), WorkspaceAction::AddMember)
            .map_err(|denied| Error::denied(denied, "workspace"))?;
        let user = self.accounts.user_id(email).await?.ok_or(Error::NotFound("user"))?;
        self.add_member(caller, id, user, role).await
    }

    /// Changes a member's role. Admins only. `NotFound` for somebody who is not in it, `Conflict` if no admin would be
    /// left.
    pub async fn set_role(
        &self,
        caller: &Caller,
        id: WorkspaceId,
        user: UserId,
        role: Role,
    ) -> Result<Member> {
        let (store, by) = (self.store.clone(), caller.principal());
        self.publisher
            .change(caller, async move {
                let member = store.set_role(by, id, user, role).await?;
                let event = Event::workspace_member_updated(&member);
                Ok((member, vec![event]))
            })
            .await
    }

    /// Removes somebody from the workspace and its channels, possibly the caller; only admins may remove others.
    /// `NotFound` for somebody who is not in it, `Conflict` if no admin would be left.
    pub async fn remove_member(
        &self,
        caller: &Caller,
        id: WorkspaceId,
        user: UserId,
    ) -> Result<()> {
        let (store, by) = (self.store.clone(), caller.principal());
        self.publisher
            .change(caller, async move {
                let departure = store.remove_member(by, id, user).await?;
                let mut events = Vec::new();
                for (conversation, access_rev) in departure.conversations {
                    events.extend(went_out(conversation, user, access_rev));
                }
                events.push(Event::WorkspaceLeft { workspace_id: id, user_id: user });
                events.push(Event::workspace_member_left(id, user));
                Ok(((), events))
            })
            .await
    }

    fn new_join_code(&self) -> JoinCode {
        JoinCode::from_random(self.ambient.random())
    }
}

/// Events of an addition to a workspace: for the person, the workspace, `general`, and the peers of their old DMs.
fn admitted(admission: &Admission) -> Vec<Event> {
    let Admission { workspace, member, general, dms } = admission;
    let mut events = vec![
        Event::workspace_joined(member.user_id, workspace),
        Event::workspace_member_joined(member),
    ];
    events.extend(entered(general));
    // For the peers, too: they may write again.
    events.extend(dms.iter().flat_map(|dm| came_in(member.user_id, &dm.summary, dm.access_rev)));
    events
}
