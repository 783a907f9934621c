//! `parlance`: the server in one binary.

mod adapters;
mod admin;
mod ambient;
mod config;
mod data_dir;
mod open_files;
mod readiness;
mod serve;
mod telemetry;

use std::{io::Write as _, process::ExitCode};

use clap::{Parser, Subcommand};
use rustix::{fs::Mode, process::umask};

use crate::config::{Flags, Settings};

/// mimalloc: the system's allocator does not return what a burst of sign-ups has used.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A team-messaging server that needs nothing else to run.
#[derive(Parser)]
#[command(name = "parlance", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs the server
    #[command(
        after_help = "Each setting is also an environment variable, PARLANCE_…, and a line of the \
        file; `parlance config` prints all of them with their defaults."
    )]
    Serve(Box<Flags>),
    /// Runs only the jobs, beside servers that share its store and Redis
    Worker(Box<Flags>),
    /// Brings the store's schema up to date
    Migrate(Box<Flags>),
    /// Operator-only tasks
    #[command(subcommand)]
    Admin(admin::Command),
    /// Prints the OpenAPI description of the REST API
    Openapi,
    /// Prints the AsyncAPI description of the WebSocket API
    Asyncapi,
    /// Prints the commented default configuration file
    Config,
}

fn main() -> ExitCode {
    // What it writes is for its own user only: password hashes, mails, a secret.
    umask(Mode::RWXG | Mode::RWXO);
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(format!("parlance: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// For the person who started it, whatever the log filter says. Waits at most [`telemetry::LAST_LINES`] for a reader.
fn say(last: String) {
    telemetry::within(telemetry::LAST_LINES, move || {
        let _ = writeln!(std::io::stderr(), "{last}");
    });
}

fn run(cli: Cli) -> anyhow::Result<()> {
    readable_environment()?;
    match cli.command {
        Command::Serve(flags) => {
            let logs = telemetry::logs(env)?;
            serve::run(&checked(&flags)?, &logs)
        }
        Command::Worker(flags) => {
            let _logs = telemetry::logs(env)?;
            let settings = checked(&flags)?;
            settings.check_worker()?;
            serve::run_worker(&settings)
        }
        Command::Migrate(flags) => {
            let _logs = telemetry::logs(env)?;
            serve::run_migrations(Settings::load(&flags, env)?)
        }
        Command::Admin(command) => {
            let _logs = telemetry::logs(env)?;
            admin::run(&command, env)
        }
        Command::Openapi => print(&parlance_transport::openapi_json()),
        Command::Asyncapi => print(&parlance_transport::asyncapi_json()),
        Command::Config => print(config::DEFAULT_FILE),
    }
}

/// The settings of a long-running process, whose operator is told what is odd about them.
fn checked(flags: &Flags) -> anyhow::Result<Settings> {
    let settings = Settings::load(flags, env)?;
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    for variable in config::unknown(names) {
        tracing::warn!(variable, "there is no such setting; `parlance config` prints all of them");
    }
    for doubt in settings.doubts() {
        tracing::warn!("{doubt}");
    }
    Ok(settings)
}

/// Writes to stdout, which may be a pipe that somebody closed.
fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{}", text.trim_end())?;
    Ok(stdout.flush()?)
}

/// Otherwise a setting would be silently ignored.
fn readable_environment() -> anyhow::Result<()> {
    let unreadable = std::env::vars_os().find_map(|(name, value)| {
        let name = name.into_string().ok()?;
        (name.starts_with(config::PREFIX) && value.to_str().is_none()).then_some(name)
    });
    match unreadable {
        Some(name) => anyhow::bail!("the value of {name} is not UTF-8"),
        None => Ok(()),
    }
}

fn env(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
