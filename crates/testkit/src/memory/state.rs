//! The state of the store.

use std::collections::BTreeMap;

use parlance_application::{
    Error, Result,
    jobs::Job,
    ports::{
        PasswordHash,
        store::{Head, Subject},
    },
};
use parlance_domain::{
    AccessRev, Account, Conversation, ConversationId, Message, MessageId, Rev, Role, Seq,
    SessionId, SessionRev, Timestamp, User, UserId, WorkspaceId,
};

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct State {
    /// The number of writes so far, used as milliseconds.
    clock: i64,
    pub(super) users: BTreeMap<UserId, UserRow>,
    pub(super) addresses: BTreeMap<String, UserId>,
    /// Those that have ended too.
    pub(super) sessions: BTreeMap<SessionId, SessionRow>,
    /// How many have ended.
    pub(super) session_rev: SessionRev,
    /// The session and the generation of each digest of a refresh token.
    pub(super) tokens: BTreeMap<[u8; 32], (SessionId, u64)>,
    pub(super) workspaces: BTreeMap<WorkspaceId, WorkspaceRow>,
    pub(super) conversations: BTreeMap<ConversationId, ConversationRow>,
    /// Where each message is: its conversation and its `seq`.
    pub(super) places: BTreeMap<MessageId, (ConversationId, Seq)>,
    /// The stamp of the last change of each.
    pub(super) traces: BTreeMap<Subject, Timestamp>,
    /// Oldest first.
    pub(super) outbox: Vec<JobRow>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct UserRow {
    pub(super) account: Account,
    pub(super) password: PasswordHash,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SessionRow {
    pub(super) user_id: UserId,
    pub(super) created_at: Timestamp,
    pub(super) last_used_at: Timestamp,
    pub(super) expires_at: Timestamp,
    /// Of the current refresh token.
    pub(super) generation: u64,
    pub(super) rotated_at: Timestamp,
    /// Whether it was ended; one that has just expired was not.
    pub(super) ended: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct WorkspaceRow {
    pub(super) name: String,
    pub(super) join_code: String,
    pub(super) general: ConversationId,
    pub(super) created_at: Timestamp,
    pub(super) deleted: bool,
    /// The stamp of its last change, and of its members'.
    pub(super) changed: Timestamp,
    /// Empty for a deleted workspace.
    pub(super) members: BTreeMap<UserId, RoleRow>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RoleRow {
    pub(super) role: Role,
    pub(super) joined_at: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ConversationRow {
    pub(super) conversation: Conversation,
    pub(super) access_rev: AccessRev,
    pub(super) general: bool,
    pub(super) created_by: UserId,
    pub(super) created_at: Timestamp,
    pub(super) deleted: bool,
    /// The stamp of the head's last change.
    pub(super) changed: Timestamp,
    pub(super) members: BTreeMap<UserId, MemberRow>,
    /// By `seq`, which is dense.
    pub(super) messages: Vec<MessageRow>,
    /// The `seq` of the message whose last change has that rev.
    pub(super) revs: BTreeMap<Rev, Seq>,
    /// The `seq` and the first text of everything ever sent, by author and `client_msg_id`.
    pub(super) sends: BTreeMap<(UserId, String), (Seq, String)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct MemberRow {
    pub(super) read_seq: Seq,
    pub(super) joined_at: Timestamp,
    /// The stamp of their entry.
    pub(super) entered: Timestamp,
    /// The stamp of their read mark.
    pub(super) marked: Option<Timestamp>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MessageRow {
    pub(super) message: Message,
    /// All who have reacted, of whom the message names some: each emoji with its people, in order of use.
    pub(super) reactions: Vec<(String, Vec<UserId>)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct JobRow {
    pub(super) job: Job,
    pub(super) relayed_at: Option<Timestamp>,
    pub(super) buried: bool,
}

impl State {
    /// The store's time: the stamp of what the current write changes, or the last one's.
    pub(super) const fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.clock)
    }

    /// Runs a write, later than all before.
    pub(super) fn commit<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        self.clock += 1;
        work(self)
    }

    /// A person as others see them.
    pub(super) fn user(&self, id: UserId) -> Result<User> {
        let row = self.users.get(&id).ok_or(Error::NotFound("user"))?;
        Ok(row.account.clone().into())
    }

    pub(super) fn workspace_mut(&mut self, id: WorkspaceId) -> Result<&mut WorkspaceRow> {
        self.workspaces.get_mut(&id).ok_or(Error::NotFound("workspace"))
    }

    pub(super) fn conversation_mut(&mut self, id: ConversationId) -> Result<&mut ConversationRow> {
        self.conversations.get_mut(&id).ok_or(Error::NotFound("conversation"))
    }

    /// Notes that something changes with this write.
    pub(super) fn trace(&mut self, of: Subject) {
        self.traces.insert(of, self.now());
    }

    /// Adds a job to the write.
    pub(super) fn put_job(&mut self, job: Job) {
        self.outbox.push(JobRow { job, relayed_at: None, buried: false });
    }
}

impl SessionRow {
    /// Whether it has neither ended nor expired.
    pub(super) fn lives(&self, at: Timestamp) -> bool {
        !self.ended && self.expires_at > at
    }
}

impl ConversationRow {
    /// Where it stands.
    pub(super) const fn head(&self) -> Head {
        let Conversation { id, rev, .. } = self.conversation;
        Head { conversation_id: id, rev, access_rev: self.access_rev }
    }

    /// Counts a change in who may read it.
    pub(super) fn bump_access(&mut self, now: Timestamp) -> AccessRev {
        self.changed = now;
        self.access_rev = self.access_rev.next();
        self.access_rev
    }

    /// Counts a durable change.
    pub(super) fn advance(&mut self, now: Timestamp) -> Rev {
        self.changed = now;
        self.conversation.rev = self.conversation.rev.next();
        self.conversation.rev
    }

    pub(super) fn message(&self, seq: Seq) -> Option<&MessageRow> {
        self.messages.get(index(seq)?)
    }

    pub(super) fn message_mut(&mut self, seq: Seq) -> Option<&mut MessageRow> {
        self.messages.get_mut(index(seq)?)
    }
}

/// Seqs begin at 1.
fn index(seq: Seq) -> Option<usize> {
    usize::try_from(seq.0.checked_sub(1)?).ok()
}

/// Two things have the same id: a bug of whoever chose it, not a caller's error.
pub(super) fn id_taken() -> Error {
    Error::internal("the store has something of this id already")
}
