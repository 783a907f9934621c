//! Everything that one process needs to run alone: the SQLite store, the embedded job queue and the in-process bus.
//!
//! * Queued writes share a group commit (`writer`): a savepoint each, and one wait for the disk. Each read has its own
//!   snapshot, and runs on the caller's thread while it is short (`readers`).
//! * The schema is the numbered files of `migrations/sqlite/` (`migrate`).
//! * A copy of an earlier database gets a new history (`history`); a missing database, or one beside another one's log,
//!   is refused (`files`).
//! * A conversation and a person's relation to it are loaded together (`access`); the domain's matrix decides.
//!
//! No clock, ids or randomness in here: all are passed in.

mod access;
mod accounts;
mod append;
mod board;
mod bus;
mod conversations;
mod db;
mod error;
mod files;
mod history;
mod jobs;
mod messages;
mod migrate;
mod outbox;
mod owners;
mod pace;
mod reactions;
mod readers;
mod replay;
mod rows;
#[cfg(feature = "simulation")]
pub mod simulation;
mod workspaces;
mod writer;

use std::{
    path::Path,
    sync::{Arc, atomic::AtomicI64},
};

use parlance_application::Result;
use parlance_domain::{SessionId, Timestamp};
use rusqlite::Connection;

use crate::{
    accounts::must_live,
    db::Db,
    error::Tx,
    owners::{Concerns, Owners},
};

pub use bus::InProcessBus;

/// The SQLite store and job queue. Clones share the database.
#[derive(Clone)]
pub struct EmbeddedStore {
    engine: Engine,
    epoch: Arc<str>,
    /// When this process last asked for jobs, in milliseconds since 1970.
    asked_at: Arc<AtomicI64>,
    owners: Owners,
}

/// Where statements run.
#[derive(Clone)]
enum Engine {
    Threads(Arc<Db>),
    #[cfg(feature = "simulation")]
    Inline(simulation::Inline),
}

impl std::fmt::Debug for EmbeddedStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EmbeddedStore").field("epoch", &self.epoch).finish_non_exhaustive()
    }
}

impl EmbeddedStore {
    /// Opens `parlance.db` in `dir`, creating both if need be, and brings its schema up to date. A new database, and
    /// one that is a copy of an earlier one, gets `new_epoch` as the name of its history. Blocks on the disk.
    pub fn open(dir: &Path, new_epoch: String, now: Timestamp) -> Result<Self> {
        std::fs::create_dir_all(dir).map_err(|e| {
            parlance_application::Error::unavailable(format_args!("{}: {e}", dir.display()))
        })?;
        let path = dir.join("parlance.db");
        files::check_before_opening(&path)?;
        let mut conn = db::connect(&path)?;
        migrate::run(&mut conn, now)?;
        let epoch = history::open(&conn, &path, new_epoch)?;
        Ok(Self {
            engine: Engine::Threads(Arc::new(Db::start(conn, &path)?)),
            epoch: epoch.into(),
            asked_at: Arc::new(AtomicI64::new(i64::MIN)),
            owners: Owners::default(),
        })
    }

    /// Fails where [`Self::open`] would begin a new store.
    pub fn find(dir: &Path) -> Result<()> {
        files::find(&dir.join("parlance.db"))
    }

    /// The name of the store's history.
    pub fn epoch(&self) -> &str {
        &self.epoch
    }

    /// Renames the store's history: what clients hold of it becomes stale.
    pub async fn renew_epoch(&mut self, epoch: String) -> Result<()> {
        let new = epoch.clone();
        self.write(move |conn| Ok(history::renew(conn, &new)?)).await?;
        self.epoch = epoch.into();
        Ok(())
    }

    /// Checkpoints the log, so that the database is complete without it. Call once nothing writes any more.
    pub async fn close(&self) -> Result<()> {
        match &self.engine {
            Engine::Threads(db) => db.empty_log().await,
            #[cfg(feature = "simulation")]
            Engine::Inline(_) => Ok(()),
        }
    }

    /// Proves that a write reaches the disk, and the file that the next start will open.
    pub async fn ping(&self) -> Result<()> {
        let files = match &self.engine {
            Engine::Threads(db) => Some(db.files().clone()),
            #[cfg(feature = "simulation")]
            Engine::Inline(_) => None,
        };
        self.write(move |conn| {
            files.map_or(Ok(()), |files| files.check())?;
            conn.prepare_cached(
                "INSERT INTO meta (key, value) VALUES ('pings', '1') \
                 ON CONFLICT (key) DO UPDATE SET value = CAST(value AS INTEGER) + 1",
            )?
            .execute([])?;
            Ok(())
        })
        .await
    }

    async fn write<T, F>(&self, job: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Tx<T> + Send + 'static,
    {
        match &self.engine {
            Engine::Threads(db) => db.writer().write(job).await,
            #[cfg(feature = "simulation")]
            Engine::Inline(inline) => inline.write(job).await,
        }
    }

    /// A person's change, unless this session of theirs has ended.
    async fn change<T, F>(&self, session: SessionId, job: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Tx<T> + Send + 'static,
    {
        self.write(move |conn| {
            must_live(conn, session)?;
            job(conn)
        })
        .await
    }

    /// Small, frequent writes: see [`Writer::write_here`](writer::Writer::write_here).
    async fn write_here<T, F>(&self, jobs: Vec<F>) -> Vec<Result<T>>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Tx<T> + Send + 'static,
    {
        match &self.engine {
            Engine::Threads(db) => db.writer().write_here(jobs).await,
            #[cfg(feature = "simulation")]
            Engine::Inline(inline) => {
                let mut answers = Vec::with_capacity(jobs.len());
                for job in jobs {
                    answers.push(inline.write(job).await);
                }
                answers
            }
        }
    }

    /// A write after which sessions may have a changed owner, or none.
    async fn write_owners<T, F>(&self, concerns: Concerns, job: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Tx<T> + Send + 'static,
    {
        let writing = self.owners.write(concerns);
        // The guard travels with the answer, even to a caller that is gone by then.
        let written = self.write(move |conn| Ok((job(conn)?, writing))).await;
        written.map(|(answer, _)| answer)
    }

    async fn read<T, F>(&self, job: F) -> Result<T>
    where
        T: Send + 'static,
        F: Fn(&Connection) -> Tx<T> + Send + 'static,
    {
        match &self.engine {
            Engine::Threads(db) => db.readers().read(job).await,
            #[cfg(feature = "simulation")]
            Engine::Inline(inline) => inline.read(job).await,
        }
    }
}
