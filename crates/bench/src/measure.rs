//! One run of one contender: its stage is set, its load driven, its figures taken.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::{
    clock,
    contenders::{Kind, Places, Running, Scene},
    driver::{
        Deaf, Driver,
        http::{self, Http},
        load::{self, Outcome, Pace, Plan, Until},
    },
    report::say,
    rows::{Load, Row, Sizes},
    speech::Language,
};

/// As many sends in flight as one connection may have with Parlance.
pub(crate) const MOST_IN_FLIGHT: usize = 64;
/// Connections opened before memory or the cost of a connection is measured: one-time costs are not theirs.
const FIRST: usize = 200;

impl Row {
    /// One run of one contender, in a process of its own: a value for each figure.
    pub(crate) fn measure(
        &self,
        kind: Kind,
        sizes: &Sizes,
        frame_bytes: usize,
        places: &Places,
    ) -> Result<Vec<f64>> {
        let connections = self.connections(sizes);
        let running = kind.start(&self.scene(sizes, frame_bytes), places)?;
        match self.load {
            Load::InFlight { receivers: _, sends } => {
                let pace = Pace::InFlight(sizes.in_flight.unwrap_or(sends), sizes.until);
                Ok(vec![per_delivery(&load(&running, connections, pace, sizes)?)])
            }
            Load::Paced { per_second, .. } => {
                let outcome = load(&running, connections, Pace::PerSecond(per_second), sizes)?;
                let ms = |share| outcome.latency.percentile(share).unwrap_or(f64::NAN);
                Ok(vec![per_delivery(&outcome), ms(0.5), ms(0.99)])
            }
            Load::Acks { sends } => {
                let pace = Pace::InFlight(sizes.in_flight.unwrap_or(sends), Until::Ack);
                let outcome = load(&running, connections, pace, sizes)?;
                Ok(vec![outcome.acknowledged as f64 / outcome.seconds])
            }
            Load::Idle { .. } => idle(&running, connections).map(|kib| vec![kib]),
            Load::Connect { .. } => connect(&running, connections).map(|micros| vec![micros]),
            Load::History { .. } => history(&running, connections, sizes),
        }
    }

    fn scene(&self, sizes: &Sizes, frame_bytes: usize) -> Scene {
        Scene {
            users: sizes.users.unwrap_or_else(|| self.connections(sizes).div_ceil(10)).max(1),
            conversations: sizes.conversations.unwrap_or(self.conversations).max(sizes.channels),
            channels: sizes.channels,
            text_bytes: sizes.text_bytes,
            frame_bytes,
        }
    }

    /// How many there are, including the senders.
    fn connections(&self, sizes: &Sizes) -> usize {
        match self.load {
            Load::InFlight { receivers, .. } | Load::Paced { receivers, .. } => {
                sizes.receivers.unwrap_or(receivers) + sizes.senders
            }
            Load::Acks { .. } => sizes.receivers.unwrap_or(1) + sizes.senders,
            Load::Idle { connections }
            | Load::Connect { connections }
            | Load::History { connections } => sizes.receivers.unwrap_or(connections),
        }
    }
}

/// The length of Parlance's broadcast frame, which those that store nothing send as well.
pub(crate) fn frame_bytes(sizes: &Sizes, places: &Places) -> Result<usize> {
    let scene = Scene {
        users: 1,
        conversations: 1,
        channels: 1,
        text_bytes: sizes.text_bytes,
        frame_bytes: 0,
    };
    let running = Kind::Parlance.start(&scene, places)?;
    let outcome = fill(&mut running.drive(1)?, &running, 2_000)?;
    Ok(usize::try_from(outcome.bytes / outcome.deliveries.max(1))?)
}

/// Sends this many messages as fast as they are taken, over the first connection.
pub(crate) fn fill(driver: &mut Driver, running: &Running, sends: usize) -> Result<Outcome> {
    let plan = Plan {
        pace: Pace::InFlight(MOST_IN_FLIGHT, Until::Ack),
        senders: 1,
        warm_up: Duration::ZERO,
        measured: Duration::ZERO,
        sends: Some(sends),
    };
    load::run(driver, &running.meter(), plan)
}

pub(crate) fn load(
    running: &Running,
    connections: usize,
    pace: Pace,
    sizes: &Sizes,
) -> Result<Outcome> {
    let mut driver = running.drive(connections)?;
    let plan = Plan {
        pace,
        senders: sizes.senders,
        warm_up: sizes.warm_up(),
        measured: Duration::from_secs_f64(sizes.seconds),
        sends: None,
    };
    let outcome = load::run(&mut driver, &running.meter(), plan)?;
    ensure!(outcome.deliveries > 0, "nothing was delivered");
    if running.speech.language == Language::Echo {
        check_length(&outcome, running.speech.frame_bytes)?;
    }
    let ms = |share| outcome.latency.percentile(share).unwrap_or(f64::NAN);
    say(&format!(
        "    {:.0} sends/s, {:.0} k deliveries/s of {} bytes; server {:.0} % of a core, driver {:.0} %; p50 {:.2} p99 {:.2} ms",
        outcome.sends as f64 / (sizes.seconds + sizes.warm_up),
        outcome.deliveries as f64 / outcome.seconds / 1_000.0,
        outcome.bytes / outcome.deliveries,
        outcome.cpu.as_secs_f64() / outcome.seconds * 100.0,
        outcome.busy * 100.0,
        ms(0.5),
        ms(0.99),
    ));
    Ok(outcome)
}

fn per_delivery(outcome: &Outcome) -> f64 {
    micros_each(outcome.cpu, outcome.deliveries)
}

/// CPU time per piece, in µs.
pub(crate) fn micros_each(cpu: Duration, count: u64) -> f64 {
    cpu.as_secs_f64() * 1e6 / count as f64
}

/// Those that send padding must move as many bytes as Parlance does, within 2 %.
fn check_length(outcome: &Outcome, wanted: usize) -> Result<()> {
    let mean = outcome.bytes as f64 / outcome.deliveries as f64;
    let near = (mean - wanted as f64).abs() <= 0.02 * wanted as f64;
    ensure!(near, "frames of {mean:.0} bytes were delivered instead of {wanted}");
    Ok(())
}

fn idle(running: &Running, connections: usize) -> Result<f64> {
    let mut driver = running.drive(FIRST)?;
    settle(&mut driver)?;
    let before = running.meter().resident()?;
    driver.open(connections, &running.tickets)?;
    settle(&mut driver)?;
    Ok((running.meter().resident()?.saturating_sub(before)) as f64 / connections as f64)
}

fn connect(running: &Running, connections: usize) -> Result<f64> {
    let mut driver = running.drive(FIRST)?;
    settle(&mut driver)?;
    let before = running.meter().cpu()?;
    driver.open(connections, &running.tickets)?;
    let cpu = running.meter().cpu()?.saturating_sub(before);
    Ok(micros_each(cpu, connections as u64))
}

/// Lets a server finish what it has begun.
fn settle(driver: &mut Driver) -> Result<()> {
    let until = clock::now() + Duration::from_secs(2);
    while clock::now() < until {
        driver.turn(Duration::from_millis(100), &mut Deaf)?;
    }
    Ok(())
}

fn history(running: &Running, connections: usize, sizes: &Sizes) -> Result<Vec<f64>> {
    let path = running.history.as_deref().unwrap_or_default();
    // The replaced stack answers with an empty page, so that its database is not measured.
    let expected = if running.speech.language == Language::SocketIo { 0 } else { 50 };
    if expected > 0 {
        fill(&mut running.drive(1)?, running, 4 * expected)?;
    }
    let page = Http::new(running.address)?.call("GET", path, &running.tickets[0], &Value::Null)?;
    let items = page["items"].as_array().map_or(0, Vec::len);
    ensure!(items == expected, "a page has {items} messages instead of {expected}");
    let request = |n: usize| {
        let token = &running.tickets[n % running.tickets.len()];
        http::request(running.address, "GET", path, token, &Value::Null)
    };
    let requests: Vec<_> = (0..connections).map(request).collect();
    let measured = Duration::from_secs_f64(sizes.seconds);
    let served =
        http::run(running.address, &requests, &running.meter(), sizes.warm_up(), measured)?;
    say(&format!(
        "    pages of {} bytes; server {:.0} % of a core, driver {:.0} %",
        served.bytes / served.requests.max(1),
        served.cpu.as_secs_f64() / served.seconds * 100.0,
        served.busy * 100.0
    ));
    Ok(vec![served.requests as f64 / served.seconds, micros_each(served.cpu, served.requests)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::Histogram;

    #[test]
    fn frames_of_another_length_are_no_result() {
        let checked = |bytes| {
            let outcome = Outcome {
                seconds: 1.0,
                deliveries: 10,
                bytes,
                acknowledged: 0,
                cpu: Duration::ZERO,
                busy: 0.0,
                latency: Histogram::default(),
                sends: 1,
            };
            check_length(&outcome, 500).is_ok()
        };
        assert!(checked(4_900) && checked(5_100));
        assert!(!checked(4_899) && !checked(5_101));
    }
}
