//! The socket's commands and replies.

use std::{cell::Cell, collections::HashMap, rc::Rc};

use parlance_application::{Error, live::Frame};
use parlance_domain::{
    Account, ConversationId, Message, MessageId, Rev, Role, Seq, SessionId, Summary, WorkspaceId,
};
use serde::{
    Deserialize, Serialize,
    de::{DeserializeOwned, IntoDeserializer as _, value},
};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::{
    error::{ApiError, SocketError},
    extract::parse,
    number::Number,
};

/// The usual upper bounds, in bytes, of a [`Welcome`] without its conversations, and of what each of them adds.
const EMPTY_WELCOME: usize = 1024;
const SUMMARY: usize = 512;

/// The client's own id for a command, repeated in its reply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged, expecting = "an id is an integer below 2^63 or a string")]
pub(super) enum CommandId {
    Number(i64),
    Text(String),
}

/// A command as received; its data is parsed once its type is known.
pub(super) struct Command {
    pub(super) id: CommandId,
    pub(super) kind: Kind,
    data: Option<Box<RawValue>>,
    /// For `typing.start`: set if its typing is over before it is executed.
    over: Option<Rc<Cell<bool>>>,
}

/// The type of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(super) enum Kind {
    #[serde(rename = "hello")]
    Hello,
    #[serde(rename = "ping")]
    Ping,
    #[serde(rename = "auth.refresh")]
    Renew,
    #[serde(rename = "message.send")]
    Send,
    #[serde(rename = "message.edit")]
    Edit,
    #[serde(rename = "message.delete")]
    Delete,
    #[serde(rename = "reaction.add")]
    React,
    #[serde(rename = "reaction.remove")]
    Unreact,
    #[serde(rename = "typing.start")]
    StartTyping,
    #[serde(rename = "typing.stop")]
    StopTyping,
    #[serde(rename = "read.mark")]
    MarkRead,
    #[serde(rename = "sync")]
    Sync,
}

/// A frame that is not a command.
pub(super) struct Unreadable {
    pub(super) id: Option<CommandId>,
    pub(super) error: ApiError,
    /// Not a JSON object, or without a type: a handful of these in a row end the connection.
    pub(super) garbage: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope {
    r#type: String,
    id: CommandId,
    data: Option<Box<RawValue>>,
}

/// What can be read of a frame that is not a command.
#[derive(Default, Deserialize)]
struct Glimpse {
    r#type: Option<serde_json::Value>,
    id: Option<serde_json::Value>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Hello {
    /// An access token; optional if the handshake carried one.
    pub(super) token: Option<String>,
    #[serde(rename = "client")]
    pub(super) _client: Option<Client>,
    pub(super) resume: Option<Resume>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Client {
    #[serde(rename = "name")]
    _name: Option<String>,
    #[serde(rename = "version")]
    _version: Option<String>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Resume {
    /// The `epoch` from the previous `hello` reply.
    pub(super) epoch: String,
    /// For each conversation, the rev up to which the client has everything; at most 1,000 entries.
    #[schema(value_type = HashMap<ConversationId, Rev>)]
    pub(super) cursors: HashMap<ConversationId, Number>,
}

/// The data of a command without parameters.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Nothing {}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Token {
    pub(super) token: String,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Send {
    pub(super) conversation_id: ConversationId,
    /// The client's own id for the send: 1–64 printable ASCII characters.
    #[schema(min_length = 1, max_length = 64)]
    pub(super) client_msg_id: String,
    /// 1–4,000 Unicode scalar values after trimming.
    pub(super) text: String,
    /// Threads are not built yet.
    pub(super) thread_root_id: Option<MessageId>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Edit {
    pub(super) message_id: MessageId,
    pub(super) text: String,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Target {
    pub(super) message_id: MessageId,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = EmojiUnder)]
pub(super) struct Reaction {
    pub(super) message_id: MessageId,
    pub(super) emoji: String,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Place {
    pub(super) conversation_id: ConversationId,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ReadMark {
    pub(super) conversation_id: ConversationId,
    #[schema(value_type = Seq)]
    pub(super) seq: Number,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = SyncFrom)]
pub(super) struct Sync {
    pub(super) conversation_id: ConversationId,
    #[schema(value_type = Rev)]
    pub(super) from_rev: Number,
}

/// The reply to `hello`.
#[derive(Serialize, ToSchema)]
pub(super) struct Welcome<'a> {
    pub(super) session_id: SessionId,
    pub(super) user: &'a Account,
    pub(super) token_expires_in_ms: u64,
    /// How often the server pings.
    pub(super) heartbeat_ms: u64,
    /// The name of the store's history; it changes after a restore.
    pub(super) epoch: &'a str,
    pub(super) limits: Limits,
    /// Parts of the contract that this server implements.
    #[schema(value_type = Vec<String>)]
    pub(super) features: [&'static str; 2],
    pub(super) workspaces: Vec<HelloWorkspace<'a>>,
    /// Every conversation the user is in; one that is not listed is gone.
    pub(super) conversations: Vec<&'a Summary>,
    /// Conversations whose changes are not replayed; the client fetches them with `sync`.
    pub(super) behind: &'a [ConversationId],
}

#[derive(Serialize, ToSchema)]
pub(super) struct Limits {
    /// The largest frame accepted from a client.
    pub(super) frame_bytes: usize,
    /// The longest text of a message, in Unicode scalar values.
    pub(super) text_chars: usize,
    pub(super) resume_cursors: usize,
    /// Unanswered sends allowed per connection; beyond that, the server stops reading.
    pub(super) sends_in_flight: usize,
}

#[derive(Serialize, ToSchema)]
pub(super) struct HelloWorkspace<'a> {
    pub(super) id: WorkspaceId,
    pub(super) name: &'a str,
    pub(super) role: Role,
}

/// The reply to a command that returns no data.
#[derive(Serialize, ToSchema)]
pub(super) struct Done {}

/// The reply to a command that changes a message.
#[derive(Serialize, ToSchema)]
pub(super) struct Changed<'a> {
    /// Its current state.
    pub(super) message: &'a Message,
}

/// The reply to `auth.refresh`.
#[derive(Serialize, ToSchema)]
pub(super) struct Renewed {
    pub(super) token_expires_in_ms: u64,
}

impl Kind {
    /// None for an unknown type.
    pub(super) fn of(name: &str) -> Option<Self> {
        let name: value::StrDeserializer<'_, value::Error> = name.into_deserializer();
        Self::deserialize(name).ok()
    }
}

impl Command {
    /// Reads a frame.
    pub(super) fn read(frame: &[u8]) -> Result<Self, Unreadable> {
        let command =
            parse(frame).map_err(ApiError::from).and_then(|Envelope { r#type, id, data }| {
                let kind = Kind::of(&r#type).ok_or_else(|| unknown_type(&r#type))?;
                let over = (kind == Kind::StartTyping).then(Rc::default);
                Ok(Self { id, kind, data, over })
            });
        command.map_err(|error| {
            let glimpse = parse::<Glimpse>(frame).unwrap_or_default();
            let id = glimpse.id.and_then(|id| serde_json::from_value(id).ok());
            let kind = glimpse.r#type.as_ref().and_then(serde_json::Value::as_str);
            let garbage = kind.is_none();
            // An unknown command may have unknown envelope fields: refuse it for its type instead.
            let unknown = kind.filter(|kind| Kind::of(kind).is_none());
            let error = unknown.map_or(error, unknown_type);
            Unreadable { id, error, garbage }
        })
    }

    /// Its length in bytes without the envelope, but with its id, which comes back in the answer.
    pub(super) fn weight(&self) -> usize {
        let id = match &self.id {
            CommandId::Text(text) => text.len(),
            CommandId::Number(_) => 0,
        };
        id + self.data.as_ref().map_or(0, |data| data.get().len())
    }

    /// The conversation of a `typing.start`, and what to set if a send to it comes before it is executed.
    pub(super) fn starts_typing(&self) -> Option<(ConversationId, Rc<Cell<bool>>)> {
        let over = self.over.clone()?;
        Some((self.data::<Place>().ok()?.conversation_id, over))
    }

    /// Whether a later send has ended the typing it would begin.
    pub(super) fn is_over(&self) -> bool {
        self.over.as_ref().is_some_and(|over| over.get())
    }

    /// Reads the data. Absent data is an empty object.
    pub(super) fn data<T: DeserializeOwned>(&self) -> Result<T, Error> {
        parse(self.data.as_ref().map_or("{}", |data| data.get()).as_bytes())
    }
}

/// The refusal of an unknown type.
fn unknown_type(kind: &str) -> ApiError {
    ApiError::UnknownType(kind.chars().take(64).collect())
}

/// A successful reply.
#[derive(Serialize)]
struct Succeeded<'a, T> {
    r#type: &'static str,
    id: &'a CommandId,
    data: &'a T,
}

/// `ok`.
pub(super) fn ok(id: &CommandId, data: &impl Serialize) -> Frame {
    Frame::encode(&Succeeded { r#type: "ok", id, data })
}

/// The `ok` of `hello`.
pub(super) fn welcome(id: &CommandId, data: &Welcome<'_>) -> Frame {
    let usual = EMPTY_WELCOME + data.conversations.len() * SUMMARY;
    Frame::encode_within(usual, &Succeeded { r#type: "ok", id, data })
}

/// `error`.
pub(super) fn error(id: Option<&CommandId>, error: &ApiError) -> Frame {
    #[derive(Serialize)]
    struct Failed<'a> {
        r#type: &'static str,
        id: Option<&'a CommandId>,
        error: SocketError<'a>,
    }
    Frame::encode(&Failed { r#type: "error", id, error: SocketError::new(error) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unreadable(frame: &str) -> (Option<CommandId>, bool) {
        match Command::read(frame.as_bytes()) {
            Ok(_) => panic!("{frame} was read"),
            Err(unreadable) => (unreadable.id, unreadable.garbage),
        }
    }

    #[test]
    fn takes_both_kinds_of_id() {
        let id = |frame: &str| Command::read(frame.as_bytes()).ok().map(|command| command.id);
        assert_eq!(id(r#"{"type":"ping","id":7}"#), Some(CommandId::Number(7)));
        assert_eq!(id(r#"{"type":"ping","id":"a","data":{}}"#), Some(CommandId::Text("a".into())));
    }

    #[test]
    fn what_is_no_id_is_told_in_words() {
        for frame in [r#"{"type":"ping","id":1.5}"#, r#"{"type":"ping","id":9223372036854775808}"#]
        {
            let refused = Command::read(frame.as_bytes()).map_err(|e| e.error).err();
            let told = refused.map(|error| error.to_string()).unwrap_or_default();
            assert!(told.contains("an integer below 2^63 or a string"), "{told}");
        }
    }

    #[test]
    fn tells_garbage_from_a_malformed_command() {
        assert_eq!(unreadable("hello"), (None, true));
        assert_eq!(unreadable(r#"["ping",2]"#), (None, true));
        assert_eq!(unreadable(r#"{"id":3}"#), (Some(CommandId::Number(3)), true));
        assert!(unreadable(r#"{"type":{"ping":null},"id":3}"#).1);
        assert_eq!(unreadable(r#"{"type":"ping"}"#), (None, false));
        assert_eq!(unreadable(r#"{"type":"ping","id":1.5}"#), (None, false));
        assert_eq!(
            unreadable(r#"{"type":"ping","id":4,"extra":1}"#),
            (Some(CommandId::Number(4)), false)
        );
    }

    #[test]
    fn a_newer_command_is_of_an_unknown_type_whatever_its_envelope() {
        for (frame, newer) in [
            (r#"{"type":"zzz.new","id":2}"#, true),
            (r#"{"type":"zzz.new","id":2,"trace":"abc"}"#, true),
            (r#"{"type":"zzz.new"}"#, true),
            (r#"{"type":"sync","id":2,"trace":"abc"}"#, false),
        ] {
            let Err(Unreadable { error, garbage, .. }) = Command::read(frame.as_bytes()) else {
                panic!("{frame} was read")
            };
            assert!(!garbage);
            assert_eq!(matches!(error, ApiError::UnknownType(kind) if kind == "zzz.new"), newer);
        }
    }
}
