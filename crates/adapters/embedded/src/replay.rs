//! What was changed after a rev, in the order of revs.
//!
//! It merges two streams: messages untouched since they were sent, which are stored in this order anyway, and changed
//! ones, by their index. An index of all messages by rev would slow down every send.

use parlance_application::ports::store::{Filling, ReplayPage, ReplayQuery};
use parlance_domain::{Conversation, ConversationId, Rev, Seq};
use rusqlite::{Connection, Row};

use crate::{
    access::{Seen, see},
    accounts::session_rev,
    error::Tx,
    rows::{REV, SENT_REV, int, message, message_sql, num},
};

/// A page of it, as large as the query allows.
pub(crate) fn page(conn: &Connection, seen: Seen, query: ReplayQuery) -> Tx<ReplayPage> {
    let mut page = Filling::new(query);
    let complete = query.from_rev >= seen.conversation.rev || fill(conn, &seen, &mut page)?;
    Ok(page.page(complete, seen.conversation, seen.access_rev, session_rev(conn)?))
}

/// The weight of the changes after a rev in a replay, counted until it exceeds the limit.
pub(crate) fn weight(
    conn: &Connection,
    id: ConversationId,
    from_rev: Rev,
    most: usize,
) -> Tx<usize> {
    let Some(seen) = see(conn, None, id)? else { return Ok(0) };
    // The changed ones first: the other half skips them, and must not skip more than `most` allows.
    let mut statement = conn.prepare_cached(
        "SELECT client_msg_id, text, octet_length(reactions) FROM messages WHERE conversation = ?3 AND changed_rev > ?4 UNION ALL \
         SELECT client_msg_id, text, octet_length(reactions) FROM messages WHERE n BETWEEN ?1 AND ?2 AND changed_rev IS NULL",
    )?;
    let [first, last] = sent_after(conn, &seen, from_rev)?;
    let mut rows = statement.query([first, last, seen.shelf.0, int(from_rev)])?;
    let mut weight = 0;
    while let Some(row) = rows.next()? {
        let text = |column| row.get_ref(column)?.as_str().map_err(rusqlite::Error::from);
        let reactions = row.get::<_, Option<u32>>(2)?.unwrap_or(0) as usize;
        // Stored reactions have no field names, so they weigh more in a frame.
        weight += ReplayQuery::weight_of(text(0)?, text(1)?, 3 * reactions);
        if weight > most {
            break;
        }
    }
    Ok(weight)
}

/// Fills a page with messages that changed after its rev; whether these are all.
fn fill(conn: &Connection, seen: &Seen, page: &mut Filling) -> Tx<bool> {
    let from_rev = page.query().from_rev;
    let read = |row: &Row<'_>| message(row, &seen.conversation);
    // Each with the rev it was sent with; those changed since come from the other stream.
    let as_sent = |row: &Row<'_>| {
        let (rev, sent_rev) = (num::<Rev>(row, REV)?, num::<Rev>(row, SENT_REV)?);
        Ok((sent_rev, if rev == sent_rev { Some(read(row)?) } else { None }))
    };
    let mut sent = conn.prepare_cached(message_sql!("WHERE n BETWEEN ?1 AND ?2 ORDER BY n"))?;
    let mut sent = sent.query_map(sent_after(conn, seen, from_rev)?, as_sent)?.peekable();
    let mut changed = conn.prepare_cached(message_sql!(
        "WHERE conversation = ?1 AND changed_rev > ?2 ORDER BY changed_rev"
    ))?;
    let mut changed = changed.query_map([seen.shelf.0, int(from_rev)], read)?.peekable();
    loop {
        let sent_first = match (sent.peek(), changed.peek()) {
            // Nothing sent later precedes it, so no page rereads what earlier pages have read.
            (Some(Ok((sent_rev, _))), Some(Ok(changed))) => *sent_rev < changed.rev,
            // An error is not skipped.
            (sent, changed) => changed.is_none() || matches!(sent, Some(Err(_))),
        };
        let next = if sent_first {
            sent.next().transpose()?.map(|(_, message)| message)
        } else {
            changed.next().transpose()?.map(Some)
        };
        let message = match next {
            Some(Some(message)) => message,
            Some(None) => continue,
            None => return Ok(true),
        };
        if !page.takes(message) {
            return Ok(false);
        }
    }
}

/// The keys, first and last, of the messages that were sent after a rev: a binary search, for their `sent_rev` never
/// falls.
fn sent_after(conn: &Connection, seen: &Seen, rev: Rev) -> Tx<[i64; 2]> {
    let Conversation { rev: head, last_seq, .. } = seen.conversation;
    let mut sent_rev = conn.prepare_cached("SELECT sent_rev FROM messages WHERE n = ?1")?;
    // There are no more of them than revs since.
    let (mut before, mut last) =
        (last_seq.0.saturating_sub(head.0.saturating_sub(rev.0)), last_seq.0);
    while before < last {
        let middle = last - (last - before) / 2;
        if sent_rev.query_row([seen.shelf.key(Seq(middle))], |row| num::<Rev>(row, 0))? > rev {
            last = middle - 1;
        } else {
            before = middle;
        }
    }
    Ok([Seq(before).next(), last_seq].map(|seq| seen.shelf.key(seq)))
}

#[cfg(test)]
mod tests;
