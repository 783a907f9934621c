//! What has changed in a conversation since a rev: who may ask, how much a page holds, and what it says.

use parlance_domain::{AccessRev, Conversation, Message, Rev, SessionRev};

use super::Principal;

/// Who reads a replay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    /// A person's session: whoever may read the conversation, in it or not; `Revoked` once the session has ended.
    Session(Principal),
    /// A connection that listens: `NotFound` once the person is no longer in the conversation, even if they may still
    /// read it; `Revoked` once the session has ended.
    Listener(Principal),
    /// A node filling a hole for people whose access it knows.
    Node,
}

impl Reader {
    /// Whose permission is checked, and whether they must be in the conversation; nobody's for a node.
    pub const fn person(self) -> Option<(Principal, bool)> {
        match self {
            Self::Session(by) => Some((by, false)),
            Self::Listener(by) => Some((by, true)),
            Self::Node => None,
        }
    }
}

/// Which changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplayQuery {
    /// Those after this rev.
    pub from_rev: Rev,
    /// At most this many messages.
    pub limit: usize,
    /// Fewer if one more would exceed this many bytes of JSON; always at least one.
    pub budget: usize,
}

/// A page of changes being filled.
#[derive(Debug)]
pub struct Filling {
    query: ReplayQuery,
    messages: Vec<Message>,
    bytes: usize,
}

impl ReplayQuery {
    /// Messages in one frame.
    pub const LIMIT: usize = 200;
    /// Bytes of messages in one frame, which the contract limits to 256 KiB including its envelope.
    pub const BUDGET: usize = 250 * 1024;

    /// An upper bound of a message's bytes in a frame: its ids and times, its text as escaped in JSON, its reactions.
    pub fn weight(message: &Message) -> usize {
        let reactions =
            message.reactions.iter().map(|r| r.emoji.len() * 2 + r.user_ids.len() * 39 + 60);
        Self::weight_of(&message.client_msg_id, &message.text, reactions.sum())
    }

    /// The same from a message's parts, with reactions of this many bytes.
    pub fn weight_of(client_msg_id: &str, text: &str, reactions: usize) -> usize {
        let escapes = text.bytes().filter(|b| matches!(b, b'"' | b'\\' | b'\n' | b'\t')).count();
        900 + client_msg_id.len() * 2 + text.len() + escapes + reactions
    }

    /// As many of the changes after a rev as one frame holds.
    pub const fn after(from_rev: Rev) -> Self {
        Self { from_rev, limit: Self::LIMIT, budget: Self::BUDGET }
    }
}

/// Changes as current state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplayPage {
    /// Where it begins; 0 when `reset`.
    pub from_rev: Rev,
    /// Every change up to this one is included. The head, or the last message's rev if more follow.
    pub to_rev: Rev,
    /// Whether it reaches the head.
    pub complete: bool,
    /// The query began beyond the head: the reader holds another history, and must drop it. No messages then.
    pub reset: bool,
    /// Those whose rev is in (`from_rev`, `to_rev`], in rev order.
    pub messages: Vec<Message>,
    /// The conversation as it is now.
    pub conversation: Conversation,
    /// Its `access_rev`, read at the same moment.
    pub access_rev: AccessRev,
    /// The store's count of ended sessions, likewise.
    pub session_rev: SessionRev,
}

impl Filling {
    /// An empty page.
    pub const fn new(query: ReplayQuery) -> Self {
        Self { query, messages: Vec::new(), bytes: 0 }
    }

    /// What was asked for.
    pub const fn query(&self) -> ReplayQuery {
        self.query
    }

    /// Takes the next change by rev; false if there is no room for it, nor for those after it.
    pub fn takes(&mut self, message: Message) -> bool {
        self.bytes += ReplayQuery::weight(&message);
        let full = self.messages.len() >= self.query.limit || self.bytes > self.query.budget;
        let taken = self.messages.is_empty() || !full;
        if taken {
            self.messages.push(message);
        }
        taken
    }

    /// The page, which is complete if it took all there was; with the conversation and the revs read at the same
    /// moment.
    pub fn page(
        self,
        complete: bool,
        conversation: Conversation,
        access_rev: AccessRev,
        session_rev: SessionRev,
    ) -> ReplayPage {
        let Self { query: ReplayQuery { from_rev, .. }, messages, .. } = self;
        let head = conversation.rev;
        let reset = from_rev > head;
        ReplayPage {
            from_rev: if reset { Rev::ZERO } else { from_rev },
            to_rev: messages.last().filter(|_| !complete).map_or(head, |last| last.rev),
            complete,
            reset,
            messages,
            conversation,
            access_rev,
            session_rev,
        }
    }
}
