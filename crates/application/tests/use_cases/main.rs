//! Use cases over mocks and fakes: no database, no network, no time that passes.
#![expect(clippy::expect_used, reason = "tests may")]

mod access;
mod accounts;
mod attachment;
mod board;
mod changes;
mod checks;
mod gate;
mod hello;
mod herds;
mod jobs;
mod lanes;
mod live;
mod lost;
mod messages;
mod no_bus;
mod order;
mod panics;
mod peers;
mod resume;
mod scene;
mod sequencer;
mod sessions;
mod states;
mod ways_back;
