//! The floor: a server that does one `write` for each delivery, and nothing else. No store, no coalescing, no check of
//! anything.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::SocketAddr,
};

use anyhow::{Result, bail};
use mio::{
    Events, Interest, Poll, Token,
    net::{TcpListener, TcpStream},
};

/// The answer to the driver's one key.
const UPGRADED: &[u8] =
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n\x81\x05ready";
const LISTENER: Token = Token(usize::MAX);

struct Peer {
    stream: TcpStream,
    input: Vec<u8>,
    /// What the kernel did not take.
    output: Vec<u8>,
    upgraded: bool,
}

pub(crate) fn serve(announce: impl FnOnce(SocketAddr) -> Result<()>) -> Result<()> {
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(1024);
    let mut listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    announce(listener.local_addr()?)?;
    let mut peers: Vec<Option<Peer>> = vec![];
    let (mut buffer, mut frame) = (vec![0; 1 << 16], vec![]);
    loop {
        poll.poll(&mut events, None)?;
        for event in &events {
            if event.token() == LISTENER {
                accept(&listener, &poll, &mut peers)?;
                continue;
            }
            let index = event.token().0;
            let Some(peer) = &mut peers[index] else { continue };
            if peer.flush().and_then(|()| peer.read(&mut buffer)).is_err() {
                peers[index] = None;
                continue;
            }
            // One message after the other, to one receiver after the other.
            while let Some(peer) = &mut peers[index]
                && peer.take_message(&mut frame)?
            {
                for slot in &mut peers {
                    if let Some(peer) = slot
                        && peer.upgraded
                        && peer.deliver(&frame).is_err()
                    {
                        *slot = None;
                    }
                }
            }
        }
    }
}

fn accept(listener: &TcpListener, poll: &Poll, peers: &mut Vec<Option<Peer>>) -> Result<()> {
    loop {
        let mut stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        stream.set_nodelay(true)?;
        let both = Interest::READABLE | Interest::WRITABLE;
        poll.registry().register(&mut stream, Token(peers.len()), both)?;
        peers.push(Some(Peer { stream, input: vec![], output: vec![], upgraded: false }));
    }
}

impl Peer {
    fn read(&mut self, buffer: &mut [u8]) -> Result<()> {
        loop {
            match self.stream.read(buffer) {
                Ok(0) => bail!("gone"),
                Ok(read) => self.input.extend_from_slice(&buffer[..read]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Takes one whole frame off the input and writes it as a server's; a close frame, too, is sent to all, which no
    /// driver minds.
    fn take_message(&mut self, frame: &mut Vec<u8>) -> Result<bool> {
        if !self.upgraded {
            if !self.input.ends_with(b"\r\n\r\n") {
                return Ok(false);
            }
            self.input = vec![];
            self.upgraded = true;
            self.deliver(UPGRADED)?;
            return Ok(false);
        }
        let (head, size) = match *self.input {
            [_, second, ..] if second & 0x7f < 126 => (2, usize::from(second & 0x7f)),
            [_, second, a, b, ..] if second & 0x7f == 126 => {
                (4, usize::from(u16::from_be_bytes([a, b])))
            }
            _ => return Ok(false),
        };
        let (payload, end) = (head + 4, head + 4 + size);
        if self.input.len() < end {
            return Ok(false);
        }
        frame.clear();
        frame.extend_from_slice(&self.input[..head]);
        frame[1] &= 0x7f;
        let (mask, bytes) = self.input[head..end].split_at(payload - head);
        frame.extend(bytes.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        self.input.drain(..end);
        if self.input.is_empty() && self.input.capacity() > 1 << 16 {
            self.input = vec![];
        }
        Ok(true)
    }

    fn deliver(&mut self, frame: &[u8]) -> Result<()> {
        if !self.output.is_empty() {
            self.output.extend_from_slice(frame);
            return self.flush();
        }
        match self.stream.write(frame) {
            Ok(written) => self.output.extend_from_slice(&frame[written..]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.output.extend_from_slice(frame);
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        while !self.output.is_empty() {
            match self.stream.write(&self.output) {
                Ok(written) => drop(self.output.drain(..written)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}
