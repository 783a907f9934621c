//! What was promised in a run, and whether it was kept.

use std::{
    collections::BTreeMap,
    fmt::Display,
    sync::{Arc, Mutex, MutexGuard},
};

use parlance_application::{Caller, ports::store::Snapshot};
use parlance_domain::{ConversationId, SessionId, UserId};
use parlance_embedded::EmbeddedStore;
use serde_json::Value;
use tokio::time::Instant;

use crate::client::Held;

#[derive(Clone)]
pub(crate) struct Judge(Arc<Mutex<Book>>);

struct Book {
    began: Instant,
    store: EmbeddedStore,
    trace: Vec<String>,
    broken: Vec<String>,
    acknowledged: Vec<Acknowledged>,
    /// The last rev that somebody may be told of a conversation that they were removed from.
    ended: BTreeMap<(UserId, ConversationId), u64>,
    /// The same for everything, for a session that was ended.
    signed_out: BTreeMap<SessionId, BTreeMap<ConversationId, u64>>,
    /// When changes of the workspace began, by the name that each gave it, and what had ended when: all on one counter.
    begun: BTreeMap<String, u64>,
    expelled: BTreeMap<UserId, u64>,
    revoked: BTreeMap<SessionId, u64>,
    moments: u64,
    read: BTreeMap<(UserId, ConversationId), u64>,
    /// The rev up to which a connection has been told of a conversation: `None` before its replay.
    told: BTreeMap<(u64, ConversationId), Option<u64>>,
}

struct Acknowledged {
    conversation: ConversationId,
    id: String,
    seq: u64,
    rev: u64,
}

impl Judge {
    pub(crate) fn new(store: EmbeddedStore) -> Self {
        Self(Arc::new(Mutex::new(Book {
            began: Instant::now(),
            store,
            trace: vec![],
            broken: vec![],
            acknowledged: vec![],
            ended: BTreeMap::new(),
            signed_out: BTreeMap::new(),
            begun: BTreeMap::new(),
            expelled: BTreeMap::new(),
            revoked: BTreeMap::new(),
            moments: 0,
            read: BTreeMap::new(),
            told: BTreeMap::new(),
        })))
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().expect("no panic")
    }

    pub(crate) fn note(&self, what: impl Display) {
        self.book().note(what);
    }

    pub(crate) fn break_off(&self, what: impl Display) {
        self.book().broken(what);
    }

    /// All that happened, and all that went wrong.
    pub(crate) fn verdict(&self) -> (Vec<String>, Vec<String>) {
        let book = self.book();
        (book.trace.clone(), book.broken.clone())
    }

    /// A write was answered with this message.
    pub(crate) fn acknowledged(&self, message: &Value) {
        let conversation = conversation_of(message);
        let (id, seq, rev) = (text(message, "id"), number(message, "seq"), number(message, "rev"));
        self.book().acknowledged.push(Acknowledged { conversation, id, seq, rev });
    }

    /// A read mark was answered.
    pub(crate) fn marked(&self, user: UserId, conversation: ConversationId, read_seq: u64) {
        let mut book = self.book();
        let mark = book.read.entry((user, conversation)).or_default();
        *mark = read_seq.max(*mark);
    }

    /// Somebody's removal was acknowledged, or that of the whole conversation, for everybody in `users`.
    pub(crate) fn removed(&self, users: &[UserId], conversation: ConversationId) {
        let mut book = self.book();
        let rev = head(&book.store, conversation);
        for user in users {
            book.ended.insert((*user, conversation), rev);
            book.read.remove(&(*user, conversation));
        }
    }

    /// Somebody may be on their way back in.
    pub(crate) fn readmitted(&self, user: UserId, conversation: ConversationId) {
        self.book().ended.remove(&(user, conversation));
    }

    /// The end of a session was acknowledged.
    pub(crate) fn signed_out(&self, session: SessionId, conversations: &[ConversationId]) {
        let mut book = self.book();
        let heads = conversations.iter().map(|id| (*id, head(&book.store, *id))).collect();
        book.signed_out.insert(session, heads);
        let now = book.moment();
        book.revoked.insert(session, now);
    }

    /// Somebody's removal from the workspace was acknowledged.
    pub(crate) fn expelled(&self, user: UserId) {
        let mut book = self.book();
        let now = book.moment();
        book.expelled.insert(user, now);
    }

    /// Somebody may be on their way back into the workspace.
    pub(crate) fn returns(&self, user: UserId) {
        self.book().expelled.remove(&user);
    }

    /// The workspace is about to be given a name that it never had.
    pub(crate) fn renames(&self, name: &str) {
        let mut book = self.book();
        let now = book.moment();
        book.begun.insert(name.to_owned(), now);
    }

    /// A connection is about to be told this snapshot; `pending` are replayed first.
    pub(crate) fn welcomed(&self, serial: u64, snapshot: &Snapshot, pending: &[ConversationId]) {
        let mut book = self.book();
        for entry in &snapshot.conversations {
            let head = entry.head();
            let told = (!pending.contains(&head.conversation_id)).then_some(head.rev.0);
            book.told.insert((serial, head.conversation_id), told);
        }
    }

    /// A frame was queued for a connection.
    pub(crate) fn delivered(&self, serial: u64, to: &Caller, event: &Value) {
        if event["type"] == "workspace.updated" {
            return self.book().renamed(serial, to, &text(&event["data"]["workspace"], "name"));
        }
        let Some(conversation) = event["conversation_id"].as_str() else {
            let kind = event["type"].as_str().unwrap_or("?");
            let who = &to.account.display_name;
            return self.note(format!(
                "connection {serial} of {who}: {kind} {}",
                event["data"]["user_id"]
            ));
        };
        let conversation = ConversationId(conversation.parse().expect("an id"));
        let mut book = self.book();
        let key = (serial, conversation);
        let who = format!("connection {serial} of {}", to.account.display_name);
        let kind = event["type"].as_str().unwrap_or("?");
        let upto = match kind {
            "replay" => {
                let (from, to) = (number(event, "from_rev"), number(event, "to_rev"));
                let at = book.told.get(&key).copied();
                let fits = match at {
                    Some(Some(at)) => event["reset"] == true || (from <= at && at < to),
                    Some(None) => true,
                    None => false,
                };
                if !fits {
                    book.broken(format!(
                        "{who} at {at:?} of {conversation} got a replay {from}..{to}"
                    ));
                }
                to
            }
            "message.created" | "message.updated" | "message.deleted" | "conversation.updated" => {
                let (rev, at) = (number(event, "rev"), book.told.get(&key).copied());
                if at != Some(Some(rev - 1)) {
                    book.broken(format!("{who} at {at:?} of {conversation} got {rev}"));
                }
                rev
            }
            "conversation.joined" => {
                let rev = number(&event["data"]["conversation"], "rev");
                book.told.entry(key).or_insert(Some(rev));
                return book.note(format!("{who}: joins {conversation} at {rev}"));
            }
            "conversation.left" | "conversation.deleted" => {
                book.told.remove(&key);
                return book.note(format!("{who}: leaves {conversation}"));
            }
            _ => return,
        };
        book.told.insert(key, Some(upto));
        let ended = book.ended.get(&(to.id(), conversation)).copied();
        let signed_out =
            book.signed_out.get(&to.session_id).and_then(|h| h.get(&conversation).copied());
        if let Some(last) = ended.into_iter().chain(signed_out).min().filter(|last| upto > *last) {
            book.broken(format!("{who} was told {upto} of {conversation}, and may know {last}"));
        }
        book.note(format!("{who}: {kind} {conversation} {upto}"));
    }

    /// What clients hold at rest, compared with what the store has.
    pub(crate) fn compare(&self, clients: &[(String, UserId, Held)]) {
        let mut book = self.book();
        let store = book.store.clone();
        let mut broken = Vec::new();
        for Acknowledged { conversation, id, seq, rev } in &book.acknowledged {
            let kept = store.messages(*conversation).expect("reads");
            let found = usize::try_from(*seq - 1).ok().and_then(|at| kept.get(at));
            if found.is_none_or(|m| m.id.to_string() != *id || m.rev.0 < *rev) {
                broken.push(format!("{id}, acknowledged as {seq} of {conversation}, is lost"));
            }
        }
        for (name, _, held) in clients {
            for (conversation, held) in held {
                let kept = store.messages(*conversation).expect("reads");
                for message in kept
                    .iter()
                    .filter(|m| m.seq.0 > held.since || held.messages.contains_key(&m.seq.0))
                {
                    let own = held.messages.get(&message.seq.0);
                    let as_kept = serde_json::to_value(message).expect("encodes");
                    if own != Some(&as_kept) {
                        broken.push(format!(
                            "{name} holds of {} of {conversation}: {own:?} instead of {as_kept}",
                            message.seq
                        ));
                    }
                }
                if held.messages.len() > kept.len() {
                    broken.push(format!("{name} holds more of {conversation} than there is"));
                }
            }
        }
        for line in broken {
            book.broken(line);
        }
    }

    /// A conversation's read state, as the server reports it at rest.
    pub(crate) fn check_read(&self, user: UserId, summary: &parlance_domain::Summary) {
        let mut book = self.book();
        let (id, read) = (summary.conversation.id, summary.read);
        let unread = book.store.messages(id).expect("reads").into_iter().filter(|m| {
            m.seq > read.read_seq && m.author_id != Some(user) && m.deleted_at.is_none()
        });
        let unread = unread.count().min(100) as u64;
        let marked = book.read.get(&(user, id)).copied().unwrap_or(0);
        if unread != read.unread_count || read.read_seq.0 < marked {
            book.broken(format!(
                "{user} has {read:?} of {id}: {unread} are unread, {marked} was marked"
            ));
        }
    }
}

impl Book {
    fn note(&mut self, what: impl Display) {
        let at = self.began.elapsed().as_millis();
        self.trace.push(format!("{at:>6} ms  {what}"));
    }

    fn moment(&mut self) -> u64 {
        self.moments += 1;
        self.moments
    }

    /// A connection is told the workspace's new name.
    fn renamed(&mut self, serial: u64, to: &Caller, name: &str) {
        let begun = self.begun.get(name).copied().unwrap_or(0);
        let ended = self.expelled.get(&to.id()).into_iter().chain(self.revoked.get(&to.session_id));
        let late = ended.min().is_some_and(|ended| *ended < begun);
        let what =
            format!("connection {serial} of {} was told the name {name}", to.account.display_name);
        if late {
            self.broken(format!("{what} after the end"));
        } else {
            self.note(what);
        }
    }

    fn broken(&mut self, what: impl Display) {
        let what = what.to_string();
        self.note(format!("BROKEN: {what}"));
        self.broken.push(what);
    }
}

/// A conversation's rev.
pub(crate) fn head(store: &EmbeddedStore, conversation: ConversationId) -> u64 {
    let all = store.all_heads().expect("reads");
    all.iter().find(|head| head.conversation_id == conversation).map_or(0, |head| head.rev.0)
}

pub(crate) fn conversation_of(object: &Value) -> ConversationId {
    ConversationId(text(object, "conversation_id").parse().expect("an id"))
}

pub(crate) fn text(object: &Value, field: &str) -> String {
    object[field].as_str().expect("a text").to_owned()
}

pub(crate) fn number(object: &Value, field: &str) -> u64 {
    object[field].as_u64().expect("a number")
}
