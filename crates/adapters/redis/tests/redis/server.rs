//! A Redis of a test's own, to kill and to start again.

use std::{
    net::TcpListener,
    process::{Child, Command, Stdio},
    time::Duration,
};

use parlance_testkit::PATIENCE;
use tempfile::TempDir;

/// A redis-server that a test may kill, hang and start again, with what it has acknowledged still there.
pub(crate) struct Server {
    port: u16,
    dir: TempDir,
    process: Option<Child>,
}

impl Server {
    pub(crate) fn absent() -> Self {
        let port = TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .expect("a free port")
            .port();
        Self { port, dir: tempfile::tempdir().expect("a directory"), process: None }
    }

    pub(crate) async fn started() -> Self {
        let mut server = Self::absent();
        server.start().await;
        server
    }

    pub(crate) async fn start(&mut self) {
        let port = self.port.to_string();
        let process = Command::new("redis-server")
            .args(["--port", &port, "--bind", "127.0.0.1", "--save", ""])
            .args(["--appendonly", "yes", "--appendfsync", "always", "--dir"])
            .arg(self.dir.path())
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is installed");
        self.process = Some(process);
        let up = async {
            while tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await.is_err() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, up).await.expect("redis-server starts");
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// With `SIGKILL`.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().expect("can be killed");
            process.wait().expect("ends");
        }
    }

    /// `STOP` makes it hang, `CONT` go on.
    pub(crate) fn signal(&self, signal: &str) {
        let process = self.process.as_ref().expect("it runs");
        let status = Command::new("kill")
            .args([format!("-{signal}"), process.id().to_string()])
            .status()
            .expect("kill runs");
        assert!(status.success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}
