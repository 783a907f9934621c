//! The stack that is replaced: Express, Socket.IO 4 and Mongoose (`contenders/socketio`), on the same MongoDB wire.

use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::{Places, Process, Running, Scene, install, parlance::database, process::home};
use crate::{
    driver::http::Http,
    speech::{Language, Speech},
};

const FILES: [(&str, &str); 2] = [
    ("package.json", include_str!("../../contenders/socketio/package.json")),
    ("server.js", include_str!("../../contenders/socketio/server.js")),
];

pub(super) fn start(scene: &Scene, places: &Places) -> Result<Running> {
    let directory = install::npm(&places.target, "socketio", &FILES)?;
    let home = home(&places.target)?;
    let mongodb = places
        .mongodb
        .as_ref()
        .context("needs services: run it below `python3 tests/services.py --`")?;
    let name =
        home.path().file_name().unwrap_or_default().to_string_lossy().replace(['.', '-'], "_");
    let mut command = Command::new("node");
    command
        .arg("server.js")
        .current_dir(directory)
        .env("NODE_ENV", "production")
        .env("MONGODB_URI", database(mongodb, &name))
        .env("FRAME_BYTES", scene.frame_bytes.to_string());
    let (process, address) = Process::announced(&mut command, Some(home))?;
    let mut http = Http::new(address)?;
    let body = json!({ "users": scene.users, "conversations": scene.conversations });
    let made = http.call("POST", "/setup", "", &body)?;
    let list = |name: &str| -> Vec<String> {
        let values = made[name].as_array().map(Vec::as_slice).unwrap_or_default();
        values.iter().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let (tickets, rooms) = (list("tokens"), list("rooms"));
    let history = format!("/conversations/{}/messages?limit=50", rooms.first().context("rooms")?);
    let rooms = rooms.into_iter().take(scene.channels).collect();
    let speech = Speech::new(Language::SocketIo, scene, rooms);
    Ok(Running { process, address, speech, tickets, history: Some(history), settings: vec![] })
}
