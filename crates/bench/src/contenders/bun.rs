//! Those that send back to all what they get, and store nothing: Bun's native publish, and the floor.

use std::process::Command;

use anyhow::Result;

use super::{Places, Process, Running, Scene, install, topics};
use crate::speech::{Language, Speech};

const FILES: [(&str, &str); 2] = [
    ("package.json", include_str!("../../contenders/bun/package.json")),
    ("server.js", include_str!("../../contenders/bun/server.js")),
];

pub(super) fn start(scene: &Scene, places: &Places) -> Result<Running> {
    let directory = install::npm(&places.target, "bun", &FILES)?;
    let program = directory.join("node_modules/@oven/bun-linux-x64/bin/bun");
    running(scene, Command::new(program).arg("server.js").current_dir(directory))
}

/// This program's own other half (`floor.rs`).
pub(super) fn start_floor(scene: &Scene) -> Result<Running> {
    running(scene, Command::new(std::env::current_exe()?).arg("floor"))
}

fn running(scene: &Scene, command: &mut Command) -> Result<Running> {
    let (process, address) = Process::announced(command, None)?;
    let speech = Speech::new(Language::Echo, scene, topics(scene.channels));
    Ok(Running {
        process,
        address,
        speech,
        tickets: vec![String::new()],
        history: None,
        settings: vec![],
    })
}
