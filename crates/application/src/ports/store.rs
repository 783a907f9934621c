//! The store: five narrow ports, one database. [`Store`] combines them, for wiring. [`Changes`] is separate: only a
//! store that several nodes share has it.
//!
//! Each method is atomic unless it says otherwise; a commit is durable when it returns.

mod accounts;
mod changes;
mod conversations;
mod messages;
mod outbox;
mod paging;
mod replay;
mod workspaces;

pub use accounts::{
    Accounts, Credentials, EMAIL_TAKEN, EndedSessions, KEPT_TOKENS, NewPassword, NewSession,
    Presented, Principal, Renamed, RotateRefresh, Rotation, forgotten_before,
};
pub use changes::{Changes, Head, Look, Mark, Readers, State, Subject};
pub use conversations::{
    Conversations, Entry, GENERAL_STAYS, NAME_TAKEN, NewChannel, NewDm, OpenedDm, ReadMark,
    Snapshot, SnapshotEntry, dm_with_oneself,
};
pub use messages::{
    Answers, Change, Changeable, ChannelUpdate, Commit, Committed, Draft, History, HistoryQuery,
    MessageChange, Messages, SENT_BEFORE, Write, too_many_emoji,
};
pub use outbox::{MOST_UNREADABLE, Outbox};
pub use paging::{MAX_PAGE, Page, PageQuery, Start, one_more};
pub use replay::{Filling, Reader, ReplayPage, ReplayQuery};
pub use workspaces::{
    ALREADY_MEMBER, Admission, Departure, Joining, LAST_ADMIN, NewMember, NewWorkspace, Workspaces,
};

#[cfg(feature = "mocks")]
pub use self::{
    accounts::MockAccounts, changes::MockChanges, conversations::MockConversations,
    messages::MockMessages, outbox::MockOutbox, workspaces::MockWorkspaces,
};

/// Everything that one database offers. An `Arc<dyn Store>` upcasts to each narrow port.
pub trait Store: Accounts + Workspaces + Conversations + Messages + Outbox {}

impl<T: Accounts + Workspaces + Conversations + Messages + Outbox> Store for T {}
