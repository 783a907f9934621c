//! HTTP/1.1 with kept connections: one that waits, for setting the stage, and a load of several at once.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use mio::{Events, Interest, Poll, Token};
use serde_json::Value;

use super::{
    await_events,
    patience::{PATIENCE, Patience},
};
use crate::{clock, meter::Meter};

pub(crate) struct Http {
    stream: TcpStream,
    address: SocketAddr,
    bytes: Vec<u8>,
}

/// What a load of requests came to.
#[derive(Debug)]
pub(crate) struct Served {
    pub(crate) requests: u64,
    pub(crate) bytes: u64,
    pub(crate) seconds: f64,
    pub(crate) cpu: Duration,
    pub(crate) busy: f64,
}

struct Asking {
    stream: mio::net::TcpStream,
    rest: Vec<u8>,
}

impl Http {
    pub(crate) fn new(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(3 * PATIENCE))?;
        Ok(Self { stream, address, bytes: vec![] })
    }

    /// Asks and waits; anything but a 2xx is an error.
    pub(crate) fn call(
        &mut self,
        method: &str,
        path: &str,
        token: &str,
        body: &Value,
    ) -> Result<Value> {
        let request = request(self.address, method, path, token, body);
        self.stream.write_all(request.as_bytes())?;
        let mut buffer = vec![0; 1 << 16];
        loop {
            if let Some((status, body, used)) = response(&self.bytes)? {
                let text = String::from_utf8_lossy(&self.bytes[body..used]).into_owned();
                self.bytes.drain(..used);
                ensure!(status / 100 == 2, "{method} {path}: {status} {text}");
                return if text.is_empty() {
                    Ok(Value::Null)
                } else {
                    Ok(serde_json::from_str(&text)?)
                };
            }
            let read = self.stream.read(&mut buffer).with_context(|| format!("{method} {path}"))?;
            ensure!(read > 0, "{method} {path}: the connection was closed");
            self.bytes.extend_from_slice(&buffer[..read]);
        }
    }
}

/// The same requests over several connections, each asking again as soon as it was answered. Anything but a 200 is an
/// error.
pub(crate) fn run(
    address: SocketAddr,
    requests: &[String],
    meter: &Meter,
    warm_up: Duration,
    measured: Duration,
) -> Result<Served> {
    let (mut poll, mut events) = (Poll::new()?, Events::with_capacity(1024));
    let mut asking = vec![];
    for (index, request) in requests.iter().enumerate() {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let mut stream = mio::net::TcpStream::from_std(stream);
        poll.registry().register(&mut stream, Token(index), Interest::READABLE)?;
        stream.write_all(request.as_bytes())?;
        asking.push(Asking { stream, rest: vec![] });
    }
    let own = Meter::own();
    let (begin, mut from) = (clock::now(), None);
    let (mut answered, mut bytes, mut buffer) = (0, 0, vec![0; 1 << 18]);
    let mut patience = Patience::new();
    loop {
        await_events(&mut poll, &mut events, Duration::from_secs(1))?;
        for event in &events {
            let index = event.token().0;
            let size = asking[index].read(&mut buffer)?;
            if size > 0 {
                answered += 1;
                bytes += size as u64;
                asking[index].stream.write_all(requests[index].as_bytes())?;
            }
        }
        ensure!(patience.lasts(answered), "nothing comes any more");
        let now = begin.elapsed();
        match from {
            None if now >= warm_up => from = Some((now, meter.cpu()?, own.cpu()?, answered, bytes)),
            Some((at, cpu, used, before, bytes_before)) if now >= warm_up + measured => {
                let seconds = now.saturating_sub(at).as_secs_f64();
                return Ok(Served {
                    requests: answered - before,
                    bytes: bytes - bytes_before,
                    seconds,
                    cpu: meter.cpu()?.saturating_sub(cpu),
                    busy: own.cpu()?.saturating_sub(used).as_secs_f64() / seconds,
                });
            }
            _ => {}
        }
    }
}

pub(crate) fn request(
    address: SocketAddr,
    method: &str,
    path: &str,
    token: &str,
    body: &Value,
) -> String {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let kind = if body.is_empty() { "" } else { "Content-Type: application/json\r\n" };
    let bearer =
        if token.is_empty() { String::new() } else { format!("Authorization: Bearer {token}\r\n") };
    format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\n{bearer}{kind}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

impl Asking {
    /// The size of the body once it is complete, or 0.
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        loop {
            match self.stream.read(buffer) {
                Ok(0) => bail!("the server closed a connection"),
                Ok(read) => self.rest.extend_from_slice(&buffer[..read]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        match response(&self.rest)? {
            None => Ok(0),
            Some((status, body, used)) => {
                ensure!(
                    status == 200,
                    "{status}: {}",
                    String::from_utf8_lossy(&self.rest[body..used])
                );
                ensure!(used == self.rest.len(), "more than was asked for");
                self.rest.clear();
                Ok(used - body)
            }
        }
    }
}

/// Its status, and where its body begins and ends; `None` until it is complete.
fn response(bytes: &[u8]) -> Result<Option<(u16, usize, usize)>> {
    let Some(end) = memchr::memmem::find(bytes, b"\r\n\r\n") else { return Ok(None) };
    let head = std::str::from_utf8(&bytes[..end])?;
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    let status: u16 = status.with_context(|| format!("no status in {head:?}"))?;
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    ensure!(length.is_some() || status == 204, "no length of a body in {head:?}");
    let body = end + 4;
    let used = body + length.unwrap_or_default();
    Ok((bytes.len() >= used).then_some((status, body, used)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_is_whole_when_its_body_is() {
        let text = b"HTTP/1.1 201 Created\r\ncontent-LENGTH: 5\r\n\r\nhelloHTTP";
        for cut in 0..48 {
            assert_eq!(response(&text[..cut]).unwrap(), None, "{cut}");
        }
        assert_eq!(response(text).unwrap(), Some((201, 43, 48)));
        assert_eq!(response(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap(), Some((204, 27, 27)));
        assert!(response(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").is_err());
    }
}
