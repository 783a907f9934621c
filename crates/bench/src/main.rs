//! Measures Parlance against its contenders, with one client program for all: `make bench`.
//!
//! A row is a value in `rows.rs`: what is measured, for which contenders, and the targets. A contender is a file in
//! `contenders/` that starts a process and says how its frames are spoken (`speech.rs`). Every run has a fresh process
//! with a store of its own on disk, contenders take turns, and what counts are ratios of neighbouring runs.
//!
//! What to know of the figures:
//!
//! * CPU time is the server process's own, all threads, read from the operating system at both ends of the time that is
//!   measured, and divided by the deliveries that the clients have received in between. On services (MongoDB, Redis) it
//!   is the node's alone.
//! * A run in which a connection got fewer messages than were sent, or more, is no result but an error. So is one in
//!   which they came out of order, where order is promised and looked at: one sender, one channel, not Socket.IO, and
//!   the sockets that are timed (128 at most).
//! * Ten connections share one account (`--users`), because accounts cost a password hash each.

#![expect(clippy::cast_precision_loss, reason = "figures, of which three digits count")]

mod clock;
mod contenders;
mod curves;
mod driver;
mod floor;
mod measure;
mod meter;
mod quick;
mod report;
mod rows;
mod speech;
mod stats;
mod svg;
mod table;

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use clap::{Args, Parser, Subcommand};

use crate::{
    contenders::{Kind, Places},
    report::{result, say},
    rows::{ROWS, Row, Sizes},
};

#[derive(Parser)]
#[command(about = "Measures Parlance beside its contenders")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// The table
    Rows(Box<RowsArgs>),
    /// How the costs grow
    Curves(CurvesArgs),
    /// A few short runs, which fail if Parlance is much slower than it should be
    Quick(PlaceArgs),
    /// The server with one write for each delivery
    #[command(hide = true)]
    Floor,
}

#[derive(Args)]
struct RowsArgs {
    /// Rows by name, instead of all
    #[arg(long = "row", value_delimiter = ',')]
    rows: Vec<String>,
    /// Contenders, instead of all
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Kind>,
    /// How often each contender has its turn
    #[arg(long, default_value_t = 3)]
    runs: usize,
    #[command(flatten)]
    sizes: Sizes,
    #[command(flatten)]
    place: PlaceArgs,
    /// Also writes the table as Markdown
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Also draws it
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

#[derive(Args)]
struct CurvesArgs {
    #[command(flatten)]
    extent: curves::Extent,
    #[command(flatten)]
    place: PlaceArgs,
    /// Also writes them as Markdown
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Also draws them
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

#[derive(Args)]
struct PlaceArgs {
    /// The binary to measure [default: the one beside this]
    #[arg(long, value_name = "FILE")]
    parlance: Option<PathBuf>,
}

fn main() -> Result<()> {
    match Cli::parse().command {
        Command::Rows(arguments) => rows(&arguments),
        Command::Curves(arguments) => {
            allow_files()?;
            let curves = curves::draw(&arguments.extent, &arguments.place.places()?)?;
            result(&curves::markdown(&curves));
            write(arguments.markdown.as_ref(), || curves::markdown(&curves))?;
            write(arguments.svg.as_ref(), || svg::charts(&curves))
        }
        Command::Quick(place) => {
            allow_files()?;
            quick::run(&place.places()?)
        }
        Command::Floor => floor::serve(|address| {
            result(&format!("listening on http://{address}"));
            Ok(())
        }),
    }
}

fn rows(arguments: &RowsArgs) -> Result<()> {
    allow_files()?;
    let places = arguments.place.places()?;
    let rows: Vec<&Row> = if arguments.rows.is_empty() {
        ROWS.iter().collect()
    } else {
        let find = |name: &String| {
            let names = || ROWS.iter().map(|row| row.name).collect::<Vec<_>>().join(", ");
            ROWS.iter()
                .find(|row| row.name == *name)
                .with_context(|| format!("{name} is none of {}", names()))
        };
        arguments.rows.iter().map(find).collect::<Result<_>>()?
    };
    let frame_bytes = measure::frame_bytes(&arguments.sizes, &places)?;
    say(&format!("a broadcast frame of Parlance has {frame_bytes} bytes"));
    let (mut lines, mut failed) = (vec![], vec![]);
    for row in rows {
        let kinds: Vec<_> = row
            .contenders
            .iter()
            .filter(|kind| arguments.only.is_empty() || arguments.only.contains(kind))
            .collect();
        let mut runs = vec![];
        for run in 1..=arguments.runs {
            let turn = |kind: &&Kind| {
                say(&format!("{} {run}/{} {}", row.name, arguments.runs, kind.name()));
                let values = row
                    .measure(**kind, &arguments.sizes, frame_bytes, &places)
                    .with_context(|| format!("{} {run}, {}", row.name, kind.name()))?;
                let shown = values
                    .iter()
                    .zip(row.figures)
                    .map(|(value, it)| format!("{value:.2} {}", it.unit));
                say(&format!("    {}", shown.collect::<Vec<_>>().join(", ")));
                Ok((**kind, values))
            };
            // A failed run takes its neighbours with it: ratios are of runs side by side.
            match kinds.iter().map(turn).collect::<Result<Vec<_>>>() {
                Ok(beside) => runs.extend(beside),
                Err(error) => {
                    say(&format!("    FAILED: {error:#}"));
                    failed.push(format!("{error:#}"));
                }
            }
        }
        lines.extend(table::lines(row, &runs));
    }
    result(&table::plain(&lines));
    write(arguments.markdown.as_ref(), || table::markdown(&lines) + "\n")?;
    write(arguments.svg.as_ref(), || svg::bars(&lines))?;
    ensure!(failed.is_empty(), "not all runs are in the table:\n{}", failed.join("\n"));
    Ok(())
}

fn write(file: Option<&PathBuf>, text: impl FnOnce() -> String) -> Result<()> {
    let Some(file) = file else { return Ok(()) };
    file.parent().map_or(Ok(()), std::fs::create_dir_all)?;
    std::fs::write(file, text()).with_context(|| format!("writing {}", file.display()))
}

impl PlaceArgs {
    fn places(&self) -> Result<Places> {
        let own = std::env::current_exe()?;
        let beside = own.parent().context("a directory")?;
        let parlance = self.parlance.clone().unwrap_or_else(|| beside.join("parlance"));
        ensure!(
            parlance.is_file(),
            "{} is missing: `make bench` and `make bench-quick` build it",
            parlance.display()
        );
        Ok(Places {
            parlance,
            target: beside.parent().context("a directory")?.to_owned(),
            mongodb: std::env::var("PARLANCE_TEST_MONGODB_URI")
                .ok()
                .and_then(|servers| Some(servers.split_whitespace().next()?.to_owned())),
            redis: std::env::var("PARLANCE_TEST_REDIS_URL").ok(),
        })
    }
}

/// Sockets are files; servers inherit what they may have.
fn allow_files() -> Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let most = getrlimit(Resource::Nofile).maximum;
    // Root may have more than it was given.
    let wanted = Rlimit { current: Some(65_536), maximum: Some(65_536.max(most.unwrap_or(0))) };
    if setrlimit(Resource::Nofile, wanted).is_err() {
        setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most })?;
    }
    Ok(())
}
