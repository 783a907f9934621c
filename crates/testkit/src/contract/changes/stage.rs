//! The scene of the contract of `Changes`: a store, a look at it, and a way to make everything so far old.

use std::sync::Arc;

use async_trait::async_trait;
use parlance_application::ports::store::{Changes, Head, Look, Readers, Store};
use parlance_domain::{AccessRev, ConversationId, Timestamp, UserId, WorkspaceId};

use crate::{Stage, Team};

/// A store that several nodes share, and a node that looks at it.
pub struct SharedStage {
    /// A stage on the same store.
    pub stage: Stage,
    /// What is looked at.
    pub changes: Arc<dyn Changes>,
    place: Box<dyn Place>,
}

/// Where a store is, for as long as this is held.
#[async_trait]
pub trait Place: Send + Sync {
    /// Moves all stamps that looks go by far into the past, so that a look finds only what is stamped after this.
    async fn age(&self);
}

/// For a store that is only in memory, and whose looks go by counts: there are no stamps to move.
#[async_trait]
impl Place for () {
    async fn age(&self) {}
}

impl SharedStage {
    /// Sets up around a fresh store.
    pub fn new(store: impl Store + Changes + Clone + 'static, place: impl Place + 'static) -> Self {
        let (changes, place) = (Arc::new(store.clone()), Box::new(place));
        Self { changes, stage: Stage::new(store), place }
    }

    /// A workspace of an admin with a member in it.
    pub(super) async fn scene(&self) -> (Team, [UserId; 2]) {
        let [ada, bob] = self.stage.people(["ada", "bob"]).await;
        (self.stage.team_of(ada, [bob]).await, [ada, bob])
    }

    pub(super) async fn now(&self) -> Timestamp {
        self.changes.changes(None).await.expect("looks").until
    }

    /// Looks until there is no more, and returns all that was found.
    pub(super) async fn look(&self, since: Timestamp) -> Look {
        let mut all = self.changes.changes(Some(since)).await.expect("looks");
        while all.more {
            let next = self.changes.changes(Some(all.until)).await.expect("looks");
            all.heads.extend(next.heads);
            all.admitted.extend(next.admitted);
            all.workspaces.extend(next.workspaces);
            all.traces.extend(next.traces);
            all.marks.extend(next.marks);
            all.session_rev = next.session_rev;
            (all.until, all.more) = (next.until, next.more);
        }
        all
    }

    /// What the first look after a change finds, without anything from before it.
    pub(super) async fn after<T>(&self, change: impl Future<Output = T>) -> (Look, T) {
        self.place.age().await;
        let since = self.now().await;
        let done = change.await;
        (self.look(since).await, done)
    }

    pub(super) async fn head(&self, conversation: ConversationId) -> Option<Head> {
        self.changes.heads(vec![conversation]).await.expect("answers").pop()
    }

    /// Those who read, in order, and the count at which they do; nothing if it has been deleted.
    pub(super) async fn readers(
        &self,
        conversation: ConversationId,
        users: &[UserId],
    ) -> Option<(Vec<UserId>, AccessRev)> {
        let found = self.changes.readers(conversation, users.to_vec()).await.expect("answers");
        found.map(|Readers { mut users, access_rev }| {
            users.sort_unstable();
            (users, access_rev)
        })
    }

    pub(super) async fn is_in(&self, workspace: WorkspaceId, users: &[UserId]) -> Vec<UserId> {
        let mut found =
            self.changes.workspace_members(workspace, users.to_vec()).await.expect("answers");
        found.sort_unstable();
        found
    }
}
