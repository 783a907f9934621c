//! The life of a server process: start in the order of dependence, announce, serve, and end in the reverse order.

use std::{
    mem::ManuallyDrop,
    net::{Shutdown, SocketAddr, TcpListener},
    num::NonZeroUsize,
    sync::Arc,
    thread,
    time::Duration,
};

use actix_web::{HttpServer, web::Data};
use anyhow::Context as _;
use futures::future::pending;
use metrics_exporter_prometheus::PrometheusHandle;
use parlance_application::{
    App, Board, Ports, Tasks,
    live::{Live, LivePorts},
    ports::Close,
};
use parlance_domain::NodeId;
use parlance_transport::{Admin, Hub, Metrics, Node, Serve, mount_metrics};
use socket2::SockRef;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
};
use url::Url;

use crate::{adapters::Adapters, config::Settings, open_files, telemetry};

/// How often histograms are drained when nobody scrapes them.
const UPKEEP: Duration = Duration::from_secs(5);
/// How long changes that wait for the store may still begin once the process is to end.
const QUEUED: Duration = Duration::from_secs(2);
/// How long all that is in flight may take to end.
const SHUTDOWN: Duration = Duration::from_secs(10);
/// How long the store may take to be closed.
const CLOSING: Duration = Duration::from_secs(5);
/// Sockets that one user may have open at a time.
const CONNECTIONS_PER_USER: usize = 100;

/// Serves until the system asks it to end.
pub(crate) fn run(settings: Settings) -> anyhow::Result<()> {
    block_on(serve(settings))
}

/// Runs the jobs alone until the system asks it to end.
pub(crate) fn run_worker(settings: Settings) -> anyhow::Result<()> {
    block_on(work(settings))
}

/// Brings the store's schema up to date.
pub(crate) fn run_migrations(settings: Settings) -> anyhow::Result<()> {
    block_on(Adapters::migrate(settings))
}

/// Runs one command on a runtime of its own.
pub(crate) fn block_on<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    // The web server's workers have a thread for each core; store, jobs and the live node share this pool. It has little to
    // do between its waits, and handing its tasks from thread to thread costs more than they do.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(half())
        .thread_name("parlance")
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let system = actix_web::rt::System::with_tokio_rt(|| runtime);
    // Dropped, it would wait for every blocking call, such as a name's resolution, however long. The process ends now.
    ManuallyDrop::new(system).block_on(future)
}

/// Half as many as there are cores.
fn half() -> usize {
    thread::available_parallelism().map_or(1, NonZeroUsize::get).div_ceil(2)
}

async fn serve(settings: Settings) -> anyhow::Result<()> {
    // First, so that a signal during the start is not lost.
    let mut stop = Stop::listen()?;
    open_files::allow_most();
    let metrics = telemetry::metrics()?;
    let adapters = Adapters::open(&settings).await?;

    // Bound before anything runs: a port in use is the commonest failure, and must not interrupt jobs.
    let (listener, address) = bind(settings.listen, "--listen")?;
    let listening = listener.try_clone().context("cannot share the listener")?;
    let metrics_listener =
        settings.metrics_listen.map(|address| bind(address, "--metrics-listen")).transpose()?;
    let public_url = public_url(&settings, address);

    let (services, tasks, hub) = (Tasks::default(), Arc::new(Tasks::default()), Hub::new(half()));
    let ports = LivePorts {
        node: NodeId(adapters.ambient.uuid()),
        bus: adapters.bus.clone(),
        fanout: Arc::new(hub.clone()),
        store: adapters.store.clone(),
        peers: adapters.peers.clone(),
        connections_per_user: settings.rate_limits.is_on().then_some(CONNECTIONS_PER_USER),
    };
    let live = Live::start(ports, &services, &tasks);
    let (stop_jobs, mut jobs_stopped) = watch::channel(());
    if settings.run_jobs.is_on() {
        let runner = Arc::new(adapters.runner(public_url.clone()));
        tasks.spawn(async move {
            let stop = async move { drop(jobs_stopped.changed().await) };
            runner.run(stop).await;
        });
    }
    services.spawn(upkeep(metrics.clone()));
    services.spawn(telemetry::watch_jobs(adapters.board.clone(), adapters.ambient.clone()));

    let node = Data::new(Node {
        ready: adapters.readiness(),
        metrics: metrics_listener.is_none().then(|| render(metrics.clone())),
        allowed_origins: allowed_origins(&settings, &public_url, address),
        trust_forwarded_for: settings.trust_forwarded_for.is_on(),
    });
    if let Some((listener, _)) = metrics_listener {
        services.spawn(serve_metrics(listener, render(metrics))?);
    }
    let database = adapters.database();
    let admin = board(&settings, &adapters, &tasks, &public_url).await;
    let app = Data::new(App::new(Ports {
        lanes: adapters.lanes(),
        store: adapters.store,
        ambient: adapters.ambient,
        hasher: adapters.hasher,
        tokens: adapters.tokens,
        live: live.clone(),
        tasks: tasks.clone(),
        rate_limits: settings.rate_limits.is_on(),
    }));
    let (sockets, writes) = (hub.clone(), app.clone());
    let (drain, draining) = watch::channel(false);
    let serve = Serve { app, admin, node, hub, draining };
    let server = serve.on(listener, SHUTDOWN).context("cannot serve")?;
    let handle = server.handle();
    let mut serving = tokio::spawn(server);

    announce(&format!("parlance listening on http://{address}"));
    tokio::select! {
        why = stop.wait() => tracing::info!(signal = why, "stopping"),
        ended = &mut serving => {
            ended.context("the web server was interrupted")?.context("the web server failed")?;
        }
        // Without it the sockets would stay open and be told nothing. A supervisor starts another process.
        () = live.failed() => anyhow::bail!("the live side has failed"),
    }

    // No new connections; those that are open end as draining; what they and the jobs began is finished; then the rest. The
    // workers last: what a connection began runs on its worker, also when its client has hung up.
    drop(stop_jobs);
    services.spawn(async move {
        tokio::time::sleep(QUEUED).await;
        // Behind a slow store the queue would take longer than a supervisor waits.
        writes.refuse_writes();
    });
    let orderly = async {
        handle.pause().await;
        drain.send_replace(true);
        live.drain().await;
        // And those that have not said hello.
        sockets.close_all(Close::Draining).await;
        // Only now: the thread that accepts would take a shut listener for an error and log it, had it not heard of the pause.
        refuse(&listening);
        // Connections before tasks: a client's last command may begin one.
        sockets.all_over().await;
        tasks.wait().await;
        handle.stop(true).await;
    };
    tokio::select! {
        () = orderly => {}
        () = tokio::time::sleep(SHUTDOWN) => {
            tracing::warn!("work was still in flight at the end; clients will find it unanswered");
        }
        why = stop.wait() => anyhow::bail!("ended at once by a second {why}; work was in flight"),
    }
    services.abort();
    tokio::select! {
        closed = tokio::time::timeout(CLOSING, database.close()) => {
            if closed.is_err() {
                tracing::warn!("the database's log was not emptied in time");
            }
        }
        why = stop.wait() => anyhow::bail!("ended at once by a second {why}"),
    }
    tracing::info!("stopped");
    Ok(())
}

/// Serves the metrics at an address of their own.
fn serve_metrics(
    listener: TcpListener,
    metrics: Metrics,
) -> anyhow::Result<impl Future<Output = ()>> {
    let metrics = Data::new(metrics);
    let server = HttpServer::new(move || {
        let metrics = metrics.clone();
        actix_web::App::new().configure(|config| mount_metrics(config, metrics))
    });
    let server = server.disable_signals().workers(1);
    let server = server.listen(listener).context("cannot serve the metrics")?.run();
    Ok(async move {
        if let Err(error) = server.await {
            tracing::error!(%error, "the metrics are no longer served");
        }
    })
}

/// The job board, if somebody may use it.
async fn board(
    settings: &Settings,
    adapters: &Adapters,
    tasks: &Arc<Tasks>,
    public_url: &str,
) -> Option<Data<Admin>> {
    let admins = settings.server_admins.clone();
    for address in &admins {
        if matches!(adapters.store.user_id(address).await, Ok(None)) {
            let address = address.as_str();
            tracing::warn!(
                address,
                "a server admin without an account: whoever signs up with this address will be one"
            );
        }
    }
    (!admins.is_empty()).then(|| {
        let board = Board {
            board: adapters.board.clone(),
            outbox: adapters.store.clone(),
            ambient: adapters.ambient.clone(),
            tasks: tasks.clone(),
            admins,
        };
        Data::new(Admin::new(board, origin(public_url)))
    })
}

async fn work(settings: Settings) -> anyhow::Result<()> {
    let mut stop = Stop::listen()?;
    let adapters = Adapters::open(&settings).await?;
    let public_url = public_url_of_servers(&settings);
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
    if tokio::time::timeout(SHUTDOWN, &mut working).await.is_err() {
        working.abort();
        tracing::warn!("jobs were still in flight at the end; another worker will take them over");
    }
    Ok(())
}

fn render(metrics: PrometheusHandle) -> Metrics {
    Box::new(move || metrics.render())
}

/// Browsers at the server's own address are let in whatever is configured.
fn allowed_origins(settings: &Settings, public_url: &str, address: SocketAddr) -> Vec<String> {
    settings
        .allowed_origins
        .iter()
        .map(|allowed| origin(allowed))
        .chain(own_origins(public_url, address))
        .collect()
}

fn own_origins(public_url: &str, address: SocketAddr) -> [String; 4] {
    let at = |host: &str| format!("http://{host}:{}", address.port());
    let own =
        [public_url.to_owned(), format!("http://{address}"), at("localhost"), at("127.0.0.1")];
    own.map(|url| origin(&url))
}

/// What a browser sends as `Origin` from there: no path, and no default port.
fn origin(of: &str) -> String {
    let origin = Url::parse(of).map(|url| url.origin().ascii_serialization());
    origin.unwrap_or_else(|_| of.to_owned())
}

/// Where browsers find the server, as far as it knows.
fn public_url(settings: &Settings, address: SocketAddr) -> String {
    if let Some(told) = &settings.public_url {
        return told.clone();
    }
    let local = local_url(address);
    if address.ip().is_unspecified() {
        tracing::warn!(
            "PARLANCE_PUBLIC_URL is not set: pages from elsewhere than {local} are refused, and mails link there"
        );
    }
    local
}

/// The same for a worker, which listens nowhere.
fn public_url_of_servers(settings: &Settings) -> String {
    settings.public_url.clone().unwrap_or_else(|| {
        let local = local_url(settings.listen);
        tracing::warn!(
            "PARLANCE_PUBLIC_URL is not set: mails will link to {local}, and a worker does not listen there; \
             set it to where browsers find your servers"
        );
        local
    })
}

/// Where a browser on this machine finds what listens there.
fn local_url(address: SocketAddr) -> String {
    if address.ip().is_unspecified() {
        format!("http://localhost:{}", address.port())
    } else {
        format!("http://{address}")
    }
}

fn bind(address: SocketAddr, setting: &str) -> anyhow::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(address).with_context(|| {
        format!("cannot listen on {address}; choose another address with {setting}")
    })?;
    let bound = listener.local_addr()?;
    Ok((listener, bound))
}

/// Has connections refused from now on. Those that nobody would accept any more would hang until the process has ended.
fn refuse(listening: &TcpListener) {
    if let Err(error) = SockRef::from(listening).shutdown(Shutdown::Read) {
        tracing::debug!(%error, "the listener could not be shut");
    }
}

/// The first line on stdout, for people and for programs that chose port 0.
fn announce(what: &str) {
    tracing::info!("{what}");
    if let Err(error) = crate::print(what) {
        tracing::debug!(%error, "nobody reads stdout");
    }
}

async fn upkeep(metrics: PrometheusHandle) {
    let mut tick = tokio::time::interval(UPKEEP);
    loop {
        tick.tick().await;
        metrics.run_upkeep();
    }
}

/// The signals that ask a process to end.
struct Stop {
    terminate: Signal,
    interrupt: Signal,
    /// None where whoever started the process has it outlive its terminal, as `nohup` does.
    hangup: Option<Signal>,
}

impl Stop {
    fn listen() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen to signals");
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hangup: (!ignores_hangup()).then(|| listen(SignalKind::hangup())).transpose()?,
        })
    }

    async fn wait(&mut self) -> &'static str {
        let hung_up = async {
            match &mut self.hangup {
                Some(hangup) => drop(hangup.recv().await),
                None => pending().await,
            }
        };
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
            // Of a terminal that is closed. There is nothing that could be read anew.
            () = hung_up => "SIGHUP",
        }
    }
}

/// Whether the process was started with SIGHUP ignored. To listen to it would end that.
fn ignores_hangup() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_listens_everywhere_is_found_at_this_machine() {
        for (listen, url) in [
            ("0.0.0.0:8080", "http://localhost:8080"),
            ("[::]:80", "http://localhost:80"),
            ("127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("192.0.2.1:9", "http://192.0.2.1:9"),
        ] {
            let address: SocketAddr = listen.parse().expect("an address");
            assert_eq!(local_url(address), url);
            let own = own_origins("https://Chat.example.com:443/team/", address);
            assert!(own.contains(&origin(url)) && own[0] == "https://chat.example.com", "{own:?}");
        }
        assert_eq!(origin("http://localhost:80"), "http://localhost");
        assert_eq!(origin("http://[::1]:8080"), "http://[::1]:8080");
    }
}
