//! A conversation's part of a group: its head and messages in memory, and the updates to write.

use std::collections::HashMap;

use bson::{Bson, DateTime, Document, doc};
use parlance_application::{
    Error,
    ports::store::{Change, Committed, Write},
};
use parlance_domain::{ChangeKind, MessageId, Standing, UserId, WorkspaceId};

use crate::{
    documents::{ConversationDoc, MessageDoc, id, int, time, uuid},
    error::Outcome,
    members::stamped,
};

pub(crate) struct Batch {
    pub(crate) head: ConversationDoc,
    /// What the head's document has contained since it was locked.
    locked_at: Position,
    pub(crate) standings: HashMap<UserId, Standing>,
    pub(crate) messages: HashMap<bson::Uuid, Held>,
    /// Messages by their author and `client_msg_id`.
    pub(crate) known: HashMap<(bson::Uuid, String), bson::Uuid>,
    /// The `seq` of each sender's last message in this batch.
    pub(crate) sent: HashMap<bson::Uuid, i64>,
}

/// The part of a head that messages change.
#[derive(PartialEq)]
struct Position {
    last_seq: i64,
    rev: i64,
    last_message_at: Option<DateTime>,
}

/// A message that the batch concerns.
pub(crate) struct Held {
    pub(crate) doc: MessageDoc,
    pub(crate) fate: Fate,
}

#[derive(PartialEq)]
pub(crate) enum Fate {
    Kept,
    Changed,
    New,
}

/// A write's subject, and what happened to it.
pub(crate) type Done = (Committed, Option<ChangeKind>);

impl Batch {
    /// Begins with the head as it was before it was locked for these writes.
    pub(crate) fn new(head: ConversationDoc, writes: &[Write]) -> Self {
        let count = int(writes.len() as u64);
        let locked_at = match last_of_sends(writes) {
            Some(last) => Position {
                last_seq: head.last_seq + count,
                rev: head.rev + count,
                last_message_at: Some(last),
            },
            None => position(&head),
        };
        Self {
            head,
            locked_at,
            standings: HashMap::new(),
            messages: HashMap::new(),
            known: HashMap::new(),
            sent: HashMap::new(),
        }
    }

    /// Adds a stored message that its writes may concern.
    pub(crate) fn hold(&mut self, doc: MessageDoc) {
        self.known.insert((doc.author_id, doc.client_msg_id.clone()), doc.id);
        self.messages.insert(doc.id, Held { doc, fate: Fate::Kept });
    }

    pub(crate) fn message(&self, message: MessageId) -> Outcome<MessageDoc> {
        let held = self.messages.get(&id(message.0)).ok_or(Error::NotFound("message"))?;
        Ok(held.doc.clone())
    }

    /// Keeps a message's new state under the next rev, if anything has changed.
    pub(crate) fn keep(&mut self, mut message: MessageDoc, kind: Option<ChangeKind>) -> Done {
        if kind.is_some() {
            self.head.rev += 1;
            message.rev = self.head.rev;
            if let Some(held) = self.messages.get_mut(&message.id) {
                held.doc = message.clone();
                if held.fate == Fate::Kept {
                    held.fate = Fate::Changed;
                }
            }
        }
        (Committed::Message(message.message(self.workspace())), kind)
    }

    pub(crate) fn workspace(&self) -> WorkspaceId {
        WorkspaceId(uuid(self.head.workspace_id))
    }

    /// The update that corrects the head, unless the lock has set it right already.
    pub(crate) fn correction(&self) -> Option<(Document, Document)> {
        let head = &self.head;
        if position(head) == self.locked_at {
            return None;
        }
        let mut set = doc! { "last_seq": head.last_seq, "rev": head.rev };
        set.extend(head.name.as_ref().map(|name| ("name".to_owned(), Bson::from(name))));
        set.extend(head.topic.as_ref().map(|topic| ("topic".to_owned(), Bson::from(topic))));
        let mut update = Document::new();
        if let Some(last) = head.last_message_at {
            set.insert("last_message_at", last);
        } else {
            update.insert("$unset", doc! { "last_message_at": "" });
        }
        update.insert("$set", set);
        Some((doc! { "_id": head.id }, update))
    }

    /// The updates that move the senders' read marks to what they have sent.
    pub(crate) fn marks(&self) -> impl Iterator<Item = (Document, Document)> + Send {
        self.sent.iter().map(|(author, seq)| {
            let key = doc! { "conversation_id": self.head.id, "user_id": author };
            (key, doc! { "$max": { "read_seq": seq } })
        })
    }
}

/// The update that locks a head. If all writes are sends, it already sets what the head will be once all are accepted.
pub(crate) fn lock_for(writes: &[Write]) -> Document {
    let mut update = stamped();
    if let Some(last) = last_of_sends(writes) {
        let count = int(writes.len() as u64);
        update.insert("$inc", doc! { "last_seq": count, "rev": count });
        update.insert("$set", doc! { "last_message_at": last });
    }
    update
}

/// The time of the last of these, if all are sends.
pub(crate) fn last_of_sends(writes: &[Write]) -> Option<DateTime> {
    let only_sends = writes.iter().all(|write| matches!(write.change, Change::Send(_)));
    writes.last().filter(|_| only_sends).map(|write| time(write.at))
}

const fn position(head: &ConversationDoc) -> Position {
    Position { last_seq: head.last_seq, rev: head.rev, last_message_at: head.last_message_at }
}

/// The messages that writes name.
pub(crate) fn named(writes: &[Write]) -> impl Iterator<Item = bson::Uuid> {
    writes.iter().filter_map(|write| match &write.change {
        Change::Message(message_id, _) => Some(id(message_id.0)),
        Change::Send(_) | Change::UpdateChannel(_) => None,
    })
}

/// Filters for the messages that were sent under the same `client_msg_id`s as these, one for each author.
pub(crate) fn repeated(conversation: bson::Uuid, writes: &[Write]) -> Vec<Document> {
    let mut sent: HashMap<bson::Uuid, Vec<&str>> = HashMap::new();
    for write in writes {
        if let Change::Send(draft) = &write.change {
            sent.entry(id(write.by.user.0)).or_default().push(draft.client_msg_id.as_str());
        }
    }
    let by = |(author, ids): (bson::Uuid, Vec<&str>)| {
        let client_msg_id = doc! { "$in": ids };
        doc! { "conversation_id": conversation, "author_id": author, "client_msg_id": client_msg_id }
    };
    sent.into_iter().map(by).collect()
}

/// The update that brings a stored message to its new state.
pub(crate) fn state(message: &MessageDoc) -> Outcome<(Document, Document)> {
    let reactions = bson::serialize_to_bson(&message.reactions).map_err(Error::internal)?;
    let mut set = doc! { "rev": message.rev, "text": &message.text, "reactions": reactions };
    set.extend(message.edited_at.map(|at| ("edited_at".to_owned(), Bson::from(at))));
    set.extend(message.deleted_at.map(|at| ("deleted_at".to_owned(), Bson::from(at))));
    set.extend(message.deleted_by.map(|by| ("deleted_by".to_owned(), Bson::from(by))));
    Ok((doc! { "_id": message.id }, doc! { "$set": set }))
}
