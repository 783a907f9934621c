//! The signals that ask the process to end, and how they are obeyed.

use std::time::Duration;

use anyhow::{Context as _, bail};
use futures::future::pending;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{Instant, timeout},
};

/// Signals this soon after the first are the same request: `timeout`, for one, signals its child and then its whole
/// group.
const REPEATED: Duration = Duration::from_millis(500);

/// The signals that ask a process to end.
pub(super) struct Stop {
    terminate: Signal,
    interrupt: Signal,
    /// `None` if whoever started the process has it outlive its terminal, as `nohup` does.
    hangup: Option<Signal>,
    /// When the last signal that counted came.
    asked_at: Option<Instant>,
}

impl Stop {
    /// From now on a signal no longer ends the process by itself.
    pub(super) fn listen() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen to signals");
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hangup: (!ignores_hangup()).then(|| listen(SignalKind::hangup())).transpose()?,
            asked_at: None,
        })
    }

    /// Waits for a signal, or for another one than the last; returns its name.
    pub(super) async fn wait(&mut self) -> &'static str {
        loop {
            let name = self.next().await;
            if self.asked_at.is_none_or(|at| at.elapsed() >= REPEATED) {
                self.asked_at = Some(Instant::now());
                return name;
            }
        }
    }

    async fn next(&mut self) -> &'static str {
        let hung_up = async {
            match &mut self.hangup {
                Some(hangup) => drop(hangup.recv().await),
                None => pending().await,
            }
        };
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
            // The terminal was closed. There is nothing to reload.
            () = hung_up => "SIGHUP",
        }
    }

    /// Once asked to end: waits for the last of the `work`, for at most `limit`. `None` if that was not enough. Another
    /// signal is an error, at which the process is to end at once.
    pub(super) async fn finish<T>(
        &mut self,
        limit: Duration,
        work: impl Future<Output = T>,
    ) -> anyhow::Result<Option<T>> {
        tokio::select! {
            done = timeout(limit, work) => Ok(done.ok()),
            why = self.wait() => bail!("ended at once by a second {why}"),
        }
    }
}

/// Whether the process was started with SIGHUP ignored. Listening to it would undo that.
fn ignores_hangup() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask & 1 == 1)
}
