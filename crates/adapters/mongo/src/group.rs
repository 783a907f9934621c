//! The data of one transaction: a batch for each of several conversations. The heads are locked first, then all that
//! the writes may need is read at once. Messages and heads change in memory and are written once each at the end, by
//! the same few commands for all conversations: a group's cost hardly depends on their number.

use std::collections::{HashMap, HashSet};

use bson::{Document, doc};
use futures::future::join;
use parlance_application::ports::store::Write;
use parlance_domain::{ConversationId, SessionId, SessionRev, UserId};

use crate::{
    access::standings,
    accounts::{self, latest_session_rev, live_of},
    batch::{self, Batch, Fate},
    documents::{ConversationDoc, MemberDoc, MessageDoc, id},
    error::Outcome,
    tx::Tx,
};

/// One conversation's writes.
pub(crate) type Append = (ConversationId, Vec<Write>);

pub(crate) struct Group {
    /// One for each append; `None` if there is no such conversation.
    pub(crate) batches: Vec<Option<Batch>>,
    pub(crate) session_rev: SessionRev,
    /// Those of the writes' sessions that have not ended.
    pub(crate) live: HashSet<SessionId>,
}

impl Group {
    /// Locks the heads and reads what the writes need. No conversation may occur twice.
    pub(crate) async fn begin(tx: &mut Tx, appends: &[Append]) -> Outcome<Self> {
        // Outside the transaction, so that it runs concurrently with the first write. It still counts every session
        // whose end was acknowledged before the group began.
        let ended = latest_session_rev(tx.database());
        let (heads, ended) = join(lock(tx, appends), ended).await;
        let (mut heads, session_rev) = (heads?, ended?);
        let batch = |(conversation, writes): &Append| {
            heads.remove(&id(conversation.0)).map(|head| Batch::new(head, writes))
        };
        let mut batches: Vec<_> = appends.iter().map(batch).collect();
        for (batch, (_, writes)) in batches.iter_mut().zip(appends) {
            if let Some(batch) = batch {
                read_standings(tx, batch, writes).await?;
            }
        }
        hold(tx, &mut batches, appends).await?;
        let writes = appends.iter().flat_map(|(_, writes)| writes);
        let sessions: HashSet<_> = writes.map(|write| write.by.session).collect();
        let live = if tx.facts.all_live(session_rev, &sessions) {
            sessions
        } else {
            let live = live_of(tx, sessions.into_iter()).await?;
            // Not the count read beside the first write: that may include a session that is still live in this
            // transaction's snapshot.
            let counted = accounts::session_rev(tx).await?;
            tx.learnt.live(counted, live.clone());
            live
        };
        Ok(Self { batches, session_rev, live })
    }

    /// Writes the heads, the messages, and how far the senders have read.
    pub(crate) async fn finish(self, tx: &mut Tx) -> Outcome<()> {
        let mut batches: Vec<_> = self.batches.into_iter().flatten().collect();
        tx.update_each::<ConversationDoc>(batches.iter().filter_map(Batch::correction)).await?;
        let mut new = Vec::new();
        let mut updates = Vec::new();
        let messages = batches.iter_mut().map(|batch| std::mem::take(&mut batch.messages));
        for held in messages.flat_map(HashMap::into_values) {
            match held.fate {
                Fate::Kept => {}
                Fate::New => new.push(held.doc),
                Fate::Changed => updates.push(batch::state(&held.doc)?),
            }
        }
        new.sort_by_key(|message: &MessageDoc| (message.conversation_id, message.seq));
        tx.insert_many(&new).await?;
        tx.update_each::<MessageDoc>(updates).await?;
        tx.update_each::<MemberDoc>(batches.iter().flat_map(Batch::marks)).await
    }
}

/// Locks the heads; returns what they were before.
async fn lock(tx: &mut Tx, appends: &[Append]) -> Outcome<HashMap<bson::Uuid, ConversationDoc>> {
    let by_id = |head: ConversationDoc| (head.id, head);
    if let [(conversation, writes)] = appends {
        let key = doc! { "_id": id(conversation.0), "deleted": false };
        let head = tx.change_from(key, batch::lock_for(writes)).await?;
        return Ok(head.map(by_id).into_iter().collect());
    }
    let ids: Vec<_> = appends.iter().map(|(conversation, _)| id(conversation.0)).collect();
    let heads = tx.find(doc! { "_id": { "$in": ids }, "deleted": false }).await?;
    let heads: HashMap<_, _> = heads.into_iter().map(by_id).collect();
    // If one has been written since they were read, the server refuses the update.
    let locks = appends.iter().filter_map(|(conversation, writes)| {
        let head = heads.get(&id(conversation.0))?;
        Some((doc! { "_id": head.id }, batch::lock_for(writes)))
    });
    tx.update_each::<ConversationDoc>(locks).await?;
    Ok(heads)
}

/// Reads the writers' relations to the conversation.
async fn read_standings(tx: &mut Tx, batch: &mut Batch, writes: &[Write]) -> Outcome<()> {
    let actors: Vec<UserId> = writes.iter().map(|write| write.by.user).collect();
    let only_sends = batch::last_of_sends(writes).is_some();
    let known = only_sends.then(|| tx.facts.posters(&batch.head, &actors)).flatten();
    batch.standings = if let Some(known) = known {
        known
    } else {
        let read = standings(tx, &batch.head, &actors).await?;
        tx.learnt.posters(&batch.head, &read);
        read
    };
    Ok(())
}

/// Reads the messages that writes name or repeat.
async fn hold(tx: &mut Tx, batches: &mut [Option<Batch>], appends: &[Append]) -> Outcome<()> {
    let mut filters = Vec::new();
    let named: Vec<_> = appends.iter().flat_map(|(_, writes)| batch::named(writes)).collect();
    if !named.is_empty() {
        filters.push(doc! { "_id": { "$in": named } });
    }
    // Hardly any send is a repeat. If one is, an index refuses it, and the next try looks first.
    let look = !tx.is_first || tx.facts.expects_repeats();
    if look {
        let repeated =
            |(conversation, writes): &Append| batch::repeated(id(conversation.0), writes);
        let mut repeated: Vec<Document> = appends.iter().flat_map(repeated).collect();
        if repeated.len() > 1 {
            filters.push(doc! { "$or": repeated });
        } else {
            filters.extend(repeated.pop());
        }
    }
    let mut places: HashMap<_, _> =
        batches.iter_mut().flatten().map(|batch| (batch.head.id, batch)).collect();
    for filter in filters {
        for doc in tx.find::<MessageDoc>(filter).await? {
            // A message of another conversation counts as not found.
            if let Some(batch) = places.get_mut(&doc.conversation_id) {
                batch.hold(doc);
            }
        }
    }
    Ok(())
}
