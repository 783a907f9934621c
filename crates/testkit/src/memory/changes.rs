//! What has changed since an earlier look. Each look repeats the last write before the previous one, so that nothing
//! relies on being told only once.

use async_trait::async_trait;
use parlance_application::{
    Result, Unauthenticated,
    ports::store::{Changes, Head, Look, Mark, Readers, State as Found, Subject},
};
use parlance_domain::{
    ConversationAction, ConversationId, Role, SessionId, SessionRev, Timestamp, UserId, Workspace,
    WorkspaceId,
};

use super::{
    MemoryStore,
    state::{ConversationRow, State},
};

#[async_trait]
impl Changes for MemoryStore {
    async fn changes(&self, since: Option<Timestamp>) -> Result<Look> {
        self.read("changes", |state| Ok(state.look(since))).await
    }

    async fn heads(&self, conversations: Vec<ConversationId>) -> Result<Vec<Head>> {
        self.read("heads", |state| {
            let rows = conversations.iter().filter_map(|id| state.conversations.get(id));
            Ok(rows.filter(|row| !row.deleted).map(ConversationRow::head).collect())
        })
        .await
    }

    async fn readers(
        &self,
        conversation: ConversationId,
        users: Vec<UserId>,
    ) -> Result<Option<Readers>> {
        self.read("readers", |state| {
            let Some(seen) = state.see(None, conversation) else { return Ok(None) };
            let access_rev = seen.row.access_rev;
            let reads = |user: &UserId| {
                let seen = state.see(Some(*user), conversation);
                seen.is_some_and(|seen| {
                    seen.row.members.contains_key(user)
                        && seen.standing.permits(ConversationAction::Read).is_ok()
                })
            };
            Ok(Some(Readers { access_rev, users: users.into_iter().filter(reads).collect() }))
        })
        .await
    }

    async fn ended_sessions(&self, of: Vec<SessionId>) -> Result<Vec<SessionId>> {
        self.read("ended_sessions", |state| {
            Ok(of.into_iter().filter(|session| state.has_ended(*session)).collect())
        })
        .await
    }

    async fn session_rev(&self) -> Result<SessionRev> {
        self.read("session_rev", |state| Ok(state.session_rev)).await
    }

    async fn workspace_members(
        &self,
        workspace: WorkspaceId,
        users: Vec<UserId>,
    ) -> Result<Vec<UserId>> {
        self.read("workspace_members", |state| {
            let is_in = |user: &UserId| state.role_in(*user, workspace).is_some();
            Ok(users.into_iter().filter(is_in).collect())
        })
        .await
    }

    async fn states(&self, of: Vec<Subject>) -> Result<Vec<(Subject, Found)>> {
        self.read("states", |state| {
            let found = |subject| state.found(subject).map(|found| (subject, found));
            Ok(of.into_iter().filter_map(found).collect())
        })
        .await
    }
}

impl State {
    /// Whether a session has ended or is unknown.
    pub(super) fn has_ended(&self, session: SessionId) -> bool {
        self.sessions.get(&session).is_none_or(|row| row.ended)
    }

    /// Refuses an ended session: the request may have been let in before.
    pub(super) fn must_live(&self, session: SessionId) -> Result<()> {
        if self.has_ended(session) { Err(Unauthenticated::Revoked.into()) } else { Ok(()) }
    }

    fn found(&self, subject: Subject) -> Option<Found> {
        match subject {
            Subject::Workspace(id) => Some(self.shared(id).map_or(Found::Gone, Found::Workspace)),
            Subject::Member(id, user) | Subject::Role(id, user) => {
                let workspace = self.shared(id)?;
                let member = self.membership(id, user).ok();
                Some(member.map_or(Found::Gone, |it| Found::Member(Box::new((it, workspace)))))
            }
            Subject::Participant(id, user) => {
                let seen = self.see(Some(user), id)?;
                let in_workspace = self.role_in(user, seen.row.conversation.workspace_id).is_some();
                let inside = in_workspace && seen.read_seq.is_some();
                Some(if inside { Found::Inside } else { Found::Gone })
            }
        }
    }

    /// A workspace as a member sees it.
    fn shared(&self, id: WorkspaceId) -> Option<Workspace> {
        let row = self.workspaces.get(&id).filter(|row| !row.deleted)?;
        let (name, created_at) = (row.name.clone(), row.created_at);
        Some(Workspace { id, name, role: Role::Member, join_code: None, created_at })
    }

    fn look(&self, since: Option<Timestamp>) -> Look {
        let recent = |stamp: Timestamp| since.is_some_and(|since| stamp >= since);
        let conversations = self.conversations.values();
        let admitted = self.conversations.iter().flat_map(|(id, row)| {
            let members = row.members.iter().filter(|(_, member)| recent(member.entered));
            members.map(|(user, _)| (*id, *user))
        });
        let workspaces = self.workspaces.iter().filter(|(_, row)| recent(row.changed));
        let marks = self.conversations.iter().flat_map(|(id, row)| {
            let marked = row.members.iter().filter(|(_, member)| member.marked.is_some_and(recent));
            marked.map(|(user, member)| Mark {
                conversation_id: *id,
                user_id: *user,
                read_seq: member.read_seq,
            })
        });
        Look {
            heads: conversations
                .filter(|row| recent(row.changed))
                .map(ConversationRow::head)
                .collect(),
            admitted: admitted.collect(),
            workspaces: workspaces.map(|(id, _)| *id).collect(),
            traces: self
                .traces
                .iter()
                .filter(|(_, stamp)| recent(**stamp))
                .map(|(subject, stamp)| (*subject, *stamp))
                .collect(),
            marks: marks.collect(),
            session_rev: self.session_rev,
            until: self.now(),
            more: false,
        }
    }
}
