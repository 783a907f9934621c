//! What each contender's frames mean, and how to speak to it.
//!
//! A text begins with `#` and the eight digits of its number, by which its latency is taken.

mod nats;

use std::{io::Write as _, net::SocketAddr};

use anyhow::Result;

pub(crate) use self::nats::Carry;
use crate::{contenders::Scene, driver::frame};

/// The bytes that a text's number takes.
pub(crate) const MARK: usize = 10;

/// What a server's frame means.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Heard<'a> {
    /// The connection is open: its first commands were answered.
    Ready,
    /// Somebody's message, broadcast.
    Delivery(&'a [u8]),
    /// A send was acknowledged.
    Acknowledged,
    /// An error.
    Refused(&'a [u8]),
    /// The protocol requires this reply now.
    Reply(&'static [u8]),
    /// What is not counted.
    Other,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Language {
    Parlance,
    SocketIo,
    Nats,
    /// Whatever is sent comes back to all: Bun, and the floor.
    Echo,
}

#[derive(Debug, Clone)]
pub(crate) struct Speech {
    pub(crate) language: Language,
    /// Where messages are sent, in turn: conversations' ids or topics' names.
    pub(crate) channels: Vec<String>,
    /// How many a connection is in.
    pub(crate) conversations: usize,
    pub(crate) text_bytes: usize,
    /// The length of a broadcast frame, for those that send nothing but padding.
    pub(crate) frame_bytes: usize,
    /// Which load it is, so that no two of a driver send the same message.
    pub(crate) series: usize,
}

impl Speech {
    pub(crate) fn new(language: Language, scene: &Scene, channels: Vec<String>) -> Self {
        let &Scene { conversations, text_bytes, frame_bytes, .. } = scene;
        Self { language, channels, conversations, text_bytes, frame_bytes, series: 0 }
    }

    pub(crate) fn opcode(&self) -> u8 {
        if self.language == Language::Nats { frame::BINARY } else { frame::TEXT }
    }

    /// Does the server say that it has taken a message, besides sending it to all?
    pub(crate) fn acknowledges(&self) -> bool {
        matches!(self.language, Language::Parlance | Language::SocketIo)
    }

    /// Do the messages of one sender come in the order in which they were sent? The replaced stack saves them
    /// concurrently.
    pub(crate) fn keeps_order(&self) -> bool {
        self.language != Language::SocketIo && self.channels.len() == 1
    }

    /// Does every delivery show its number? The server's frames of NATS may cut a message anywhere.
    pub(crate) fn shows_numbers(&self) -> bool {
        self.language != Language::Nats
    }

    /// The request that begins a connection.
    pub(crate) fn upgrade(&self, address: SocketAddr, ticket: &str) -> String {
        let (path, more) = match self.language {
            Language::Parlance => {
                ("/api/v1/ws".to_owned(), format!("Authorization: Bearer {ticket}\r\n"))
            }
            Language::SocketIo => {
                ("/socket.io/?EIO=4&transport=websocket".to_owned(), String::new())
            }
            Language::Nats => ("/".to_owned(), String::new()),
            Language::Echo => (format!("/?topics={}", self.conversations), String::new()),
        };
        format!(
            "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{more}\r\n"
        )
    }

    /// What a client says first; nothing if the server speaks first.
    pub(crate) fn opening(&self, ticket: &str) -> Vec<u8> {
        match self.language {
            // The upgrade has shown the ticket.
            Language::Parlance => br#"{"type":"hello","id":"hello","data":{}}"#.to_vec(),
            Language::SocketIo => format!(r#"40{{"token":"{ticket}"}}"#).into_bytes(),
            Language::Nats => {
                let mut lines = b"CONNECT {\"verbose\":false,\"pedantic\":false,\"lang\":\"bench\",\"version\":\"1\"}\r\n".to_vec();
                for n in 0..self.conversations {
                    lines.extend_from_slice(format!("SUB c{n} {n}\r\n").as_bytes());
                }
                lines.extend_from_slice(b"PING\r\n");
                lines
            }
            Language::Echo => vec![],
        }
    }

    /// One message, the `number`th, as a sender sends it.
    pub(crate) fn send(&self, number: usize, out: &mut Vec<u8>) {
        let channel = &self.channels[number % self.channels.len()];
        let series = self.series;
        out.clear();
        let text = |out: &mut Vec<u8>, bytes: usize| {
            let _ = write!(out, "#{number:08}#");
            out.resize(out.len() + bytes.max(MARK) - MARK, b'x');
        };
        match self.language {
            Language::Parlance => {
                let _ = write!(
                    out,
                    r#"{{"type":"message.send","id":{number},"data":{{"conversation_id":"{channel}","client_msg_id":"m{series}-{number}","text":""#
                );
                text(out, self.text_bytes);
                out.extend_from_slice(br#""}}"#);
            }
            Language::SocketIo => {
                let _ = write!(
                    out,
                    r#"42{number}["message:send",{{"room":"{channel}","clientId":"m{series}-{number}","text":""#
                );
                text(out, self.text_bytes);
                out.extend_from_slice(br#""}]"#);
            }
            Language::Nats => {
                let bytes = self.frame_bytes.max(MARK);
                let _ = write!(out, "PUB {channel} {bytes}\r\n");
                text(out, bytes);
                out.extend_from_slice(b"\r\n");
            }
            Language::Echo => {
                out.extend_from_slice(channel.as_bytes());
                text(out, self.frame_bytes.saturating_sub(channel.len()));
            }
        }
    }

    pub(crate) fn hear(
        &self,
        carry: &mut Carry,
        payload: &[u8],
        mut ear: impl FnMut(Heard<'_>) -> Result<()>,
    ) -> Result<()> {
        match self.language {
            Language::Parlance => ear(parlance(payload)),
            Language::SocketIo => ear(socket_io(payload)),
            Language::Echo => ear(match payload {
                b"ready" => Heard::Ready,
                message => Heard::Delivery(message),
            }),
            Language::Nats => carry.take(payload, ear),
        }
    }
}

/// The number of a message from any contender's frame of it.
pub(crate) fn number(payload: &[u8]) -> Option<usize> {
    let mark = memchr::memchr(b'#', payload)?;
    let digits = payload.get(mark + 1..mark + MARK - 1)?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// By their beginnings, which are the server's own and always in this order. Were they not, nothing would be counted as
/// delivered.
fn parlance(payload: &[u8]) -> Heard<'_> {
    if payload.starts_with(br#"{"type":"message.created""#) {
        Heard::Delivery(payload)
    } else if payload.starts_with(br#"{"type":"ok","id":"hello""#) {
        Heard::Ready
    } else if payload.starts_with(br#"{"type":"ok""#) {
        Heard::Acknowledged
    } else if payload.starts_with(br#"{"type":"error""#) {
        Heard::Refused(payload)
    } else {
        Heard::Other
    }
}

fn socket_io(payload: &[u8]) -> Heard<'_> {
    match payload {
        [b'2'] => Heard::Reply(b"3"),
        [b'4', b'3', ..] if payload.ends_with(br#""ok":true}]"#) => Heard::Acknowledged,
        [b'4', b'3' | b'4', ..] => Heard::Refused(payload),
        [b'4', b'2', ..] if payload.starts_with(br#"42["message:new""#) => Heard::Delivery(payload),
        [b'4', b'2', ..] if payload.starts_with(br#"42["snapshot""#) => Heard::Ready,
        _ => Heard::Other,
    }
}

#[cfg(test)]
impl Speech {
    /// In this many channels, with frames of 100 bytes.
    pub(crate) fn sample(language: Language, channels: usize) -> Self {
        let scene =
            Scene { users: 1, conversations: channels, channels, text_bytes: 20, frame_bytes: 100 };
        Self::new(language, &scene, (0..channels).map(|n| format!("c{n}")).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_carries_its_number_and_its_length() {
        for language in [Language::Parlance, Language::SocketIo, Language::Nats, Language::Echo] {
            let mut out = vec![];
            Speech::sample(language, 2).send(4_711, &mut out);
            assert_eq!(number(&out), Some(4_711), "{language:?}");
            let text = String::from_utf8(out).unwrap();
            assert!(text.contains("c1"), "channels take turns: {text}");
        }
        let mut out = vec![];
        Speech::sample(Language::Echo, 2).send(3, &mut out);
        assert_eq!(out.len(), 100);
    }

    #[test]
    fn a_ticket_is_shown_once() {
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        for (language, times) in [
            (Language::Parlance, 1),
            (Language::SocketIo, 1),
            (Language::Nats, 0),
            (Language::Echo, 0),
        ] {
            let speech = Speech::sample(language, 1);
            let opening = String::from_utf8(speech.opening("ticket")).unwrap();
            let said = speech.upgrade(address, "ticket") + &opening;
            assert_eq!(said.matches("ticket").count(), times, "{language:?}");
        }
    }

    #[test]
    fn frames_are_told_by_their_beginnings() {
        for (frame, expected) in [
            (r#"{"type":"ok","id":"hello","data":{}}"#, Heard::Ready),
            (r#"{"type":"ok","id":5,"data":{}}"#, Heard::Acknowledged),
            (r#"{"type":"typing.started"}"#, Heard::Other),
        ] {
            assert_eq!(parlance(frame.as_bytes()), expected);
        }
        let event = br##"{"type":"message.created","x":"#00000012#"}"##;
        assert_eq!(parlance(event), Heard::Delivery(event));
        assert_eq!(socket_io(b"2"), Heard::Reply(b"3"));
        assert_eq!(socket_io(br#"4312[{"id":"a","ok":true}]"#), Heard::Acknowledged);
        let refused = br#"4312[{"ok":false}]"#;
        assert_eq!(socket_io(refused), Heard::Refused(refused));
    }
}
