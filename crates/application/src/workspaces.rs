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

/// Teams and who is in them. When a method returns, what it has ended is told to nobody any more; what has begun is told at the
/// same moment on a store of this node's own, and a little later where the store has to be asked who may hear it.
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

    /// Creates a workspace with the caller as its admin, and its `general`.
    pub async fn create(&self, caller: &Caller, name: WorkspaceName) -> Result<Workspace> {
        let new = NewWorkspace {
            id: WorkspaceId(self.ambient.uuid()),
            name,
            join_code: self.new_join_code(),
            general: ConversationId(self.ambient.uuid()),
            at: self.ambient.now(),
        };
        let (store, actor) = (self.store.clone(), caller.id());
        self.publisher
            .change(async move {
                let admission = store.create_workspace(actor, new).await?;
                let events = admitted(&admission);
                Ok((admission.workspace, events))
            })
            .await
    }

    /// The caller's workspaces.
    pub async fn list(&self, caller: &Caller, page: PageQuery) -> Result<Page<Workspace>> {
        self.store.workspaces(caller.id(), page).await
    }

    /// One of the caller's workspaces.
    pub async fn get(&self, caller: &Caller, id: WorkspaceId) -> Result<Workspace> {
        self.store.workspace(caller.id(), id).await
    }

    /// Lets the caller in by code.
    pub async fn join(&self, caller: &Caller, code: JoinCode) -> Result<Workspace> {
        let (store, actor, at) = (self.store.clone(), caller.id(), self.ambient.now());
        self.publisher
            .change(async move {
                Ok(match store.join_workspace(actor, &code, at).await? {
                    Joining::AlreadyIn(workspace) => (workspace, vec![]),
                    Joining::Entered(admission) => {
                        let events = admitted(&admission);
                        (admission.workspace, events)
                    }
                })
            })
            .await
    }

    /// Replaces the join code; the old one opens nothing from now on.
    pub async fn rotate_join_code(&self, caller: &Caller, id: WorkspaceId) -> Result<Workspace> {
        self.store.rotate_join_code(caller.id(), id, self.new_join_code()).await
    }

    /// Changes the name.
    pub async fn rename(
        &self,
        caller: &Caller,
        id: WorkspaceId,
        name: WorkspaceName,
    ) -> Result<Workspace> {
        let (store, actor) = (self.store.clone(), caller.id());
        self.publisher
            .change(async move {
                let workspace = store.rename_workspace(actor, id, &name).await?;
                let event = Event::workspace_updated(&workspace);
                Ok((workspace, vec![event]))
            })
            .await
    }

    /// Deletes a workspace with everything in it.
    pub async fn delete(&self, caller: &Caller, id: WorkspaceId) -> Result<()> {
        let (store, actor, at) = (self.store.clone(), caller.id(), self.ambient.now());
        self.publisher
            .change(async move {
                let conversations = store.delete_workspace(actor, id, at).await?;
                let mut events: Vec<_> = conversations.into_iter().map(Event::deleted).collect();
                events.push(Event::workspace_deleted(id));
                Ok(((), events))
            })
            .await
    }

    /// Who is in it.
    pub async fn members(
        &self,
        caller: &Caller,
        id: WorkspaceId,
        page: PageQuery,
    ) -> Result<Page<Member>> {
        self.store.members(caller.id(), id, page).await
    }

    /// Adds a person by id. A mail tells them.
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
        let (store, actor) = (self.store.clone(), caller.id());
        self.publisher
            .change(async move {
                let admission = store.add_member(actor, id, new).await?;
                let events = admitted(&admission);
                Ok((admission.member, events))
            })
            .await
    }

    /// Adds a person by address. Who may not add members learns nothing about the address.
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

    /// Changes a role.
    pub async fn set_role(
        &self,
        caller: &Caller,
        id: WorkspaceId,
        user: UserId,
        role: Role,
    ) -> Result<Member> {
        let (store, actor) = (self.store.clone(), caller.id());
        self.publisher
            .change(async move {
                let member = store.set_role(actor, id, user, role).await?;
                let event = Event::workspace_member_updated(&member);
                Ok((member, vec![event]))
            })
            .await
    }

    /// Ends somebody's membership, maybe the caller's own.
    pub async fn remove_member(
        &self,
        caller: &Caller,
        id: WorkspaceId,
        user: UserId,
    ) -> Result<()> {
        let (store, actor) = (self.store.clone(), caller.id());
        self.publisher
            .change(async move {
                let departure = store.remove_member(actor, id, user).await?;
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
        let [bits @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] = self.ambient.random();
        JoinCode::from_random(bits)
    }
}

/// What somebody's way into a workspace tells: them, the workspace, `general`, and those whom they had DMs with.
fn admitted(admission: &Admission) -> Vec<Event> {
    let Admission { workspace, member, general, dms } = admission;
    let mut events = vec![
        Event::workspace_joined(member.user_id, workspace),
        Event::workspace_member_joined(member),
    ];
    events.extend(entered(general));
    // Their peers, too, who may write again.
    events.extend(dms.iter().flat_map(|dm| came_in(member.user_id, &dm.summary, dm.access_rev)));
    events
}
