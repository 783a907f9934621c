//! The rows of the table: what is measured, for which contenders, and Parlance's targets.

use std::time::Duration;

use clap::Args;

use crate::{contenders::Kind, driver::load::Until};

/// What is measured; the options may change the numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Load {
    /// Sends in flight, and what a delivery costs.
    InFlight {
        receivers: usize,
        sends: usize,
    },
    /// Sends by the clock, and what a delivery costs and takes.
    Paced {
        receivers: usize,
        per_second: u32,
    },
    /// Sends in flight with one receiver, and how many are acknowledged.
    Acks {
        sends: usize,
    },
    Idle {
        connections: usize,
    },
    Connect {
        connections: usize,
    },
    History {
        connections: usize,
    },
}

/// What Parlance must reach, relative to another in the same run or in absolute terms.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Target {
    pub(crate) who: Kind,
    pub(crate) bound: Bound,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Bound {
    /// At most this many times as much as the other.
    Times(f64, Kind),
    /// At least this many times as much as the other.
    TimesMore(f64, Kind),
    AtMost(f64),
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Figure {
    pub(crate) unit: &'static str,
    pub(crate) digits: usize,
    pub(crate) targets: &'static [Target],
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    pub(crate) load: Load,
    pub(crate) conversations: usize,
    pub(crate) contenders: &'static [Kind],
    pub(crate) figures: &'static [Figure],
}

/// What a run may be told; what is left out is the row's own.
#[derive(Debug, Clone, Args)]
pub(crate) struct Sizes {
    /// Length of a message's text
    #[arg(long, default_value_t = 120)]
    pub(crate) text_bytes: usize,
    /// Connections that receive
    #[arg(long)]
    pub(crate) receivers: Option<usize>,
    /// Connections that send, beside the receivers
    #[arg(long, default_value_t = 1)]
    pub(crate) senders: usize,
    /// Sends in flight, of all senders together
    #[arg(long)]
    pub(crate) in_flight: Option<usize>,
    /// What ends a send: its acknowledgement, or its coming back to the sender
    #[arg(long, value_enum, default_value = "ack")]
    pub(crate) until: Until,
    /// Channels that messages go to in turn; all connections are in all of them
    #[arg(long, default_value_t = 1)]
    pub(crate) channels: usize,
    /// Conversations that every user is in
    #[arg(long)]
    pub(crate) conversations: Option<usize>,
    /// Accounts that share the connections [default: one for ten connections]
    #[arg(long)]
    pub(crate) users: Option<usize>,
    /// Seconds that are measured
    #[arg(long, default_value_t = 3.0)]
    pub(crate) seconds: f64,
    /// Seconds before them
    #[arg(long, default_value_t = 1.0)]
    pub(crate) warm_up: f64,
}

const ALL: &[Kind] = &[Kind::Socketio, Kind::Nats, Kind::Floor, Kind::Bun, Kind::Parlance];
const PAIR: &[Kind] = &[Kind::Bun, Kind::Parlance];
const STORING: &[Kind] = &[Kind::Socketio, Kind::ParlanceMongo, Kind::Parlance];

macro_rules! at_most {
    ($times:literal x Bun, $unit:literal, $digits:literal) => {
        Figure {
            unit: $unit,
            digits: $digits,
            targets: &[Target { who: Kind::Parlance, bound: Bound::Times($times, Kind::Bun) }],
        }
    };
    ($most:literal, $unit:literal, $digits:literal) => {
        Figure {
            unit: $unit,
            digits: $digits,
            targets: &[Target { who: Kind::Parlance, bound: Bound::AtMost($most) }],
        }
    };
}

pub(crate) const ROWS: [Row; 8] = [
    Row {
        name: "fan-1000x8",
        what: "1,000 receivers, 8 sends in flight",
        load: Load::InFlight { receivers: 1_000, sends: 8 },
        conversations: 1,
        contenders: ALL,
        figures: &[at_most!(1.0 x Bun, "CPU µs per delivery", 2)],
    },
    Row {
        name: "fan-1000x16",
        what: "1,000 receivers, 16 in flight",
        load: Load::InFlight { receivers: 1_000, sends: 16 },
        conversations: 1,
        contenders: PAIR,
        figures: &[at_most!(1.1 x Bun, "CPU µs per delivery", 2)],
    },
    Row {
        name: "fan-100x8",
        what: "100 receivers, 8 in flight",
        load: Load::InFlight { receivers: 100, sends: 8 },
        conversations: 1,
        contenders: ALL,
        figures: &[at_most!(1.3 x Bun, "CPU µs per delivery", 2)],
    },
    Row {
        name: "paced",
        what: "100 receivers, paced 100 messages/s",
        load: Load::Paced { receivers: 100, per_second: 100 },
        conversations: 1,
        contenders: ALL,
        figures: &[
            at_most!(1.3 x Bun, "CPU µs per delivery", 2),
            at_most!(1.5 x Bun, "ms, p50", 2),
            at_most!(1.5 x Bun, "ms, p99", 2),
        ],
    },
    Row {
        name: "acks",
        what: "64 sends in flight, one receiver",
        load: Load::Acks { sends: 64 },
        conversations: 1,
        contenders: STORING,
        figures: &[Figure {
            unit: "acknowledged per second",
            digits: 0,
            targets: &[
                Target { who: Kind::Parlance, bound: Bound::TimesMore(10.0, Kind::Socketio) },
                Target { who: Kind::ParlanceMongo, bound: Bound::TimesMore(4.0, Kind::Socketio) },
            ],
        }],
    },
    Row {
        name: "idle",
        what: "8,000 idle connections, each in 20 conversations",
        load: Load::Idle { connections: 8_000 },
        conversations: 20,
        contenders: ALL,
        figures: &[at_most!(8.0, "KiB per connection", 1)],
    },
    Row {
        name: "connect",
        what: "a connection opened: token, auto-join of 20 conversations, snapshot",
        load: Load::Connect { connections: 4_000 },
        conversations: 20,
        contenders: ALL,
        figures: &[at_most!(230.0, "CPU µs", 0)],
    },
    Row {
        name: "history",
        what: "REST history, 50 messages (Socket.IO: none), 16 connections",
        load: Load::History { connections: 16 },
        conversations: 1,
        contenders: STORING,
        figures: &[
            Figure {
                unit: "requests/s",
                digits: 0,
                targets: &[Target {
                    who: Kind::Parlance,
                    bound: Bound::TimesMore(10.0, Kind::Socketio),
                }],
            },
            Figure { unit: "CPU µs per request", digits: 0, targets: &[] },
        ],
    },
];

impl Default for Sizes {
    fn default() -> Self {
        Self {
            text_bytes: 120,
            receivers: None,
            senders: 1,
            in_flight: None,
            until: Until::Ack,
            channels: 1,
            conversations: None,
            users: None,
            seconds: 3.0,
            warm_up: 1.0,
        }
    }
}

impl Sizes {
    pub(crate) fn warm_up(&self) -> Duration {
        Duration::from_secs_f64(self.warm_up)
    }
}
