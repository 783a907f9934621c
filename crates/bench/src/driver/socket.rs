//! One connection: its upgrade, the bytes of an incomplete frame, the bytes that could not be written yet.

use std::io::{ErrorKind, Read as _, Write as _};

use anyhow::{Context as _, Result, bail, ensure};
use mio::net::TcpStream;

use super::{
    Ears,
    frame::{self, Step},
};
use crate::speech::{Carry, Heard, Speech};

/// How much is read at once, at least.
const ROOM: usize = 128 << 10;

pub(super) struct Socket {
    stream: TcpStream,
    /// Sent once the server has agreed to speak WebSocket; gone when that is done.
    opening: Option<Vec<u8>>,
    rest: Vec<u8>,
    out: Vec<u8>,
    carry: Carry,
    pub(super) ready: bool,
}

impl Socket {
    pub(super) fn new(stream: TcpStream, request: Vec<u8>, opening: Vec<u8>) -> Self {
        let carry = Carry::default();
        Self { stream, opening: Some(opening), rest: vec![], out: request, carry, ready: false }
    }

    pub(super) fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    /// Sends a frame, or keeps it until the kernel takes it.
    pub(super) fn say(&mut self, speech: &Speech, payload: &[u8]) -> Result<()> {
        frame::write(speech.opcode(), payload, &mut self.out);
        self.flush()
    }

    /// Keeps a frame for the next `flush`.
    pub(super) fn queue(&mut self, speech: &Speech, payload: &[u8]) {
        frame::write(speech.opcode(), payload, &mut self.out);
    }

    pub(super) fn flush(&mut self) -> Result<()> {
        while !self.out.is_empty() {
            match self.stream.write(&self.out) {
                Ok(written) => drop(self.out.drain(..written)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) =>
                {
                    return Ok(());
                }
                Err(error) => return Err(error).context("writing"),
            }
        }
        Ok(())
    }

    /// Reads all that there is. `buffer` belongs to all sockets of a driver, so that an idle one holds no memory.
    pub(super) fn read(
        &mut self,
        index: usize,
        speech: &Speech,
        buffer: &mut Vec<u8>,
        ears: &mut impl Ears,
    ) -> Result<()> {
        loop {
            let kept = self.rest.len();
            if buffer.len() < kept + ROOM {
                buffer.resize(kept + 2 * ROOM, 0);
            }
            buffer[..kept].copy_from_slice(&self.rest);
            let read = match self.stream.read(&mut buffer[kept..]) {
                Ok(0) => bail!("the server ended a connection without a close frame"),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error).context("reading"),
            };
            let filled = kept + read;
            let used = self.eat(index, speech, &buffer[..filled], ears)?;
            self.rest.clear();
            if used < filled {
                self.rest.extend_from_slice(&buffer[used..filled]);
            } else if kept > 0 {
                self.rest = vec![];
            }
            // The kernel reports new bytes only; fewer than there was room for means that none are left.
            if filled < buffer.len() {
                return Ok(());
            }
        }
    }

    /// Takes whole frames off the front, and says how many bytes they were.
    fn eat(
        &mut self,
        index: usize,
        speech: &Speech,
        bytes: &[u8],
        ears: &mut impl Ears,
    ) -> Result<usize> {
        let mut used = match self.opening.take() {
            None => 0,
            Some(opening) => match memchr::memmem::find(bytes, b"\r\n\r\n") {
                None => {
                    self.opening = Some(opening);
                    return Ok(0);
                }
                Some(end) => {
                    let head = String::from_utf8_lossy(&bytes[..end]);
                    ensure!(head.starts_with("HTTP/1.1 101"), "the upgrade was refused: {head}");
                    if !opening.is_empty() {
                        self.say(speech, &opening)?;
                    }
                    end + 4
                }
            },
        };
        while let Step::Frame { opcode, payload, length } = frame::parse(&bytes[used..])? {
            used += length;
            match opcode {
                frame::TEXT | frame::BINARY => self.hear(index, speech, payload, ears)?,
                frame::PING => {
                    frame::write(frame::PONG, payload, &mut self.out);
                    self.flush()?;
                }
                frame::PONG => {}
                frame::CLOSE => {
                    let code = payload.first_chunk().map_or(0, |code| u16::from_be_bytes(*code));
                    bail!("the server closed connection {index} with {code}");
                }
                _ => bail!("a frame of unknown kind {opcode}"),
            }
        }
        Ok(used)
    }

    fn hear(
        &mut self,
        index: usize,
        speech: &Speech,
        payload: &[u8],
        ears: &mut impl Ears,
    ) -> Result<()> {
        let Self { carry, ready, out, .. } = self;
        speech.hear(carry, payload, |heard| {
            match heard {
                Heard::Ready => *ready = true,
                Heard::Reply(reply) => frame::write(speech.opcode(), reply, out),
                heard => ears.hear(index, &heard)?,
            }
            Ok(())
        })?;
        self.flush()
    }
}
