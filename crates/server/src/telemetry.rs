//! Logs to stderr (stdout belongs to the address line), metrics to a recorder that `/metrics` renders.

use std::io::IsTerminal as _;

use anyhow::Context as _;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;

/// Starts logging: JSON lines, or text when a person watches. `RUST_LOG` filters; `info` by default.
pub(crate) fn logs(env: impl Fn(&str) -> Option<String>) -> anyhow::Result<()> {
    let filter = match env("RUST_LOG").filter(|text| !text.is_empty()) {
        Some(text) => EnvFilter::try_new(&text)
            .with_context(|| format!("RUST_LOG={text:?} is no log filter"))?,
        None => EnvFilter::new("info"),
    };
    let terminal = std::io::stderr().is_terminal();
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // A reader of the log that has gone, or a full disk, is no reason to stop: the library would report it on stderr, and
        // panic as that fails, too.
        .log_internal_errors(false)
        .with_ansi(terminal);
    let started = if terminal {
        logs.try_init()
    } else {
        logs.json().flatten_event(true).with_current_span(true).with_span_list(false).try_init()
    };
    started.map_err(|error| anyhow::anyhow!("cannot start logging: {error}"))
}

/// Installs the process's recorder of metrics. Call `run_upkeep` on the handle now and then: histograms grow until drained.
pub(crate) fn metrics() -> anyhow::Result<PrometheusHandle> {
    PrometheusBuilder::new().install_recorder().context("cannot start the recorder of metrics")
}
