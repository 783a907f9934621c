//! What a batch of writes is about. The head is locked first, then all that the writes may need is read at once. Messages
//! and the head change in memory and are written at the end, each once; but the head of a batch of sends is locked by what
//! it will be if all of them are accepted, and written again only if not.

use std::collections::{HashMap, HashSet};

use bson::{Bson, DateTime, Document, doc};
use futures::future::join;
use parlance_application::{
    Error,
    ports::store::{Change, Committed, Write},
};
use parlance_domain::{
    ChangeKind, ConversationId, MessageId, SessionId, Standing, UserId, WorkspaceId,
};

use crate::{
    access::standings,
    accounts::{ended_sessions, live_of},
    documents::{ConversationDoc, MemberDoc, MessageDoc, id, int, time, uuid},
    error::Outcome,
    members::stamped,
    tx::Tx,
};

pub(crate) struct Batch<'a> {
    pub(crate) tx: &'a mut Tx,
    pub(crate) head: ConversationDoc,
    pub(crate) session_rev: u64,
    /// Those of the writes' sessions that have not ended.
    pub(crate) live: HashSet<SessionId>,
    /// What the head's own document says by now.
    stands: Stand,
    pub(crate) standings: HashMap<UserId, Standing>,
    pub(crate) messages: HashMap<bson::Uuid, Held>,
    /// By author and their own id of the send.
    pub(crate) known: HashMap<(bson::Uuid, String), bson::Uuid>,
    /// Of each sender the last message in this batch.
    pub(crate) sent: HashMap<bson::Uuid, i64>,
}

/// The part of a head that messages change: `last_seq`, `rev`, `last_message_at`.
type Stand = (i64, i64, Option<DateTime>);

/// A message that the batch has to do with.
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

impl<'a> Batch<'a> {
    /// Locks the head and reads what the writes are about. None if there is no such conversation.
    pub(crate) async fn begin(
        tx: &'a mut Tx,
        conversation: ConversationId,
        writes: &[Write],
    ) -> Outcome<Option<Self>> {
        let key = doc! { "_id": id(conversation.0), "deleted": false };
        let only_sends = writes.iter().all(|write| matches!(write.change, Change::Send(_)));
        let last = writes.last().filter(|_| only_sends).map(|write| time(write.at));
        let mut first = stamped();
        let count = int(writes.len() as u64);
        if let Some(last) = last {
            first.insert("$inc", doc! { "last_seq": count, "rev": count });
            first.insert("$set", doc! { "last_message_at": last });
        }
        // Whose end was acknowledged before the batch was begun is counted by now, so this need not be asked in the transaction:
        // it is on its way together with the first write.
        let ended = ended_sessions(tx.database());
        let (head, ended) = join(tx.change_from::<ConversationDoc>(key, first), ended).await;
        let (head, session_rev) = (head?, ended?);
        let Some(head) = head else { return Ok(None) };
        let stands = match last {
            Some(last) => (head.last_seq + count, head.rev + count, Some(last)),
            None => stand(&head),
        };
        let actors: Vec<UserId> = writes.iter().map(|write| write.actor).collect();
        let posters = only_sends.then(|| tx.facts.posters(&head, &actors)).flatten();
        let standings = if let Some(posters) = posters {
            posters
        } else {
            let read = standings(tx, &head, &actors).await?;
            tx.facts.note_standings(&head, &read);
            read
        };
        let mut messages = HashMap::new();
        let mut known = HashMap::new();
        // Nearly no send is a second one. If one is, an index refuses it, and the next try looks.
        let look = !tx.is_first || tx.facts.expects_repeats();
        for filter in wanted(head.id, writes, look) {
            for doc in tx.find::<MessageDoc>(filter).await? {
                known.insert((doc.author_id, doc.client_msg_id.clone()), doc.id);
                messages.insert(doc.id, Held { doc, fate: Fate::Kept });
            }
        }
        let sent = HashMap::new();
        let sessions: HashSet<_> = writes.iter().filter_map(|write| write.session).collect();
        let live = if tx.facts.all_live(session_rev, &sessions) {
            sessions
        } else {
            let live = live_of(tx, sessions.into_iter()).await?;
            tx.facts.note_live(session_rev, &live);
            live
        };
        Ok(Some(Self { tx, head, session_rev, live, stands, standings, messages, known, sent }))
    }

    pub(crate) fn message(&self, message: MessageId) -> Outcome<MessageDoc> {
        let held = self.messages.get(&id(message.0)).ok_or(Error::NotFound("message"))?;
        Ok(held.doc.clone())
    }

    /// Takes a message's new state, if it has one.
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

    /// Writes the head, the messages, and how far the senders have read.
    pub(crate) async fn finish(self) -> Outcome<()> {
        let head = self.head;
        if stand(&head) != self.stands {
            let mut set = doc! { "last_seq": head.last_seq, "rev": head.rev };
            set.extend(head.name.map(|name| ("name".to_owned(), Bson::from(name))));
            set.extend(head.topic.map(|topic| ("topic".to_owned(), Bson::from(topic))));
            let mut update = Document::new();
            if let Some(last) = head.last_message_at {
                set.insert("last_message_at", last);
            } else {
                update.insert("$unset", doc! { "last_message_at": "" });
            }
            update.insert("$set", set);
            self.tx.update::<ConversationDoc>(doc! { "_id": head.id }, update).await?;
        }
        let mut new = Vec::new();
        let mut updates = Vec::new();
        for held in self.messages.into_values() {
            match held.fate {
                Fate::Kept => {}
                Fate::New => new.push(held.doc),
                Fate::Changed => updates.push(state(&held.doc)?),
            }
        }
        new.sort_by_key(|message: &MessageDoc| message.seq);
        self.tx.insert_many(&new).await?;
        self.tx.update_each::<MessageDoc>(updates).await?;
        let read = |(author, seq): (bson::Uuid, i64)| {
            let key = doc! { "conversation_id": head.id, "user_id": author };
            (key, doc! { "$max": { "read_seq": seq } })
        };
        self.tx.update_each::<MemberDoc>(self.sent.into_iter().map(read)).await
    }
}

const fn stand(head: &ConversationDoc) -> Stand {
    (head.last_seq, head.rev, head.last_message_at)
}

/// What matches the messages that writes name, and with `look` those that were sent under the same ids.
fn wanted(conversation: bson::Uuid, writes: &[Write], look: bool) -> Vec<Document> {
    let mut named = Vec::new();
    let mut sent: HashMap<bson::Uuid, Vec<&str>> = HashMap::new();
    for write in writes {
        match &write.change {
            Change::Send(draft) if look => {
                sent.entry(id(write.actor.0)).or_default().push(draft.client_msg_id.as_str());
            }
            Change::Edit { message_id, .. }
            | Change::Delete { message_id }
            | Change::React { message_id, .. }
            | Change::Unreact { message_id, .. } => named.push(id(message_id.0)),
            Change::Send(_) | Change::UpdateChannel { .. } => {}
        }
    }
    let by = |(author, ids): (bson::Uuid, Vec<&str>)| {
        let client_msg_id = doc! { "$in": ids };
        doc! { "conversation_id": conversation, "author_id": author, "client_msg_id": client_msg_id }
    };
    let mut sent: Vec<Document> = sent.into_iter().map(by).collect();
    let mut filters = Vec::new();
    if !named.is_empty() {
        filters.push(doc! { "_id": { "$in": named }, "conversation_id": conversation });
    }
    if sent.len() > 1 {
        filters.push(doc! { "$or": sent });
    } else {
        filters.extend(sent.pop());
    }
    filters
}

/// The update that brings a stored message to its new state.
fn state(message: &MessageDoc) -> Outcome<(Document, Document)> {
    let reactions = bson::serialize_to_bson(&message.reactions).map_err(Error::internal)?;
    let mut set = doc! { "rev": message.rev, "text": &message.text, "reactions": reactions };
    set.extend(message.edited_at.map(|at| ("edited_at".to_owned(), Bson::from(at))));
    set.extend(message.deleted_at.map(|at| ("deleted_at".to_owned(), Bson::from(at))));
    set.extend(message.deleted_by.map(|by| ("deleted_by".to_owned(), Bson::from(by))));
    Ok((doc! { "_id": message.id }, doc! { "$set": set }))
}
