//! A whole store in memory, for fast tests.
//!
//! Every method of a port is one critical section of one lock (`MemoryStore::read`, `MemoryStore::write`); a refused
//! one has changed nothing, because each checks everything before its first change. Iteration is in key order, and the
//! store's clock counts its writes: nothing in here depends on time, chance or addresses.

mod access;
mod accounts;
mod append;
mod changes;
mod conversations;
mod entries;
mod messages;
mod outbox;
mod reactions;
mod state;
mod weather;
mod workspaces;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use parlance_application::{Result, ports::store::Head};
use parlance_domain::{ConversationAction, ConversationId, Message, SessionId, UserId};

pub use weather::{Calm, Weather};

use state::State;

/// A store that implements every port, [`Changes`](parlance_application::ports::store::Changes) too. Clones share the
/// state, as nodes share a database.
///
/// The type's own methods, for inspection, ignore permissions and weather. [`MemoryStore::members`] hides the port's
/// method of that name on this type: ask a `dyn Store`, or by `Workspaces::members`.
#[derive(Clone)]
pub struct MemoryStore {
    state: Arc<Mutex<State>>,
    weather: Arc<dyn Weather>,
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self { state: Arc::default(), weather: Arc::new(Calm) }
    }
}

impl std::fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryStore").finish_non_exhaustive()
    }
}

impl MemoryStore {
    /// Nobody in it, calm weather.
    pub fn new() -> Self {
        Self::default()
    }

    /// Another handle on the same state, behind this weather instead of the current one.
    #[must_use]
    pub fn behind(&self, weather: Arc<dyn Weather>) -> Self {
        Self { state: self.state.clone(), weather }
    }

    /// A conversation's messages by `seq`, tombstones and those of a deleted conversation included.
    pub fn messages(&self, conversation: ConversationId) -> Vec<Message> {
        let state = self.lock();
        let rows = state.conversations.get(&conversation).into_iter().flat_map(|row| &row.messages);
        rows.map(|row| row.message.clone()).collect()
    }

    /// A conversation's head, even of a deleted one.
    pub fn head(&self, conversation: ConversationId) -> Option<Head> {
        self.lock().conversations.get(&conversation).map(state::ConversationRow::head)
    }

    /// Members of a conversation who may read it, by id: without those who have left a DM's workspace, and none for a
    /// deleted conversation.
    pub fn members(&self, conversation: ConversationId) -> Vec<UserId> {
        let state = self.lock();
        let Some(row) = state.conversations.get(&conversation) else { return Vec::new() };
        let reads = |user: &UserId| {
            let seen = state.see(Some(*user), conversation);
            seen.is_some_and(|seen| seen.standing.permits(ConversationAction::Read).is_ok())
        };
        row.members.keys().copied().filter(reads).collect()
    }

    async fn read<T: Send>(
        &self,
        method: &'static str,
        work: impl FnOnce(&State) -> Result<T> + Send,
    ) -> Result<T> {
        self.weather.before(method).await?;
        let outcome = work(&self.lock());
        self.weather.after(method).await?;
        outcome
    }

    async fn write<T: Send>(
        &self,
        method: &'static str,
        work: impl FnOnce(&mut State) -> Result<T> + Send,
    ) -> Result<T> {
        self.weather.before(method).await?;
        let outcome = self.lock().commit(work);
        self.weather.after(method).await?;
        outcome
    }

    /// A person's change, unless this session of theirs has ended.
    async fn change<T: Send>(
        &self,
        method: &'static str,
        session: SessionId,
        work: impl FnOnce(&mut State) -> Result<T> + Send,
    ) -> Result<T> {
        self.write(method, |state| {
            state.must_live(session)?;
            work(state)
        })
        .await
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
