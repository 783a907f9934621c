//! What one connection is told of the time it was away, without I/O.
//!
//! 1. A conversation is replayed from the client's cursor to the head, page by page, each requested only once the
//!    client has taken the one before (`is_told_page_by_page`).
//! 2. One `hello` replays at most [`BUDGET`] bytes, most recently active conversation first; the others are named in
//!    [`CatchUp::behind`] (`what_does_not_fit_is_left_behind`).
//! 3. A cursor of another epoch, or beyond the head, gets a reset (`another_history_is_reset`).
//! 4. A conversation whose access has ended is skipped (`who_lost_access_is_told_nothing_more_of_it`), an unavailable
//!    store is asked again (`a_silent_store_is_asked_again`), and a conversation that cannot be read is left behind:
//!    otherwise the client would wait for it forever (`what_cannot_be_read_is_left_behind`).
//! 5. Only positions are held: no page is kept, neither before it is requested nor after it is told
//!    (`no_page_is_kept`).

use std::collections::{HashMap, VecDeque};

use parlance_domain::{AccessRev, Conversation, ConversationId, Rev, SessionRev};

use super::{Frame, replay_frame};
use crate::{
    Error, Result,
    ports::store::{Head, ReplayPage, ReplayQuery, Snapshot, SnapshotEntry},
};

/// The most bytes that one `hello` replays.
pub(super) const BUDGET: usize = 2 * 1024 * 1024;
/// The most conversations weighed in one question to the store.
const ASKED: usize = 64;
/// After this many that did not fit, the rest are not weighed: it would cost more than it gains.
const MISSES: usize = 8;
/// A page that fails this many times, other than by an unavailable store, counts as unreadable.
const TRIES: u32 = 3;
/// Bytes of a replay frame besides its messages: the conversation as it is now.
const ENVELOPE: usize = 2 * 1024;

/// What a client has kept from an earlier connection.
#[derive(Debug, Clone, Default)]
pub struct Resume {
    /// The store's history that the cursors belong to.
    pub epoch: String,
    /// For each conversation, the rev up to which it has every change.
    pub cursors: HashMap<ConversationId, Rev>,
}

/// See the module's description.
#[derive(Debug)]
pub struct CatchUp {
    /// Changed conversations that have not been weighed yet.
    moved: VecDeque<Replay>,
    replays: VecDeque<Replay>,
    behind: Vec<ConversationId>,
    budget: usize,
    misses: usize,
    /// How many the next question is about: few while each may be long.
    asked: usize,
}

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// Read a page of this conversation; answer with [`CatchUp::page`].
    Read(ConversationId, Rev),
    /// Tell this page; it is followed by the next one.
    Tell(Page),
}

/// The outcome of a requested page.
#[derive(Debug, PartialEq, Eq)]
pub enum Asked {
    /// Tell it; it is followed by the next one.
    Tell(Page),
    /// The client is no longer in the conversation.
    LostAccess,
    /// There is nobody to tell: the session has ended.
    InVain,
}

/// A page, ready to tell.
#[derive(Debug, PartialEq, Eq)]
pub struct Page {
    /// The conversation.
    pub conversation_id: ConversationId,
    /// The replay frame; none if it cannot be read. The client then asks for it, at the latest when it hears of a
    /// change.
    pub frame: Option<Frame>,
    /// Set on the last page: where the client joins.
    pub then: Option<Head>,
}

#[derive(Debug)]
struct Replay {
    head: Head,
    from_rev: Rev,
    /// Told instead of a replay, if set.
    reset: Option<Conversation>,
    /// How many times its current page has failed.
    failed: u32,
}

impl CatchUp {
    /// Compares the client's cursors with a snapshot. Weigh what moved until [`CatchUp::to_weigh`] is empty.
    pub fn new(snapshot: &Snapshot, resume: Option<&Resume>) -> Self {
        let mut this = Self {
            moved: VecDeque::new(),
            replays: VecDeque::new(),
            behind: Vec::new(),
            budget: BUDGET,
            misses: 0,
            asked: MISSES,
        };
        for entry in &snapshot.conversations {
            let head = entry.head();
            let cursor = resume.and_then(|r| r.cursors.get(&head.conversation_id).copied());
            let Some((resume, cursor)) = resume.zip(cursor) else { continue };
            if resume.epoch != snapshot.epoch || cursor > head.rev {
                this.replays.push_back(Replay::reset(entry));
            } else if cursor < head.rev {
                this.moved.push_back(Replay { head, from_rev: cursor, reset: None, failed: 0 });
            }
        }
        this
    }

    /// The next conversations for the store to weigh, each with the client's cursor, and the weight beyond which it
    /// need not count. Answer with [`CatchUp::weighed`].
    pub fn to_weigh(&self) -> Option<(Vec<(ConversationId, Rev)>, usize)> {
        let asked: Vec<_> = self
            .moved
            .iter()
            .take(self.asked)
            .map(|replay| (replay.head.conversation_id, replay.from_rev))
            .collect();
        (!asked.is_empty()).then_some((asked, self.budget))
    }

    /// The weights in bytes of the conversations asked for, in that order.
    pub fn weighed(&mut self, weights: &[usize]) {
        let before = self.misses;
        for weight in weights {
            let Some(replay) = self.moved.pop_front() else { return };
            let pages = weight / ReplayQuery::BUDGET + 1;
            if let Some(left) = self.budget.checked_sub(weight + pages * ENVELOPE) {
                self.budget = left;
                self.replays.push_back(replay);
            } else {
                self.misses += 1;
                self.behind.push(replay.head.conversation_id);
            }
        }
        self.asked = if self.misses == before { ASKED.min(2 * self.asked) } else { MISSES };
        // A store that weighs nothing would be asked forever.
        if self.misses >= MISSES || weights.is_empty() {
            self.give_up();
        }
    }

    /// Stops weighing: what has not been weighed is left behind.
    pub fn give_up(&mut self) {
        self.behind.extend(self.moved.drain(..).map(|replay| replay.head.conversation_id));
    }

    /// Conversations that moved but are not replayed.
    pub fn behind(&self) -> &[ConversationId] {
        &self.behind
    }

    /// Conversations whose replay is not complete yet.
    pub fn pending(&self) -> impl Iterator<Item = Head> {
        self.replays.iter().map(|replay| replay.head)
    }

    /// What to do once the client has taken what it was sent.
    pub fn next(&self) -> Option<Next> {
        let replay = self.replays.front()?;
        let Some(conversation) = &replay.reset else {
            return Some(Next::Read(replay.head.conversation_id, replay.from_rev));
        };
        let page = ReplayPage {
            from_rev: Rev::ZERO,
            to_rev: replay.head.rev,
            complete: true,
            reset: true,
            messages: vec![],
            conversation: conversation.clone(),
            access_rev: replay.head.access_rev,
            session_rev: SessionRev::ZERO,
        };
        Some(Next::Tell(Page::of(&page, replay.head.access_rev)))
    }

    /// The outcome of the requested page. `Err`: ask again a little later.
    pub fn page(&mut self, page: Result<ReplayPage>) -> Result<Asked> {
        match page {
            Ok(page) => {
                let Some(replay) = self.replays.front_mut() else { return Ok(Asked::InVain) };
                (replay.from_rev, replay.failed) = (page.to_rev, 0);
                Ok(Asked::Tell(Page::of(&page, replay.head.access_rev)))
            }
            Err(Error::NotFound(_)) => {
                self.done();
                Ok(Asked::LostAccess)
            }
            // The connection is about to be closed.
            Err(Error::Unauthenticated(_)) => {
                self.replays.clear();
                Ok(Asked::InVain)
            }
            Err(error @ Error::Unavailable { .. }) => Err(error),
            Err(error) => {
                let Some(replay) = self.replays.front_mut() else { return Ok(Asked::InVain) };
                replay.failed += 1;
                if replay.failed < TRIES {
                    return Err(error);
                }
                let conversation = replay.head.conversation_id;
                tracing::error!(%error, %conversation, "a replay cannot be read, and is left out");
                Ok(Asked::Tell(Page::none(replay.head)))
            }
        }
    }

    /// The current conversation has been replayed to its end, or is no longer wanted.
    pub fn done(&mut self) {
        self.replays.pop_front();
    }
}

impl Page {
    /// The client is in the conversation as of the snapshot's `access_rev`. The page's own may be later, but proves
    /// less: somebody who has left a public channel can still read it.
    fn of(page: &ReplayPage, access_rev: AccessRev) -> Self {
        let conversation_id = page.conversation.id;
        let then = Head { conversation_id, rev: page.to_rev, access_rev };
        let frame = Some(replay_frame(page));
        Self { conversation_id, frame, then: page.complete.then_some(then) }
    }

    fn none(head: Head) -> Self {
        Self { conversation_id: head.conversation_id, frame: None, then: Some(head) }
    }
}

impl Replay {
    fn reset(entry: &SnapshotEntry) -> Self {
        let conversation = entry.summary.conversation.clone();
        Self { head: entry.head(), from_rev: Rev::ZERO, reset: Some(conversation), failed: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_the_contracts() {
        assert_eq!((BUDGET, ReplayQuery::LIMIT), (2 * 1024 * 1024, 200));
        const { assert!(ReplayQuery::BUDGET + ENVELOPE <= 256 * 1024, "of one frame") };
    }

    /// The messages alone would all fit.
    #[test]
    fn a_page_weighs_more_than_its_messages() {
        const WEIGHT: usize = 1_024;
        let moved = (1..=1_000).map(|n| {
            let conversation_id = ConversationId(uuid::Uuid::from_u128(n));
            Replay {
                head: Head { conversation_id, rev: Rev(1), access_rev: AccessRev(1) },
                from_rev: Rev::ZERO,
                reset: None,
                failed: 0,
            }
        });
        let mut catch_up = CatchUp {
            moved: moved.collect(),
            replays: VecDeque::new(),
            behind: Vec::new(),
            budget: BUDGET,
            misses: 0,
            asked: MISSES,
        };
        while let Some((asked, _)) = catch_up.to_weigh() {
            catch_up.weighed(&vec![WEIGHT; asked.len()]);
        }
        assert_eq!(catch_up.behind().len(), 1_000 - BUDGET / (WEIGHT + ENVELOPE));
    }
}
