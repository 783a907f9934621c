//! Marks under messages: the row knows all who left one, the message shows what the contract allows of it.

use parlance_application::{Error, Result};
use parlance_domain::{Message, Reaction, UserId};

use super::state::MessageRow;

impl MessageRow {
    /// Adds a person's mark; says whether it was new.
    pub(super) fn mark(&mut self, user: UserId, emoji: &str) -> Result<bool> {
        let full = self.marks.len() >= Message::MAX_EMOJI;
        match self.marks.iter_mut().find(|(mark, _)| mark == emoji) {
            Some((_, users)) if users.contains(&user) => return Ok(false),
            Some((_, users)) => users.push(user),
            None if full => {
                let limit = Message::MAX_EMOJI;
                let message =
                    format!("would be more than {limit} different ones under this message");
                return Err(Error::refused("emoji", "too_many", message));
            }
            None => self.marks.push((emoji.to_owned(), vec![user])),
        }
        self.show();
        Ok(true)
    }

    /// Takes a person's mark back; says whether there was one.
    pub(super) fn unmark(&mut self, user: UserId, emoji: &str) -> bool {
        let mark = self.marks.iter_mut().find(|(mark, _)| mark == emoji);
        let Some((_, users)) = mark.filter(|(_, users)| users.contains(&user)) else {
            return false;
        };
        users.retain(|other| *other != user);
        self.marks.retain(|(_, users)| !users.is_empty());
        self.show();
        true
    }

    /// Removes all marks.
    pub(super) fn clear_marks(&mut self) {
        self.marks.clear();
        self.show();
    }

    fn show(&mut self) {
        let shown = self.marks.iter().map(|(emoji, users)| Reaction {
            emoji: emoji.clone(),
            count: users.len() as u64,
            user_ids: users.iter().take(Message::REACTION_USERS).copied().collect(),
        });
        self.message.reactions = shown.collect();
    }
}
