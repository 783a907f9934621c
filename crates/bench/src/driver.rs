//! The client of all contenders: one thread, one `epoll`, many raw sockets.
//!
//! It is meant to cost little beside the server: no task and no buffer per connection, frames are read in place.

pub(crate) mod frame;
pub(crate) mod http;
pub(crate) mod load;
mod patience;
mod socket;

use std::{io::ErrorKind, net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result, ensure};
use mio::{Events, Interest, Poll, Token, net::TcpStream};

use self::{patience::Patience, socket::Socket};
use crate::speech::{Heard, Speech};

/// How many connections are being opened at once: few enough for any server's backlog.
const WINDOW: usize = 64;

/// Whoever is told what the server said.
pub(crate) trait Ears {
    fn hear(&mut self, socket: usize, heard: &Heard<'_>) -> Result<()>;
}

/// Hears events of connections that are being opened.
pub(crate) struct Deaf;

pub(crate) struct Driver {
    poll: Poll,
    events: Events,
    sockets: Vec<Socket>,
    buffer: Vec<u8>,
    address: SocketAddr,
    speech: Speech,
}

impl Driver {
    pub(crate) fn new(address: SocketAddr, speech: Speech) -> Result<Self> {
        let (poll, events) = (Poll::new()?, Events::with_capacity(4096));
        Ok(Self { poll, events, sockets: vec![], buffer: vec![], address, speech })
    }

    pub(crate) fn sockets(&self) -> usize {
        self.sockets.len()
    }

    /// Opens further connections at another address.
    pub(crate) fn turn_to(&mut self, address: SocketAddr) {
        self.address = address;
    }

    /// From now on, messages differ from those sent before.
    pub(crate) fn begin_series(&mut self) {
        self.speech.series += 1;
    }

    pub(crate) fn speech(&self) -> &Speech {
        &self.speech
    }

    /// Opens connections, with these tickets in turn, until the server has answered each one's opening.
    pub(crate) fn open(&mut self, count: usize, tickets: &[String]) -> Result<()> {
        let (first, mut begun, mut front) = (self.sockets.len(), 0, 0);
        let mut patience = Patience::new();
        while front < count {
            while begun < count && begun - front < WINDOW {
                self.begin(&tickets[begun % tickets.len()])?;
                begun += 1;
            }
            self.turn(Duration::from_secs(1), &mut Deaf)?;
            // Those behind the front are the window at most, which is small beside the number of connections.
            while front < begun && self.sockets[first + front].ready {
                front += 1;
            }
            let behind = self.sockets[first + front..].iter().filter(|socket| socket.ready).count();
            let ready = front + behind;
            ensure!(
                patience.lasts(ready as u64),
                "only {ready} of {count} connections were opened"
            );
        }
        Ok(())
    }

    /// Keeps a frame of a connection for `flush`.
    pub(crate) fn queue(&mut self, socket: usize, payload: &[u8]) {
        self.sockets[socket].queue(&self.speech, payload);
    }

    pub(crate) fn flush(&mut self, socket: usize) -> Result<()> {
        self.sockets[socket].flush()
    }

    /// Waits at most this long for something to happen, and handles all that has.
    pub(crate) fn turn(&mut self, wait: Duration, ears: &mut impl Ears) -> Result<()> {
        await_events(&mut self.poll, &mut self.events, wait)?;
        for event in &self.events {
            let index = event.token().0;
            let socket = &mut self.sockets[index];
            if event.is_writable() {
                socket.flush()?;
            }
            if event.is_readable() {
                socket.read(index, &self.speech, &mut self.buffer, ears)?;
            }
        }
        Ok(())
    }

    fn begin(&mut self, ticket: &str) -> Result<()> {
        let stream = TcpStream::connect(self.address).context("connecting")?;
        stream.set_nodelay(true)?;
        let request = self.speech.upgrade(self.address, ticket).into_bytes();
        let mut socket = Socket::new(stream, request, self.speech.opening(ticket));
        let (token, both) = (Token(self.sockets.len()), Interest::READABLE | Interest::WRITABLE);
        self.poll.registry().register(socket.stream(), token, both)?;
        self.sockets.push(socket);
        Ok(())
    }
}

/// Waits at most this long. A signal in between is no error: then there are no events.
fn await_events(poll: &mut Poll, events: &mut Events, wait: Duration) -> Result<()> {
    match poll.poll(events, Some(wait)) {
        Err(error) if error.kind() != ErrorKind::Interrupted => Err(error.into()),
        _ => Ok(()),
    }
}

impl Ears for Deaf {
    fn hear(&mut self, _: usize, heard: &Heard<'_>) -> Result<()> {
        if let Heard::Refused(why) = heard {
            anyhow::bail!("refused: {}", String::from_utf8_lossy(why));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, thread};

    use super::{
        load::{Pace, Plan, Until},
        *,
    };
    use crate::{floor, meter::Meter, speech::Language};

    #[test]
    fn more_connections_than_are_opened_at_once_get_every_message() {
        let (announce, announced) = mpsc::channel();
        thread::spawn(|| floor::serve(move |address| Ok(announce.send(address)?)));
        let speech = Speech::sample(Language::Echo, 1);
        let mut driver = Driver::new(announced.recv().unwrap(), speech).unwrap();
        driver.open(2 * WINDOW, &[String::new()]).unwrap();
        driver.open(1, &[String::new()]).unwrap();
        let plan = Plan {
            pace: Pace::InFlight(8, Until::Ack),
            senders: 1,
            warm_up: Duration::ZERO,
            measured: Duration::ZERO,
            sends: Some(50),
        };
        let outcome = load::run(&mut driver, &Meter::own(), plan).unwrap();
        assert_eq!((driver.sockets(), outcome.sends), (2 * WINDOW + 1, 50));
        assert_eq!(outcome.bytes, 100 * outcome.deliveries);
    }
}
