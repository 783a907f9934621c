//! Traces of changes that no count shows, for other nodes to find if the bus did not bring them. A trace is written in
//! the transaction of its change, and outlives the membership that it is about.

use std::collections::{HashMap, HashSet};

use bson::{Document, doc};
use parlance_application::{
    Result,
    ports::store::{State, Subject},
};
use parlance_domain::{ConversationId, Role, UserId, WorkspaceId};

use crate::{
    MongoStore,
    documents::{
        ConversationDoc, MemberDoc, RoleDoc, Stored, TraceDoc, TraceKind, UserDoc, WorkspaceDoc,
        id, uuid,
    },
    error::Outcome,
    members::stamped,
    reads::Reads,
    tx::Tx,
    views::read,
};

/// Notes in a change's own transaction what it changes.
pub(crate) async fn leave_trace(tx: &mut Tx, of: Subject) -> Outcome<()> {
    tx.upsert::<TraceDoc>(key(of), stamped()).await
}

/// The same for several in one command.
pub(crate) async fn leave_traces(
    tx: &mut Tx,
    of: impl Iterator<Item = Subject> + Send,
) -> Outcome<()> {
    tx.upsert_each::<TraceDoc>(of.map(|subject| (key(subject), stamped()))).await
}

impl TraceDoc {
    /// What it is about; `None` if its kind needs a person and it names none.
    pub(crate) fn subject(&self) -> Option<Subject> {
        let place = uuid(self.place);
        let user = self.user_id.map(|user| UserId(uuid(user)));
        Some(match self.kind {
            TraceKind::Workspace => Subject::Workspace(WorkspaceId(place)),
            TraceKind::Member => Subject::Member(WorkspaceId(place), user?),
            TraceKind::Role => Subject::Role(WorkspaceId(place), user?),
            TraceKind::Participant => Subject::Participant(ConversationId(place), user?),
        })
    }
}

impl MongoStore {
    /// The present states of these.
    pub(crate) async fn present(&self, of: Vec<Subject>) -> Result<Vec<(Subject, State)>> {
        let (mut users, mut workspaces) = (HashSet::new(), HashSet::new());
        let mut conversations = HashSet::new();
        for subject in &of {
            match subject {
                Subject::Workspace(workspace) => {
                    workspaces.insert(id(workspace.0));
                }
                Subject::Member(workspace, user) | Subject::Role(workspace, user) => {
                    workspaces.insert(id(workspace.0));
                    users.insert(id(user.0));
                }
                Subject::Participant(conversation, user) => {
                    conversations.insert(id(conversation.0));
                    users.insert(id(user.0));
                }
            }
        }
        let reads = self.own_reads().await?;
        let heads = by_id::<ConversationDoc>(&reads, &conversations).await?;
        let heads: HashMap<_, _> = heads.into_iter().map(|head| (head.id, head)).collect();
        workspaces.extend(heads.values().map(|head| head.workspace_id));
        let all = by_id::<WorkspaceDoc>(&reads, &workspaces).await?;
        let all: HashMap<_, _> = all.into_iter().map(|it| (it.id, it)).collect();
        let users = list(&users);
        let (mut roles, mut people) = (HashMap::new(), HashMap::new());
        let mut inside = HashSet::new();
        if !users.is_empty() {
            let in_any = doc! { "$in": &users };
            let found = doc! { "workspace_id": { "$in": list(&workspaces) }, "user_id": &in_any };
            let found = reads.all::<RoleDoc>(found).await?;
            roles.extend(found.into_iter().map(|role| ((role.workspace_id, role.user_id), role)));
            let found = reads.all::<UserDoc>(doc! { "_id": &in_any }).await?;
            people.extend(found.into_iter().map(|user| (user.id, user)));
            if !heads.is_empty() {
                let of = list(&conversations);
                let found = doc! { "conversation_id": { "$in": of }, "user_id": &in_any };
                let found = reads.all::<MemberDoc>(found).await?;
                inside.extend(found.into_iter().map(|it| (it.conversation_id, it.user_id)));
            }
        }
        let state = |subject: Subject| match subject {
            Subject::Workspace(workspace) => {
                let found = all.get(&id(workspace.0));
                let shared = found.map(|found| State::Workspace(read(found, Role::Member)));
                Some((subject, shared.unwrap_or(State::Gone)))
            }
            Subject::Member(workspace, user) | Subject::Role(workspace, user) => {
                let found = all.get(&id(workspace.0))?;
                let role = roles.get(&(found.id, id(user.0)));
                let Some(role) = role else { return Some((subject, State::Gone)) };
                let member = role.member(people.get(&role.user_id)?.clone());
                Some((subject, State::Member(Box::new((member, read(found, Role::Member))))))
            }
            Subject::Participant(conversation, user) => {
                let head = heads.get(&id(conversation.0))?;
                let is_in = inside.contains(&(head.id, id(user.0)))
                    && roles.contains_key(&(head.workspace_id, id(user.0)));
                Some((subject, if is_in { State::Inside } else { State::Gone }))
            }
        };
        Ok(of.into_iter().filter_map(state).collect())
    }
}

/// Those that are not deleted.
async fn by_id<D: Stored>(reads: &Reads<'_>, ids: &HashSet<bson::Uuid>) -> Result<Vec<D>> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    reads.all(doc! { "_id": { "$in": list(ids) }, "deleted": false }).await
}

fn list(ids: &HashSet<bson::Uuid>) -> Vec<bson::Uuid> {
    ids.iter().copied().collect()
}

fn key(of: Subject) -> Document {
    match of {
        Subject::Workspace(workspace) => doc! { "kind": "workspace", "place": id(workspace.0) },
        Subject::Member(workspace, user) => {
            doc! { "kind": "member", "place": id(workspace.0), "user_id": id(user.0) }
        }
        Subject::Role(workspace, user) => {
            doc! { "kind": "role", "place": id(workspace.0), "user_id": id(user.0) }
        }
        Subject::Participant(conversation, user) => {
            doc! { "kind": "participant", "place": id(conversation.0), "user_id": id(user.0) }
        }
    }
}
