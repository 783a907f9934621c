//! REST: one file for each area of the contract. A handler parses, calls one use case, and answers with a read model.

pub(crate) mod accounts;
pub(crate) mod channels;
mod docs;
mod list;
pub(crate) mod messages;
pub(crate) mod system;
pub(crate) mod workspaces;

pub(crate) mod routes;
