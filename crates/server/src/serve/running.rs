//! A server while it runs: how it starts, and what may end it.

use std::{
    future::pending,
    net::{SocketAddr, TcpListener},
    sync::Arc,
    time::Duration,
};

use actix_web::{HttpServer, dev::ServerHandle, web::Data};
use anyhow::Context as _;
use parlance_application::{
    App, Board, Ports, Tasks,
    live::{Live, LivePorts},
    ports::store::Store,
};
use parlance_domain::{Email, NodeId};
use parlance_transport::{Admin, Hub, Metrics, Node, Serve, mount_metrics};
use tokio::{sync::watch, task::JoinHandle};

use super::{
    SHUTDOWN,
    addresses::{allowed_origins, bind, origin, public_url},
    half_of_the_cores,
    stop::Stop,
};
use crate::{
    adapters::Adapters,
    config::Settings,
    telemetry::{self, Figures},
};

/// How often histograms are drained when nobody scrapes them.
const UPKEEP: Duration = Duration::from_secs(5);
/// Sockets that one user may have open at a time.
const CONNECTIONS_PER_USER: usize = 100;

/// A running server: all that its shutdown has to deal with.
pub(super) struct Running {
    pub(super) address: SocketAddr,
    pub(super) app: Data<App>,
    pub(super) live: Live,
    pub(super) hub: Hub,
    /// What was begun for clients and by jobs: the shutdown lets it finish.
    pub(super) tasks: Arc<Tasks>,
    /// What runs for as long as the process, or the first worker: the actor.
    pub(super) services: Arc<Tasks>,
    /// Dropping it lets the jobs begin nothing more. `None` if this process runs none.
    pub(super) stop_jobs: Option<watch::Sender<()>>,
    /// Ends connections: see [`Serve::draining`].
    pub(super) drain: watch::Sender<bool>,
    /// Shared with the web server.
    pub(super) listening: TcpListener,
    pub(super) handle: ServerHandle,
    serving: JoinHandle<std::io::Result<()>>,
    /// Here for the store, which is closed last, and for the lock of the data directory.
    pub(super) adapters: Adapters,
}

impl Running {
    /// Starts a server, on the calling runtime.
    pub(super) fn start(
        settings: &Settings,
        adapters: Adapters,
        figures: Figures,
    ) -> anyhow::Result<Self> {
        // Bound before anything runs: a port in use is the commonest failure, and must not interrupt jobs.
        let (listener, address) = bind(settings.listen, "--listen")?;
        let listening = listener.try_clone().context("cannot share the listener")?;
        let metrics_listener =
            settings.metrics_listen.map(|address| bind(address, "--metrics-listen")).transpose()?;
        let public_url = public_url(settings, address);

        let (services, tasks) = (Arc::new(Tasks::default()), Arc::new(Tasks::default()));
        let hub = Hub::new(half_of_the_cores());
        let live_ports = live_ports(settings, &adapters, &hub);
        let live = Live::start_beside(live_ports, &services, &tasks, |actor| {
            let services = services.clone();
            hub.host(move || services.spawn(actor));
        });
        let stop_jobs = start_jobs(settings, &adapters, &tasks, &public_url);
        services.spawn(upkeep(figures.clone()));
        services.spawn(telemetry::watch_jobs(adapters.board.clone(), adapters.ambient.clone()));

        let node = Data::new(Node {
            ready: adapters.readiness(),
            metrics: metrics_listener.is_none().then(|| figures.clone().rendering()),
            allowed_origins: allowed_origins(settings, &public_url, address),
            trust_forwarded_for: settings.trust_forwarded_for.is_on(),
        });
        if let Some((listener, _)) = metrics_listener {
            services.spawn(serve_metrics(listener, figures.rendering())?);
        }
        services.spawn(doubt_admins(settings.server_admins.clone(), adapters.store.clone()));
        let admin = board(settings, &adapters, &tasks, &public_url);
        let app = Data::new(App::new(ports(settings, &adapters, &live, &tasks)));
        let (drain, draining) = watch::channel(false);
        let serve = Serve { app: app.clone(), admin, node, hub: hub.clone(), draining };
        let server = serve.on(listener, SHUTDOWN).context("cannot serve")?;
        let handle = server.handle();
        let serving = tokio::spawn(server);
        Ok(Self {
            address,
            app,
            live,
            hub,
            tasks,
            services,
            stop_jobs,
            drain,
            listening,
            handle,
            serving,
            adapters,
        })
    }

    /// Returns when the process was asked to end. Fails when something has ended that it cannot serve without.
    pub(super) async fn until_stopped(&mut self, stop: &mut Stop) -> anyhow::Result<()> {
        tokio::select! {
            why = stop.wait() => tracing::info!(signal = why, "stopping"),
            ended = &mut self.serving => {
                ended.context("the web server was interrupted")?.context("the web server failed")?;
            }
            // Without these the sockets would stay open and be told nothing. A supervisor starts another process.
            () = self.live.failed() => anyhow::bail!("the live side has failed"),
            () = self.hub.failed() => anyhow::bail!("a worker of the sockets has failed"),
            () = jobs_failed(self.stop_jobs.as_ref()) => anyhow::bail!("the job runner has failed"),
        }
        Ok(())
    }
}

fn live_ports(settings: &Settings, adapters: &Adapters, hub: &Hub) -> LivePorts {
    LivePorts {
        node: NodeId(adapters.ambient.uuid()),
        bus: adapters.bus.clone(),
        fanout: Arc::new(hub.clone()),
        store: adapters.store.clone(),
        peers: adapters.peers.clone(),
        connections_per_user: settings.rate_limits.is_on().then_some(CONNECTIONS_PER_USER),
    }
}

fn ports(settings: &Settings, adapters: &Adapters, live: &Live, tasks: &Arc<Tasks>) -> Ports {
    Ports {
        lanes: adapters.lanes(),
        store: adapters.store.clone(),
        ambient: adapters.ambient.clone(),
        hasher: adapters.hasher.clone(),
        tokens: adapters.tokens.clone(),
        live: live.clone(),
        tasks: tasks.clone(),
        rate_limits: settings.rate_limits.is_on(),
    }
}

/// Runs the jobs, if this process is to, until what it returns is dropped.
fn start_jobs(
    settings: &Settings,
    adapters: &Adapters,
    tasks: &Tasks,
    public_url: &str,
) -> Option<watch::Sender<()>> {
    settings.run_jobs.is_on().then(|| {
        let runner = Arc::new(adapters.runner(public_url.to_owned()));
        let (stop_jobs, mut jobs_stopped) = watch::channel(());
        tasks.spawn(async move {
            let stop = async move { drop(jobs_stopped.changed().await) };
            runner.run(stop).await;
        });
        stop_jobs
    })
}

/// Waits until nobody listens for the jobs' stop signal any more: their runner has panicked.
async fn jobs_failed(stop_jobs: Option<&watch::Sender<()>>) {
    match stop_jobs {
        Some(stop_jobs) => stop_jobs.closed().await,
        None => pending().await,
    }
}

/// Warns of admins whose address is still free to sign up with.
async fn doubt_admins(admins: Vec<Email>, store: Arc<dyn Store>) {
    for address in &admins {
        if matches!(store.user_id(address).await, Ok(None)) {
            let address = address.as_str();
            tracing::warn!(
                address,
                "a server admin without an account: whoever signs up with this address will be one"
            );
        }
    }
}

/// The job board, if somebody may use it.
fn board(
    settings: &Settings,
    adapters: &Adapters,
    tasks: &Arc<Tasks>,
    public_url: &str,
) -> Option<Data<Admin>> {
    let admins = settings.server_admins.clone();
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

async fn upkeep(figures: Figures) {
    let mut tick = tokio::time::interval(UPKEEP);
    loop {
        tick.tick().await;
        figures.upkeep();
    }
}
