//! nats-server over WebSocket. Debian's package, with everything left as it is but the listener.

use std::{fs, process::Command};

use anyhow::Result;

use super::{Process, Running, Scene, install, topics};
use crate::speech::{Language, Speech};

const CONF: &str = include_str!("../../contenders/nats.conf");

pub(super) fn start(scene: &Scene) -> Result<Running> {
    let program = install::debian("nats-server")?;
    let home = tempfile::tempdir()?;
    let conf = home.path().join("nats.conf");
    let command = |port: u16| {
        // A file that cannot be written shows as a server that ends at once.
        let _ = fs::write(&conf, CONF.replace("PORT", &port.to_string()));
        let mut command = Command::new(program);
        command.arg("-c").arg(&conf);
        command
    };
    let (process, address) = Process::on_port(command, Some(home))?;
    let speech = Speech::new(Language::Nats, scene, topics(scene.channels));
    Ok(Running {
        process,
        address,
        speech,
        tickets: vec![String::new()],
        history: None,
        settings: vec![],
    })
}
