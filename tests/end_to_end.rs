//! The real binary over real sockets, on the embedded default: nothing but the wire contract is used.

mod accounts;
mod conversations;
mod durability;
mod support;
