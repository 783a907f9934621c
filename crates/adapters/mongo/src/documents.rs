//! What is stored. Ids are UUID binaries, times are dates, numbers are 64-bit.

use bson::{Binary, DateTime, spec::BinarySubtype};
use parlance_domain::{ConversationKind, Role, Timestamp};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A document of one collection.
pub(crate) trait Stored:
    Serialize + serde::de::DeserializeOwned + Send + Sync + Unpin
{
    /// The name of the collection.
    const COLLECTION: &'static str;
}

macro_rules! stored {
    ($($collection:literal $name:ident { $($(#[$attr:meta])* $field:ident: $type:ty,)* })*) => {$(
        #[derive(Debug, Clone, Serialize, Deserialize)]
        pub(crate) struct $name {
            $($(#[$attr])* pub(crate) $field: $type,)*
        }

        impl Stored for $name {
            const COLLECTION: &'static str = $collection;
        }
    )*};
}

stored! {
    "users" UserDoc {
        #[serde(rename = "_id")]
        id: bson::Uuid,
        email: String,
        display_name: String,
        password: String,
        created_at: DateTime,
    }

    // The current refresh token is the one with the session's generation.
    "sessions" SessionDoc {
        #[serde(rename = "_id")]
        id: bson::Uuid,
        user_id: bson::Uuid,
        created_at: DateTime,
        last_used_at: DateTime,
        expires_at: DateTime,
        #[serde(skip_serializing_if = "Option::is_none")]
        revoked_at: Option<DateTime>,
        generation: i64,
        rotated_at: DateTime,
    }

    // How many sessions have ended, under `session_rev`.
    "meta" CountDoc {
        #[serde(rename = "_id")]
        key: String,
        value: i64,
    }

    "refresh_tokens" TokenDoc {
        #[serde(rename = "_id")]
        digest: Binary,
        session_id: bson::Uuid,
        generation: i64,
    }

    "workspaces" WorkspaceDoc {
        #[serde(rename = "_id")]
        id: bson::Uuid,
        name: String,
        join_code: String,
        general: bson::Uuid,
        created_at: DateTime,
        deleted: bool,
    }

    // A deleted workspace has none.
    "workspace_members" RoleDoc {
        workspace_id: bson::Uuid,
        user_id: bson::Uuid,
        role: Role,
        joined_at: DateTime,
    }

    // The head of a conversation. Every change of the conversation or of its members writes here first.
    "conversations" ConversationDoc {
        #[serde(rename = "_id")]
        id: bson::Uuid,
        workspace_id: bson::Uuid,
        kind: ConversationKind,
        #[serde(skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        topic: Option<String>,
        private: bool,
        general: bool,
        created_by: bson::Uuid,
        #[serde(skip_serializing_if = "Option::is_none")]
        peer_low: Option<bson::Uuid>,
        #[serde(skip_serializing_if = "Option::is_none")]
        peer_high: Option<bson::Uuid>,
        created_at: DateTime,
        #[serde(skip_serializing_if = "Option::is_none")]
        archived_at: Option<DateTime>,
        deleted: bool,
        last_seq: i64,
        rev: i64,
        access_rev: i64,
        #[serde(skip_serializing_if = "Option::is_none")]
        last_message_at: Option<DateTime>,
    }

    "conversation_members" MemberDoc {
        conversation_id: bson::Uuid,
        user_id: bson::Uuid,
        read_seq: i64,
        joined_at: DateTime,
    }

    // `digest` is the SHA-256 of the original text: it tells a repeated send from another one.
    "messages" MessageDoc {
        #[serde(rename = "_id")]
        id: bson::Uuid,
        conversation_id: bson::Uuid,
        seq: i64,
        rev: i64,
        author_id: bson::Uuid,
        client_msg_id: String,
        digest: Binary,
        text: String,
        reactions: Vec<ReactionPart>,
        created_at: DateTime,
        #[serde(skip_serializing_if = "Option::is_none")]
        edited_at: Option<DateTime>,
        #[serde(skip_serializing_if = "Option::is_none")]
        deleted_at: Option<DateTime>,
        #[serde(skip_serializing_if = "Option::is_none")]
        deleted_by: Option<bson::Uuid>,
    }

    // A change that no count shows; it outlives what it is about. Its stamp is `changed_at`; it expires an hour later.
    "traces" TraceDoc {
        kind: TraceKind,
        place: bson::Uuid,
        #[serde(skip_serializing_if = "Option::is_none")]
        user_id: Option<bson::Uuid>,
    }

    // One reaction of one person. `rev` is the change that added it, and gives the order.
    "reactions" ReactionDoc {
        message_id: bson::Uuid,
        emoji: String,
        user_id: bson::Uuid,
        rev: i64,
    }

    // Removed when its job is done. The ids of jobs grow with time.
    "outbox" JobDoc {
        #[serde(rename = "_id")]
        id: bson::Uuid,
        task: String,
        dead: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        relayed_at: Option<DateTime>,
    }
}

/// What a trace is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum TraceKind {
    Workspace,
    Member,
    Role,
    Participant,
}

/// A message's reactions with one emoji: their number, and the first people.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ReactionPart {
    pub(crate) emoji: String,
    pub(crate) count: i64,
    pub(crate) user_ids: Vec<bson::Uuid>,
}

/// An id, as stored.
pub(crate) const fn id(id: Uuid) -> bson::Uuid {
    bson::Uuid::from_bytes(id.into_bytes())
}

/// An id, as read.
pub(crate) const fn uuid(id: bson::Uuid) -> Uuid {
    Uuid::from_bytes(id.bytes())
}

/// Bytes, as stored.
pub(crate) fn binary(bytes: &[u8]) -> Binary {
    Binary { subtype: BinarySubtype::Generic, bytes: bytes.to_vec() }
}

/// Milliseconds, as stored.
pub(crate) const fn date(millis: i64) -> DateTime {
    DateTime::from_millis(millis)
}

/// A time, as stored.
pub(crate) const fn time(at: Timestamp) -> DateTime {
    date(at.as_millis())
}

/// A time, as read.
pub(crate) const fn at(time: DateTime) -> Timestamp {
    Timestamp::from_millis(time.timestamp_millis())
}

/// How a number of the domain is stored. None comes near the bound.
pub(crate) fn int(n: impl Into<u64>) -> i64 {
    i64::try_from(n.into()).unwrap_or(i64::MAX)
}

/// A number that cannot be negative.
pub(crate) fn num<T: From<u64>>(n: i64) -> T {
    u64::try_from(n).unwrap_or(0).into()
}
