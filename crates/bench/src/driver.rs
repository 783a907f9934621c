//! The client of all contenders: one thread, one `epoll`, many raw sockets.
//!
//! It is meant to cost little beside the server: no task and no buffer for each connection, frames are read where they lie.

pub(crate) mod frame;
pub(crate) mod http;
pub(crate) mod load;
mod socket;

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result, ensure};
use mio::{Events, Interest, Poll, Token, net::TcpStream};

use self::socket::Socket;
use crate::{
    clock,
    speech::{Heard, Speech},
};

/// How many connections are being opened at once: few enough for any server's backlog.
const WINDOW: usize = 64;
/// How long nothing may happen while something is due.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

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

    /// Opens the next ones somewhere else.
    pub(crate) fn turn_to(&mut self, address: SocketAddr) {
        self.address = address;
    }

    /// From now on other messages are sent than before.
    pub(crate) fn begin_series(&mut self) {
        self.speech.series += 1;
    }

    pub(crate) fn speech(&self) -> &Speech {
        &self.speech
    }

    /// Opens connections, with these tickets in turn, until the server has answered each one's opening.
    pub(crate) fn open(&mut self, count: usize, tickets: &[String]) -> Result<()> {
        let (first, mut begun, mut ready) = (self.sockets.len(), 0, 0);
        let mut last = clock::now();
        while ready < count {
            while begun < count && begun - ready < WINDOW {
                self.begin(&tickets[begun % tickets.len()])?;
                begun += 1;
            }
            self.turn(Duration::from_secs(1), &mut Deaf)?;
            let now_ready =
                self.sockets[first..].iter().skip(ready).filter(|socket| socket.ready).count();
            // Those at the front first: the window is small beside the number of connections.
            let mut front = ready;
            while front < begun && self.sockets[first + front].ready {
                front += 1;
            }
            if front > ready || now_ready > 0 {
                last = clock::now();
            }
            ready = front;
            ensure!(
                clock::now() - last < PATIENCE,
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

    /// Waits at most so long for something to happen, and takes all that has.
    pub(crate) fn turn(&mut self, wait: Duration, ears: &mut impl Ears) -> Result<()> {
        if let Err(error) = self.poll.poll(&mut self.events, Some(wait)) {
            ensure!(error.kind() == std::io::ErrorKind::Interrupted, error);
            return Ok(());
        }
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

impl Ears for Deaf {
    fn hear(&mut self, _: usize, heard: &Heard<'_>) -> Result<()> {
        if let Heard::Refused(why) = heard {
            anyhow::bail!("refused: {}", String::from_utf8_lossy(why));
        }
        Ok(())
    }
}
