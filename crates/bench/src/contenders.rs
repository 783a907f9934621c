//! The servers that are compared, each started as a process of its own for every run.

mod bun;
mod install;
mod nats;
mod parlance;
mod process;
mod socketio;

use std::{net::SocketAddr, path::PathBuf};

use anyhow::Result;
use clap::ValueEnum;

use self::process::Process;
pub(crate) use self::process::home;
use crate::{driver::Driver, meter::Meter, speech::Speech};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Kind {
    /// With its embedded store, synced, as shipped but without rate limits: one sender stands for everybody here.
    Parlance,
    /// On MongoDB's wire and Redis; only the node's own CPU time counts.
    ParlanceMongo,
    /// Express, Socket.IO 4 and Mongoose, on the same MongoDB wire.
    Socketio,
    /// NATS over WebSocket; stores nothing.
    Nats,
    /// One write for each delivery and nothing else.
    Floor,
    /// Bun's native publish; stores nothing.
    Bun,
}

/// What is set up before anybody is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scene {
    /// People; connections are theirs in turn.
    pub(crate) users: usize,
    /// That every one of them is in.
    pub(crate) conversations: usize,
    /// Those of them that messages are sent to, in turn.
    pub(crate) channels: usize,
    pub(crate) text_bytes: usize,
    /// What Parlance's broadcast frame measures.
    pub(crate) frame_bytes: usize,
}

/// Where the contenders are found.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    pub(crate) parlance: PathBuf,
    /// Where the harness installs what it needs.
    pub(crate) target: PathBuf,
    pub(crate) mongodb: Option<String>,
    pub(crate) redis: Option<String>,
}

/// A server that runs, with people who may connect.
pub(crate) struct Running {
    process: Process,
    pub(crate) address: SocketAddr,
    pub(crate) speech: Speech,
    /// What a connection shows: a token for each user.
    pub(crate) tickets: Vec<String>,
    /// The path of a page of 50 messages of the first channel, if it serves one.
    pub(crate) history: Option<String>,
    /// The settings for another node.
    settings: Vec<(String, String)>,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Parlance => "Parlance",
            Self::ParlanceMongo => "Parlance on Mongo + Redis",
            Self::Socketio => "Socket.IO stack",
            Self::Nats => "nats-ws",
            Self::Floor => "one write each",
            Self::Bun => "Bun / uWS",
        }
    }

    pub(crate) fn start(self, scene: &Scene, places: &Places) -> Result<Running> {
        match self {
            Self::Parlance => parlance::start(scene, places, false),
            Self::ParlanceMongo => parlance::start(scene, places, true),
            Self::Socketio => socketio::start(scene, places),
            Self::Nats => nats::start(scene),
            Self::Floor => bun::start_floor(scene),
            Self::Bun => bun::start(scene, places),
        }
    }
}

impl Running {
    pub(crate) fn meter(&self) -> Meter {
        self.process.meter()
    }

    /// Another node of Parlance on the same services.
    pub(crate) fn beside(&self, places: &Places) -> Result<Self> {
        parlance::beside(self, places)
    }

    /// A driver with this many connections open.
    pub(crate) fn drive(&self, connections: usize) -> Result<Driver> {
        let mut driver = Driver::new(self.address, self.speech.clone())?;
        driver.open(connections, &self.tickets)?;
        Ok(driver)
    }
}

/// Names of topics, for contenders that have no ids for them.
fn topics(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("c{n}")).collect()
}
