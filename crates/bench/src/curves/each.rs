//! Each curve: which points it has, and what they come to.

use std::time::Duration;

use anyhow::Result;

use super::{Bench, Curve, growth, mean_until, met, runs::Runs};
use crate::{
    contenders::{Kind, Scene},
    driver::load::{self, Pace, Plan, Until},
    measure::{self, MOST_IN_FLIGHT, micros_each},
    report::say,
    rows::{ROWS, Row, Sizes},
};

pub(super) fn fan(bench: &Bench<'_>) -> Result<Curve> {
    const WANTED: f64 = 1.6;
    let row = row("fan-1000x8")?;
    let receivers = up_to_most(bench, &[100, 300, 1_000, 3_000, 10_000]);
    let both = |n| [Kind::Bun, Kind::Parlance].map(|kind| (n, kind));
    let points = receivers.flat_map(both).collect();
    let runs = Runs::in_turns(bench.extent.runs, points, |receivers, kind| {
        let sizes = Sizes { receivers: Some(receivers), ..bench.sizes.clone() };
        let value = first_figure(bench, &row, kind, &sizes)?;
        say(&format!("  {receivers} receivers, {}: {value:.2} µs", kind.name()));
        Ok(value)
    })?;
    let (bun, ours) = (runs.series(Kind::Bun), runs.series(Kind::Parlance));
    let grown = growth(&ours);
    let verdict = format!(
        "From the fewest receivers to the most a delivery costs Parlance {grown:.2} × at most (wanted: ≤ {WANTED}, {}), Bun {:.2} ×.",
        met(grown <= WANTED),
        growth(&bun)
    );
    Ok(Curve {
        title: "CPU µs per delivery, 8 in flight".into(),
        across: "receivers",
        unit: "µs",
        series: vec![("Parlance".into(), ours), (Kind::Bun.name().into(), bun)],
        verdict,
    })
}

/// Fills one conversation, anew in each run. The first pieces are small, so that the curve begins with next to nothing
/// stored.
pub(super) fn append(bench: &Bench<'_>) -> Result<Curve> {
    let tenth = (bench.extent.messages / 10).max(1);
    let small = [1_000, 10_000].into_iter().filter(|end| *end < tenth);
    let ends = small.chain((1..=10).map(|n| n * tenth));
    let points = ends.map(|end| (end, ())).collect();
    let runs = Runs::whole(bench.extent.runs, points, |points| {
        let running = Kind::Parlance.start(&scene(bench, 1, 1), bench.places)?;
        let (mut driver, mut stored) = (running.drive(1)?, 0);
        let piece = |(end, ()): &(usize, ())| {
            let outcome = measure::fill(&mut driver, &running, end - stored)?;
            stored = *end;
            let micros = micros_each(outcome.cpu, outcome.acknowledged);
            let rate = outcome.acknowledged as f64 / outcome.seconds;
            say(&format!("  {stored} messages: {micros:.1} µs, {rate:.0}/s"));
            Ok(micros)
        };
        points.iter().map(piece).collect()
    })?;
    let points = runs.series(());
    let ((few, early), (all, late)) = (points[0], points[points.len() - 1]);
    let verdict = format!(
        "The first {few} messages cost {early:.1} µs each, and the last tenth of {all} costs {:.2} × what the first tenth does.",
        late / mean_until(&points, tenth as f64)
    );
    Ok(Curve {
        title: "CPU µs per send, one conversation".into(),
        across: "messages in it",
        unit: "µs",
        series: vec![("Parlance".into(), points)],
        verdict,
    })
}

/// A member's send while nobody else is connected: all that could grow with the members is the check of what the sender
/// may do.
pub(super) fn members(bench: &Bench<'_>) -> Result<Curve> {
    let points = [10, 30, 100, 300, 1_000].map(|n| (n, ())).to_vec();
    let runs = Runs::in_turns(bench.extent.runs, points, |members, ()| {
        let running = Kind::Parlance.start(&scene(bench, members, 1), bench.places)?;
        let pace = Pace::InFlight(MOST_IN_FLIGHT, Until::Ack);
        let outcome = measure::load(&running, 1, pace, &bench.sizes)?;
        let value = micros_each(outcome.cpu, outcome.acknowledged);
        say(&format!("  {members} members: {value:.1} µs"));
        Ok(value)
    })?;
    let points = runs.series(());
    let verdict =
        format!("A send costs {:.2} × at most, whatever the number of members.", growth(&points));
    Ok(Curve {
        title: "CPU µs per send, members offline".into(),
        across: "members of the channel",
        unit: "µs",
        series: vec![("Parlance".into(), points)],
        verdict,
    })
}

pub(super) fn memory(bench: &Bench<'_>) -> Result<Curve> {
    const CONVERSATIONS: [usize; 3] = [1, 20, 50];
    let row = row("idle")?;
    let connections = up_to_most(bench, &[1_000, 2_000, 4_000, 8_000]);
    let points = connections.flat_map(|n| CONVERSATIONS.map(|many| (n, many))).collect();
    let runs = Runs::in_turns(bench.extent.runs, points, |connections, conversations| {
        let sizes = Sizes {
            receivers: Some(connections),
            conversations: Some(conversations),
            ..bench.sizes.clone()
        };
        let each = first_figure(bench, &row, Kind::Parlance, &sizes)?;
        say(&format!("  {connections} connections in {conversations}: {each:.1} KiB each"));
        Ok(each * connections as f64 / 1_024.0)
    })?;
    let last = |of| runs.series(of).last().map_or(f64::NAN, |(_, mib)| *mib);
    let verdict = format!(
        "With the most connections, memory in 50 conversations is {:.2} × that in one.",
        last(50) / last(1)
    );
    Ok(Curve {
        title: "Memory of idle connections, MiB".into(),
        across: "connections",
        unit: "MiB",
        series: CONVERSATIONS.map(|of| (format!("in {of}"), runs.series(of))).to_vec(),
        verdict,
    })
}

pub(super) fn hello(bench: &Bench<'_>) -> Result<Curve> {
    let row = row("connect")?;
    let points = [10, 50, 200, 1_000].map(|n| (n, ())).to_vec();
    let runs = Runs::in_turns(bench.extent.runs, points, |conversations, ()| {
        let sizes = Sizes {
            receivers: Some(500),
            users: Some(5),
            conversations: Some(conversations),
            ..bench.sizes.clone()
        };
        let value = first_figure(bench, &row, Kind::Parlance, &sizes)?;
        say(&format!("  {conversations} conversations: {value:.0} µs"));
        Ok(value)
    })?;
    let points = runs.series(());
    let ((x0, y0), (x1, y1)) = (points[0], points[points.len() - 1]);
    let slope = (y1 - y0) / (x1 - x0);
    let verdict = format!("{:.0} µs and {slope:.2} µs for each conversation.", y0 - slope * x0);
    Ok(Curve {
        title: "CPU µs per connection opened".into(),
        across: "conversations of the user",
        unit: "µs",
        series: vec![("Parlance".into(), points)],
        verdict,
    })
}

/// One node with all receivers, or two with half of them each, on the same services; the nodes' own CPU.
pub(super) fn nodes(bench: &Bench<'_>) -> Result<Curve> {
    const RECEIVERS: usize = 1_000;
    const WANTED: f64 = 0.85;
    let plan = Plan {
        pace: Pace::InFlight(16, Until::Ack),
        senders: 1,
        warm_up: Duration::from_secs(1),
        measured: Duration::from_secs(4),
        sends: None,
    };
    let runs = Runs::in_turns(bench.extent.runs, vec![(1, ()), (2, ())], |nodes, ()| {
        let first = Kind::ParlanceMongo.start(&scene(bench, RECEIVERS / 10, 1), bench.places)?;
        let (mut driver, mut meter) = (first.drive(RECEIVERS / nodes)?, first.meter());
        let second = if nodes == 2 { Some(first.beside(bench.places)?) } else { None };
        if let Some(second) = &second {
            driver.turn_to(second.address);
            driver.open(RECEIVERS / 2, &first.tickets)?;
            meter = meter.and(second.meter());
        }
        let outcome = load::run(&mut driver, &meter, plan)?;
        let value = outcome.deliveries as f64 / outcome.cpu.as_secs_f64();
        say(&format!("  {nodes} nodes: {value:.0} deliveries per CPU second"));
        Ok(value)
    })?;
    let times = runs.last_to_first();
    let verdict = format!(
        "Two nodes deliver {times:.2} × as much per CPU second as one (wanted: ≥ {WANTED}, {}).",
        met(times >= WANTED)
    );
    Ok(Curve {
        title: "Deliveries per CPU second, Mongo + Redis".into(),
        across: "nodes",
        unit: "per s",
        series: vec![("Parlance".into(), runs.series(()))],
        verdict,
    })
}

fn scene(bench: &Bench<'_>, users: usize, conversations: usize) -> Scene {
    Scene {
        users,
        conversations,
        channels: 1,
        text_bytes: bench.sizes.text_bytes,
        frame_bytes: bench.frame_bytes,
    }
}

fn up_to_most(bench: &Bench<'_>, counts: &[usize]) -> impl Iterator<Item = usize> {
    counts.iter().copied().filter(|n| *n <= bench.extent.most)
}

/// One run of a row.
fn first_figure(bench: &Bench<'_>, row: &Row, kind: Kind, sizes: &Sizes) -> Result<f64> {
    Ok(row.measure(kind, sizes, bench.frame_bytes, bench.places)?[0])
}

fn row(name: &str) -> Result<Row> {
    let found = ROWS.iter().find(|row| row.name == name);
    found.copied().ok_or_else(|| anyhow::anyhow!("no row {name}"))
}
