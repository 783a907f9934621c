//! What a client knows, and how frames change it. No I/O, no clock: the same frames make the same cache.

mod applied;
mod conversation;
mod gap;
#[cfg(test)]
mod tests;

use std::{cmp::Reverse, collections::BTreeMap, sync::Arc, time::Duration};

use serde_json::Value;

pub use self::{
    applied::{Applied, Message, ReadState, Resume, SyncRequest, Unreadable},
    conversation::Conversation,
};
use self::{
    applied::{array, map, number, text},
    conversation::Page,
};

/// The most cursors in one `hello`.
const CURSORS: usize = 1_000;
/// The most messages held of one conversation, by default.
const ROOM: usize = 10_000;

/// See the module's description.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cache {
    /// The name of the store's history, from the last welcome.
    epoch: Option<String>,
    user_id: String,
    workspaces: BTreeMap<String, Value>,
    conversations: BTreeMap<String, Conversation>,
    /// The most messages held per conversation; beyond it the oldest go.
    room: usize,
}

impl Default for Cache {
    fn default() -> Self {
        Self::with_room(ROOM)
    }
}

impl Cache {
    /// A cache that holds at most `room` messages of each conversation: the newest.
    pub fn with_room(room: usize) -> Self {
        Self {
            epoch: None,
            user_id: String::new(),
            workspaces: BTreeMap::new(),
            conversations: BTreeMap::new(),
            room,
        }
    }

    /// The `resume` for `hello`; `None` before the first welcome. If there are more conversations than one `hello` may
    /// name (1,000), it names the most recently active.
    pub fn resume(&self) -> Option<Resume> {
        let epoch = self.epoch.clone()?;
        let mut active: Vec<_> = self.conversations.iter().collect();
        active.sort_by_key(|(id, conversation)| (Reverse(conversation.active_at()), *id));
        let cursors = active.into_iter().take(CURSORS).map(|(id, it)| (id.clone(), it.cursor()));
        Some(Resume { epoch, cursors: cursors.collect() })
    }

    /// Applies the reply to `hello`. Its list of conversations is authoritative: those absent are purged. Cursors of
    /// held conversations do not move; the others begin at the rev in the reply.
    ///
    /// Returns what to `sync`: what the server names as behind, and what did not fit into the `resume`.
    pub fn welcome(&mut self, reply: &Value) -> Result<Vec<SyncRequest>, Unreadable> {
        let epoch = text(reply, "epoch")?;
        let user_id = text(&reply["user"], "id")?;
        let same = self.epoch.as_deref() == Some(epoch) && self.user_id == user_id;
        // The same as in `hello`: nothing has changed since.
        let named = self.resume().map(|resume| resume.cursors).unwrap_or_default();
        let behind: Vec<_> = array(reply, "behind")?.iter().filter_map(Value::as_str).collect();
        let fresh = array(reply, "conversations")?
            .iter()
            .map(|it| Ok((text(it, "id")?.to_owned(), Conversation::new(it)?)))
            .collect::<Result<BTreeMap<_, _>, Unreadable>>()?;
        let workspaces = array(reply, "workspaces")?
            .iter()
            .map(|it| Ok((text(it, "id")?.to_owned(), it.clone())))
            .collect::<Result<_, Unreadable>>()?;
        self.epoch = Some(epoch.to_owned());
        user_id.clone_into(&mut self.user_id);
        self.workspaces = workspaces;
        let mut held = std::mem::replace(&mut self.conversations, fresh);
        if !same {
            held.clear();
        }
        let mut syncs = Vec::new();
        for (id, conversation) in &mut self.conversations {
            let rev = conversation.rev();
            let held = held.remove(id);
            let known = held.is_some();
            if let Some(held) = held {
                conversation.keep(held);
            }
            let unsaid = known && !named.contains_key(id) && conversation.cursor() != rev;
            if (unsaid || behind.contains(&id.as_str())) && conversation.missing(rev) {
                syncs.push(request(id, conversation));
            }
        }
        Ok(syncs)
    }

    /// Applies any other frame. Replies change nothing: only events and replays move a cursor.
    pub fn apply(&mut self, frame: &Value) -> Result<Applied, Unreadable> {
        let kind = text(frame, "type")?;
        let data = &frame["data"];
        let id = frame["conversation_id"].as_str().or_else(|| data["conversation_id"].as_str());
        let mut out = Applied::of(kind, id);
        match kind {
            "ok" | "error" => return Ok(out),
            "replay" => {
                let page = Page::read(frame, data)?;
                self.on(id, &mut out, |it, user, out| it.replay(page, user, out))?;
                return Ok(out);
            }
            "conversation.joined" => self.join(&data["conversation"], &mut out)?,
            "conversation.left" | "conversation.deleted" => {
                let id = id.ok_or(Unreadable("conversation_id"))?;
                self.purge(&mut out, |it, _| it == id);
            }
            "read.updated" => {
                let read = ReadState::read(data)?;
                self.on(id, &mut out, |it, _, out| {
                    it.set_read(read);
                    out.conversation_changed = true;
                    false
                })?;
            }
            "workspace.updated" => self.workspace(&data["workspace"])?,
            "workspace.deleted" => self.leave_workspace(text(data, "workspace_id")?, &mut out),
            "member.left" if text(data, "user_id")? == self.user_id => {
                self.leave_workspace(text(data, "workspace_id")?, &mut out);
            }
            "server.draining" => {
                out.reconnect_after =
                    Some(Duration::from_millis(number(data, "reconnect_after_ms")?));
            }
            // A durable event, even of an unknown type: its content counts, not its name.
            _ if id.is_some() && !frame["rev"].is_null() => {
                let rev = number(frame, "rev")?;
                let message = data.get("message").map(Message::read).transpose()?;
                let facts = data.get("conversation").map(|_| map(data, "conversation"));
                let facts = facts.transpose()?;
                self.on(id, &mut out, |it, user, out| it.event(rev, message, facts, user, out))?;
                return Ok(out);
            }
            _ => {}
        }
        out.notice = Some(Arc::new(frame.clone()));
        Ok(out)
    }

    /// Applies the answer to `sync`, by the same rules as a replay.
    pub fn synced(&mut self, page: &Value) -> Result<Applied, Unreadable> {
        let id = text(page, "conversation_id")?;
        let mut out = Applied::of("sync", Some(id));
        let page = Page::read(page, page)?;
        self.on(Some(id), &mut out, |it, user, out| it.synced(page, user, out))?;
        Ok(out)
    }

    /// Notes that the `sync` will not be answered (`not_found` …): the next gap asks again.
    pub fn sync_failed(&mut self, conversation_id: &str) {
        if let Some(conversation) = self.conversations.get_mut(conversation_id) {
            conversation.forget_sync();
        }
    }

    /// The outstanding `sync` of a conversation, with the current cursor, to send or repeat; `None` if there is none.
    pub fn sync_of(&self, conversation_id: &str) -> Option<SyncRequest> {
        let conversation = self.conversations.get(conversation_id)?;
        conversation.syncing().then(|| request(conversation_id, conversation))
    }

    /// Applies a page of history from REST that ends where the loaded part begins. Moves no cursor.
    pub fn history(&mut self, conversation_id: &str, page: &Value) -> Result<(), Unreadable> {
        let messages = array(page, "items")?.iter().map(Message::read).collect::<Result<_, _>>()?;
        if let Some(conversation) = self.conversations.get_mut(conversation_id) {
            conversation.load(messages);
        }
        Ok(())
    }

    /// The name of the store's history, from the last welcome.
    pub fn epoch(&self) -> Option<&str> {
        self.epoch.as_deref()
    }

    /// The user's id; empty before the first welcome.
    pub fn user_id(&self) -> &str {
        &self.user_id
    }

    /// The user's workspaces, by id.
    pub fn workspaces(&self) -> &BTreeMap<String, Value> {
        &self.workspaces
    }

    /// All conversations, by id.
    pub fn conversations(&self) -> &BTreeMap<String, Conversation> {
        &self.conversations
    }

    /// One conversation.
    pub fn conversation(&self, id: &str) -> Option<&Conversation> {
        self.conversations.get(id)
    }

    /// The rev up to which a conversation is held.
    pub fn cursor(&self, conversation_id: &str) -> Option<u64> {
        self.conversation(conversation_id).map(Conversation::cursor)
    }

    /// The loaded messages of a conversation, by `seq`.
    pub fn messages(&self, conversation_id: &str) -> impl DoubleEndedIterator<Item = &Message> {
        self.conversation(conversation_id).into_iter().flat_map(Conversation::messages)
    }

    /// Changes one conversation; ignores events of one that the user is not in.
    fn on(
        &mut self,
        id: Option<&str>,
        out: &mut Applied,
        change: impl FnOnce(&mut Conversation, &str, &mut Applied) -> bool,
    ) -> Result<(), Unreadable> {
        let id = id.ok_or(Unreadable("conversation_id"))?;
        let Some(conversation) = self.conversations.get_mut(id) else {
            out.strays += 1;
            return Ok(());
        };
        if change(conversation, &self.user_id, out) {
            out.syncs.push(request(id, conversation));
        }
        conversation.trim(self.room);
        Ok(())
    }

    fn join(&mut self, summary: &Value, out: &mut Applied) -> Result<(), Unreadable> {
        let (id, rev) = (text(summary, "id")?, number(summary, "rev")?);
        if let Some(held) = self.conversations.get_mut(id) {
            held.adopt(summary)?;
            out.conversation_changed = true;
            if rev > held.cursor() && held.missing(rev) {
                out.syncs.push(request(id, held));
            }
        } else {
            self.conversations.insert(id.to_owned(), Conversation::new(summary)?);
            out.joined.push(id.to_owned());
        }
        Ok(())
    }

    fn purge(&mut self, out: &mut Applied, gone: impl Fn(&str, &Conversation) -> bool) {
        self.conversations.retain(|id, conversation| {
            let gone = gone(id, conversation);
            if gone {
                out.left.push(id.clone());
            }
            !gone
        });
    }

    fn workspace(&mut self, told: &Value) -> Result<(), Unreadable> {
        let held = self.workspaces.entry(text(told, "id")?.to_owned()).or_insert(Value::Null);
        match (held.as_object_mut(), told.as_object()) {
            // Frames for all members omit the user's own role.
            (Some(held), Some(told)) => held.extend(told.clone()),
            _ => *held = told.clone(),
        }
        Ok(())
    }

    fn leave_workspace(&mut self, id: &str, out: &mut Applied) {
        self.workspaces.remove(id);
        self.purge(out, |_, conversation| conversation.workspace() == Some(id));
    }
}

fn request(id: &str, conversation: &Conversation) -> SyncRequest {
    SyncRequest { conversation_id: id.to_owned(), from_rev: conversation.cursor() }
}
