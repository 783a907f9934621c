//! Reactions to messages. The collection is authoritative; a message carries what the read model shows of it.

use bson::doc;
use parlance_application::ports::store::too_many_emoji;
use parlance_domain::Message;

use crate::{
    documents::{MessageDoc, ReactionDoc, ReactionPart},
    error::Outcome,
    tx::Tx,
};

/// Adds a person's reaction, as the change `rev`; false if it was there already.
pub(crate) async fn add(
    tx: &mut Tx,
    message: &mut MessageDoc,
    user: bson::Uuid,
    emoji: &str,
    rev: i64,
) -> Outcome<bool> {
    let place = message.reactions.iter().position(|part| part.emoji == emoji);
    if place.is_none() && message.reactions.len() >= Message::MAX_EMOJI {
        return Err(too_many_emoji().into());
    }
    if has(tx, message, user, emoji).await? {
        return Ok(false);
    }
    let own = ReactionDoc { message_id: message.id, emoji: emoji.to_owned(), user_id: user, rev };
    tx.insert(&own).await?;
    match place.and_then(|place| message.reactions.get_mut(place)) {
        Some(part) => {
            part.count += 1;
            if part.user_ids.len() < Message::REACTION_USERS {
                part.user_ids.push(user);
            }
        }
        None => message.reactions.push(ReactionPart {
            emoji: own.emoji,
            count: 1,
            user_ids: vec![user],
        }),
    }
    Ok(true)
}

/// Removes a person's reaction; false if there was none.
pub(crate) async fn remove(
    tx: &mut Tx,
    message: &mut MessageDoc,
    user: bson::Uuid,
    emoji: &str,
) -> Outcome<bool> {
    if !has(tx, message, user, emoji).await? {
        return Ok(false);
    }
    let id = message.id;
    tx.delete::<ReactionDoc>(doc! { "message_id": id, "emoji": emoji, "user_id": user }).await?;
    if let Some(part) = message.reactions.iter_mut().find(|part| part.emoji == emoji) {
        part.count -= 1;
        if part.user_ids.contains(&user) {
            part.user_ids.retain(|first| *first != user);
            if part.user_ids.len() < usize::try_from(part.count).unwrap_or_default() {
                // One of the first has gone: another person moves up.
                let first = i64::try_from(Message::REACTION_USERS).unwrap_or(50);
                let all = doc! { "message_id": id, "emoji": emoji };
                let all = tx.first::<ReactionDoc>(all, doc! { "rev": 1 }, first).await?;
                part.user_ids = all.into_iter().map(|one| one.user_id).collect();
            }
        }
    }
    message.reactions.retain(|part| part.count > 0);
    Ok(true)
}

/// Removes all reactions to a message.
pub(crate) async fn clear(tx: &mut Tx, message: &mut MessageDoc) -> Outcome<()> {
    if !message.reactions.is_empty() {
        tx.delete::<ReactionDoc>(doc! { "message_id": message.id }).await?;
        message.reactions.clear();
    }
    Ok(())
}

/// Whether the person has reacted with this emoji. Asks the store only if the message does not list everybody.
async fn has(tx: &mut Tx, message: &MessageDoc, user: bson::Uuid, emoji: &str) -> Outcome<bool> {
    let Some(part) = message.reactions.iter().find(|part| part.emoji == emoji) else {
        return Ok(false);
    };
    if part.user_ids.contains(&user) {
        return Ok(true);
    }
    if part.user_ids.len() >= usize::try_from(part.count).unwrap_or_default() {
        return Ok(false);
    }
    let own = doc! { "message_id": message.id, "emoji": emoji, "user_id": user };
    Ok(tx.one::<ReactionDoc>(own).await?.is_some())
}
