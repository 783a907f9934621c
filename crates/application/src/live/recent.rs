//! A conversation's last frames, for those who join a little behind, without I/O.
//!
//! 1. They are contiguous, at most [`FRAMES`] and [`BYTES`] (`the_last_ones_are_kept_within_both_bounds`).
//! 2. A quiet conversation drops them (`a_quiet_conversation_keeps_none`).

use std::collections::VecDeque;

use parlance_domain::Rev;

use super::Frame;

/// How many are kept.
const FRAMES: usize = 64;
/// And of how many bytes: enough for messages of usual length.
const BYTES: usize = 64 * 1024;
/// For how many calls of [`Recent::age`] without a new one.
const QUIET: u8 = 60;

#[derive(Default)]
pub(super) struct Recent {
    frames: VecDeque<(Rev, Frame)>,
    bytes: usize,
    quiet: u8,
}

impl Recent {
    /// Keeps the frame of the next rev.
    pub(super) fn push(&mut self, rev: Rev, frame: Frame) {
        self.quiet = 0;
        self.bytes += frame.bytes().len();
        self.frames.push_back((rev, frame));
        while self.frames.len() > FRAMES || self.bytes > BYTES {
            let Some((_, oldest)) = self.frames.pop_front() else { break };
            self.bytes -= oldest.bytes().len();
        }
    }

    /// Everything after this rev, if all of it is kept.
    pub(super) fn after(&self, rev: Rev) -> Option<impl Iterator<Item = &Frame>> {
        let (first, _) = self.frames.front()?;
        let missing = self.frames.iter().filter(move |(of, _)| *of > rev).map(|(_, frame)| frame);
        (*first <= rev.next()).then_some(missing)
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Call it once a second.
    pub(super) fn age(&mut self) {
        self.quiet = self.quiet.saturating_add(1);
        if self.quiet >= QUIET {
            self.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn frame(bytes: usize) -> Frame {
        Frame::from_encoded(Bytes::from(vec![b'x'; bytes]))
    }

    /// How many frames follow this rev, if they are known.
    fn after(recent: &Recent, rev: u64) -> Option<usize> {
        recent.after(Rev(rev)).map(Iterator::count)
    }

    #[test]
    fn the_last_ones_are_kept_within_both_bounds() {
        let mut recent = Recent::default();
        assert_eq!(after(&recent, 0), None);
        for rev in 1..=100 {
            recent.push(Rev(rev), frame(10));
        }
        assert_eq!((after(&recent, 36), after(&recent, 35)), (Some(64), None));
        assert_eq!(after(&recent, 100), Some(0));
        recent.push(Rev(101), frame(BYTES - 20));
        assert_eq!((after(&recent, 98), after(&recent, 97)), (Some(3), None));
        recent.push(Rev(102), frame(BYTES + 1));
        assert_eq!((after(&recent, 101), recent.bytes), (None, 0));
    }

    #[test]
    fn a_quiet_conversation_keeps_none() {
        let mut recent = Recent::default();
        recent.push(Rev(1), frame(10));
        (1..QUIET).for_each(|_| recent.age());
        recent.push(Rev(2), frame(10));
        (1..QUIET).for_each(|_| recent.age());
        assert_eq!(after(&recent, 0), Some(2));
        recent.age();
        assert_eq!(after(&recent, 1), None);
        (0..=u8::MAX).for_each(|_| recent.age());
        recent.push(Rev(3), frame(10));
        assert_eq!(after(&recent, 2), Some(1));
    }
}
