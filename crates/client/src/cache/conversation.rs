//! One conversation as the client holds it: cursor, messages, read state, and what is known to be missing.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Map, Value};

use super::{
    applied::{Applied, Message, ReadState, Unreadable, array, map, number},
    gap::Gap,
};

/// The server counts unread messages exactly up to this many.
const COUNTED: u64 = 100;

/// One conversation of a [`Cache`](super::Cache).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conversation {
    /// What everybody sees, and `can_post`; without the read state.
    facts: Map<String, Value>,
    cursor: u64,
    read: ReadState,
    /// Messages up to this `seq` were in the unread counts when the server last stated them.
    counted: u64,
    /// Messages are loaded from this `seq` on. Of older ones only changes to held ones count.
    oldest: u64,
    messages: BTreeMap<u64, Message>,
    places: BTreeMap<Arc<str>, u64>,
    gap: Gap,
}

/// Many changes as the resulting state: a `replay` frame or the answer to `sync`.
pub(super) struct Page<'a> {
    from_rev: u64,
    to_rev: u64,
    complete: bool,
    reset: bool,
    messages: Vec<Message>,
    conversation: &'a Map<String, Value>,
}

impl Conversation {
    /// A conversation that was not held: begins at the summary's rev, with nothing loaded.
    pub(super) fn new(summary: &Value) -> Result<Self, Unreadable> {
        let last_seq = number(summary, "last_seq")?;
        let mut new = Self {
            facts: Map::new(),
            cursor: number(summary, "rev")?,
            read: ReadState::default(),
            counted: last_seq,
            oldest: last_seq + 1,
            messages: BTreeMap::new(),
            places: BTreeMap::new(),
            gap: Gap::default(),
        };
        new.adopt(summary)?;
        Ok(new)
    }

    /// Adopts the server's summary. Leaves the cursor where it is.
    pub(super) fn adopt(&mut self, summary: &Value) -> Result<(), Unreadable> {
        let (read, last_seq) = (ReadState::read(summary)?, number(summary, "last_seq")?);
        let facts = summary.as_object().ok_or(Unreadable("conversation"))?;
        (self.read, self.counted) = (read, last_seq);
        self.merge(facts);
        Ok(())
    }

    /// Keeps what was held before a new connection, except what the new summary says.
    pub(super) fn keep(&mut self, held: Self) {
        let told = std::mem::replace(self, held);
        (self.read, self.counted, self.gap) = (told.read, told.counted, Gap::default());
        self.facts.extend(told.facts);
    }

    /// The server's facts: name, topic, members, `can_post` …
    pub fn facts(&self) -> &Map<String, Value> {
        &self.facts
    }

    /// Every change up to this rev is held.
    pub fn cursor(&self) -> u64 {
        self.cursor
    }

    /// How far the user has read.
    pub fn read(&self) -> ReadState {
        self.read
    }

    /// The newest rev known from the server.
    pub fn rev(&self) -> u64 {
        self.fact("rev").max(self.cursor)
    }

    /// The newest message's `seq`; 0 if there is none.
    pub fn last_seq(&self) -> u64 {
        self.fact("last_seq")
    }

    /// Whether a `sync` is outstanding.
    pub fn syncing(&self) -> bool {
        self.gap.asked()
    }

    /// The loaded messages, by `seq`.
    pub fn messages(&self) -> impl DoubleEndedIterator<Item = &Message> {
        self.messages.values()
    }

    /// A loaded message.
    pub fn message(&self, id: &str) -> Option<&Message> {
        self.messages.get(self.places.get(id)?)
    }

    /// When the newest message was sent: RFC 3339, so that it sorts by time.
    pub(super) fn active_at(&self) -> Option<&str> {
        self.facts.get("last_message_at")?.as_str()
    }

    pub(super) fn workspace(&self) -> Option<&str> {
        self.facts.get("workspace_id")?.as_str()
    }

    /// Applies a live event; true if a `sync` is needed now.
    pub(super) fn event(
        &mut self,
        rev: u64,
        message: Option<Message>,
        facts: Option<&Map<String, Value>>,
        user: &str,
        out: &mut Applied,
    ) -> bool {
        if rev <= self.cursor {
            out.duplicates += 1;
            return false;
        }
        if rev > self.cursor + 1 {
            return self.missing(rev);
        }
        if let Some(message) = message {
            self.upsert(message, user, out);
        }
        if let Some(facts) = facts {
            self.retell(facts);
            out.conversation_changed = true;
        }
        self.cursor = rev;
        false
    }

    /// Applies a replay page; true if a `sync` is needed now.
    pub(super) fn replay(&mut self, page: Page<'_>, user: &str, out: &mut Applied) -> bool {
        if page.reset {
            self.reset(&page);
            out.reset = true;
        } else if page.from_rev > self.cursor {
            return self.missing(page.to_rev);
        } else if page.to_rev <= self.cursor {
            out.duplicates += 1;
            return false;
        }
        self.retell(page.conversation);
        out.conversation_changed = true;
        for message in page.messages {
            self.upsert(message, user, out);
        }
        self.cursor = page.to_rev;
        false
    }

    /// Applies the answer to `sync`; true if another `sync` is needed.
    pub(super) fn synced(&mut self, page: Page<'_>, user: &str, out: &mut Applied) -> bool {
        let asked = self.gap.take();
        let (before, more) = (self.cursor, !page.complete && page.to_rev > page.from_rev);
        let reset = page.reset;
        let ask = self.replay(page, user, out);
        // It was asked for, so it is no duplicate.
        out.duplicates = 0;
        if ask {
            return true;
        }
        // Before a reset, events of the new history may have been mistaken for old ones: so they are asked for.
        let more = more || reset;
        self.gap.answered(asked, more, self.cursor > before, self.cursor)
    }

    /// Something at `rev` is missing; true if a `sync` is needed now: one at a time is enough.
    pub(super) fn missing(&mut self, rev: u64) -> bool {
        self.gap.missing(rev)
    }

    /// The outstanding `sync` will not be answered.
    pub(super) fn forget_sync(&mut self) {
        self.gap = Gap::default();
    }

    /// A mark never goes back: a lower one predates the user's own last send, and arrives late.
    pub(super) fn set_read(&mut self, read: ReadState) {
        if read.read_seq >= self.read.read_seq {
            self.read = read;
        }
    }

    /// Older messages, from REST. The cursor stays; anything newer than it comes as an event.
    pub(super) fn load(&mut self, messages: Vec<Message>) {
        for message in messages {
            if message.seq <= self.last_seq() {
                self.oldest = self.oldest.min(message.seq);
                if self.message(&message.id).is_none_or(|held| message.rev > held.rev) {
                    self.hold(message);
                }
            }
        }
    }

    /// Drops the oldest messages until no more than `room` are held.
    pub(super) fn trim(&mut self, room: usize) {
        while self.messages.len() > room
            && let Some((seq, message)) = self.messages.pop_first()
        {
            self.places.remove(&message.id);
            self.oldest = seq + 1;
        }
    }

    /// Updates a message by its id if its rev is greater. One that is not held is new, unless it is older than the
    /// oldest loaded one: replays are in the order of revs, so a new message may come after one with a later `seq`.
    fn upsert(&mut self, message: Message, user: &str, out: &mut Applied) {
        match self.message(&message.id) {
            Some(held) if message.rev > held.rev => {
                out.changed.push(message.clone());
                self.hold(message);
            }
            None if message.seq >= self.oldest => {
                self.count(&message, user);
                out.created.push(message.clone());
                self.hold(message);
            }
            Some(_) | None => {}
        }
    }

    fn hold(&mut self, message: Message) {
        self.places.insert(message.id.clone(), message.seq);
        self.messages.insert(message.seq, message);
    }

    /// Updates what the server does not send along with a new message: the last message, the unread counts.
    fn count(&mut self, message: &Message, user: &str) {
        if message.seq >= self.last_seq() {
            self.facts.insert("last_seq".into(), message.seq.into());
            self.facts.insert("last_message_at".into(), message.body["created_at"].clone());
        }
        let read = &mut self.read;
        if message.seq <= self.counted || message.seq <= read.read_seq {
            return;
        }
        if message.by(user) {
            *read = ReadState { read_seq: message.seq, ..ReadState::default() };
        } else if message.top_level() && !message.deleted() {
            read.unread_count = COUNTED.min(read.unread_count + 1);
            read.mention_count += u64::from(message.mentions(user));
        }
    }

    fn reset(&mut self, page: &Page<'_>) {
        let last_seq = page.conversation.get("last_seq").and_then(Value::as_u64).unwrap_or(0);
        self.messages.clear();
        self.places.clear();
        (self.oldest, self.counted) = (last_seq + 1, last_seq);
        self.gap.forget_beyond();
        self.facts.remove("rev");
    }

    /// Adopts the conversation as of some rev, unless a later one is known.
    fn retell(&mut self, facts: &Map<String, Value>) {
        if facts.get("rev").and_then(Value::as_u64).is_none_or(|rev| rev >= self.fact("rev")) {
            self.merge(facts);
        }
    }

    fn merge(&mut self, facts: &Map<String, Value>) {
        for (name, value) in facts {
            if !matches!(name.as_str(), "read_seq" | "unread_count" | "mention_count") {
                self.facts.insert(name.clone(), value.clone());
            }
        }
    }

    fn fact(&self, name: &str) -> u64 {
        self.facts.get(name).and_then(Value::as_u64).unwrap_or(0)
    }
}

impl<'a> Page<'a> {
    /// `range` has the revs; `data` the state. They are one object in the answer to `sync`.
    pub(super) fn read(range: &'a Value, data: &'a Value) -> Result<Self, Unreadable> {
        Ok(Self {
            from_rev: number(range, "from_rev")?,
            to_rev: number(range, "to_rev")?,
            complete: range["complete"].as_bool().ok_or(Unreadable("complete"))?,
            reset: range["reset"] == true,
            messages: array(data, "messages")?
                .iter()
                .map(Message::read)
                .collect::<Result<_, _>>()?,
            conversation: map(data, "conversation")?,
        })
    }
}
