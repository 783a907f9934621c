//! The shutdown of a server.

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

/// How long queued changes may still begin once the process is to end.
const QUEUED: Duration = Duration::from_secs(2);
/// How long closing the store may take.
const CLOSING: Duration = Duration::from_secs(5);

impl Running {
    /// No new connections; open ones end as draining; what they and the jobs began is finished; then the rest. Another
    /// signal is an error, at which the process is to end at once.
    pub(super) async fn shut_down(self, stop: &mut Stop, logs: &Logs) -> anyhow::Result<()> {
        drop(self.stop_jobs);
        let writes = self.app;
        self.services.spawn(async move {
            sleep(QUEUED).await;
            // Behind a slow store the queue would outlast a supervisor's patience.
            writes.refuse_writes();
        });
        let orderly = async {
            self.handle.pause().await;
            self.drain.send_replace(true);
            self.live.drain().await;
            // Including those that have not said hello.
            self.hub.close_all(Close::Draining).await;
            // The accepting thread takes a shut listener for an error, and may see it in the same turn as the pause.
            logs.leave_out_accepting();
            refuse(&self.listening);
            // Connections before tasks: a client's last command may begin one.
            self.hub.all_over().await;
            self.tasks.wait().await;
            // The workers last: what a connection began runs on its worker, even if its client has hung up.
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

/// Refuses connections from now on. Otherwise they would hang, accepted by nobody, until the process has ended.
fn refuse(listening: &TcpListener) {
    if let Err(error) = SockRef::from(listening).shutdown(Shutdown::Read) {
        tracing::debug!(%error, "the listener could not be shut");
    }
}
