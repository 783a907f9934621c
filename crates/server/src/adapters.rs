//! Which adapter stands behind which port, by what is set.

use std::sync::Arc;

use anyhow::{Context as _, anyhow, bail};
use parlance_application::{
    Error,
    jobs::{RetryPolicy, Runner},
    live::{Lanes, Peers},
    ports::{Ambient, Bus, JobBoard, JobQueue, Mailer, PasswordHasher, TokenIssuer, store::Store},
};
use parlance_crypto::{Argon2Hasher, JwtIssuer};
use parlance_embedded::{EmbeddedStore, InProcessBus};
use parlance_mongo::MongoStore;
use parlance_redis::{RedisBus, RedisJobs, RedisJobsOptions};
use parlance_smtp::{FileOutbox, SmtpMailer};

use crate::{
    ambient::SystemAmbient,
    config::{Secret, Settings},
    data_dir::DataDir,
    readiness::{Question, readiness},
};

/// All adapters of a process.
pub(crate) struct Adapters {
    pub(crate) ambient: Arc<dyn Ambient>,
    pub(crate) hasher: Arc<dyn PasswordHasher>,
    pub(crate) tokens: Arc<dyn TokenIssuer>,
    pub(crate) store: Arc<dyn Store>,
    /// Set when other nodes may work on the same store.
    pub(crate) peers: Option<Peers>,
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) board: Arc<dyn JobBoard>,
    queue: Arc<dyn JobQueue>,
    mailer: Arc<dyn Mailer>,
    database: Database,
    redis: Option<Redis>,
    /// Keeps other processes out of the data directory while this one lives; `None` if nothing is kept in it.
    _data: Option<Arc<DataDir>>,
}

/// The concrete store, for what no port asks of it.
#[derive(Clone)]
pub(crate) enum Database {
    Embedded(EmbeddedStore),
    Mongo(MongoStore),
}

/// The bus and the job queue: between the nodes, or within the only one.
struct Between {
    bus: Arc<dyn Bus>,
    queue: Arc<dyn JobQueue>,
    board: Arc<dyn JobBoard>,
    redis: Option<Redis>,
}

/// The concrete types, for what no port asks of them.
#[derive(Clone)]
pub(crate) struct Redis {
    bus: Arc<RedisBus>,
    jobs: Arc<RedisJobs>,
}

impl Adapters {
    /// Opens and connects all that the settings name. A Redis that is down is waited for while serving; a store is not.
    /// May take minutes, blocks no runtime thread, and may be dropped if the process is about to end.
    pub(crate) async fn open(settings: &Settings) -> anyhow::Result<Self> {
        let ambient: Arc<dyn Ambient> = Arc::new(SystemAmbient);
        let local = settings.mongodb_uri.is_none()
            || settings.redis_url.is_none()
            || settings.smtp_url.is_none();
        let data = local.then(|| DataDir::open(&settings.data_dir)).transpose()?.map(Arc::new);
        let secret = match (&settings.jwt_secret, &data) {
            (Some(secret), _) => secret.clone(),
            (None, Some(data)) => data.jwt_secret(|| ambient.random())?,
            (None, None) => bail!("PARLANCE_JWT_SECRET is not set"),
        };
        let own = async || {
            let data = data.as_ref().context("no data directory")?;
            embedded(data, &*ambient).await
        };

        let database = match &settings.mongodb_uri {
            None => Database::Embedded(own().await?),
            Some(uri) => Database::Mongo(mongo(uri, settings, &*ambient).await?),
        };
        let (store, peers): (Arc<dyn Store>, _) = match &database {
            Database::Embedded(store) => (Arc::new(store.clone()), None),
            Database::Mongo(store) => {
                let store = Arc::new(store.clone());
                (store.clone(), Some(Peers { changes: store.clone(), conversations: store }))
            }
        };

        let between = match (&settings.redis_url, &database) {
            (Some(url), _) => Between::on_redis(url, database.epoch(), &*ambient)?,
            (None, Database::Embedded(store)) => Between::in_process(store.clone()),
            (None, Database::Mongo(_)) => Between::in_process(own().await?),
        };
        let mailer: Arc<dyn Mailer> = match (&settings.smtp_url, &data) {
            (Some(url), _) => Arc::new(
                SmtpMailer::new(url.expose(), &settings.mail_from)
                    .context("cannot use PARLANCE_SMTP_URL or PARLANCE_MAIL_FROM")?,
            ),
            (None, Some(data)) => {
                Arc::new(FileOutbox::new(data.path().join("outbox"), &settings.mail_from).context(
                    "cannot set up the mail outbox (PARLANCE_DATA_DIR, PARLANCE_MAIL_FROM)",
                )?)
            }
            (None, None) => bail!("PARLANCE_SMTP_URL is not set"),
        };

        tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            store = if settings.mongodb_uri.is_some() { "mongodb" } else { "embedded" },
            queue = if settings.redis_url.is_some() { "redis" } else { "embedded" },
            mail = if settings.smtp_url.is_some() { "smtp" } else { "files" },
            data_dir = data.as_ref().map(|data| data.path().display().to_string()),
            "starting"
        );

        // Hashing is all CPU: more at once than cores would only slow each down.
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Self {
            hasher: Arc::new(Argon2Hasher::new(cores, ambient.clone())),
            tokens: Arc::new(JwtIssuer::new(secret.expose().as_bytes())),
            ambient,
            store,
            peers,
            bus: between.bus,
            board: between.board,
            queue: between.queue,
            mailer,
            database,
            redis: between.redis,
            _data: data,
        })
    }

    /// The embedded store has one writer.
    pub(crate) const fn lanes(&self) -> Lanes {
        match self.database {
            Database::Embedded(_) => Lanes::Shared,
            Database::Mongo(_) => Lanes::Apart,
        }
    }

    /// Migrates the store that the settings name, and prints what was applied.
    pub(crate) async fn migrate(settings: Settings) -> anyhow::Result<()> {
        let Some(uri) = &settings.mongodb_uri else {
            bail!(
                "PARLANCE_MONGODB_URI is not set; the embedded store migrates itself when it is opened"
            );
        };
        let applied = parlance_mongo::migrate(uri.expose())
            .await
            .map_err(explained)
            .context("cannot migrate the store")?;
        if applied.is_empty() {
            return crate::print("the schema is up to date");
        }
        crate::print(&format!("applied {}", applied.join(", ")))
    }

    /// Renames the history of the store that the settings name; returns the new name.
    pub(crate) async fn renew_epoch(settings: &Settings) -> anyhow::Result<String> {
        let ambient = SystemAmbient;
        let epoch = ambient.uuid().to_string();
        let renewed = match &settings.mongodb_uri {
            None => {
                EmbeddedStore::find(&settings.data_dir)
                    .map_err(explained)
                    .context("there is no store whose history could have another name")?;
                let data = Arc::new(DataDir::open(&settings.data_dir)?);
                let mut store = embedded(&data, &ambient).await?;
                match store.renew_epoch(epoch.clone()).await {
                    Ok(()) => store.close().await,
                    refused => refused,
                }
            }
            Some(uri) => {
                let mut store = mongo(uri, settings, &ambient).await?;
                store.renew_epoch(epoch.clone(), ambient.now()).await
            }
        };
        renewed.map_err(explained).context("cannot write to the store")?;
        Ok(epoch)
    }

    pub(crate) fn runner(&self, public_url: String) -> Runner {
        Runner {
            outbox: self.store.clone(),
            queue: self.queue.clone(),
            accounts: self.store.clone(),
            workspaces: self.store.clone(),
            mailer: self.mailer.clone(),
            ambient: self.ambient.clone(),
            retry: RetryPolicy::default(),
            public_url,
        }
    }

    /// The concrete store.
    pub(crate) fn database(&self) -> Database {
        self.database.clone()
    }

    /// What `/readyz` asks.
    pub(crate) fn readiness(&self) -> Question {
        readiness(self.database.clone(), self.redis.clone())
    }
}

impl Redis {
    /// Proves that it carries events, takes jobs, and that they are this store's.
    pub(crate) async fn ping(self) -> parlance_application::Result<()> {
        self.bus.ping().await?;
        self.jobs.own().await
    }
}

impl Database {
    /// The name of the store's history.
    fn epoch(&self) -> &str {
        match self {
            Self::Embedded(store) => store.epoch(),
            Self::Mongo(store) => store.epoch(),
        }
    }

    /// Proves that the store takes a write.
    pub(crate) async fn ping(self) -> parlance_application::Result<()> {
        match self {
            Self::Embedded(store) => store.ping().await,
            Self::Mongo(store) => store.ping().await,
        }
    }

    /// Once nothing is written any more: leaves the store as complete as a backup needs it.
    pub(crate) async fn close(self) {
        if let Self::Embedded(store) = self
            && let Err(error) = store.close().await
        {
            tracing::warn!(?error, "the database's log was not emptied");
        }
    }
}

impl Between {
    fn on_redis(url: &Secret, epoch: &str, ambient: &dyn Ambient) -> anyhow::Result<Self> {
        let (url, worker) = (url.expose(), format!("parlance-{}", ambient.uuid()));
        let options = RedisJobsOptions::new(epoch, worker);
        let connect = || Ok((RedisBus::connect(url, epoch)?, RedisJobs::connect(url, options)?));
        let (bus, jobs) = connect().map_err(explained).context("cannot use PARLANCE_REDIS_URL")?;
        let (bus, jobs) = (Arc::new(bus), Arc::new(jobs));
        let redis = Some(Redis { bus: bus.clone(), jobs: jobs.clone() });
        Ok(Self { bus, queue: jobs.clone(), board: jobs, redis })
    }

    fn in_process(jobs: EmbeddedStore) -> Self {
        let jobs = Arc::new(jobs);
        let bus = Arc::new(InProcessBus::default());
        Self { bus, queue: jobs.clone(), board: jobs, redis: None }
    }
}

/// Opens the store on a thread for blocking calls. That continues when nobody waits for it any more, so it holds the
/// directory's lock, too: until it ends, no other process may work there.
async fn embedded(data: &Arc<DataDir>, ambient: &dyn Ambient) -> anyhow::Result<EmbeddedStore> {
    let (data, epoch, now) = (data.clone(), ambient.uuid().to_string(), ambient.now());
    tokio::task::spawn_blocking(move || EmbeddedStore::open(data.path(), epoch, now))
        .await
        .context("the opening of the embedded store was interrupted")?
        .map_err(explained)
        .context("cannot open the embedded store")
}

async fn mongo(
    uri: &Secret,
    settings: &Settings,
    ambient: &dyn Ambient,
) -> anyhow::Result<MongoStore> {
    let migrate = settings.auto_migrate.is_on();
    MongoStore::connect(uri.expose(), ambient.uuid().to_string(), ambient.now(), migrate)
        .await
        .map_err(explained)
        .context("cannot use PARLANCE_MONGODB_URI")
}

/// An error for the operator, who needs to see its cause.
fn explained(error: Error) -> anyhow::Error {
    match error {
        Error::Internal { cause } | Error::Unavailable { cause, .. } => anyhow!("{cause}"),
        error => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, time::Duration};

    use futures::FutureExt as _;
    use rustix::fs::{CWD, Mode, mkfifoat};

    use super::*;

    #[tokio::test]
    async fn an_opening_that_nobody_waits_for_keeps_others_out() {
        let dir = tempfile::tempdir().unwrap();
        // Read at each opening; here the read waits for a writer.
        let opened = dir.path().join("parlance.opened");
        mkfifoat(CWD, &opened, Mode::RUSR | Mode::WUSR).unwrap();
        let data = Arc::new(DataDir::open(dir.path()).unwrap());
        assert!(embedded(&data, &SystemAmbient).now_or_never().is_none());
        drop(data);
        let kept_out = DataDir::open(dir.path()).is_err();
        // Before anything may fail: the runtime's shutdown waits for the opening.
        fs::write(&opened, "").unwrap();
        assert!(kept_out);
        while DataDir::open(dir.path()).is_err() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}
