//! Logs to stderr (stdout belongs to the address line), metrics to a recorder that `/metrics` renders.

use std::{
    io::IsTerminal as _,
    mem::take,
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use anyhow::Context as _;
use metrics::{counter, describe_counter, describe_gauge, gauge};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use parlance_application::ports::{Ambient, JobBoard, JobCounts, JobState};
use parlance_transport::{Metrics, describe_figures};
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{EnvFilter, filter::Directive, reload};

const BUILD: &str = "parlance_build_info";
const JOBS: &str = "parlance_jobs";
const UNLOGGED: &str = "parlance_dropped_log_lines_total";
/// The bounds of the histograms' buckets: from an embedded store's commit to longer than any client waits.
const SECONDS: [f64; 13] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// How often the job queue is checked.
const WATCHED: Duration = Duration::from_secs(15);

/// What is logged unless `RUST_LOG` says otherwise. The web server logs what is not HTTP, or not WebSocket, as an error
/// of its own, and any port scanner sends that.
const LOGGED: &str = "info,actix_http::h1::dispatcher=off,actix_http::ws::codec=off";

/// The most log lines queued for a reader; further ones are dropped. A stalled reader holds up nothing else.
const UNTAKEN: usize = 16_384;
/// How long a reader has to take them at the end of the process.
pub(crate) const LAST_LINES: Duration = Duration::from_secs(2);

/// When dropped, has what is queued written, for at most [`LAST_LINES`].
pub(crate) struct Logs {
    worker: Option<WorkerGuard>,
    unlogged: ErrorCounter,
    /// Adds to the filter.
    filter_also: Box<dyn Fn(Directive) + Send + Sync>,
}

/// What the process counts and measures.
#[derive(Clone)]
pub(crate) struct Figures {
    recorder: PrometheusHandle,
    unlogged: ErrorCounter,
}

impl Drop for Logs {
    fn drop(&mut self) {
        let worker = self.worker.take();
        // If nobody reads, the library itself would wait forever to say so.
        within(LAST_LINES, move || drop(worker));
    }
}

impl Logs {
    /// No longer logs connections that could not be accepted.
    pub(crate) fn leave_out_accepting(&self) {
        if let Ok(directive) = "actix_server::accept=off".parse() {
            (self.filter_also)(directive);
        }
    }
}

impl Figures {
    /// As `/metrics` shows them.
    pub(crate) fn rendering(self) -> Metrics {
        Box::new(move || {
            let unlogged = u64::try_from(self.unlogged.dropped_lines()).unwrap_or(u64::MAX);
            counter!(UNLOGGED).absolute(unlogged);
            self.recorder.render()
        })
    }

    /// Call it now and then: histograms grow until they are drained.
    pub(crate) fn upkeep(&self) {
        self.recorder.run_upkeep();
    }
}

/// Does something that may never end, and waits for it for at most `limit`.
pub(crate) fn within(limit: Duration, work: impl FnOnce() + Send + 'static) {
    let (done, ended) = mpsc::channel();
    thread::spawn(move || {
        work();
        let _ = done.send(());
    });
    let _ = ended.recv_timeout(limit);
}

/// Starts logging: JSON lines, or text on a terminal. `RUST_LOG` filters. Keep what it returns until the process ends.
pub(crate) fn logs(env: impl Fn(&str) -> Option<String>) -> anyhow::Result<Logs> {
    let filter = match env("RUST_LOG").filter(|text| !text.is_empty()) {
        Some(text) => EnvFilter::try_new(&text)
            .with_context(|| format!("RUST_LOG={text:?} is no log filter"))?,
        None => EnvFilter::new(LOGGED),
    };
    let terminal = std::io::stderr().is_terminal();
    let (stderr, worker) = NonBlockingBuilder::default()
        .buffered_lines_limit(UNTAKEN)
        .thread_name("parlance-log")
        .finish(std::io::stderr());
    let unlogged = stderr.error_counter();
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(stderr)
        // A log reader that has gone, or a full disk, is no reason to stop: the library would report it on stderr, and
        // panic when that fails, too.
        .log_internal_errors(false)
        .with_ansi(terminal);
    let (filter_also, started) = if terminal {
        let logs = logs.with_filter_reloading();
        (adding(logs.reload_handle()), logs.try_init())
    } else {
        let logs = logs.json().flatten_event(true).with_current_span(true).with_span_list(false);
        let logs = logs.with_filter_reloading();
        (adding(logs.reload_handle()), logs.try_init())
    };
    started.map_err(|error| anyhow::anyhow!("cannot start logging: {error}"))?;
    Ok(Logs { worker: Some(worker), unlogged, filter_also })
}

fn adding<S: 'static>(
    filter: reload::Handle<EnvFilter, S>,
) -> Box<dyn Fn(Directive) + Send + Sync> {
    Box::new(move |directive| {
        let added = filter.modify(|filter| *filter = take(filter).add_directive(directive));
        if let Err(error) = added {
            tracing::debug!(%error, "the log's filter stays as it was");
        }
    })
}

/// Installs the process's recorder of metrics.
pub(crate) fn figures(logs: &Logs) -> anyhow::Result<Figures> {
    let recorder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)
        .and_then(PrometheusBuilder::install_recorder)
        .context("cannot start the recorder of metrics")?;
    describe_figures();
    describe_gauge!(BUILD, "Always 1; the program's version is its label");
    gauge!(BUILD, "version" => env!("CARGO_PKG_VERSION")).set(1);
    describe_gauge!(JOBS, "Jobs in the queue, by state; the whole queue's, whichever node says so");
    describe_counter!(UNLOGGED, "Lines of the log that nobody took in time");
    Ok(Figures { recorder, unlogged: logs.unlogged.clone() })
}

/// Reports the job queue's state now and then. While the queue is away, or another store's, the last figures stay:
/// `/readyz` says that it is.
pub(crate) async fn watch_jobs(board: Arc<dyn JobBoard>, ambient: Arc<dyn Ambient>) {
    let mut tick = tokio::time::interval(WATCHED);
    loop {
        tick.tick().await;
        let Ok(counts) = board.counts(ambient.now()).await else { continue };
        let JobCounts { waiting, delayed, active, dead, .. } = counts;
        let states = [
            (JobState::Waiting, waiting),
            (JobState::Delayed, delayed),
            (JobState::Active, active),
            (JobState::Dead, dead),
        ];
        for (state, count) in states {
            gauge!(JOBS, "state" => state.name()).set(u32::try_from(count).unwrap_or(u32::MAX));
        }
    }
}
