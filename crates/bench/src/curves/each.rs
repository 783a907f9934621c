//! Each curve: which points it has, and what they come to.

use std::time::Duration;

use anyhow::Result;

use super::{Bench, Curve, growth};
use crate::{
    contenders::{Kind, Scene},
    driver::load::{self, Pace, Plan, Until},
    report::say,
    rows::{Load, ROWS, Row, Sizes},
    stats::median,
};

pub(super) fn fan(bench: &Bench<'_>) -> Result<Curve> {
    let row = row("fan-1000x8")?;
    let (mut bun, mut ours) = (vec![], vec![]);
    for receivers in
        [100, 300, 1_000, 3_000, 10_000].into_iter().filter(|n| *n <= bench.extent.most)
    {
        let sizes = Sizes { receivers: Some(receivers), ..bench.sizes.clone() };
        for (kind, points) in [(Kind::Bun, &mut bun), (Kind::Parlance, &mut ours)] {
            let value = point(bench, &row, kind, &sizes)?;
            say(&format!("  {receivers} receivers, {}: {value:.2} µs", kind.name()));
            points.push((receivers as f64, value));
        }
    }
    let verdict = format!(
        "From the fewest receivers to the most a delivery costs Parlance {:.2} × at most (wanted: ≤ 1.6), Bun {:.2} ×.",
        growth(&ours),
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

pub(super) fn append(bench: &Bench<'_>) -> Result<Curve> {
    let running = Kind::Parlance.start(&scene(bench, 1, 1), bench.places)?;
    let mut driver = running.drive(1)?;
    let (mut stored, mut points) = (0, vec![]);
    let piece = (bench.extent.messages / 10).max(1);
    while stored < bench.extent.messages {
        let plan = Plan {
            pace: Pace::InFlight(64, Until::Ack),
            senders: 1,
            warm_up: Duration::ZERO,
            measured: Duration::ZERO,
            sends: Some(piece),
        };
        let outcome = load::run(&mut driver, &running.meter(), plan)?;
        stored += piece;
        let micros = outcome.cpu.as_secs_f64() * 1e6 / outcome.acknowledged as f64;
        say(&format!(
            "  {stored} messages: {micros:.1} µs, {:.0}/s",
            outcome.acknowledged as f64 / outcome.seconds
        ));
        points.push((stored as f64, micros));
    }
    let verdict = format!(
        "The last tenth of {stored} messages costs {:.2} × what the first tenth does.",
        points.last().map_or(f64::NAN, |it| it.1) / points[0].1
    );
    Ok(Curve {
        title: "CPU µs per send, one conversation".into(),
        across: "messages in it",
        unit: "µs",
        series: vec![("Parlance".into(), points)],
        verdict,
    })
}

/// A member's send with nobody connected beside: all that could grow with the members is the check of what the sender may.
pub(super) fn members(bench: &Bench<'_>) -> Result<Curve> {
    let row = Row { load: Load::Acks { sends: 64 }, ..row("acks")? };
    let mut points = vec![];
    for members in [10, 30, 100, 300, 1_000] {
        let sizes = Sizes { users: Some(members), receivers: Some(0), ..bench.sizes.clone() };
        let values: Result<Vec<_>> = (0..bench.extent.runs)
            .map(|_| row.measure_cpu_per_ack(&sizes, bench.frame_bytes, bench.places))
            .collect();
        let value = median(&values?).unwrap_or(f64::NAN);
        say(&format!("  {members} members: {value:.1} µs"));
        points.push((members as f64, value));
    }
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
    let (row, mut series) = (row("idle")?, vec![]);
    for conversations in [1, 20, 50] {
        let mut points = vec![];
        for connections in
            [1_000, 2_000, 4_000, 8_000].into_iter().filter(|n| *n <= bench.extent.most)
        {
            let sizes = Sizes {
                receivers: Some(connections),
                conversations: Some(conversations),
                ..bench.sizes.clone()
            };
            let each = row.measure(Kind::Parlance, &sizes, bench.frame_bytes, bench.places)?[0];
            say(&format!("  {connections} connections in {conversations}: {each:.1} KiB each"));
            points.push((connections as f64, each * connections as f64 / 1_024.0));
        }
        series.push((format!("in {conversations}"), points));
    }
    let last = |n: usize| series[n].1.last().map_or(f64::NAN, |it| it.1);
    let verdict = format!(
        "With the most connections, memory in 50 conversations is {:.2} × that in one.",
        last(2) / last(0)
    );
    Ok(Curve {
        title: "Memory of idle connections, MiB".into(),
        across: "connections",
        unit: "MiB",
        series,
        verdict,
    })
}

pub(super) fn hello(bench: &Bench<'_>) -> Result<Curve> {
    let (row, mut points) = (row("connect")?, vec![]);
    for conversations in [10, 50, 200, 1_000] {
        let sizes = Sizes {
            receivers: Some(500),
            users: Some(5),
            conversations: Some(conversations),
            ..bench.sizes.clone()
        };
        let value = point(bench, &row, Kind::Parlance, &sizes)?;
        say(&format!("  {conversations} conversations: {value:.0} µs"));
        points.push((conversations as f64, value));
    }
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
    let plan = Plan {
        pace: Pace::InFlight(16, Until::Ack),
        senders: 1,
        warm_up: Duration::from_secs(1),
        measured: Duration::from_secs(4),
        sends: None,
    };
    let mut points = vec![];
    for nodes in [1, 2] {
        let mut values = vec![];
        for _ in 0..bench.extent.runs {
            let first =
                Kind::ParlanceMongo.start(&scene(bench, RECEIVERS / 10, 1), bench.places)?;
            let (mut driver, mut meter) = (first.drive(RECEIVERS / nodes)?, first.meter());
            let second = if nodes == 2 { Some(first.beside(bench.places)?) } else { None };
            if let Some(second) = &second {
                driver.turn_to(second.address);
                driver.open(RECEIVERS / 2, &first.tickets)?;
                meter = meter.and(second.meter());
            }
            let outcome = load::run(&mut driver, &meter, plan)?;
            values.push(outcome.deliveries as f64 / outcome.cpu.as_secs_f64());
        }
        let value = median(&values).unwrap_or(f64::NAN);
        say(&format!("  {nodes} nodes: {value:.0} deliveries per CPU second"));
        points.push((nodes as f64, value));
    }
    let verdict = format!(
        "Two nodes deliver {:.2} × as much per CPU second as one (wanted: ≥ 0.85).",
        points[1].1 / points[0].1
    );
    Ok(Curve {
        title: "Deliveries per CPU second, Mongo + Redis".into(),
        across: "nodes",
        unit: "per s",
        series: vec![("Parlance".into(), points)],
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

/// The median of several runs of one point.
fn point(bench: &Bench<'_>, row: &Row, kind: Kind, sizes: &Sizes) -> Result<f64> {
    let runs: Result<Vec<_>> = (0..bench.extent.runs)
        .map(|_| Ok(row.measure(kind, sizes, bench.frame_bytes, bench.places)?[0]))
        .collect();
    Ok(median(&runs?).unwrap_or(f64::NAN))
}

fn row(name: &str) -> Result<Row> {
    let found = ROWS.iter().find(|row| row.name == name);
    found.copied().ok_or_else(|| anyhow::anyhow!("no row {name}"))
}
