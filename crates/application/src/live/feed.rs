//! One conversation's live side, without I/O: a bus that loses, repeats and reorders goes in, with what the store answers;
//! out come live events in rev order, replays that bridge holes, and requests to read the store or the members again.
//!
//! 1. Every listener is told every rev after the one it joined at, once, in order, as live events or inside replays
//!    (`whatever_the_bus_does_everybody_is_told_everything_in_order`, `passes_events_on_in_order_and_repeats_never`).
//! 2. What comes beyond a hole reaches nobody out of turn: the store is read instead, once at a time, and asked again when it
//!    was silent (`bridges_a_hole_from_the_store`, `asks_again_when_the_store_did_not_answer`).
//! 3. Who joins behind is caught up from the last few frames, or from the store; who joins ahead hears nothing twice
//!    (`catches_up_who_joins_a_little_behind`, `reads_the_store_for_who_joins_far_behind`, `who_joins_ahead_hears_nothing_twice`).
//! 4. Nothing that was committed after a change of access is delivered before the feed has learnt of that change, from its
//!    event or, when that was lost, by a check of who may still read (`what_follows_a_change_of_access_waits_for_a_check`,
//!    `a_replay_waits_for_a_check_too`, `who_joins_with_an_older_view_is_checked`,
//!    `who_joins_with_an_older_view_is_told_nothing_before_the_check`).
//! 5. Whoever has left is told nothing more (`who_left_hears_nothing_more`).
//! 6. It holds [`RECENT`] frames at most, whatever the bus does: what is beyond a hole is not kept
//!    (`the_last_frames_are_kept_and_none_beyond_a_hole`).

use std::{collections::VecDeque, sync::Arc};

use rustc_hash::FxHashMap as HashMap;

use super::{
    Frame,
    listeners::{Listeners, Sharing},
};
use crate::ports::ConnectionId;

/// How many of the last frames are kept for those who join a little behind.
const RECENT: usize = 64;

/// What the actor is to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    Deliver(Arc<[ConnectionId]>, Frame),
    /// Read a replay page of this conversation; answer with [`Feed::bridged`] or [`Feed::unread`].
    Read {
        from_rev: u64,
    },
    /// Find out who may still read; answer with [`Feed::checked`] or [`Feed::unchecked`].
    Check,
}

pub(super) struct Feed {
    /// Numbers this node's feeds, so that an answer meant for an earlier feed of the same conversation is not taken for this
    /// one's.
    number: u64,
    /// All listeners have been told everything up to this rev.
    position: u64,
    /// The last frames, contiguous, ending at `position`.
    recent: VecDeque<(u64, Frame)>,
    listeners: Listeners,
    /// Members that are not at `position` yet: behind it and waiting for the store, or ahead of it and waiting for events
    /// that they have already seen to pass.
    adrift: HashMap<ConnectionId, u64>,
    /// A rev that was seen beyond a hole.
    beyond: u64,
    reading: bool,
    /// The members may all read as of this count of changes of access.
    access_rev: u64,
    /// The count at which the feed began, or that the last check found. Of later ones it knows by events, which have reached
    /// those on their way in, too: so only who joins with a count before this one has to be checked.
    sure: u64,
    /// A later count that was seen.
    access_beyond: u64,
    checking: bool,
    /// The oldest count at which somebody joined while a check was on its way, which knows nothing of them.
    joined_at: Option<u64>,
}

impl Feed {
    /// A feed whose first member has been told everything up to `position`, and could read at `access_rev`. `nobody` is an
    /// empty set.
    pub(super) fn new(position: u64, access_rev: u64, nobody: Listeners) -> Self {
        Self {
            number: 0,
            position,
            recent: VecDeque::new(),
            listeners: nobody,
            adrift: HashMap::default(),
            beyond: 0,
            reading: false,
            access_rev,
            sure: access_rev,
            access_beyond: 0,
            checking: false,
            joined_at: None,
        }
    }

    /// The same with a number.
    pub(super) fn numbered(self, number: u64) -> Self {
        Self { number, ..self }
    }

    pub(super) const fn number(&self) -> u64 {
        self.number
    }

    /// The members may all read as of this count of changes of access.
    pub(super) const fn access_rev(&self) -> u64 {
        self.access_rev
    }

    /// How far the conversation has got, as far as is known here.
    pub(super) fn head(&self) -> u64 {
        self.position.max(self.beyond)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.listeners.is_empty() && self.adrift.is_empty()
    }

    pub(super) fn contains(&self, connection: ConnectionId) -> bool {
        self.listeners.contains(connection) || self.adrift.contains_key(&connection)
    }

    /// Adds a connection that has been told everything up to `have`, and could read at `access_rev`. If a check may have missed
    /// it, it is told nothing before the next one.
    pub(super) fn join(
        &mut self,
        connection: ConnectionId,
        have: u64,
        access_rev: u64,
    ) -> Vec<Step> {
        let mut steps = Vec::new();
        if !self.contains(connection) {
            if self.checking {
                self.joined_at = Some(self.joined_at.map_or(access_rev, |at| at.min(access_rev)));
            }
            if access_rev < self.sure {
                self.access_beyond = self.access_beyond.max(self.access_rev);
                self.access_rev = self.access_rev.min(access_rev);
                self.adrift.insert(connection, have);
            } else {
                self.place(connection, have, &mut steps);
            }
            self.read_on(&mut steps);
        }
        steps
    }

    pub(super) fn leave(&mut self, connection: ConnectionId) {
        self.listeners.remove(connection);
        self.adrift.remove(&connection);
    }

    /// A durable event has come, in whatever order.
    pub(super) fn changed(&mut self, rev: u64, access_rev: u64, frame: Frame) -> Vec<Step> {
        let mut steps = Vec::new();
        if access_rev > self.access_rev {
            return self.behind(rev, access_rev);
        }
        if rev == self.position + 1 {
            if self.recent.len() == RECENT {
                self.recent.pop_front();
            }
            self.recent.push_back((rev, frame.clone()));
            self.position = rev;
            steps.push(Step::Deliver(self.audience(), frame));
            self.settle(&mut steps);
        } else if rev > self.position {
            self.beyond = self.beyond.max(rev);
            self.read_on(&mut steps);
        }
        steps
    }

    /// The conversation has got as far as this, by whatever account.
    pub(super) fn behind(&mut self, rev: u64, access_rev: u64) -> Vec<Step> {
        let mut steps = Vec::new();
        self.beyond = self.beyond.max(rev);
        self.access_beyond = self.access_beyond.max(access_rev);
        self.read_on(&mut steps);
        steps
    }

    /// Somebody's access has begun or ended, by its event: the feed's members are as they should be after it, or will be when
    /// the newcomer is let in.
    pub(super) fn access_changed(&mut self, access_rev: u64) -> Vec<Step> {
        if access_rev == self.access_rev + 1 {
            self.access_rev = access_rev;
        }
        self.behind(0, access_rev)
    }

    /// A check has found who could read at `access_rev`; the others have left.
    pub(super) fn checked(&mut self, access_rev: u64) -> Vec<Step> {
        self.checking = false;
        (self.access_rev, self.sure) = (access_rev, access_rev);
        // The store knows best: it may have been restored.
        self.access_beyond = access_rev;
        if let Some(joined) = self.joined_at.take().filter(|joined| *joined < access_rev) {
            self.access_rev = joined;
        }
        let mut steps = Vec::new();
        if self.access_beyond <= self.access_rev {
            self.settle(&mut steps);
        }
        self.read_on(&mut steps);
        steps
    }

    /// The store did not answer; [`Feed::retry`] asks again.
    pub(super) fn unchecked(&mut self) {
        self.checking = false;
    }

    /// A replay page has been read, encoded as `frame`.
    pub(super) fn bridged(
        &mut self,
        from_rev: u64,
        to_rev: u64,
        access_rev: u64,
        frame: &Frame,
    ) -> Vec<Step> {
        self.reading = false;
        if access_rev > self.access_rev {
            return self.behind(to_rev, access_rev);
        }
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
            steps.push(Step::Deliver(to.into(), frame.clone()));
        }
        self.settle(&mut steps);
        self.read_on(&mut steps);
        steps
    }

    /// The store did not answer; [`Feed::retry`] asks again.
    pub(super) fn unread(&mut self) {
        self.reading = false;
    }

    /// Asks again for what is missing, if anything is.
    pub(super) fn retry(&mut self) -> Vec<Step> {
        let mut steps = Vec::new();
        self.read_on(&mut steps);
        steps
    }

    /// Everybody who is up to date.
    pub(super) fn audience(&self) -> Arc<[ConnectionId]> {
        self.listeners.list()
    }

    /// Has equal sets of listeners be one.
    pub(super) fn share(&mut self, sharing: &mut Sharing) {
        sharing.unify(&mut self.listeners);
    }

    /// Everybody.
    pub(super) fn members(&self) -> impl Iterator<Item = ConnectionId> {
        self.listeners.iter().chain(self.adrift.keys().copied())
    }

    fn place(&mut self, connection: ConnectionId, have: u64, steps: &mut Vec<Step>) {
        let known = self.recent.front().is_some_and(|(first, _)| *first <= have + 1);
        if have < self.position && known {
            let to: Arc<[ConnectionId]> = [connection].into();
            let missing = self.recent.iter().filter(|(rev, _)| *rev > have);
            steps.extend(missing.map(|(_, frame)| Step::Deliver(to.clone(), frame.clone())));
        } else if have != self.position {
            self.adrift.insert(connection, have);
            return;
        }
        self.listeners.insert(connection);
    }

    /// Finds those adrift that can be placed now.
    fn settle(&mut self, steps: &mut Vec<Step>) {
        for (connection, have) in std::mem::take(&mut self.adrift) {
            self.place(connection, have, steps);
        }
    }

    fn read_on(&mut self, steps: &mut Vec<Step>) {
        if self.access_beyond > self.access_rev {
            if !self.checking {
                self.checking = true;
                steps.push(Step::Check);
            }
            return;
        }
        if self.reading {
            return;
        }
        let hole = (self.beyond > self.position).then_some(self.position);
        let behind = self.adrift.values().copied().filter(|have| *have < self.position).min();
        if let Some(from_rev) = hole.into_iter().chain(behind).min() {
            self.reading = true;
            steps.push(Step::Read { from_rev });
        }
    }
}

#[cfg(test)]
mod tests;
