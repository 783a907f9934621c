//! A server's process: its address from what it announces, its end with its owner's.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;

use crate::{clock, meter::Meter};

pub(super) struct Process {
    child: Child,
    /// Kept open: a server whose output nobody reads would die of it.
    stdout: Option<BufReader<ChildStdout>>,
    /// Its files, which are deleted with it.
    home: Option<TempDir>,
}

/// A directory on a disk, where syncing means something: the system's own for temporary files may be memory.
pub(crate) fn home(target: &Path) -> Result<TempDir> {
    let homes = target.join("bench");
    fs::create_dir_all(&homes)?;
    Ok(tempfile::Builder::new().prefix("home-").tempdir_in(homes)?)
}

impl Process {
    /// Starts a server that says `listening on http://address` in its first line.
    pub(super) fn announced(
        command: &mut Command,
        home: Option<TempDir>,
    ) -> Result<(Self, SocketAddr)> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting {}", command.get_program().display()))?;
        let mut stdout = child.stdout.take().map(BufReader::new).context("its output")?;
        let mut process = Self { child, stdout: None, home };
        let mut line = String::new();
        stdout.read_line(&mut line)?;
        process.stdout = Some(stdout);
        let address = line.trim().rsplit_once("listening on http://").map(|(_, it)| it.parse());
        let address = address.with_context(|| format!("it announced {line:?}"))??;
        Ok((process, address))
    }

    /// Starts a server on a given port, and waits until it answers there.
    pub(super) fn on_port(
        command: impl FnOnce(u16) -> Command,
        home: Option<TempDir>,
    ) -> Result<(Self, SocketAddr)> {
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let mut command = command(address.port());
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("starting {}", command.get_program().display()))?;
        let mut process = Self { child, stdout: None, home };
        for _ in 0..200 {
            if TcpStream::connect(address).is_ok() {
                return Ok((process, address));
            }
            if let Some(status) = process.child.try_wait()? {
                bail!("{} ended at once: {status}", command.get_program().display());
            }
            clock::sleep(Duration::from_millis(50));
        }
        bail!("{} does not answer", command.get_program().display())
    }

    /// Ends it, and leaves its files.
    pub(super) fn end(mut self) -> Option<TempDir> {
        self.home.take()
    }

    pub(super) fn meter(&self) -> Meter {
        Meter::new(self.child.id())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
