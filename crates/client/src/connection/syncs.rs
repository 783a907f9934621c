//! Which conversations to `sync`, and when.

use std::collections::VecDeque;

use tokio::time::Instant;

/// Syncs in flight at a time: each answer may be 256 KiB, and the server's queue for a socket holds 1 MiB.
const AT_A_TIME: usize = 2;

#[derive(Default)]
pub(super) struct Syncs {
    /// Conversations, in this order.
    waiting: VecDeque<String>,
    /// Those deferred by the server, each with its earliest time.
    put_off: Vec<(Instant, String)>,
    on_their_way: usize,
    /// How many were deferred since one was answered.
    failed: u32,
}

impl Syncs {
    pub(super) fn ask(&mut self, conversation_id: String) {
        self.waiting.push_back(conversation_id);
    }

    pub(super) fn put_off(&mut self, until: Instant, conversation_id: String) {
        self.failed += 1;
        self.put_off.push((until, conversation_id));
    }

    /// How many were deferred since one was answered.
    pub(super) const fn failed(&self) -> u32 {
        self.failed
    }

    /// One has brought its page.
    pub(super) const fn answered(&mut self) {
        self.failed = 0;
    }

    /// The next one, if it may be sent now. It counts as in flight from here on.
    pub(super) fn next(&mut self, now: Instant) -> Option<String> {
        self.waiting.extend(self.put_off.extract_if(.., |(at, _)| *at <= now).map(|(_, id)| id));
        if self.on_their_way >= AT_A_TIME {
            return None;
        }
        let next = self.waiting.pop_front()?;
        self.on_their_way += 1;
        Some(next)
    }

    /// One was answered, or not sent after all.
    pub(super) fn done(&mut self) {
        self.on_their_way -= 1;
    }

    /// When a deferred one is due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.put_off.iter().map(|(at, _)| *at).min()
    }
}
