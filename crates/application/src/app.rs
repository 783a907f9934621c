//! Wires the use cases behind people's requests to the ports ([`Ports`]). The binary makes one [`App`]; what each use
//! case needs is decided only here. The job board and the job runner have fields of their own, which the binary fills.

use std::sync::Arc;

use crate::{
    Accounts, Channels, Hello, Messages, Tasks, Workspaces,
    attempts::Attempts,
    live::{Lanes, Live, Sequencer},
    ports::{Ambient, PasswordHasher, TokenIssuer, store::Store},
    publisher::Publisher,
    rate_limit::WriteLimit,
};

/// Everything that the use cases need from outside.
pub struct Ports {
    /// The database.
    pub store: Arc<dyn Store>,
    /// Clock, ids, randomness.
    pub ambient: Arc<dyn Ambient>,
    /// Password hashes.
    pub hasher: Arc<dyn PasswordHasher>,
    /// Access and refresh tokens.
    pub tokens: Arc<dyn TokenIssuer>,
    /// This node's live side.
    pub live: Live,
    /// This node's task set.
    pub tasks: Arc<Tasks>,
    /// Whether the rate limits apply: of changes, of `hello`s and of guesses.
    pub rate_limits: bool,
    /// Whether the store commits the changes of several conversations together.
    pub lanes: Lanes,
}

/// All use cases of a node.
pub struct App {
    /// Sign-up, sign-in, sessions, profiles.
    pub accounts: Accounts,
    /// Teams and who is in them.
    pub workspaces: Workspaces,
    /// Channels, DMs, and how far people have read.
    pub channels: Channels,
    /// Messages, their changes and their history.
    pub messages: Messages,
    /// Connections: their opening and what they have missed.
    pub hello: Hello,
    /// This node's live side.
    pub live: Live,
    /// Clock, ids, randomness.
    pub ambient: Arc<dyn Ambient>,
    sequencer: Sequencer,
}

impl App {
    /// Hands each use case the ports it needs.
    pub fn new(ports: Ports) -> Self {
        let Ports { store, ambient, hasher, tokens, live, tasks, rate_limits, lanes } = ports;
        let limit = Arc::new(WriteLimit::new(rate_limits));
        let sequencer = Sequencer::new(store.clone(), live.clone(), tasks.clone(), lanes);
        let publisher = Publisher::new(live.clone(), tasks, limit.clone());
        Self {
            accounts: Accounts::new(
                store.clone(),
                hasher,
                tokens,
                ambient.clone(),
                publisher.clone(),
                Attempts::new(rate_limits),
            ),
            workspaces: Workspaces::new(
                store.clone(),
                store.clone(),
                ambient.clone(),
                publisher.clone(),
            ),
            channels: Channels::new(
                store.clone(),
                ambient.clone(),
                sequencer.clone(),
                publisher,
                limit.clone(),
            ),
            hello: Hello::new(&store, ambient.clone(), live.clone(), rate_limits),
            messages: Messages::new(
                store.clone(),
                store,
                sequencer.clone(),
                ambient.clone(),
                limit,
            ),
            live,
            ambient,
            sequencer,
        }
    }

    /// From now on, durable changes of conversations are `Unavailable`, queued ones that the store has not begun
    /// included: the node is shutting down, and clients send them to another.
    pub fn refuse_writes(&self) {
        self.sequencer.close();
    }
}
