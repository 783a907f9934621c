//! The AsyncAPI document of the socket: its commands, their replies, and the events that the server sends. Object
//! schemas come from the types that are read and written; the envelopes around them are spelled out here. The
//! end-to-end tests check every frame they receive, and every command that is accepted, against it.

use std::sync::LazyLock;

use bytes::Bytes;
use parlance_domain::{ChangeKind, Conversation, Member, Message, ReadState, Summary};
use serde_json::{Map, Value, json};
use utoipa::OpenApi;

use super::protocol::{
    Changed, CommandId, Done, Edit, Hello, Nothing, Place, Reaction, ReadMark, Renewed, Send, Sync,
    Target, Token, Welcome,
};
use crate::{
    error::{Refused, SocketError},
    http::messages::Sent,
    sync::SyncPage,
};

/// The schemas of these types and of everything they contain.
#[derive(OpenApi)]
#[openapi(components(schemas(
    Hello,
    Token,
    Send,
    Edit,
    Target,
    Reaction,
    Place,
    ReadMark,
    Sync,
    Nothing,
    CommandId,
    Welcome,
    Renewed,
    Sent,
    Changed,
    Done,
    ReadState,
    SyncPage,
    SocketError,
    Refused,
    ChangeKind,
    Conversation,
    Member,
    Message,
    Summary,
)))]
struct Schemas;

/// What is served.
pub(crate) static SERVED: LazyLock<Bytes> = LazyLock::new(|| json().into());

/// A command: its type, what it does, the schema of its data and that of its reply.
type Command = (&'static str, &'static str, &'static str, &'static str);

const COMMANDS: [Command; 12] = [
    (
        "hello",
        "Opens the connection; must be the first command, within ten seconds",
        "Hello",
        "Welcome",
    ),
    ("ping", "Pings the server; for browsers, which cannot send RFC 6455 pings", "Nothing", "Done"),
    ("auth.refresh", "Continues with a new access token of the same session", "Token", "Renewed"),
    ("message.send", "Sends a message; idempotent by `client_msg_id`", "Send", "Sent"),
    ("message.edit", "Changes the text of a message", "Edit", "Changed"),
    ("message.delete", "Deletes a message, leaving a tombstone", "Target", "Changed"),
    ("reaction.add", "Adds a reaction to a message", "EmojiUnder", "Changed"),
    ("reaction.remove", "Removes the user's reaction from a message", "EmojiUnder", "Changed"),
    ("typing.start", "Tells the others that the user is typing", "Place", "Done"),
    ("typing.stop", "Tells the others that the user has stopped typing", "Place", "Done"),
    ("read.mark", "Marks everything up to a message as read", "ReadMark", "ReadState"),
    ("sync", "Requests a page of what changed after a rev", "SyncFrom", "SyncPage"),
];

/// A frame that the server sends unprompted: its type, and its other fields.
type Event = (&'static str, Value);

/// The document as pretty JSON, ending in a newline: what is served and what is checked in.
pub fn json() -> String {
    let mut json = serde_json::to_string_pretty(&document()).unwrap_or_default();
    json.push('\n');
    json
}

fn document() -> Value {
    let mut messages = Map::new();
    let mut operations = Map::new();
    for (kind, summary, data, reply) in COMMANDS {
        let answer = format!("{kind}.ok");
        let mut operation = operation("receive", summary, &[kind]);
        operation["reply"] = json!({
            "channel": { "$ref": "#/channels/socket" },
            "messages": [in_channel(&answer), in_channel("error")],
        });
        operations.insert(kind.to_owned(), operation);
        messages.insert(kind.to_owned(), message(kind, &command(kind, data)));
        messages.insert(answer, message("ok", &answered(reply)));
    }
    let failed = envelope("error", json!({ "id": nullable("CommandId"), "error": of("Error") }));
    messages.insert("error".to_owned(), message("error", &failed));
    for (name, summary, events) in [
        ("durable", "Changes to a conversation, in order of rev, without gaps", durable()),
        ("replay", "Missed changes as current state, in place of their events", replay()),
        ("state", "State events: whole objects; never dropped", state()),
        ("ephemeral", "Ephemeral events; dropped for a slow reader", ephemeral()),
    ] {
        let kinds: Vec<&str> = events.iter().map(|(kind, _)| *kind).collect();
        operations.insert(name.to_owned(), operation("send", summary, &kinds));
        for (kind, fields) in events {
            messages.insert(kind.to_owned(), message(kind, &envelope(kind, fields)));
        }
    }
    let in_socket: Map<String, Value> = messages
        .keys()
        .map(|name| (name.clone(), json!({ "$ref": format!("#/components/messages/{name}") })))
        .collect();
    let schemas = Schemas::openapi().components.map(|components| components.schemas);
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "Parlance",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Team messaging: WebSocket half of the wire contract. The REST half is at `/openapi.json`.",
        },
        "defaultContentType": "application/json",
        "servers": {
            "parlance": {
                "host": "{host}",
                "protocol": "ws",
                "variables": { "host": { "default": "127.0.0.1:8080" } },
            },
        },
        "channels": {
            "socket": {
                "address": "/api/v1/ws",
                "description": "RFC 6455, one JSON object per text frame; subprotocol `parlance.v1`, if any is offered.",
                "bindings": { "ws": { "method": "GET" } },
                "messages": in_socket,
            },
        },
        "operations": operations,
        "components": { "messages": messages, "schemas": schemas },
    })
}

fn durable() -> Vec<Event> {
    let change = |subject: &str, object: &str| {
        let data = json!({
            subject: of(object),
            "actor_id": of("UserId"),
            "at": of("Timestamp"),
            "change": object_of(json!({ "kind": of("ChangeKind") })),
        });
        let mut fields = in_conversation(data);
        fields["rev"] = integer();
        fields
    };
    vec![
        ("message.created", change("message", "Message")),
        ("message.updated", change("message", "Message")),
        ("message.deleted", change("message", "Message")),
        ("conversation.updated", change("conversation", "Conversation")),
    ]
}

fn replay() -> Vec<Event> {
    let mut fields = in_conversation(json!({
        "messages": { "type": "array", "items": of("Message"), "maxItems": 200 },
        "conversation": of("Conversation"),
    }));
    fields["from_rev"] = integer();
    fields["to_rev"] = integer();
    fields["complete"] = json!({ "type": "boolean" });
    fields["reset?"] = json!({ "const": true });
    vec![("replay", fields)]
}

fn state() -> Vec<Event> {
    let place = json!({ "conversation_id": of("ConversationId") });
    let participant = json!({ "conversation_id": of("ConversationId"), "user_id": of("UserId") });
    let workspace = json!({
        "id": of("WorkspaceId"),
        "name": { "type": "string" },
        "created_at": of("Timestamp"),
    });
    let gone = json!({ "workspace_id": of("WorkspaceId"), "user_id": of("UserId") });
    let mut member = gone.clone();
    member["member"] = of("Member");
    let read = json!({
        "conversation_id": of("ConversationId"),
        "read_seq": integer(),
        "unread_count": integer(),
        "mention_count": integer(),
    });
    vec![
        ("conversation.joined", in_conversation(json!({ "conversation": of("Summary") }))),
        ("conversation.left", in_conversation(place.clone())),
        ("conversation.deleted", in_conversation(place)),
        ("conversation.member_joined", in_conversation(participant.clone())),
        ("conversation.member_left", in_conversation(participant)),
        ("workspace.updated", alone(json!({ "workspace": object_of(workspace) }))),
        ("workspace.deleted", alone(json!({ "workspace_id": of("WorkspaceId") }))),
        ("member.joined", alone(member.clone())),
        ("member.updated", alone(member)),
        ("member.left", alone(gone)),
        ("read.updated", in_conversation(read)),
        ("session.revoked", alone(json!({ "session_id": of("SessionId") }))),
        ("server.draining", alone(json!({ "reconnect_after_ms": integer() }))),
    ]
}

fn ephemeral() -> Vec<Event> {
    let started = json!({ "user_id": of("UserId"), "expires_in_ms": integer() });
    let stopped = json!({ "user_id": of("UserId") });
    vec![("typing.started", in_conversation(started)), ("typing.stopped", in_conversation(stopped))]
}

/// The fields of an event that names its conversation, and those of its data.
fn in_conversation(data: Value) -> Value {
    let mut fields = alone(data);
    fields["conversation_id"] = of("ConversationId");
    fields
}

fn alone(data: Value) -> Value {
    json!({ "data": object_of(data) })
}

/// A command's frame. `data` may be omitted if none of its fields is required.
fn command(kind: &str, data: &str) -> Value {
    let name = if ["Nothing", "Hello"].contains(&data) { "data?" } else { "data" };
    let mut frame = envelope(kind, json!({ "id": of("CommandId"), name: of(data) }));
    frame["additionalProperties"] = json!(false);
    frame
}

fn answered(data: &str) -> Value {
    envelope("ok", json!({ "id": of("CommandId"), "data": of(data) }))
}

/// A frame with this type and these fields.
fn envelope(kind: &str, mut fields: Value) -> Value {
    fields["type"] = json!({ "const": kind });
    object_of(fields)
}

/// An object with all of these fields; those marked `?` may be missing.
fn object_of(fields: Value) -> Value {
    let Value::Object(fields) = fields else { return fields };
    let required: Vec<&String> = fields.keys().filter(|name| !name.ends_with('?')).collect();
    let required = json!(required);
    let properties: Map<String, Value> = fields
        .into_iter()
        .map(|(name, schema)| (name.trim_end_matches('?').to_owned(), schema))
        .collect();
    json!({ "type": "object", "required": required, "properties": properties })
}

fn of(schema: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{schema}") })
}

fn integer() -> Value {
    json!({ "type": "integer" })
}

fn nullable(schema: &str) -> Value {
    json!({ "oneOf": [of(schema), { "type": "null" }] })
}

fn message(name: &str, payload: &Value) -> Value {
    json!({ "name": name, "payload": payload })
}

fn operation(action: &str, summary: &str, messages: &[&str]) -> Value {
    let messages: Vec<Value> = messages.iter().map(|name| in_channel(name)).collect();
    json!({
        "action": action,
        "channel": { "$ref": "#/channels/socket" },
        "summary": summary,
        "messages": messages,
    })
}

fn in_channel(message: &str) -> Value {
    json!({ "$ref": format!("#/channels/socket/messages/{message}") })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ws::protocol::Kind;

    #[test]
    fn every_command_is_one() {
        for (kind, ..) in COMMANDS {
            assert!(Kind::of(kind).is_some(), "{kind}");
        }
    }

    #[test]
    fn the_checked_in_document_is_fresh() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/spec/asyncapi.json");
        let checked_in = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            checked_in == json(),
            "run `make spec`: spec/asyncapi.json is not what the code says"
        );
    }
}
