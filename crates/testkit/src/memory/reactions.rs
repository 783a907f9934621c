//! Reactions to messages: the row knows all who left one, the message shows what the contract allows of it.

use parlance_application::{Result, ports::store::too_many_emoji};
use parlance_domain::{Message, Reaction, UserId};

use super::state::MessageRow;

impl MessageRow {
    /// Adds a person's reaction; false if it was there already.
    pub(super) fn react(&mut self, user: UserId, emoji: &str) -> Result<bool> {
        let full = self.reactions.len() >= Message::MAX_EMOJI;
        match self.reactions.iter_mut().find(|(one, _)| one == emoji) {
            Some((_, users)) if users.contains(&user) => return Ok(false),
            Some((_, users)) => users.push(user),
            None if full => return Err(too_many_emoji()),
            None => self.reactions.push((emoji.to_owned(), vec![user])),
        }
        self.show();
        Ok(true)
    }

    /// Removes a person's reaction; false if there was none.
    pub(super) fn unreact(&mut self, user: UserId, emoji: &str) -> bool {
        let found = self.reactions.iter_mut().find(|(one, _)| one == emoji);
        let Some((_, users)) = found.filter(|(_, users)| users.contains(&user)) else {
            return false;
        };
        users.retain(|other| *other != user);
        self.reactions.retain(|(_, users)| !users.is_empty());
        self.show();
        true
    }

    /// Removes all reactions.
    pub(super) fn clear_reactions(&mut self) {
        self.reactions.clear();
        self.show();
    }

    fn show(&mut self) {
        let shown = self.reactions.iter().map(|(emoji, users)| Reaction {
            emoji: emoji.clone(),
            count: users.len() as u64,
            user_ids: users.iter().take(Message::REACTION_USERS).copied().collect(),
        });
        self.message.reactions = shown.collect();
    }
}
