//! Additions to and removals from conversations. Each increments the head's `access_rev` before anything else is
//! written, so that no append that was allowed before can be committed after it.

use bson::{Document, doc};
use parlance_application::{
    Error,
    ports::store::{Entry, NewChannel, Subject},
};
use parlance_domain::{
    AccessRev, ChannelMember, ConversationId, ConversationKind, Timestamp, UserId, WorkspaceId,
};

use crate::{
    access::see,
    documents::{ConversationDoc, MemberDoc, RoleDoc, UserDoc, id, num, time, uuid},
    error::Outcome,
    traces::leave_trace,
    tx::Tx,
};

/// The field of a head, a workspace or a trace with the stamp of its last change, by the server's clock.
pub(crate) const CHANGED: &str = "changed_at";
/// The field of a membership with the stamp of its beginning.
pub(crate) const JOINED: &str = "joined_stamp";
/// The field of a membership with the stamp of its read mark.
pub(crate) const READ: &str = "read_stamp";

/// The update that counts a change of access.
pub(crate) fn counted() -> Document {
    let mut update = stamped();
    update.insert("$inc", doc! { "access_rev": 1_i64 });
    update
}

/// The update that changes nothing but the stamp: it locks the head against other transactions.
pub(crate) fn stamped() -> Document {
    doc! { "$currentDate": { CHANGED: true } }
}

/// Writes heads that are about to change, before anything is read. Later, a busy one would have changed since the
/// transaction's snapshot, and the write would conflict.
pub(crate) async fn lock_all(tx: &mut Tx, heads: &[bson::Uuid]) -> Outcome<()> {
    if heads.is_empty() {
        return Ok(());
    }
    tx.update_all::<ConversationDoc>(doc! { "_id": { "$in": heads } }, stamped()).await
}

/// Counts a change in who may read each of several conversations; returns the new counts.
pub(crate) async fn bump(
    tx: &mut Tx,
    heads: &[ConversationDoc],
) -> Outcome<Vec<(ConversationId, AccessRev)>> {
    if heads.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<_> = heads.iter().map(|head| head.id).collect();
    tx.update_all::<ConversationDoc>(doc! { "_id": { "$in": ids } }, counted()).await?;
    // Nobody else can have written them since this transaction's snapshot.
    let bumped = |head: &ConversationDoc| {
        (ConversationId(uuid(head.id)), num::<AccessRev>(head.access_rev).next())
    };
    Ok(heads.iter().map(bumped).collect())
}

/// The conversations of a workspace that somebody is in, oldest first.
pub(crate) async fn mine(
    tx: &mut Tx,
    user: UserId,
    workspace: WorkspaceId,
) -> Outcome<Vec<ConversationDoc>> {
    let joined = joined(tx, user).await?;
    let mine = doc! {
        "_id": { "$in": joined },
        "workspace_id": id(workspace.0),
        "deleted": false,
    };
    let mut heads = tx.find::<ConversationDoc>(mine).await?;
    heads.sort_by_key(|head| (head.created_at, head.id.bytes()));
    Ok(heads)
}

/// All conversations that somebody is in, deleted ones too.
pub(crate) async fn joined(tx: &mut Tx, user: UserId) -> Outcome<Vec<bson::Uuid>> {
    let members = tx.find::<MemberDoc>(doc! { "user_id": id(user.0) }).await?;
    Ok(members.into_iter().map(|member| member.conversation_id).collect())
}

/// Adds a channel with nobody in it.
pub(crate) async fn insert_channel(
    tx: &mut Tx,
    creator: UserId,
    new: &NewChannel,
    general: bool,
) -> Outcome<()> {
    let head = ConversationDoc {
        id: id(new.id.0),
        workspace_id: id(new.workspace_id.0),
        kind: ConversationKind::Channel,
        name: Some(new.name.as_str().to_owned()),
        topic: Some(new.topic.as_str().to_owned()),
        private: new.private,
        general,
        created_by: id(creator.0),
        peer_low: None,
        peer_high: None,
        created_at: time(new.at),
        archived_at: None,
        deleted: false,
        last_seq: 0,
        rev: 0,
        access_rev: 0,
        last_message_at: None,
    };
    tx.insert_stamped(doc! { "_id": head.id }, &head, CHANGED).await
}

/// Adds a person who is not in yet, with everything so far marked as read. Writes their workspace membership too, so
/// that a concurrent transaction that ends it conflicts and is retried.
pub(crate) async fn insert_member(
    tx: &mut Tx,
    head: &ConversationDoc,
    user: UserId,
    at: Timestamp,
) -> Outcome<MemberDoc> {
    let user_id = id(user.0);
    let role = doc! { "workspace_id": head.workspace_id, "user_id": user_id };
    if !tx.update::<RoleDoc>(role, doc! { "$inc": { "entries": 1_i64 } }).await? {
        return Err(Error::NotFound("user").into());
    }
    let member = MemberDoc {
        conversation_id: head.id,
        user_id,
        read_seq: head.last_seq,
        joined_at: time(at),
    };
    let key = doc! { "conversation_id": head.id, "user_id": user_id };
    tx.insert_stamped(key, &member, JOINED).await?;
    Ok(member)
}

/// Adds a person, unless they are in already.
pub(crate) async fn enter(
    tx: &mut Tx,
    conversation: ConversationId,
    user: UserId,
    at: Timestamp,
) -> Outcome<Entry> {
    let key = doc! { "conversation_id": id(conversation.0), "user_id": id(user.0) };
    let before = tx.one::<MemberDoc>(key).await?;
    let entered = before.is_none();
    let membership = if let Some(before) = before {
        before
    } else {
        let head = doc! { "_id": id(conversation.0), "deleted": false };
        let head = tx.change::<ConversationDoc>(head, counted()).await?;
        leave_trace(tx, Subject::Participant(conversation, user)).await?;
        insert_member(tx, &head.ok_or(Error::NotFound("conversation"))?, user, at).await?
    };
    let seen = see(tx, user, conversation).await?.ok_or(Error::NotFound("conversation"))?;
    Ok(Entry {
        access_rev: num(seen.head.access_rev),
        summary: seen.summary(tx, user).await?,
        membership: with_user(tx, &membership).await?,
        entered,
    })
}

async fn with_user(tx: &mut Tx, member: &MemberDoc) -> Outcome<ChannelMember> {
    let user = tx.one::<UserDoc>(doc! { "_id": member.user_id }).await?;
    Ok(member.member(user.ok_or_else(|| Error::internal("a member without an account"))?))
}
