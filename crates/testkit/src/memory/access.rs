//! A person's relation to a conversation, and what it lets them do and see.

use std::cmp::Reverse;

use parlance_application::{
    Error, Result,
    ports::store::{Page, Start},
};
use parlance_domain::{
    ConversationAction, ConversationId, ConversationKind, ReadState, Role, Seq, Standing, Summary,
    Timestamp, UserId, WorkspaceAction, WorkspaceId, membership::Facts,
};
use uuid::Uuid;

use super::state::{ConversationRow, State};

/// A conversation as one person sees it.
#[derive(Clone, Copy)]
pub(super) struct Seen<'a> {
    pub(super) row: &'a ConversationRow,
    pub(super) standing: Standing,
    /// The person's read mark, if they are in it.
    pub(super) read_seq: Option<Seq>,
    viewer: Option<UserId>,
}

impl Seen<'_> {
    /// Asks the domain's permission matrix.
    pub(super) fn permits(&self, action: ConversationAction, what: &'static str) -> Result<()> {
        self.standing.permits(action).map_err(|denied| Error::denied(denied, what))
    }

    /// The person's view of it.
    pub(super) fn summary(&self) -> Summary {
        Summary {
            conversation: self.row.conversation.clone(),
            read: self.read(),
            can_post: self.standing.permits(ConversationAction::Post).is_ok(),
            joined: self.read_seq.is_some(),
        }
    }

    /// How far the person has read. For somebody outside, nothing is unread.
    pub(super) fn read(&self) -> ReadState {
        let read_seq = self.read_seq.unwrap_or(self.row.conversation.last_seq);
        let read = usize::try_from(read_seq.0).unwrap_or(usize::MAX);
        let unread =
            self.row.messages.iter().skip(read).filter(|row| {
                row.message.author_id != self.viewer && row.message.deleted_at.is_none()
            });
        let counted = usize::try_from(ReadState::COUNTED).unwrap_or(usize::MAX);
        let unread_count = unread.take(counted).map(|_| 1).sum();
        ReadState { read_seq, unread_count, mention_count: 0 }
    }

    /// Its place in a list: by age.
    pub(super) const fn key(&self) -> (Timestamp, ConversationId) {
        (self.row.created_at, self.row.conversation.id)
    }
}

impl State {
    /// A conversation as one person (or nobody) sees it, if it exists and is not deleted.
    pub(super) fn see(&self, viewer: Option<UserId>, id: ConversationId) -> Option<Seen<'_>> {
        self.conversations.get(&id).and_then(|row| self.seen(viewer, row))
    }

    /// All conversations that are not deleted, as somebody sees them; those of one workspace, if one is named.
    pub(super) fn seen_by(
        &self,
        viewer: UserId,
        workspace: Option<WorkspaceId>,
    ) -> impl Iterator<Item = Seen<'_>> {
        self.conversations
            .values()
            .filter(move |row| workspace.is_none_or(|id| row.conversation.workspace_id == id))
            .filter_map(move |row| self.seen(Some(viewer), row))
    }

    /// The conversation, if the person may do the action.
    pub(super) fn authorize(
        &self,
        actor: UserId,
        id: ConversationId,
        action: ConversationAction,
        what: &'static str,
    ) -> Result<Seen<'_>> {
        let seen = self.see(Some(actor), id).ok_or(Error::NotFound(what))?;
        seen.permits(action, what)?;
        Ok(seen)
    }

    /// A person's role in a workspace that is not deleted.
    pub(super) fn role_in(&self, user: UserId, workspace: WorkspaceId) -> Option<Role> {
        Some(self.workspaces.get(&workspace)?.members.get(&user)?.role)
    }

    /// Refuses what the person may not do with the workspace.
    pub(super) fn authorize_workspace(
        &self,
        actor: UserId,
        workspace: WorkspaceId,
        action: WorkspaceAction,
    ) -> Result<()> {
        Role::permits(self.role_in(actor, workspace), action)
            .map_err(|denied| Error::denied(denied, "workspace"))
    }

    fn seen<'a>(&self, viewer: Option<UserId>, row: &'a ConversationRow) -> Option<Seen<'a>> {
        if row.deleted {
            return None;
        }
        let workspace = row.conversation.workspace_id;
        let in_workspace = |user: UserId| self.role_in(user, workspace).is_some();
        let mut pair = row.conversation.member_ids.iter().flatten();
        let member = viewer.and_then(|viewer| row.members.get(&viewer));
        let standing = Standing::of(Facts {
            role: viewer.and_then(|viewer| self.role_in(viewer, workspace)),
            kind: row.conversation.kind,
            private: row.conversation.private,
            joined: member.is_some(),
            creator: viewer == Some(row.created_by),
            peer_present: row.conversation.kind == ConversationKind::Dm
                && pair.all(|side| Some(*side) == viewer || in_workspace(*side)),
        });
        Some(Seen { row, standing, read_seq: member.map(|member| member.read_seq), viewer })
    }
}

/// The part of a list that a page shows, out of all its rows.
pub(super) fn page<T>(start: &Start, mut rows: Vec<(Timestamp, Uuid, T)>) -> Page<T> {
    rows.retain(|(at, id, _)| (at.as_millis(), *id) > (start.at, start.id));
    rows.sort_by_key(|(at, id, _)| (*at, *id));
    start.page(rows.into_iter().map(|(at, id, row)| (at.as_millis(), id, row)).collect())
}

/// The same of a list whose newest come first.
pub(super) fn page_back<T>(start: &Start, mut rows: Vec<(Timestamp, Uuid, T)>) -> Page<T> {
    let before = start.mirrored();
    rows.retain(|(at, id, _)| (at.as_millis(), *id) < before);
    rows.sort_by_key(|(at, id, _)| Reverse((*at, *id)));
    start.page_back(rows.into_iter().map(|(at, id, row)| (at.as_millis(), id, row)).collect())
}
