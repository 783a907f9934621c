//! The vocabulary of Parlance: what a user, a workspace, a conversation and a message are, and who may do what.
//!
//! Pure data and rules: no async, no I/O, no clock. Three kinds of type live here:
//!
//! * **Parsed newtypes** ([`text`], [`ids`]): made at the edge by `parse`, so that every value inside is valid.
//! * **Counters** ([`counters`]): each of its own type, so that none is mistaken for another.
//! * **Read models** ([`Account`], [`Workspace`], [`Summary`], [`Message`] …): they *are* the wire objects. Adapters
//!   map rows to them; transport serialises them as they are. Their JSON form is pinned by snapshots.
//!
//! To add a rule: if it is about permissions, write it as data in [`membership`]; if it is about the form of a value,
//! as a newtype in [`text`]; and let its test print or refuse it.

pub mod conversation;
pub mod counters;
pub mod ids;
pub mod membership;
pub mod message;
pub mod text;
pub mod time;
pub mod user;
pub mod workspace;

pub use conversation::{ChannelMember, Conversation, ConversationKind, ReadState, Summary};
pub use counters::{AccessRev, Rev, Seq, SessionRev};
pub use ids::{
    ConversationId, InvalidId, JobId, MessageId, NodeId, RequestId, SessionId, UserId, WorkspaceId,
};
pub use membership::{ConversationAction, Denied, Role, Standing, WorkspaceAction};
pub use message::{ChangeKind, Mentions, Message, Reaction};
pub use text::{
    ChannelName, ClientMsgId, DisplayName, Email, Emoji, Invalid, JoinCode, MessageText, Password,
    Topic, WorkspaceName,
};
pub use time::Timestamp;
pub use user::{Account, Session, User};
pub use workspace::{Member, Workspace};
