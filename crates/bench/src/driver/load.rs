//! Loads: sends that wait for their answers, or sends by the clock; and what came of them, counted for each connection.

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use super::{Driver, Ears, patience::Patience};
use crate::{
    clock,
    meter::Meter,
    speech::{Heard, Speech, number},
    stats::Histogram,
};

/// The most connections whose deliveries are timed; the others are only counted.
const TIMED: usize = 128;

/// When a send is over, and the next one may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Until {
    /// When it was acknowledged; by those that acknowledge nothing, when the sender has its own copy.
    Ack,
    /// When the first sender has its own copy.
    Echo,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Pace {
    InFlight(usize, Until),
    PerSecond(u32),
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) pace: Pace,
    /// How many connections send, in turn: the first ones.
    pub(crate) senders: usize,
    pub(crate) warm_up: Duration,
    pub(crate) measured: Duration,
    /// Instead of `measured`: the run ends after this many sends.
    pub(crate) sends: Option<usize>,
}

/// What happened in the time that was measured.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) seconds: f64,
    pub(crate) deliveries: u64,
    pub(crate) bytes: u64,
    pub(crate) acknowledged: u64,
    /// Of the server.
    pub(crate) cpu: Duration,
    /// Of this program: near 1, it is itself the bottleneck.
    pub(crate) busy: f64,
    pub(crate) latency: Histogram,
    /// Sends of the whole run, warming up included.
    pub(crate) sends: usize,
}

struct Load {
    begin: Instant,
    /// When each message was sent, since `begin`.
    sent: Vec<Duration>,
    counts: Vec<u32>,
    /// One socket in this many is timed.
    stride: usize,
    in_order: bool,
    numbered: bool,
    deliveries: u64,
    bytes: u64,
    acknowledged: u64,
    latency: Histogram,
    measuring: bool,
    /// When it was last asked what is due: after a turn, and for each send. Deliveries are timed one by one.
    now: Duration,
}

#[derive(Clone, Copy)]
struct Mark {
    at: Duration,
    cpu: Duration,
    own: Duration,
    deliveries: u64,
    bytes: u64,
    acknowledged: u64,
}

/// Runs a load to its end, where every connection must have got every message.
pub(crate) fn run(driver: &mut Driver, meter: &Meter, plan: Plan) -> Result<Outcome> {
    driver.begin_series();
    let mut load = Load::new(driver.sockets(), plan.senders, driver.speech());
    let own = Meter::own();
    let (mut payload, mut sender) = (vec![], 0);
    let (mut from, mut to) = (None, None);
    let mut patience = Patience::new();
    while to.is_none() {
        let wait = match plan.pace {
            Pace::InFlight(..) => Duration::from_millis(100),
            Pace::PerSecond(rate) => {
                due(rate, load.sent.len()).saturating_sub(load.begin.elapsed())
            }
        };
        // `epoll` counts in milliseconds and rounds up: the last one is spent busy-waiting.
        driver.turn(wait.saturating_sub(Duration::from_millis(1)), &mut load)?;
        load.now = clock::now() - load.begin;

        let over = |load: &Load| match plan.sends {
            Some(sends) => load.sent.len() >= sends,
            None => load.now >= plan.warm_up + plan.measured,
        };
        if from.is_none() && load.now >= plan.warm_up {
            load.measuring = true;
            from = Some(load.mark(meter, &own)?);
        } else if over(&load) {
            to = Some(load.mark(meter, &own)?);
            load.measuring = false;
            break;
        }
        while may_send(&load, plan.pace, driver.speech().acknowledges()) && !over(&load) {
            driver.speech().send(load.sent.len(), &mut payload);
            load.now = clock::now() - load.begin;
            load.sent.push(load.now);
            driver.queue(sender, &payload);
            driver.flush(sender)?;
            sender = (sender + 1) % plan.senders;
        }
        ensure!(patience.lasts(load.heard()), "nothing comes any more");
    }
    load.drain(driver)?;
    let (Some(from), Some(to)) = (from, to) else { bail!("the load ended before it was measured") };
    let seconds = to.at.saturating_sub(from.at).as_secs_f64();
    Ok(Outcome {
        seconds,
        deliveries: to.deliveries - from.deliveries,
        bytes: to.bytes - from.bytes,
        acknowledged: to.acknowledged - from.acknowledged,
        cpu: to.cpu.saturating_sub(from.cpu),
        busy: to.own.saturating_sub(from.own).as_secs_f64() / seconds,
        latency: load.latency,
        sends: load.sent.len(),
    })
}

fn due(rate: u32, sent: usize) -> Duration {
    Duration::from_secs(1).mul_f64(sent as f64 / f64::from(rate))
}

fn may_send(load: &Load, pace: Pace, acknowledges: bool) -> bool {
    let sent = load.sent.len();
    match pace {
        Pace::PerSecond(rate) => due(rate, sent) <= load.now,
        Pace::InFlight(most, until) => {
            let over = match until {
                Until::Ack if acknowledges => {
                    usize::try_from(load.acknowledged).unwrap_or(usize::MAX)
                }
                _ => load.counts[0] as usize,
            };
            sent.saturating_sub(over) < most
        }
    }
}

impl Load {
    fn new(sockets: usize, senders: usize, speech: &Speech) -> Self {
        Self {
            begin: clock::now(),
            sent: Vec::with_capacity(1 << 20),
            counts: vec![0; sockets],
            stride: sockets.div_ceil(TIMED).max(1),
            in_order: senders == 1 && speech.keeps_order(),
            numbered: speech.shows_numbers(),
            deliveries: 0,
            bytes: 0,
            acknowledged: 0,
            latency: Histogram::default(),
            measuring: false,
            now: Duration::ZERO,
        }
    }

    fn heard(&self) -> u64 {
        self.deliveries + self.acknowledged
    }

    fn mark(&self, meter: &Meter, own: &Meter) -> Result<Mark> {
        let &Self { deliveries, bytes, acknowledged, .. } = self;
        let at = self.begin.elapsed();
        Ok(Mark { at, cpu: meter.cpu()?, own: own.cpu()?, deliveries, bytes, acknowledged })
    }

    /// Waits for all that is in flight, and checks that nobody got less than all, or more.
    fn drain(&mut self, driver: &mut Driver) -> Result<()> {
        let sends = self.sent.len();
        let expected = (sends * self.counts.len()) as u64;
        let acks = if driver.speech().acknowledges() { sends as u64 } else { 0 };
        let mut patience = Patience::new();
        while self.deliveries < expected || self.acknowledged < acks {
            driver.turn(Duration::from_millis(100), self)?;
            ensure!(
                patience.lasts(self.heard()),
                "{} of {expected} deliveries and {} of {acks} acknowledgements have come, and no more do",
                self.deliveries,
                self.acknowledged,
            );
        }
        // A surplus message would come now.
        driver.turn(Duration::from_millis(50), self)?;
        for (socket, count) in self.counts.iter().enumerate() {
            ensure!(
                *count as usize == sends,
                "connection {socket} got {count} of {sends} messages"
            );
        }
        ensure!(
            self.acknowledged == acks,
            "{} acknowledgements of {acks} sends",
            self.acknowledged
        );
        Ok(())
    }

    /// The last delivery on a socket that is timed.
    fn time(&mut self, socket: usize, payload: &[u8]) -> Result<()> {
        let count = self.counts[socket];
        let Some(number) = number(payload) else {
            ensure!(!self.numbered, "connection {socket} got a message without a number");
            return Ok(());
        };
        if self.in_order && number + 1 != count as usize {
            bail!("connection {socket} got message {number} as its {count}th");
        }
        let Some(sent) = self.sent.get(number) else {
            bail!("connection {socket} got message {number}, which nobody sent");
        };
        if self.measuring {
            self.latency.add(self.begin.elapsed().saturating_sub(*sent));
        }
        Ok(())
    }
}

impl Ears for Load {
    fn hear(&mut self, socket: usize, heard: &Heard<'_>) -> Result<()> {
        match heard {
            Heard::Delivery(payload) => {
                self.counts[socket] += 1;
                self.deliveries += 1;
                self.bytes += payload.len() as u64;
                if socket.is_multiple_of(self.stride) {
                    self.time(socket, payload)?;
                }
            }
            Heard::Acknowledged => self.acknowledged += 1,
            Heard::Refused(why) => bail!("refused: {}", String::from_utf8_lossy(why)),
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::speech::Language;

    /// A load with one message sent, on sockets of which every second is timed.
    fn begun(language: Language) -> Load {
        let mut load = Load::new(2 * TIMED, 1, &Speech::sample(language, 1));
        load.sent.push(Duration::ZERO);
        load
    }

    #[test]
    fn a_delivery_that_is_timed_shows_its_number() {
        for language in [Language::Parlance, Language::SocketIo, Language::Echo] {
            let hear = |socket, payload: &[u8]| {
                begun(language).hear(socket, &Heard::Delivery(payload)).is_ok()
            };
            assert!(hear(2, b"#00000000#x"), "{language:?}");
            assert!(!hear(2, b"#0000000"), "{language:?}");
            assert!(!hear(2, b"#00000001#x"), "{language:?}: nobody sent it");
            assert!(hear(1, b"x"), "{language:?}: only counted");
        }
    }

    #[test]
    fn a_number_of_nats_may_lie_in_another_frame() {
        let mut load = begun(Language::Nats);
        load.hear(0, &Heard::Delivery(b"the rest")).unwrap();
        assert_eq!((load.deliveries, load.counts[0]), (1, 1));
    }
}
