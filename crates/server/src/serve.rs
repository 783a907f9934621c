//! The life of a server process: start in the order of dependence, announce, serve, and end in the reverse order.

use std::{
    io::Write as _,
    net::{SocketAddr, TcpListener},
    sync::Arc,
    time::Duration,
};

use actix_web::{HttpServer, web::Data};
use anyhow::{Context as _, anyhow};
use metrics_exporter_prometheus::PrometheusHandle;
use parlance_application::{
    App, Error, Ports, Tasks,
    jobs::{RetryPolicy, Runner},
    live::Live,
    ports::{Ambient, Mailer, PasswordHasher, TokenIssuer},
};
use parlance_crypto::{Argon2Hasher, JwtIssuer};
use parlance_domain::NodeId;
use parlance_embedded::{EmbeddedStore, InProcessBus};
use parlance_smtp::FileOutbox;
use parlance_transport::{Hub, Metrics, Node, mount, mount_metrics};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::{ambient::SystemAmbient, config::Settings, data_dir::DataDir, telemetry};

/// How often histograms are drained when nobody scrapes them.
const UPKEEP: Duration = Duration::from_secs(5);
/// How long connections and work in flight may take to end.
const SHUTDOWN: Duration = Duration::from_secs(10);
/// Sockets that one user may have open at a time.
const CONNECTIONS_PER_USER: usize = 100;

/// Runs until the system asks it to end.
pub(crate) fn run(settings: Settings) -> anyhow::Result<()> {
    // The web server's workers have threads of their own; store, jobs and the live node share this pool.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .thread_name("parlance")
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    actix_web::rt::System::with_tokio_rt(|| runtime).block_on(serve(settings))
}

async fn serve(settings: Settings) -> anyhow::Result<()> {
    // First, so that a signal during the start is not lost.
    let mut stop = Stop::listen()?;
    let metrics = telemetry::metrics()?;
    let data = DataDir::open(&settings.data_dir)?;
    let adapters = Adapters::open(&settings, &data)?;
    let ambient = adapters.ambient.clone();
    let store = EmbeddedStore::open(data.path(), ambient.uuid().to_string(), ambient.now())
        .map_err(|error| match error {
            // Here the cause is for the operator.
            Error::Internal { cause } | Error::Unavailable { cause, .. } => anyhow!("{cause}"),
            error => error.into(),
        })
        .context("cannot open the store")?;

    // Taken before anything runs: a port in use is the commonest failure, and should cost nothing.
    let (listener, address) = bind(settings.listen)?;
    let public_url = settings.public_url.clone().unwrap_or_else(|| format!("http://{address}"));

    let (services, tasks, hub) = (Tasks::default(), Arc::new(Tasks::default()), Hub::default());
    let live = Live::start(
        NodeId(ambient.uuid()),
        Arc::new(InProcessBus::default()),
        Arc::new(hub.clone()),
        Arc::new(store.clone()),
        &services,
        &tasks,
        settings.rate_limits.is_on().then_some(CONNECTIONS_PER_USER),
    );
    if settings.run_jobs.is_on() {
        services.spawn(Arc::new(runner(&store, &adapters, public_url.clone())).run());
    }
    services.spawn(upkeep(metrics.clone()));

    let pinged = store.clone();
    let node = Data::new(Node {
        ready: Box::new(move || {
            let store = pinged.clone();
            Box::pin(async move { store.ping().await })
        }),
        metrics: settings.metrics_listen.is_none().then(|| render(metrics.clone())),
        allowed_origins: allowed_origins(&settings, &public_url, address),
    });
    if let Some(address) = settings.metrics_listen {
        let (listener, _) = bind(address)?;
        let metrics = Data::new(render(metrics));
        let server = HttpServer::new(move || {
            let metrics = metrics.clone();
            actix_web::App::new().configure(|config| mount_metrics(config, metrics))
        })
        .disable_signals()
        .workers(1)
        .listen(listener)
        .context("cannot serve the metrics")?
        .run();
        services.spawn(async move {
            if let Err(error) = server.await {
                tracing::error!(%error, "the metrics are no longer served");
            }
        });
    }
    let app = Data::new(App::new(Ports {
        store: Arc::new(store),
        ambient,
        hasher: adapters.hasher,
        tokens: adapters.tokens,
        live: live.clone(),
        tasks: tasks.clone(),
    }));
    let server = HttpServer::new(move || {
        actix_web::App::new().configure(mount(app.clone(), node.clone(), &hub))
    })
    .disable_signals()
    .shutdown_timeout(SHUTDOWN.as_secs())
    .tcp_nodelay(true)
    .listen(listener)
    .context("cannot serve")?
    .run();
    let handle = server.handle();
    let mut serving = tokio::spawn(server);

    announce(address)?;
    tokio::select! {
        why = stop.wait() => tracing::info!(signal = why, "stopping"),
        ended = &mut serving => {
            ended.context("the web server was interrupted")?.context("the web server failed")?;
        }
    }

    // No new connections; those that are open end as draining; what they began is finished; then the rest.
    let ((), ()) = tokio::join!(handle.stop(true), live.drain());
    if tokio::time::timeout(SHUTDOWN, tasks.wait()).await.is_err() {
        tracing::warn!("work was still in flight at the end; clients will find it unanswered");
    }
    services.abort();
    tracing::info!("stopped");
    Ok(())
}

fn runner(store: &EmbeddedStore, adapters: &Adapters, public_url: String) -> Runner {
    Runner {
        outbox: Arc::new(store.clone()),
        queue: Arc::new(store.clone()),
        accounts: Arc::new(store.clone()),
        workspaces: Arc::new(store.clone()),
        mailer: adapters.mailer.clone(),
        ambient: adapters.ambient.clone(),
        retry: RetryPolicy::default(),
        public_url,
    }
}

fn render(metrics: PrometheusHandle) -> Metrics {
    Box::new(move || metrics.render())
}

/// Browsers at the server's own address are let in whatever is configured.
fn allowed_origins(settings: &Settings, public_url: &str, address: SocketAddr) -> Vec<String> {
    let own = [
        public_url.trim_end_matches('/').to_owned(),
        format!("http://{address}"),
        format!("http://localhost:{}", address.port()),
    ];
    settings.allowed_origins.iter().cloned().chain(own).collect()
}

/// The adapters that need no other one.
struct Adapters {
    ambient: Arc<dyn Ambient>,
    hasher: Arc<dyn PasswordHasher>,
    tokens: Arc<dyn TokenIssuer>,
    mailer: Arc<dyn Mailer>,
}

impl Adapters {
    fn open(settings: &Settings, data: &DataDir) -> anyhow::Result<Self> {
        let ambient: Arc<dyn Ambient> = Arc::new(SystemAmbient);
        let secret = match &settings.jwt_secret {
            Some(secret) => secret.clone(),
            None => data.jwt_secret(|| ambient.random())?,
        };
        let mailer = FileOutbox::new(data.path().join("outbox"), &settings.mail_from)
            .context("cannot open the mail outbox (see PARLANCE_MAIL_FROM)")?;
        // Hashing is all CPU: more at once than cores would only make each slower.
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Self {
            hasher: Arc::new(Argon2Hasher::new(cores, ambient.clone())),
            tokens: Arc::new(JwtIssuer::new(secret.expose().as_bytes())),
            mailer: Arc::new(mailer),
            ambient,
        })
    }
}

fn bind(address: SocketAddr) -> anyhow::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(address).with_context(|| {
        format!("cannot listen on {address}; choose another address with --listen")
    })?;
    let bound = listener.local_addr()?;
    Ok((listener, bound))
}

/// The first line on stdout, for people and for programs that chose port 0.
fn announce(address: SocketAddr) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "parlance listening on http://{address}")?;
    Ok(stdout.flush()?)
}

async fn upkeep(metrics: PrometheusHandle) {
    let mut tick = tokio::time::interval(UPKEEP);
    loop {
        tick.tick().await;
        metrics.run_upkeep();
    }
}

/// The signals that ask a process to end. A second one while it ends is for whoever waits on this again.
struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    fn listen() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen to signals");
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }

    async fn wait(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
