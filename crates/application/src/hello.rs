use std::{
    collections::HashSet,
    sync::{Arc, atomic::AtomicI64},
    time::Duration,
};

use tokio::{
    sync::SemaphorePermit,
    time::{Instant, sleep, timeout},
};

use crate::{
    Caller, Error, Result,
    hello_queue::HelloQueue,
    live::{Asked, Attachment, CatchUp, Live, Next, Page, Resume},
    ports::{
        Ambient, Claims, ConnectionId,
        store::{self, Reader, ReplayQuery, Snapshot, SnapshotEntry},
    },
};

/// How long the store may take for everything an opened connection is told.
const OPENING: Duration = Duration::from_secs(30);
/// How long to wait before a page is requested again from a store that did not answer.
const RETRY: Duration = Duration::from_secs(1);

/// The opening of a connection: whose it is, what it listens to, and what it has missed. In this order, so that nothing
/// is lost in between: register, check the session, read the snapshot, reply, attach, replay.
pub struct Hello {
    accounts: Arc<dyn store::Accounts>,
    conversations: Arc<dyn store::Conversations>,
    messages: Arc<dyn store::Messages>,
    ambient: Arc<dyn Ambient>,
    live: Live,
    queue: Option<HelloQueue>,
}

/// What an opened connection is told.
#[derive(Debug)]
pub struct Opened {
    /// Whose it is.
    pub caller: Caller,
    /// The current state.
    pub snapshot: Snapshot,
    /// What it has missed.
    pub catch_up: CatchUp,
}

impl Hello {
    pub(crate) fn new(
        store: &Arc<dyn store::Store>,
        ambient: Arc<dyn Ambient>,
        live: Live,
        rate_limits: bool,
    ) -> Self {
        Self {
            accounts: store.clone(),
            conversations: store.clone(),
            messages: store.clone(),
            ambient,
            live,
            queue: rate_limits.then(|| HelloQueue::new(Instant::now())),
        }
    }

    /// Opens a connection for whoever a token names, if its session lives. `heard_at` is the connection's own record,
    /// in milliseconds of [`Live::uptime`], of when it last heard its client. `Unavailable` while too many come at
    /// once, and if the store takes longer than half a minute: what is committed meanwhile is not remembered forever.
    pub async fn open(
        &self,
        claims: &Claims,
        connection: ConnectionId,
        heard_at: Arc<AtomicI64>,
        resume: Option<&Resume>,
    ) -> Result<Opened> {
        let _entered = match &self.queue {
            Some(queue) => Some(self.enter(queue).await?),
            None => None,
        };
        self.live.register(connection, claims.user_id, claims.session_id, heard_at).await;
        let opened = timeout(OPENING, self.read(claims, resume)).await;
        let opened = opened.unwrap_or_else(|_| Err(Error::unavailable("the store is too slow")));
        if opened.is_err() {
            self.live.unregister(connection).await;
        }
        opened
    }

    /// Joins the connection to everything it has been told of. Call it once the reply is queued: events follow it.
    pub async fn attach(&self, connection: ConnectionId, opened: &Opened) {
        let Opened { snapshot, catch_up, .. } = opened;
        let pending: Vec<_> = catch_up.pending().collect();
        let mut conversations: Vec<_> =
            snapshot.conversations.iter().map(SnapshotEntry::head).collect();
        let later: HashSet<_> = pending.iter().map(|head| head.conversation_id).collect();
        conversations.retain(|head| !later.contains(&head.conversation_id));
        let workspaces = snapshot.workspaces.iter().map(|workspace| workspace.id).collect();
        let read = |SnapshotEntry { summary, .. }: &SnapshotEntry| {
            (summary.conversation.id, summary.read.read_seq)
        };
        let read = snapshot.conversations.iter().map(read).collect();
        let home = |entry: &SnapshotEntry| {
            let conversation = &entry.summary.conversation;
            (conversation.id, conversation.workspace_id)
        };
        let homes = snapshot.conversations.iter().map(home).collect();
        let attachment = Attachment { workspaces, conversations, pending, read, homes };
        self.live.attach(connection, attachment).await;
    }

    /// Replays what the connection has missed, a page each time `drained` returns, and joins each conversation after
    /// its replay. Access is checked for each page.
    pub async fn catch_up<Drained: Future<Output = ()>>(
        &self,
        caller: &Caller,
        connection: ConnectionId,
        mut catch_up: CatchUp,
        mut drained: impl FnMut() -> Drained,
    ) {
        while let Some(next) = catch_up.next() {
            drained().await;
            let page = match next {
                Next::Tell(page) => page,
                Next::Read(conversation, from_rev) => {
                    let reader = Reader::Listener(caller.principal());
                    let query = ReplayQuery::after(from_rev);
                    let page = self.messages.replay(reader, conversation, query).await;
                    match catch_up.page(page) {
                        Ok(Asked::Tell(page)) => page,
                        Ok(Asked::LostAccess) => {
                            self.live.lost_access(connection, conversation).await;
                            continue;
                        }
                        Ok(Asked::InVain) => continue,
                        Err(error) => {
                            tracing::warn!(%error, %conversation, "a replay waits for the store");
                            sleep(RETRY).await;
                            continue;
                        }
                    }
                }
            };
            let Page { conversation_id, frame, then } = page;
            let last = then.is_some();
            let wanted = self.live.replay(connection, conversation_id, frame, then).await;
            if last || !wanted {
                catch_up.done();
            }
        }
    }

    async fn enter<'a>(&self, queue: &'a HelloQueue) -> Result<SemaphorePermit<'a>> {
        let jitter = f64::from(self.ambient.random()[0]) / 255.0;
        queue.enter(jitter).await.map_err(|retry_after| Error::Unavailable {
            retry_after,
            cause: "too many connections open at once".into(),
        })
    }

    async fn read(&self, claims: &Claims, resume: Option<&Resume>) -> Result<Opened> {
        // Checked after the registration: a session that ends from here on closes the connection.
        let owner = self.accounts.session_owner(claims.session_id, self.ambient.now()).await?;
        let caller = Caller::of(claims, owner)?;
        let snapshot = self.conversations.snapshot(caller.id()).await?;
        let mut catch_up = CatchUp::new(&snapshot, resume);
        while let Some((cursors, most)) = catch_up.to_weigh() {
            match self.messages.weigh(cursors, most).await {
                Ok(weights) => catch_up.weighed(&weights),
                // A retry would ask the same, and fail again if a message cannot be read. The rest are named as behind,
                // and the client asks for each.
                Err(error) => {
                    tracing::warn!(%error, "what was missed could not be weighed");
                    catch_up.give_up();
                }
            }
        }
        Ok(Opened { caller, snapshot, catch_up })
    }
}
