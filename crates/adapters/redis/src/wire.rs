//! What travels between nodes: a header as JSON, a newline, and the frame's bytes as the sockets get them.

use bytes::Bytes;
use parlance_application::{
    live::{Event, Frame},
    ports::Topic,
};
use parlance_domain::NodeId;
use serde::{Deserialize, Serialize};

/// JSON has no raw newline, so the first one ends the header.
const END: u8 = b'\n';

#[derive(Serialize)]
struct Header<'a> {
    from: NodeId,
    event: &'a Event,
}

#[derive(Deserialize)]
struct Received {
    event: Event,
}

/// Recognises a node's own messages by how they begin: Redis echoes them, and they need not be decoded.
pub(crate) struct Own(Vec<u8>);

/// Why a payload is ignored.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Malformed {
    #[error("no end of the header")]
    Endless,
    #[error("no frame")]
    Frameless,
    #[error(transparent)]
    Header(#[from] serde_json::Error),
}

pub(crate) fn encode(from: NodeId, event: &Event) -> serde_json::Result<Vec<u8>> {
    let mut payload = serde_json::to_vec(&Header { from, event })?;
    payload.push(END);
    if let Some(frame) = event.frame() {
        payload.extend_from_slice(frame.bytes());
    }
    Ok(payload)
}

/// The event's frame is a slice of `payload`, not a copy.
pub(crate) fn decode(payload: &Bytes) -> Result<Event, Malformed> {
    let end = payload.iter().position(|byte| *byte == END).ok_or(Malformed::Endless)?;
    let Received { event } = serde_json::from_slice(&payload[..end])?;
    let frame = payload.slice(end + 1..);
    if event.frame().is_some() && frame.is_empty() {
        return Err(Malformed::Frameless);
    }
    Ok(event.with_frame(Frame::from_encoded(frame)))
}

impl Own {
    pub(crate) fn of(node: NodeId) -> Self {
        Self(format!(r#"{{"from":"{node}","#).into_bytes())
    }

    pub(crate) fn has(&self, payload: &[u8]) -> bool {
        payload.starts_with(&self.0)
    }
}

/// The names of a history's channels. Pub/sub knows no database numbers, so the number is part of the name.
#[derive(Debug, Clone)]
pub(crate) struct Channels {
    prefix: String,
}

impl Channels {
    pub(crate) fn new(history: &str, db: i64) -> Self {
        Self { prefix: format!("parlance:bus:{history}:{db}:") }
    }

    pub(crate) fn of(&self, topic: Topic) -> String {
        let prefix = &self.prefix;
        match topic {
            Topic::Everybody => format!("{prefix}all"),
            Topic::Conversation(id) => format!("{prefix}c:{id}"),
            Topic::User(id) => format!("{prefix}u:{id}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use parlance_domain::{AccessRev, ConversationId, Rev, SessionRev, UserId, WorkspaceId};
    use uuid::Uuid;

    use super::*;

    const NODE: NodeId = NodeId(Uuid::from_u128(7));

    #[test]
    fn a_frame_arrives_as_it_was() {
        let bytes = Bytes::from_static(b"{\"type\":\"x\",\n\"data\":\"\xF0\x9F\x90\x8D\"}\n");
        let event = Event::Changed {
            conversation_id: ConversationId(Uuid::from_u128(1)),
            rev: Rev(u64::MAX),
            access_rev: AccessRev(3),
            session_rev: SessionRev(5),
            author_id: None,
            frame: Frame::from_encoded(bytes.clone()),
        };
        let payload = Bytes::from(encode(NODE, &event).expect("encodes"));
        let event = decode(&payload).expect("decodes");
        assert!(matches!(
            event,
            Event::Changed { rev: Rev(u64::MAX), access_rev: AccessRev(3), .. }
        ));
        let frame = event.frame().expect("a frame").bytes();
        assert_eq!(*frame, bytes);
        assert!(payload.as_ptr_range().contains(&frame.as_ptr()), "the frame was copied");
    }

    #[test]
    fn an_event_without_a_frame_arrives() {
        let event = Event::WorkspaceLeft {
            workspace_id: WorkspaceId(Uuid::nil()),
            user_id: UserId(Uuid::from_u128(2)),
        };
        let payload = Bytes::from(encode(NODE, &event).expect("encodes"));
        let event = decode(&payload).expect("decodes");
        assert!(Own::of(NODE).has(&payload));
        assert!(!Own::of(NodeId(Uuid::from_u128(8))).has(&payload));
        assert!(
            matches!(event, Event::WorkspaceLeft { user_id, .. } if user_id.0 == Uuid::from_u128(2))
        );
    }

    #[test]
    fn what_is_malformed_is_refused() {
        let event = Event::Deleted {
            conversation_id: ConversationId(Uuid::nil()),
            frame: Frame::from_encoded(Bytes::new()),
        };
        let frameless = encode(NODE, &event).expect("encodes");
        for payload in [&b""[..], b"{}", b"{}\n{}", b"no JSON\n{}", &frameless] {
            assert!(decode(&Bytes::copy_from_slice(payload)).is_err(), "{payload:?}");
        }
    }

    #[test]
    fn channels_tell_databases_and_topics_apart() {
        let id = Uuid::from_u128(1);
        let channels = Channels::new("h", 2);
        assert_eq!(channels.of(Topic::Everybody), "parlance:bus:h:2:all");
        assert_eq!(channels.of(Topic::User(UserId(id))), format!("parlance:bus:h:2:u:{id}"));
        assert_eq!(
            channels.of(Topic::Conversation(ConversationId(id))),
            format!("parlance:bus:h:2:c:{id}")
        );
    }
}
