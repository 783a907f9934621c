//! How people come into conversations and workspaces. Callers have checked that all the ids exist.

use std::collections::BTreeMap;

use parlance_application::{
    Error, Result,
    ports::store::{Admission, Entry, NewChannel, NewDm, SnapshotEntry, Subject},
};
use parlance_domain::{
    AccessRev, ChannelMember, Conversation, ConversationId, ConversationKind, Member, Rev, Role,
    Seq, Timestamp, UserId, WorkspaceId,
};

use super::state::{ConversationRow, MemberRow, RoleRow, State};

impl State {
    /// Adds a channel with nobody in it.
    pub(super) fn insert_channel(&mut self, creator: UserId, new: NewChannel, general: bool) {
        let conversation = Conversation {
            name: Some(new.name.into()),
            topic: Some(new.topic.into()),
            private: new.private,
            ..empty(new.id, new.workspace_id, ConversationKind::Channel)
        };
        let row = row(conversation, creator, new.at, self.now());
        self.conversations.insert(new.id, ConversationRow { general, ..row });
    }

    /// Adds a DM with both sides in it.
    pub(super) fn insert_dm(&mut self, actor: UserId, new: &NewDm, pair: [UserId; 2]) {
        let now = self.now();
        let conversation = Conversation {
            private: true,
            member_ids: Some(pair.to_vec()),
            ..empty(new.id, new.workspace_id, ConversationKind::Dm)
        };
        let mut row = row(conversation, actor, new.at, now);
        let member = MemberRow { read_seq: Seq(0), joined_at: new.at, entered: now, marked: None };
        row.members.extend(pair.map(|side| (side, member)));
        row.bump_access(now);
        self.conversations.insert(new.id, row);
    }

    /// Adds a person, with everything so far marked as read, unless they are in already.
    pub(super) fn enter(
        &mut self,
        id: ConversationId,
        user_id: UserId,
        at: Timestamp,
    ) -> Result<Entry> {
        let (now, user) = (self.now(), self.user(user_id)?);
        let row = self.conversation_mut(id)?;
        let entered = !row.members.contains_key(&user_id);
        if entered {
            row.bump_access(now);
            let read_seq = row.conversation.last_seq;
            let member = MemberRow { read_seq, joined_at: at, entered: now, marked: None };
            row.members.insert(user_id, member);
            self.trace(Subject::Participant(id, user_id));
        }
        let seen = self.see(Some(user_id), id).ok_or(Error::NotFound("conversation"))?;
        let joined_at = seen.row.members.get(&user_id).map_or(at, |member| member.joined_at);
        Ok(Entry {
            summary: seen.summary(),
            membership: ChannelMember { user_id, joined_at, user },
            access_rev: seen.row.access_rev,
            entered,
        })
    }

    /// Adds a person who is not in yet: to the workspace, to `general`, and back to the DMs of an earlier membership.
    pub(super) fn admit(
        &mut self,
        id: WorkspaceId,
        user: UserId,
        role: Role,
        at: Timestamp,
    ) -> Result<Admission> {
        let now = self.now();
        let row = self.workspace_mut(id)?;
        let general = row.general;
        row.changed = now;
        row.members.insert(user, RoleRow { role, joined_at: at });
        self.trace(Subject::Member(id, user));
        let mut dms = Vec::new();
        for dm in self.joined(user, id) {
            self.conversation_mut(dm)?.bump_access(now);
            let seen = self.see(Some(user), dm).ok_or(Error::NotFound("conversation"))?;
            let (summary, access_rev) = (seen.summary(), seen.row.access_rev);
            dms.push(SnapshotEntry { summary, access_rev });
            self.conversation_mut(dm)?.members.entry(user).and_modify(|it| it.entered = now);
        }
        let general = self.enter(general, user, at)?;
        Ok(Admission {
            workspace: self.workspace_of(user, id)?,
            member: self.membership(id, user)?,
            general,
            dms,
        })
    }

    /// The workspace's conversations that the person is in, oldest first.
    pub(super) fn joined(&self, user: UserId, workspace: WorkspaceId) -> Vec<ConversationId> {
        let mut keys: Vec<_> = self
            .seen_by(user, Some(workspace))
            .filter(|seen| seen.read_seq.is_some())
            .map(|seen| seen.key())
            .collect();
        keys.sort_unstable();
        keys.into_iter().map(|(_, id)| id).collect()
    }

    pub(super) fn membership(&self, id: WorkspaceId, user_id: UserId) -> Result<Member> {
        let row = self.workspaces.get(&id).and_then(|row| row.members.get(&user_id));
        let RoleRow { role, joined_at } = *row.ok_or(Error::NotFound("member"))?;
        Ok(Member { workspace_id: id, user_id, role, joined_at, user: self.user(user_id)? })
    }

    /// All of a person's memberships.
    pub(super) fn memberships(&self, user: UserId) -> Result<Vec<Member>> {
        let theirs = self.workspaces.iter().filter(|(_, row)| row.members.contains_key(&user));
        theirs.map(|(id, _)| self.membership(*id, user)).collect()
    }
}

const fn empty(
    id: ConversationId,
    workspace_id: WorkspaceId,
    kind: ConversationKind,
) -> Conversation {
    Conversation {
        id,
        workspace_id,
        kind,
        name: None,
        topic: None,
        private: false,
        archived_at: None,
        member_ids: None,
        rev: Rev(0),
        last_seq: Seq(0),
        last_message_at: None,
    }
}

const fn row(
    conversation: Conversation,
    created_by: UserId,
    created_at: Timestamp,
    changed: Timestamp,
) -> ConversationRow {
    ConversationRow {
        conversation,
        access_rev: AccessRev(0),
        general: false,
        created_by,
        created_at,
        deleted: false,
        changed,
        members: BTreeMap::new(),
        messages: Vec::new(),
        revs: BTreeMap::new(),
        sends: BTreeMap::new(),
    }
}
