//! Counts of what is unread in many conversations, in few queries.

use std::collections::HashMap;

use bson::{Document, doc};
use parlance_domain::{ReadState, Seq, UserId};
use serde::Deserialize;

use crate::{
    access::Seen,
    documents::{MessageDoc, id, int, num},
    error::Outcome,
    tx::Tx,
};

/// How far beyond each read mark the query for many conversations looks: as far as it counts, plus a margin, because
/// own messages and deleted ones do not count. So a conversation not opened for long is not read to its end.
const WINDOW: u64 = ReadState::COUNTED + 28;
/// The most conversations in one query.
const ASKED: usize = 100;

/// A filter for somebody's unread messages of a conversation, up to a seq.
pub(crate) fn of(seen: &Seen, viewer: UserId, up_to: Seq) -> Document {
    doc! {
        "conversation_id": seen.head.id,
        "seq": { "$gt": int(seen.mark()), "$lte": int(up_to) },
        "author_id": { "$ne": id(viewer.0) },
        "deleted_at": null,
    }
}

/// Counts somebody's unread messages in each of several conversations; omits those without any.
pub(crate) async fn all(
    tx: &mut Tx,
    viewer: UserId,
    seen: &[Seen],
) -> Outcome<HashMap<bson::Uuid, u64>> {
    #[derive(Deserialize)]
    struct Count {
        #[serde(rename = "_id")]
        conversation_id: bson::Uuid,
        count: i64,
    }
    let last = |seen: &Seen| num(seen.head.last_seq);
    let end = |seen: &Seen| Seq(seen.mark().0 + WINDOW);
    let behind: Vec<&Seen> = seen.iter().filter(|seen| seen.mark() < last(seen)).collect();
    let mut counts = HashMap::new();
    for some in behind.chunks(ASKED) {
        let windows = some.iter().map(|seen| of(seen, viewer, last(seen).min(end(seen))));
        let stages = vec![
            doc! { "$match": { "$or": windows.collect::<Vec<_>>() } },
            doc! { "$group": { "_id": "$conversation_id", "count": { "$sum": 1_i64 } } },
        ];
        for found in tx.aggregate::<MessageDoc, Count>(stages).await? {
            counts.insert(found.conversation_id, num::<u64>(found.count).min(ReadState::COUNTED));
        }
    }
    for seen in behind {
        let counted = counts.get(&seen.head.id).copied().unwrap_or(0);
        if counted < ReadState::COUNTED && end(seen) < last(seen) {
            counts.insert(seen.head.id, seen.unread(tx, viewer).await?);
        }
    }
    Ok(counts)
}
