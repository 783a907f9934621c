//! Reactions to messages. The table is authoritative; a message's row carries what the read model shows of it.

use parlance_application::ports::store::too_many_emoji;
use parlance_domain::{Message, Reaction, UserId};
use rusqlite::{Connection, params};
use uuid::Uuid;

use crate::error::Tx;

/// Adds a person's reaction; false if it was there already.
pub(crate) fn add(conn: &Connection, message: &mut Message, user: UserId, emoji: &str) -> Tx<bool> {
    let place = message.reactions.iter().position(|r| r.emoji == emoji);
    if place.is_none() && message.reactions.len() >= Message::MAX_EMOJI {
        return Err(too_many_emoji().into());
    }
    let inserted = conn
        .prepare_cached("INSERT INTO reactions (message_id, emoji, user_id) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING")?
        .execute(params![message.id.0, emoji, user.0])?;
    if inserted == 0 {
        return Ok(false);
    }
    match place.and_then(|place| message.reactions.get_mut(place)) {
        Some(reaction) => {
            reaction.count += 1;
            if reaction.user_ids.len() < Message::REACTION_USERS {
                reaction.user_ids.push(user);
            }
        }
        None => message.reactions.push(Reaction {
            emoji: emoji.to_owned(),
            count: 1,
            user_ids: vec![user],
        }),
    }
    Ok(true)
}

/// Removes a person's reaction; false if there was none.
pub(crate) fn remove(
    conn: &Connection,
    message: &mut Message,
    user: UserId,
    emoji: &str,
) -> Tx<bool> {
    let deleted = conn
        .prepare_cached(
            "DELETE FROM reactions WHERE message_id = ?1 AND emoji = ?2 AND user_id = ?3",
        )?
        .execute(params![message.id.0, emoji, user.0])?;
    if deleted == 0 {
        return Ok(false);
    }
    let id = message.id;
    if let Some(reaction) = message.reactions.iter_mut().find(|r| r.emoji == emoji) {
        reaction.count = reaction.count.saturating_sub(1);
        if reaction.user_ids.contains(&user) {
            // One of the first has gone: another person may move up.
            let first: Vec<Uuid> = conn
                .prepare_cached("SELECT user_id FROM reactions WHERE message_id = ?1 AND emoji = ?2 ORDER BY n LIMIT ?3")?
                .query_map(params![id.0, emoji, i64::try_from(Message::REACTION_USERS).unwrap_or(50)], |row| row.get(0))?
                .collect::<Result<_, _>>()?;
            reaction.user_ids = first.into_iter().map(UserId).collect();
        }
    }
    message.reactions.retain(|r| r.count > 0);
    Ok(true)
}

/// Removes all reactions to a message.
pub(crate) fn clear(conn: &Connection, message: &mut Message) -> Tx<()> {
    conn.prepare_cached("DELETE FROM reactions WHERE message_id = ?1")?.execute([message.id.0])?;
    message.reactions.clear();
    Ok(())
}
