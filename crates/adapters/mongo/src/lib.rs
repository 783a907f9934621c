//! The MongoDB store, for a team that outgrows one machine: several nodes on one replica set.
//!
//! * Each method of a port is one transaction over several documents (`tx`), retried where the server says so.
//! * Every change of a conversation, or of who may read it, first writes its head, its document in `conversations`: so
//!   commits are in the order of revs, however many nodes write. Within a node, writers of the same head queue for it
//!   (`lanes`), so that the server need not refuse them.
//! * Appends that arrive at the same time share a transaction, whatever their conversations (`appends`).
//! * The schema is the numbered files of `migrations/mongo/` (`migrate`).
//! * Transactions that a dying node leaves open are ended by another (`orphans`).
//! * Stamps of the server's clock tell the other nodes what has changed (`changes`).
//!
//! No clock, ids or randomness in here: all are passed in or come from the server.

mod access;
mod accounts;
mod admission;
mod appends;
mod batch;
mod changes;
mod connect;
mod conversations;
mod dms;
mod documents;
mod error;
mod facts;
mod group;
mod lanes;
mod members;
mod messages;
mod migrate;
mod orphans;
mod outbox;
mod paging;
mod ping;
mod reactions;
mod read_models;
mod reads;
mod traces;
mod tx;
mod unread;
mod views;
mod workspaces;
mod writes;

pub use connect::MongoStore;
pub use migrate::migrate;
