//! The backlog of one receiver, without I/O.
//!
//! 1. It never holds more than [`BACKLOG_LIMIT`] bytes besides the answer to `hello` and a closing frame
//!    (`a_reader_that_stops_costs_a_bounded_number_of_bytes`).
//! 2. Above [`HIGH_WATER`], ephemeral frames are dropped and replays wait (`ephemeral_frames_go_first`).
//! 3. A reliable frame without room ends the connection: the queue is dropped, and the client resumes
//!    (`a_reader_that_stops_costs_a_bounded_number_of_bytes`). The rest of a partly written frame is kept: otherwise
//!    the close frame would be taken for its end (`what_was_written_in_part_is_not_given_up`).

use std::collections::VecDeque;

use bytes::{Buf, Bytes};

use crate::ports::Urgency;

/// The most bytes queued for one receiver; beyond that, it is a slow consumer.
pub const BACKLOG_LIMIT: usize = 1024 * 1024;
/// Above this many bytes, ephemeral frames are dropped and replays wait.
pub const HIGH_WATER: usize = 256 * 1024;

/// An emptied queue keeps room for this many frames.
const KEPT: usize = 16;

/// See the module's description. A slow consumer never slows the others: nothing here waits.
#[derive(Debug, Default)]
pub struct Backlog {
    frames: VecDeque<Bytes>,
    /// Whether part of the first frame has been written.
    begun: bool,
    bytes: usize,
    /// Unwritten bytes of the answer to `hello`, whose length depends on the user's conversations.
    welcome: usize,
}

/// What became of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// It waits to be written.
    Queued,
    /// It was ephemeral, and dropped.
    Dropped,
    /// There was no room for a reliable frame: close the connection as a slow consumer. Nothing is left but the rest of
    /// a partly written frame.
    Overflowed,
}

impl Backlog {
    /// Queues a frame, or does what `urgency` says when there is no room.
    pub fn push(&mut self, frame: Bytes, urgency: Urgency) -> Pushed {
        let room = match urgency {
            Urgency::Ephemeral => HIGH_WATER,
            Urgency::Reliable => BACKLOG_LIMIT,
        };
        if self.bytes + frame.len() <= room + self.welcome {
            self.append(frame);
            return Pushed::Queued;
        }
        match urgency {
            Urgency::Ephemeral => Pushed::Dropped,
            Urgency::Reliable => {
                let rest = self.frames.pop_front().filter(|_| self.begun);
                self.clear();
                if let Some(rest) = rest {
                    self.begun = true;
                    self.append(rest);
                }
                Pushed::Overflowed
            }
        }
    }

    /// Queues the answer to `hello`, whatever its length.
    pub fn welcome(&mut self, frame: Bytes) {
        self.welcome = frame.len();
        self.append(frame);
    }

    /// Queues a frame regardless of room: the one that ends the connection.
    pub fn append(&mut self, frame: Bytes) {
        self.bytes += frame.len();
        self.frames.push_back(frame);
    }

    /// The frames to write next, in order.
    pub fn frames(&self) -> impl Iterator<Item = &Bytes> {
        self.frames.iter()
    }

    /// Removes what has been written: whole frames, and possibly part of the next.
    pub fn written(&mut self, mut bytes: usize) {
        self.bytes -= bytes;
        // At most a refusal or two were queued before it.
        self.welcome = self.welcome.saturating_sub(bytes);
        while let Some(first) = self.frames.front_mut() {
            if bytes < first.len() {
                first.advance(bytes);
                self.begun |= bytes > 0;
                return;
            }
            bytes -= first.len();
            self.frames.pop_front();
            self.begun = false;
        }
        if self.frames.capacity() > KEPT {
            self.frames = VecDeque::new();
        }
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Whether there is room for what can wait, such as replays.
    pub fn has_room(&self) -> bool {
        self.bytes < HIGH_WATER + self.welcome
    }

    /// Drops what waits.
    pub fn clear(&mut self) {
        self.frames = VecDeque::new();
        self.begun = false;
        self.bytes = 0;
        self.welcome = 0;
    }

    /// Bytes that wait.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kib: usize) -> Bytes {
        vec![b'x'; kib * 1024].into()
    }

    #[test]
    fn ephemeral_frames_go_first() {
        let mut backlog = Backlog::default();
        assert_eq!(backlog.push(frame(100), Urgency::Ephemeral), Pushed::Queued);
        assert_eq!(backlog.push(frame(100), Urgency::Ephemeral), Pushed::Queued);
        assert!(backlog.has_room());
        assert_eq!(backlog.push(frame(100), Urgency::Ephemeral), Pushed::Dropped);
        assert_eq!(backlog.push(frame(100), Urgency::Reliable), Pushed::Queued);
        assert!(!backlog.has_room());
        backlog.written(100 * 1024);
        assert!(backlog.has_room());
        assert_eq!(backlog.bytes(), 200 * 1024);
    }

    #[test]
    fn what_was_written_in_part_goes_on_where_it_stopped() {
        let mut backlog = Backlog::default();
        for frame in ["one", "two", "three"] {
            backlog.append(frame.into());
        }
        backlog.written(4);
        assert_eq!(backlog.frames().collect::<Vec<_>>(), ["wo", "three"]);
        backlog.written(2);
        assert_eq!(backlog.frames().collect::<Vec<_>>(), ["three"]);
        backlog.written(5);
        assert!(backlog.is_empty() && backlog.bytes() == 0);
    }

    #[test]
    fn a_reader_that_stops_costs_a_bounded_number_of_bytes() {
        let mut backlog = Backlog::default();
        for _ in 0..10 {
            assert_eq!(backlog.push(frame(100), Urgency::Reliable), Pushed::Queued);
            assert!(backlog.bytes() <= BACKLOG_LIMIT);
        }
        assert_eq!(backlog.push(frame(100), Urgency::Reliable), Pushed::Overflowed);
        assert!(backlog.is_empty() && backlog.bytes() == 0);
    }

    #[test]
    fn what_is_written_leaves_no_room_behind_that_is_not_used() {
        let mut backlog = Backlog::default();
        assert!(backlog.is_empty());
        for frames in [1, 100] {
            for _ in 0..frames {
                backlog.push(frame(1), Urgency::Reliable);
            }
            assert!(!backlog.is_empty());
            backlog.written(backlog.bytes());
            assert!(backlog.is_empty());
            // A socket that is told something only now and then allocates nothing for it.
            let kept = if frames == 1 { 1..=KEPT } else { 0..=0 };
            assert!(kept.contains(&backlog.frames.capacity()));
        }
    }

    #[test]
    fn what_was_written_in_part_is_not_given_up() {
        let cases: [(usize, &[&str]); 5] =
            [(0, &[]), (1, &["alf"]), (3, &["f"]), (4, &[]), (5, &["hole"])];
        for (written, rest) in cases {
            let mut backlog = Backlog::default();
            for frame in ["half", "whole"] {
                backlog.append(frame.into());
            }
            backlog.written(written);
            assert_eq!(backlog.push(frame(1_024), Urgency::Reliable), Pushed::Overflowed);
            assert_eq!(backlog.frames().collect::<Vec<_>>(), rest, "after {written} bytes");
            assert_eq!(backlog.bytes(), rest.concat().len());
        }
    }

    #[test]
    fn the_answer_to_hello_has_room_and_takes_none() {
        let mut backlog = Backlog::default();
        backlog.welcome(frame(3_000));
        assert_eq!(backlog.push(frame(1_000), Urgency::Reliable), Pushed::Queued);
        assert!(!backlog.has_room());
        backlog.written(3_000 * 1024);
        assert_eq!(backlog.push(frame(100), Urgency::Reliable), Pushed::Overflowed);
    }
}
