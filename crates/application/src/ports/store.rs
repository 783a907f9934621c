//! The store: five narrow ports, one database. [`Store`] is their sum, for wiring.

mod accounts;
mod changes;
mod conversations;
mod messages;
mod outbox;
mod paging;
mod workspaces;

pub use accounts::{
    Accounts, Credentials, EndedSessions, KEPT_TOKENS, NewPassword, NewSession, Renamed,
    RotateRefresh, Rotation, forgotten_before,
};
pub use changes::{Changes, Head, Look, Mark, Readers, State, Subject};
pub use conversations::{
    Conversations, Entry, GENERAL_STAYS, NAME_TAKEN, NewChannel, NewDm, OpenedDm, ReadMark,
    Snapshot, SnapshotEntry,
};
pub use messages::{
    Change, Commit, Committed, Draft, History, HistoryQuery, Messages, Reader, ReplayPage,
    ReplayQuery, SENT_BEFORE, Write,
};
pub use outbox::Outbox;
pub use paging::{Page, PageQuery, Start};
pub use workspaces::{
    Admission, Departure, Joining, LAST_ADMIN, NewMember, NewWorkspace, Workspaces,
};

#[cfg(feature = "mocks")]
pub use self::{
    accounts::MockAccounts, changes::MockChanges, conversations::MockConversations,
    messages::MockMessages, outbox::MockOutbox, workspaces::MockWorkspaces,
};

/// Everything that one database offers. An `Arc<dyn Store>` upcasts to each narrow port.
pub trait Store: Accounts + Workspaces + Conversations + Messages + Outbox {}

impl<T: Accounts + Workspaces + Conversations + Messages + Outbox> Store for T {}
