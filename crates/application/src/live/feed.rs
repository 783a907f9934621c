//! One conversation's live side, without I/O. In: a bus that loses, repeats and reorders, and the store's answers. Out:
//! live events in rev order, replays that bridge holes, and requests to read the store or check the members.
//!
//! 1. Every listener is told every rev after the one it joined at, once and in order, as live events or in replays
//!    (`whatever_the_bus_does_everybody_is_told_everything_in_order`, `passes_events_on_in_order_and_repeats_never`).
//! 2. What comes beyond a hole is not delivered out of order: the store is read instead, one read at a time, and again
//!    if it did not answer (`bridges_a_hole_from_the_store`, `asks_again_when_the_store_did_not_answer`).
//! 3. A connection that joins behind is caught up from the last few frames or the store; one that joins ahead hears
//!    nothing twice (`catches_up_who_joins_a_little_behind`, `reads_the_store_for_who_joins_far_behind`,
//!    `who_joins_ahead_hears_nothing_twice`).
//! 4. Nothing committed after a change of access is delivered before the feed has learnt of that change, from its event
//!    or, if that was lost, by a check of who may still read (`what_follows_a_change_of_access_waits_for_a_check`,
//!    `a_replay_waits_for_a_check_too`). A page that waited is told once a check covers it
//!    (`a_page_is_told_when_a_check_covers_it`).
//! 5. A connection that joins with an older view, or during a check that finds a later one, is told nothing before a
//!    check that asked about it, and then all it has missed; the others go on
//!    (`who_joins_with_an_older_view_is_checked`, `who_joins_with_an_older_view_is_told_nothing_before_the_check`,
//!    `who_joins_with_an_older_view_holds_nobody_up`).
//! 6. A connection that has left is told nothing more (`who_left_hears_nothing_more`).
//! 7. Whatever the bus does, it holds only its last frames ([`Recent`]) and one page: what is beyond a hole is not kept
//!    (`the_last_frames_are_kept_and_none_beyond_a_hole`).
//! 8. Pauses between pages give slow sockets time to drain (`pages_leave_time_between_them`), and pages for latecomers
//!    take turns with those for all (`who_is_far_behind_holds_nobody_up`).

use std::{sync::Arc, time::Duration};

use parlance_domain::{AccessRev, Rev};
use rustc_hash::FxHashMap as HashMap;

use super::{
    Frame,
    backlog::BACKLOG_LIMIT,
    listeners::{Listeners, Sharing},
    recent::Recent,
};
use crate::ports::ConnectionId;

/// Bytes of consecutive pages before a pause: three quarters of a socket's backlog.
const BURST: usize = BACKLOG_LIMIT / 4 * 3;
/// How long the pause is.
const PAUSE: Duration = Duration::from_millis(100);

/// What the actor is to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    Deliver(Arc<[ConnectionId]>, Frame),
    /// Read a replay page of this conversation, after this delay; answer with [`Feed::bridged`] or [`Feed::unread`].
    Read {
        from_rev: Rev,
        after: Duration,
    },
    /// Find out who may still read; answer with [`Feed::checked`] or [`Feed::unchecked`].
    Check,
}

/// Numbers a node's feeds, so that an answer for a conversation's earlier feed is not taken for the current one's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FeedNumber(u64);

/// A replay page that has been read.
#[derive(Debug)]
pub(super) struct Bridge {
    pub(super) from_rev: Rev,
    pub(super) to_rev: Rev,
    /// The `access_rev` when it was read.
    pub(super) access_rev: AccessRev,
    /// Nothing follows it.
    pub(super) complete: bool,
    pub(super) frame: Frame,
}

/// A member who is told nothing before a check.
struct Unsure {
    have: Rev,
    /// The check in flight asks about them.
    asked: bool,
}

pub(super) struct Feed {
    number: FeedNumber,
    /// All listeners have been told everything up to this rev.
    position: Rev,
    /// The last frames, up to `position`.
    recent: Recent,
    listeners: Listeners,
    /// Members not at `position` yet: behind it and waiting for the store, or ahead of it and waiting for events they
    /// have already seen to pass.
    adrift: HashMap<ConnectionId, Rev>,
    /// Members that may not be allowed to read what the others are.
    unsure: HashMap<ConnectionId, Unsure>,
    /// The highest rev seen beyond a hole.
    beyond: Rev,
    reading: bool,
    /// Bytes of pages since the last pause.
    paged: usize,
    /// The last page was for all, so latecomers have the next.
    latecomers_next: bool,
    /// A page read at a later `access_rev`, waiting for a check.
    page: Option<Bridge>,
    /// All members except the unsure may read as of this `access_rev`.
    access_rev: AccessRev,
    /// The `access_rev` at which the feed began, or that the last check found. Later ones it knows from events, which
    /// also reach those about to join: so only a connection joining with an earlier one has to be checked.
    sure: AccessRev,
    /// The latest `access_rev` seen.
    access_beyond: AccessRev,
    checking: bool,
    /// The latest `access_rev` seen while a check was in flight, which may not cover it.
    seen_beside: AccessRev,
    /// Those who joined while a check was in flight, which does not cover them, each with their `access_rev`.
    beside: HashMap<ConnectionId, AccessRev>,
}

impl FeedNumber {
    /// Before the first.
    pub(super) const NONE: Self = Self(0);

    /// The one that follows it.
    pub(super) const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl Feed {
    /// A feed whose first member has been told everything up to `position`, and could read at `access_rev`. `nobody` is
    /// an empty set.
    pub(super) fn new(position: Rev, access_rev: AccessRev, nobody: Listeners) -> Self {
        Self {
            number: FeedNumber::NONE,
            position,
            recent: Recent::default(),
            listeners: nobody,
            adrift: HashMap::default(),
            unsure: HashMap::default(),
            beyond: Rev::ZERO,
            reading: false,
            paged: 0,
            latecomers_next: false,
            page: None,
            access_rev,
            sure: access_rev,
            access_beyond: AccessRev::ZERO,
            checking: false,
            seen_beside: AccessRev::ZERO,
            beside: HashMap::default(),
        }
    }

    /// The same feed with a number.
    pub(super) fn numbered(self, number: FeedNumber) -> Self {
        Self { number, ..self }
    }

    pub(super) const fn number(&self) -> FeedNumber {
        self.number
    }

    /// All members except the unsure may read as of this `access_rev`.
    pub(super) const fn access_rev(&self) -> AccessRev {
        self.access_rev
    }

    /// How far the conversation has got, as far as is known here.
    pub(super) fn head(&self) -> Rev {
        self.position.max(self.beyond)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.listeners.is_empty() && self.adrift.is_empty() && self.unsure.is_empty()
    }

    pub(super) fn contains(&self, connection: ConnectionId) -> bool {
        self.listeners.contains(connection)
            || self.adrift.contains_key(&connection)
            || self.unsure.contains_key(&connection)
    }

    /// Adds a connection that has been told everything up to `have`, and could read at `access_rev`. If a check may
    /// have missed it, it is told nothing before the next one.
    pub(super) fn join(
        &mut self,
        connection: ConnectionId,
        have: Rev,
        access_rev: AccessRev,
    ) -> Vec<Step> {
        let mut steps = Vec::new();
        if !self.contains(connection) {
            if access_rev < self.sure {
                self.unsure.insert(connection, Unsure { have, asked: false });
            } else {
                self.place(connection, have, &mut steps);
                if self.checking {
                    self.beside.insert(connection, access_rev);
                }
            }
            self.read_on(&mut steps);
        }
        steps
    }

    pub(super) fn leave(&mut self, connection: ConnectionId) {
        self.listeners.remove(connection);
        self.adrift.remove(&connection);
        self.unsure.remove(&connection);
        self.beside.remove(&connection);
    }

    /// A durable event has come, in any order.
    pub(super) fn changed(&mut self, rev: Rev, access_rev: AccessRev, frame: Frame) -> Vec<Step> {
        let mut steps = Vec::new();
        if access_rev > self.access_rev {
            return self.behind(rev, access_rev);
        }
        if rev == self.position.next() {
            self.recent.push(rev, frame.clone());
            self.position = rev;
            steps.push(Step::Deliver(self.audience(), frame));
            self.settle(&mut steps);
        } else if rev > self.position {
            self.beyond = self.beyond.max(rev);
            self.read_on(&mut steps);
        }
        steps
    }

    /// The conversation is known to have got this far, from whatever source.
    pub(super) fn behind(&mut self, rev: Rev, access_rev: AccessRev) -> Vec<Step> {
        let mut steps = Vec::new();
        self.beyond = self.beyond.max(rev);
        self.access_beyond = self.access_beyond.max(access_rev);
        self.seen_beside = self.seen_beside.max(access_rev);
        self.read_on(&mut steps);
        steps
    }

    /// The event of a change of access has come: the feed's members reflect it already, or will once the newcomer is
    /// let in.
    pub(super) fn access_changed(&mut self, access_rev: AccessRev) -> Vec<Step> {
        if access_rev == self.access_rev.next() {
            self.access_rev = access_rev;
        }
        let mut steps = self.turn_page();
        steps.extend(self.behind(Rev::ZERO, access_rev));
        steps
    }

    /// A check has found who could read at `access_rev`; the others have left.
    pub(super) fn checked(&mut self, access_rev: AccessRev) -> Vec<Step> {
        self.checking = false;
        (self.access_rev, self.sure) = (access_rev, access_rev);
        // Not a maximum with earlier counts: the store may have been restored. Only what was seen since the question
        // counts.
        self.access_beyond = access_rev.max(self.seen_beside);
        let mut steps = Vec::new();
        for (connection, Unsure { have, asked }) in std::mem::take(&mut self.unsure) {
            if asked {
                self.place(connection, have, &mut steps);
            } else {
                self.unsure.insert(connection, Unsure { have, asked });
            }
        }
        for (connection, joined) in std::mem::take(&mut self.beside) {
            if joined < access_rev {
                self.doubt(connection);
            }
        }
        steps.extend(self.turn_page());
        // If the store was restored, no check may ever cover a page read before.
        if self.access_beyond <= access_rev && self.page.take().is_some() {
            self.reading = false;
        }
        self.read_on(&mut steps);
        steps
    }

    /// The store did not answer; [`Feed::retry`] asks again.
    pub(super) fn unchecked(&mut self) {
        self.checking = false;
        self.beside.clear();
        self.unsure.values_mut().for_each(|unsure| unsure.asked = false);
    }

    /// A replay page has been read.
    pub(super) fn bridged(&mut self, page: Bridge) -> Vec<Step> {
        let Bridge { from_rev, to_rev, access_rev, complete, .. } = page;
        if access_rev > self.access_rev {
            self.page = Some(page);
            return self.behind(to_rev, access_rev);
        }
        self.reading = false;
        let mut steps = Vec::new();
        if to_rev <= from_rev {
            return steps;
        }
        let mut to = Vec::new();
        for (connection, have) in &mut self.adrift {
            if (from_rev..to_rev).contains(have) {
                *have = to_rev;
                to.push(*connection);
            }
        }
        if (from_rev..to_rev).contains(&self.position) {
            to.extend(self.listeners.iter());
            self.position = to_rev;
            self.recent.clear();
        }
        if !to.is_empty() {
            self.paged += page.frame.bytes().len();
            steps.push(Step::Deliver(to.into(), page.frame));
        }
        self.settle(&mut steps);
        let pause = !complete && self.paged >= BURST;
        if complete || pause {
            self.paged = 0;
        }
        self.read_after(if pause { PAUSE } else { Duration::ZERO }, &mut steps);
        steps
    }

    /// The store did not answer; [`Feed::retry`] asks again.
    pub(super) fn unread(&mut self) {
        self.reading = false;
    }

    /// Asks again for anything missing.
    pub(super) fn retry(&mut self) -> Vec<Step> {
        let mut steps = Vec::new();
        self.read_on(&mut steps);
        steps
    }

    /// Drops the last frames of a quiet conversation. Call it once a second.
    pub(super) fn age(&mut self) {
        self.recent.age();
    }

    /// Everybody who is up to date.
    pub(super) fn audience(&self) -> Arc<[ConnectionId]> {
        self.listeners.list()
    }

    /// Shares equal sets of listeners.
    pub(super) fn share(&mut self, sharing: &mut Sharing) {
        sharing.unify(&mut self.listeners);
    }

    /// All members.
    pub(super) fn members(&self) -> impl Iterator<Item = ConnectionId> {
        let others = self.adrift.keys().chain(self.unsure.keys()).copied();
        self.listeners.iter().chain(others)
    }

    fn place(&mut self, connection: ConnectionId, have: Rev, steps: &mut Vec<Step>) {
        if have < self.position
            && let Some(missing) = self.recent.after(have)
        {
            let to: Arc<[ConnectionId]> = [connection].into();
            steps.extend(missing.map(|frame| Step::Deliver(to.clone(), frame.clone())));
        } else if have != self.position {
            self.adrift.insert(connection, have);
            return;
        }
        self.listeners.insert(connection);
    }

    /// Places those adrift that can be placed now.
    fn settle(&mut self, steps: &mut Vec<Step>) {
        for (connection, have) in std::mem::take(&mut self.adrift) {
            self.place(connection, have, steps);
        }
    }

    /// Tells the waiting page, if all members may read it by now.
    fn turn_page(&mut self) -> Vec<Step> {
        let access_rev = self.access_rev;
        let page = self.page.take_if(|page| page.access_rev <= access_rev);
        page.map_or_else(Vec::new, |page| self.bridged(page))
    }

    /// Makes a member wait for a check.
    fn doubt(&mut self, connection: ConnectionId) {
        let have = if self.listeners.contains(connection) {
            self.listeners.remove(connection);
            Some(self.position)
        } else {
            self.adrift.remove(&connection)
        };
        self.unsure.extend(have.map(|have| (connection, Unsure { have, asked: false })));
    }

    fn read_on(&mut self, steps: &mut Vec<Step>) {
        self.read_after(Duration::ZERO, steps);
    }

    fn read_after(&mut self, after: Duration, steps: &mut Vec<Step>) {
        let held = self.access_beyond > self.access_rev;
        let asks = held || self.unsure.values().any(|unsure| !unsure.asked);
        if asks && !self.checking {
            self.checking = true;
            self.seen_beside = AccessRev::ZERO;
            self.unsure.values_mut().for_each(|unsure| unsure.asked = true);
            steps.push(Step::Check);
        }
        if held || self.reading {
            return;
        }
        let hole = (self.beyond > self.position).then_some(self.position);
        let behind = self.adrift.values().copied().filter(|have| *have < self.position).min();
        // In turns: a latecomer far behind does not hold up what everybody waits for.
        let (first, second) = if self.latecomers_next { (behind, hole) } else { (hole, behind) };
        if let Some(from_rev) = first.or(second) {
            self.latecomers_next = Some(from_rev) == hole;
            self.reading = true;
            steps.push(Step::Read { from_rev, after });
        }
    }
}

#[cfg(test)]
mod tests;
