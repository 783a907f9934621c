//! Parlance's reference client: the section "What a client does" of the wire contract, line by line. Tests, the
//! simulator and the benchmark talk to the server with it.
//!
//! ```text
//!  1  hello {token, resume {epoch, cursors}}                       Cache::resume
//!  2  its reply: another epoch → drop all; absent → purge;         Cache::welcome
//!       new → cursor = rev; behind → sync; held → cursor stays
//!  3  event, rev ≤ cursor: drop                                    Cache::apply
//!  4  event, rev = cursor + 1: upsert, cursor = rev                Cache::apply
//!  5  event beyond, or replay from beyond the cursor: sync, once   Cache::apply
//!  6  replay or sync page, from_rev ≤ cursor < to_rev:             Cache::apply, Cache::synced
//!       upsert all, cursor = to_rev; reset → drop the cache first
//!  7  upsert: by id if rev is greater; not held → new,             Cache::apply
//!       unless older than the oldest that is loaded
//!  8  ok, REST, hello: never move a cursor                         Cache::apply, Cache::history
//!  9  send: the same client_msg_id until it is answered,           Client::send, Outbox
//!       later sends of that conversation wait
//! 10  closed or lost: come back with jitter, not before the        Backoff, AfterClose, Client::connect
//!       server's hint; 45xx: not as you are
//! ```
//!
//! [`Cache`], [`Outbox`] and [`Backoff`] are pure: no I/O and no clock. [`Client`] runs them over a WebSocket. With
//! [`Seeded`] randomness, a custom [`Dial`] and tokio's paused clock it is deterministic.

mod backoff;
mod cache;
mod client;
mod config;
mod connection;
mod error;
mod keeper;
mod outbox;
mod random;
mod shared;

pub use self::{
    backoff::{AfterClose, Backoff},
    cache::{Applied, Cache, Conversation, Message, ReadState, Resume, SyncRequest, Unreadable},
    client::Client,
    config::{Config, Dial, FixedToken, NoToken, Tcp, TokenSource, Wire},
    error::{CommandError, Refusal, SendError, Stopped},
    outbox::{NotTaken, Outbox, Outcome, Send},
    random::{Randomness, Seeded, SystemRandomness},
    shared::{Stats, Update},
};
