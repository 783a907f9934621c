//! What the cache takes in, and what it returns.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde::Serialize;
use serde_json::{Map, Value};

/// What `hello` says of the client's state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Resume {
    /// The store's history that the cursors belong to.
    pub epoch: String,
    /// For each conversation, the rev up to which it is held.
    pub cursors: BTreeMap<String, u64>,
}

/// The data of a `sync` command to send.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SyncRequest {
    /// The conversation to sync.
    pub conversation_id: String,
    /// The client's cursor.
    pub from_rev: u64,
}

/// A frame that lacks what its type must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a frame without a readable `{0}`")]
pub struct Unreadable(pub &'static str);

/// A message as the server last told it. Cloning it copies nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The message's id.
    pub id: Arc<str>,
    /// Its position in the conversation.
    pub seq: u64,
    /// The rev of its last change.
    pub rev: u64,
    /// The whole object, as on the wire.
    pub body: Arc<Value>,
}

/// How far the user has read a conversation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReadState {
    /// Everything up to and including this `seq` is read.
    pub read_seq: u64,
    /// Unread messages, exact up to 100. Until the server states it again, new messages are added, and deleted ones are
    /// not subtracted.
    pub unread_count: u64,
    /// Unread messages that mention the user.
    pub mention_count: u64,
}

/// What one frame did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Applied {
    /// The frame's type.
    pub kind: String,
    /// Its conversation, if it has one.
    pub conversation_id: Option<String>,
    /// Messages that the cache did not have.
    pub created: Vec<Message>,
    /// Held messages that have changed.
    pub changed: Vec<Message>,
    /// Whether the conversation itself may have changed (its name, its read state …).
    pub conversation_changed: bool,
    /// Conversations that are new.
    pub joined: Vec<String>,
    /// Conversations that were purged.
    pub left: Vec<String>,
    /// The conversation's messages were dropped: the server has another history.
    pub reset: bool,
    /// The `sync`s to send now.
    pub syncs: Vec<SyncRequest>,
    /// Events and replays that held nothing beyond the cursor.
    pub duplicates: u64,
    /// Events of conversations that the user is not in (any more).
    pub strays: u64,
    /// From `server.draining`: how long to wait before coming back.
    pub reconnect_after: Option<Duration>,
    /// A state event or an ephemeral one, whole.
    pub notice: Option<Arc<Value>>,
}

impl Message {
    pub(super) fn read(body: &Value) -> Result<Self, Unreadable> {
        Ok(Self {
            id: text(body, "id")?.into(),
            seq: number(body, "seq")?,
            rev: number(body, "rev")?,
            body: Arc::new(body.clone()),
        })
    }

    /// A text field; `None` if it is missing or not text.
    pub fn text(&self, field: &str) -> Option<&str> {
        self.body[field].as_str()
    }

    /// Whether only its tombstone is left.
    pub fn deleted(&self) -> bool {
        !self.body["deleted_at"].is_null()
    }

    pub(super) fn by(&self, user: &str) -> bool {
        self.text("author_id") == Some(user)
    }

    pub(super) fn mentions(&self, user: &str) -> bool {
        let mentions = &self.body["mentions"];
        let named =
            mentions["user_ids"].as_array().is_some_and(|ids| ids.iter().any(|it| it == user));
        named || mentions["everyone"] == true
    }

    /// Roots and plain messages count as unread, replies do not.
    pub(super) fn top_level(&self) -> bool {
        self.body["thread_root_id"].is_null()
    }
}

impl ReadState {
    pub(super) fn read(object: &Value) -> Result<Self, Unreadable> {
        Ok(Self {
            read_seq: number(object, "read_seq")?,
            unread_count: number(object, "unread_count")?,
            mention_count: number(object, "mention_count")?,
        })
    }
}

impl Applied {
    pub(super) fn of(kind: &str, conversation_id: Option<&str>) -> Self {
        Self {
            kind: kind.to_owned(),
            conversation_id: conversation_id.map(str::to_owned),
            ..Self::default()
        }
    }
}

pub(super) fn text<'a>(object: &'a Value, field: &'static str) -> Result<&'a str, Unreadable> {
    object[field].as_str().ok_or(Unreadable(field))
}

pub(super) fn number(object: &Value, field: &'static str) -> Result<u64, Unreadable> {
    object[field].as_u64().ok_or(Unreadable(field))
}

pub(super) fn array<'a>(object: &'a Value, field: &'static str) -> Result<&'a [Value], Unreadable> {
    object[field].as_array().map(Vec::as_slice).ok_or(Unreadable(field))
}

pub(super) fn map<'a>(
    object: &'a Value,
    field: &'static str,
) -> Result<&'a Map<String, Value>, Unreadable> {
    object[field].as_object().ok_or(Unreadable(field))
}
