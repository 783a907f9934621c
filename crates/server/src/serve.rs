//! The life of a long-running process: start in the order of dependence, announce, serve, and end in the reverse order.

mod addresses;
mod running;
mod shutdown;
mod stop;

use std::{mem::ManuallyDrop, num::NonZeroUsize, sync::Arc, thread, time::Duration};

use anyhow::Context as _;
use tokio::sync::watch;

use self::{addresses::public_url_of_servers, running::Running, stop::Stop};
use crate::{
    adapters::Adapters,
    config::Settings,
    open_files,
    telemetry::{self, Logs},
};

/// How long everything in flight may take to finish.
const SHUTDOWN: Duration = Duration::from_secs(10);

/// Serves until the system asks it to end.
pub(crate) fn run(settings: &Settings, logs: &Logs) -> anyhow::Result<()> {
    block_on(serve(settings, logs))
}

/// Runs the jobs alone until the system asks it to end.
pub(crate) fn run_worker(settings: &Settings) -> anyhow::Result<()> {
    block_on(work(settings))
}

/// Brings the store's schema up to date.
pub(crate) fn run_migrations(settings: Settings) -> anyhow::Result<()> {
    block_on(Adapters::migrate(settings))
}

/// Runs one command on a runtime of its own.
pub(crate) fn block_on<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    // The web server's workers have one thread per core, and the live actor is on one of them; MongoDB, Redis and the
    // jobs share this pool. It has little to do between its waits, and moving its tasks from thread to thread costs
    // more than they do.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(half_of_the_cores())
        .thread_name("parlance")
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let system = actix_web::rt::System::with_tokio_rt(|| runtime);
    // Dropping it would wait for every blocking call, such as a name resolution or a store's opening, however long. The
    // process ends now.
    ManuallyDrop::new(system).block_on(future)
}

/// Half the cores, rounded up: the size of the pool, and the number of the web server's workers that have sockets. With
/// more of either, a commit would wake more threads for the same work, and they would evict each other's caches.
fn half_of_the_cores() -> usize {
    thread::available_parallelism().map_or(1, NonZeroUsize::get).div_ceil(2)
}

async fn serve(settings: &Settings, logs: &Logs) -> anyhow::Result<()> {
    // First, so that a signal during the start is not lost.
    let mut stop = Stop::listen()?;
    open_files::allow_most();
    let figures = telemetry::figures(logs)?;
    let Some(adapters) = open(settings, &mut stop).await? else { return Ok(()) };
    let mut running = Running::start(settings, adapters, figures)?;
    announce(&format!("parlance listening on http://{}", running.address));
    running.until_stopped(&mut stop).await?;
    running.shut_down(&mut stop, logs).await
}

async fn work(settings: &Settings) -> anyhow::Result<()> {
    let mut stop = Stop::listen()?;
    let Some(adapters) = open(settings, &mut stop).await? else { return Ok(()) };
    let public_url = public_url_of_servers(settings);
    let (stop_jobs, mut jobs_stopped) = watch::channel(());
    let runner = Arc::new(adapters.runner(public_url));
    let mut working = tokio::spawn(runner.run(async move { drop(jobs_stopped.changed().await) }));
    announce("parlance worker running");
    tokio::select! {
        why = stop.wait() => tracing::info!(signal = why, "stopping"),
        ended = &mut working => {
            ended.context("the jobs were interrupted")?;
            anyhow::bail!("the jobs have ended by themselves");
        }
    }
    drop(stop_jobs);
    let ended = stop.finish(SHUTDOWN, &mut working).await;
    if ended.context("jobs were in flight; another worker will take them over")?.is_none() {
        working.abort();
        tracing::warn!("jobs were still in flight at the end; another worker will take them over");
    }
    Ok(())
}

/// Opens what the settings name, which may take minutes: a store may have to be migrated, or read as a whole. `None` if
/// the process was asked to end meanwhile; what has been begun may then continue until the process ends.
async fn open(settings: &Settings, stop: &mut Stop) -> anyhow::Result<Option<Adapters>> {
    tokio::select! {
        opened = Adapters::open(settings) => opened.map(Some),
        why = stop.wait() => {
            tracing::info!(signal = why, "stopped before it has started");
            Ok(None)
        }
    }
}

/// The first line on stdout, for people and for programs that chose port 0.
fn announce(what: &str) {
    tracing::info!("{what}");
    if let Err(error) = crate::print(what) {
        tracing::debug!(%error, "nobody reads stdout");
    }
}
