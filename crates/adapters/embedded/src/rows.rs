//! From rows to read models.

use parlance_domain::{
    Account, ChannelMember, Conversation, ConversationId, ConversationKind, Member, Message,
    MessageId, Reaction, Role, Seq, Timestamp, User, UserId, WorkspaceId,
};
use rusqlite::{
    Result, Row,
    types::{FromSqlError, Type},
};
use uuid::Uuid;

use crate::error::Tx;

/// How a number of the domain is stored. None comes near the bound.
pub(crate) fn int(n: impl Into<u64>) -> i64 {
    i64::try_from(n.into()).unwrap_or(i64::MAX)
}

/// A number that cannot be negative.
pub(crate) fn num<T: From<u64>>(row: &Row<'_>, column: usize) -> Result<T> {
    let n: i64 = row.get(column)?;
    u64::try_from(n).map(T::from).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(column, n))
}

/// A time.
pub(crate) fn at(row: &Row<'_>, column: usize) -> Result<Timestamp> {
    row.get(column).map(Timestamp::from_millis)
}

/// A time, maybe.
pub(crate) fn maybe_at(row: &Row<'_>, column: usize) -> Result<Option<Timestamp>> {
    Ok(row.get::<_, Option<i64>>(column)?.map(Timestamp::from_millis))
}

/// A person, maybe.
pub(crate) fn maybe_user(row: &Row<'_>, column: usize) -> Result<Option<UserId>> {
    Ok(row.get::<_, Option<Uuid>>(column)?.map(UserId))
}

/// A role, maybe.
pub(crate) fn maybe_role(row: &Row<'_>, column: usize) -> Result<Option<Role>> {
    match row.get_ref(column)?.as_str_or_null().map_err(|e| unreadable(column, e))? {
        None => Ok(None),
        Some(name) => {
            Role::parse(name).map(Some).map_err(|_| unreadable(column, FromSqlError::InvalidType))
        }
    }
}

/// A role.
pub(crate) fn role(row: &Row<'_>, column: usize) -> Result<Role> {
    maybe_role(row, column)?.ok_or_else(|| unreadable(column, FromSqlError::InvalidType))
}

fn unreadable(
    column: usize,
    error: impl std::error::Error + Send + Sync + 'static,
) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error))
}

/// `id, email, display_name, created_at`, from a column on.
pub(crate) fn account(row: &Row<'_>, from: usize) -> Result<Account> {
    Ok(Account {
        id: UserId(row.get(from)?),
        email: row.get(from + 1)?,
        display_name: row.get(from + 2)?,
        created_at: at(row, from + 3)?,
    })
}

/// `id, display_name, created_at`, from a column on.
pub(crate) fn user(row: &Row<'_>, from: usize) -> Result<User> {
    Ok(User {
        id: UserId(row.get(from)?),
        display_name: row.get(from + 1)?,
        created_at: at(row, from + 2)?,
    })
}

/// `joined_at`, then the [`user`].
pub(crate) fn channel_member(row: &Row<'_>) -> Result<ChannelMember> {
    let user = user(row, 1)?;
    Ok(ChannelMember { user_id: user.id, joined_at: at(row, 0)?, user })
}

/// `joined_at`, then the [`user`], then `role`.
pub(crate) fn member(row: &Row<'_>, workspace_id: WorkspaceId) -> Result<Member> {
    let user = user(row, 1)?;
    Ok(Member { workspace_id, user_id: user.id, role: role(row, 4)?, joined_at: at(row, 0)?, user })
}

/// The first twelve columns of a [`crate::access::Seen`].
pub(crate) fn conversation(row: &Row<'_>) -> Result<Conversation> {
    let kind = row.get_ref(2)?.as_str().map_err(|e| unreadable(2, e))?;
    let kind =
        ConversationKind::parse(kind).ok_or_else(|| unreadable(2, FromSqlError::InvalidType))?;
    let member_ids = match (kind, maybe_user(row, 7)?, maybe_user(row, 8)?) {
        (ConversationKind::Dm, Some(low), Some(high)) => Some(vec![low, high]),
        _ => None,
    };
    Ok(Conversation {
        id: ConversationId(row.get(0)?),
        workspace_id: WorkspaceId(row.get(1)?),
        kind,
        name: row.get(3)?,
        topic: row.get(4)?,
        private: row.get(5)?,
        archived_at: maybe_at(row, 6)?,
        member_ids,
        rev: num(row, 9)?,
        last_seq: num(row, 10)?,
        last_message_at: maybe_at(row, 11)?,
    })
}

/// A conversation's range of message keys, by its number: its messages are stored side by side.
#[derive(Clone, Copy)]
pub(crate) struct Shelf(pub(crate) i64);

impl Shelf {
    /// How many of a key's lower bits hold the `seq`. The schema has the same number.
    const SEQ_BITS: u32 = 36;

    /// The key of a message.
    pub(crate) fn key(self, seq: Seq) -> i64 {
        self.0 << Self::SEQ_BITS | int(seq).min((1 << Self::SEQ_BITS) - 1)
    }
}

/// The column of a [`message_sql!`] row with the rev of the message's last change.
pub(crate) const REV: usize = 2;
/// The column with the digest of the original text, once the text has changed.
pub(crate) const DIGEST: usize = 11;
/// The column with the rev that the message was sent with.
pub(crate) const SENT_REV: usize = DIGEST + 1;

/// `SELECT` of what [`message`] reads, and of [`DIGEST`] and [`SENT_REV`].
macro_rules! message_sql {
    ($tail:literal) => {
        concat!(
            "SELECT id, seq, rev, author_id, text, reactions, client_msg_id, created_at, edited_at, deleted_at, deleted_by, ",
            "digest, sent_rev FROM messages ",
            $tail
        )
    };
}
pub(crate) use message_sql;

/// A row of [`message_sql!`].
pub(crate) fn message(row: &Row<'_>, conversation: &Conversation) -> Result<Message> {
    let reactions = match row.get_ref(5)?.as_str_or_null().map_err(|e| unreadable(5, e))? {
        None => Vec::new(),
        Some(json) => read_reactions(json).map_err(|e| unreadable(5, e))?,
    };
    Ok(Message {
        seq: num(row, 1)?,
        rev: num(row, REV)?,
        author_id: maybe_user(row, 3)?,
        text: row.get(4)?,
        reactions,
        client_msg_id: row.get(6)?,
        created_at: at(row, 7)?,
        edited_at: maybe_at(row, 8)?,
        deleted_at: maybe_at(row, 9)?,
        deleted_by: maybe_user(row, 10)?,
        ..Message::blank(MessageId(row.get(0)?), conversation.id, conversation.workspace_id)
    })
}

fn read_reactions(json: &str) -> serde_json::Result<Vec<Reaction>> {
    let stored: Vec<(String, u64, Vec<UserId>)> = serde_json::from_str(json)?;
    Ok(stored
        .into_iter()
        .map(|(emoji, count, user_ids)| Reaction { emoji, count, user_ids })
        .collect())
}

/// How a message's row keeps its reactions: null for an empty list.
pub(crate) fn write_reactions(reactions: &[Reaction]) -> Tx<Option<String>> {
    if reactions.is_empty() {
        return Ok(None);
    }
    let stored: Vec<_> = reactions.iter().map(|r| (&r.emoji, r.count, &r.user_ids)).collect();
    Ok(Some(serde_json::to_string(&stored)?))
}
