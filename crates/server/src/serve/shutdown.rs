//! The end of a server that was asked to end.

use std::{
    net::{Shutdown, TcpListener},
    time::Duration,
};

use anyhow::Context as _;
use parlance_application::ports::Close;
use socket2::SockRef;
use tokio::time::sleep;

use super::{SHUTDOWN, running::Running, stop::Stop};
use crate::telemetry::Logs;

/// How long changes that wait for the store may still begin once the process is to end.
const QUEUED: Duration = Duration::from_secs(2);
/// How long the store may take to be closed.
const CLOSING: Duration = Duration::from_secs(5);

impl Running {
    /// No new connections; those that are open end as draining; what they and the jobs began is finished; then the rest. Another
    /// signal is an error, with which the process is to end at once.
    pub(super) async fn shut_down(self, stop: &mut Stop, logs: &Logs) -> anyhow::Result<()> {
        drop(self.stop_jobs);
        let writes = self.app;
        self.services.spawn(async move {
            sleep(QUEUED).await;
            // Behind a slow store the queue would take longer than a supervisor waits.
            writes.refuse_writes();
        });
        let orderly = async {
            self.handle.pause().await;
            self.drain.send_replace(true);
            self.live.drain().await;
            // And those that have not said hello.
            self.hub.close_all(Close::Draining).await;
            // The thread that accepts takes a shut listener for an error, and may meet it in the same turn in which it hears of the pause.
            logs.leave_out_accepting();
            refuse(&self.listening);
            // Connections before tasks: a client's last command may begin one.
            self.hub.all_over().await;
            self.tasks.wait().await;
            // The workers last: what a connection began runs on its worker, also when its client has hung up.
            self.handle.stop(true).await;
        };
        if stop.finish(SHUTDOWN, orderly).await.context("work was in flight")?.is_none() {
            tracing::warn!("work was still in flight at the end; clients will find it unanswered");
        }
        self.services.abort();
        if stop.finish(CLOSING, self.adapters.database().close()).await?.is_none() {
            tracing::warn!("the database's log was not emptied in time");
        }
        tracing::info!("stopped");
        Ok(())
    }
}

/// Has connections refused from now on. Those that nobody would accept any more would hang until the process has ended.
fn refuse(listening: &TcpListener) {
    if let Err(error) = SockRef::from(listening).shutdown(Shutdown::Read) {
        tracing::debug!(%error, "the listener could not be shut");
    }
}
