//! NATS over WebSocket: a stream of lines and payloads, cut into frames anywhere.

use anyhow::Result;

use super::Heard;

/// What a connection has to remember between two frames.
#[derive(Debug, Default)]
pub(crate) struct Carry {
    /// Bytes of a payload that are yet to come.
    skip: usize,
    line: Vec<u8>,
}

impl Carry {
    pub(super) fn take(
        &mut self,
        mut bytes: &[u8],
        mut ear: impl FnMut(Heard<'_>) -> Result<()>,
    ) -> Result<()> {
        while !bytes.is_empty() {
            if self.skip > 0 {
                let now = self.skip.min(bytes.len());
                self.skip -= now;
                // A message whose number lies in another frame counts, and cannot be timed.
                if self.skip == 0 {
                    ear(Heard::Delivery(&bytes[..now]))?;
                }
                bytes = &bytes[now..];
                continue;
            }
            let Some(end) = memchr::memchr(b'\n', bytes) else {
                self.line.extend_from_slice(bytes);
                return Ok(());
            };
            self.line.extend_from_slice(&bytes[..end]);
            bytes = &bytes[end + 1..];
            let line = std::mem::take(&mut self.line);
            if line.starts_with(b"MSG ") {
                let size = String::from_utf8_lossy(&line)
                    .trim_end()
                    .rsplit(' ')
                    .next()
                    .map(str::parse::<usize>);
                // With its CRLF.
                self.skip = size.transpose()?.unwrap_or_default() + 2;
            } else {
                ear(match &*line {
                    b"PING\r" => Heard::Reply(b"PONG\r\n"),
                    b"PONG\r" => Heard::Ready,
                    error if error.starts_with(b"-ERR") => Heard::Refused(error),
                    _ => Heard::Other,
                })?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is heard when a stream comes in pieces of this size.
    fn heard(stream: &[u8], size: usize) -> Vec<String> {
        let (mut carry, mut all) = (Carry::default(), vec![]);
        for piece in stream.chunks(size) {
            let ear = |heard: Heard<'_>| {
                all.push(match heard {
                    Heard::Delivery(_) => "delivery".to_owned(),
                    other => format!("{other:?}"),
                });
                Ok(())
            };
            carry.take(piece, ear).unwrap();
        }
        all
    }

    #[test]
    fn a_stream_is_read_however_it_is_cut() {
        let stream = b"INFO {}\r\nPONG\r\nMSG c0 1 12\r\n#00000001#\n\n\r\nMSG c1 2 3\r\nabc\r\nPING\r\n-ERR x\r\n";
        let whole = heard(stream, stream.len());
        assert_eq!(whole[..4], ["Other", "Ready", "delivery", "delivery"]);
        assert!(
            whole[4].starts_with("Reply") && whole[5].starts_with("Refused") && whole.len() == 6
        );
        for size in 1..stream.len() {
            assert_eq!(heard(stream, size), whole, "{size}");
        }
    }
}
