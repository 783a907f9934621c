//! One connection's deadlines and limits, without I/O. What it is told after an absence is in `resume.rs`, what waits
//! for it in `backlog.rs`.
//!
//! 1. A client that has not said hello within [`HELLO_WITHIN`] is closed, whatever else it says (`no_hello_in_time`).
//!    How long the answer may take is up to `hello.rs`.
//! 2. A client is pinged every [`HEARTBEAT`]; one that for [`SILENCE`] says nothing, and takes nothing of a backlog
//!    that has long waited, is closed (`silence_ends_a_connection`). If the process itself stood still, it gets
//!    [`LATE`] more (`who_was_not_listened_to_was_not_silent`).
//! 3. A connection ends with its token, unless that is renewed in time (`a_token_that_expires_ends_a_connection`).
//! 4. [`GARBAGE`] unreadable frames in a row end it; a readable one starts the count over
//!    (`garbage_ends_a_connection`).
//! 5. At most [`SENDS_IN_FLIGHT`] sends, or about [`SENT_IN_FLIGHT`] bytes of them, wait for their answers; beyond that
//!    nothing is read until one is answered (`a_sender_is_read_no_faster_than_it_is_answered`). So everything sent can
//!    come back at once, in its answer and again as an event, and still fit in a `Backlog`.
//! 6. A connection that is sent away is no longer read, and closed by its deadline at the latest
//!    (`who_is_sent_away_is_given_so_long`).
//!
//! Times are the monotonic clock's: a jump of the wall clock closes nobody.

use std::time::Duration;

use tokio::time::Instant;

use crate::ports::Close;

/// How long a client may take to say hello.
pub(super) const HELLO_WITHIN: Duration = Duration::from_secs(10);
/// How often the server pings.
pub const HEARTBEAT: Duration = Duration::from_secs(25);
/// How long a client may be silent.
pub(super) const SILENCE: Duration = Duration::from_mins(1);
/// A silence check this late means that the process stood still: what the client has said meanwhile is not read yet.
const LATE: Duration = Duration::from_secs(2);
/// The most sends of one connection that may wait for their answers.
pub const SENDS_IN_FLIGHT: usize = 64;
/// Bytes of unanswered sends from which on no more are read.
const SENT_IN_FLIGHT: usize = 192 * 1024;
/// Unreadable frames in a row that end the connection.
const GARBAGE: u32 = 5;

/// See the module's description.
#[derive(Debug)]
pub struct Deadlines {
    heard_at: Instant,
    garbage: u32,
    sends: usize,
    /// Bytes of those in flight.
    sent: usize,
    phase: Phase,
    /// Set if it is to end once everything the client has said is answered: when at the latest, and how.
    leave_by: Option<(Instant, Close)>,
}

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Nothing yet.
    Nothing,
    /// A ping to the client.
    Ping,
    /// Close the connection.
    Close(Close),
}

#[derive(Debug)]
enum Phase {
    Silent { hello_by: Instant },
    Open { expires_at: Instant, ping_at: Instant },
}

impl Deadlines {
    /// A connection that has just been opened.
    pub fn new(now: Instant) -> Self {
        let hello_by = now + HELLO_WITHIN;
        let phase = Phase::Silent { hello_by };
        Self { heard_at: now, garbage: 0, sends: 0, sent: 0, phase, leave_by: None }
    }

    /// A good `hello` has been answered; the token is valid for `token_for`.
    pub fn opened(&mut self, now: Instant, token_for: Duration) {
        self.phase = Phase::Open { expires_at: now + token_for, ping_at: now + HEARTBEAT };
    }

    /// The token has been replaced by one that is valid for `token_for`.
    pub fn renewed(&mut self, now: Instant, token_for: Duration) {
        if let Phase::Open { expires_at, .. } = &mut self.phase {
            *expires_at = now + token_for;
        }
    }

    /// The client sent something, if only a pong, or took some of a backlog that had long waited.
    pub fn heard(&mut self, at: Instant) {
        self.heard_at = self.heard_at.max(at);
    }

    /// The frame was a command.
    pub fn readable(&mut self) {
        self.garbage = 0;
    }

    /// The frame was not a command.
    pub fn unreadable(&mut self) -> Due {
        self.garbage += 1;
        if self.garbage >= GARBAGE { Due::Close(Close::ProtocolError) } else { Due::Nothing }
    }

    /// A send of this many bytes, or another command that runs concurrently, waits for its answer.
    pub fn send_begun(&mut self, bytes: usize) {
        self.sends += 1;
        self.sent += bytes;
    }

    /// A send of this many bytes has its answer.
    pub fn send_answered(&mut self, bytes: usize) {
        self.sends = self.sends.saturating_sub(1);
        self.sent = self.sent.saturating_sub(bytes);
    }

    /// The connection is to end once everything the client has said is answered, by `by` at the latest.
    pub const fn leave(&mut self, by: Instant, close: Close) {
        self.leave_by = Some((by, close));
    }

    /// How the connection is to end once everything the client has said is answered, if it is.
    pub fn leaving(&self) -> Option<Close> {
        self.leave_by.map(|(_, close)| close)
    }

    /// Whether more may be read from the client.
    pub const fn may_read(&self) -> bool {
        self.sends < SENDS_IN_FLIGHT && self.sent < SENT_IN_FLIGHT && self.leave_by.is_none()
    }

    /// When to call [`Deadlines::due`] at the latest.
    pub fn deadline(&self) -> Instant {
        let deadline = match self.phase {
            Phase::Silent { hello_by } => hello_by,
            Phase::Open { expires_at, ping_at } => expires_at.min(ping_at).min(self.silent_at()),
        };
        self.leave_by.map_or(deadline, |(by, _)| by.min(deadline))
    }

    /// What is due at `now`.
    pub fn due(&mut self, now: Instant) -> Due {
        if let Some((_, close)) = self.leave_by.filter(|(by, _)| now >= *by) {
            return Due::Close(close);
        }
        if now >= self.silent_at() + LATE {
            self.heard(now + LATE - SILENCE);
        }
        let silent_at = self.silent_at();
        match &mut self.phase {
            Phase::Silent { hello_by } if now >= *hello_by => Due::Close(Close::NoHello),
            Phase::Open { expires_at, .. } if now >= *expires_at => Due::Close(Close::TokenExpired),
            Phase::Open { .. } if now >= silent_at => Due::Close(Close::HeartbeatLost),
            Phase::Open { ping_at, .. } if now >= *ping_at => {
                *ping_at = now + HEARTBEAT;
                Due::Ping
            }
            Phase::Silent { .. } | Phase::Open { .. } => Due::Nothing,
        }
    }

    fn silent_at(&self) -> Instant {
        self.heard_at + SILENCE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_hours(1);

    fn open(now: Instant) -> Deadlines {
        let mut deadlines = Deadlines::new(now);
        deadlines.opened(now, HOUR);
        deadlines
    }

    /// Clients rely on these times.
    #[test]
    fn times_are_the_contracts() {
        assert_eq!([HELLO_WITHIN, HEARTBEAT, SILENCE].map(|time| time.as_secs()), [10, 25, 60]);
    }

    #[test]
    fn no_hello_in_time() {
        let now = Instant::now();
        let mut deadlines = Deadlines::new(now);
        deadlines.heard(now + HELLO_WITHIN / 2);
        assert_eq!(deadlines.deadline(), now + HELLO_WITHIN);
        assert_eq!(deadlines.due(now + HELLO_WITHIN / 2), Due::Nothing);
        assert_eq!(deadlines.due(now + HELLO_WITHIN), Due::Close(Close::NoHello));
    }

    #[test]
    fn silence_ends_a_connection() {
        let now = Instant::now();
        let mut deadlines = open(now);
        assert_eq!(deadlines.due(deadlines.deadline()), Due::Ping);
        assert_eq!(deadlines.due(deadlines.deadline()), Due::Ping);
        assert_eq!(deadlines.deadline(), now + SILENCE);
        assert_eq!(deadlines.due(now + SILENCE), Due::Close(Close::HeartbeatLost));
        deadlines.heard(now + HEARTBEAT);
        deadlines.heard(now);
        assert_eq!(deadlines.due(now + SILENCE), Due::Nothing, "heard in between");
    }

    /// Otherwise a process that was stopped or starved would close everybody's connection when it resumes.
    #[test]
    fn who_was_not_listened_to_was_not_silent() {
        let now = Instant::now();
        let mut deadlines = open(now);
        let awake = now + HOUR / 2;
        assert_eq!(deadlines.due(awake), Due::Ping);
        assert_eq!(deadlines.deadline(), awake + LATE);
        assert_eq!(deadlines.due(awake + LATE), Due::Close(Close::HeartbeatLost), "still nothing");
    }

    #[test]
    fn a_token_that_expires_ends_a_connection() {
        let now = Instant::now();
        let mut deadlines = Deadlines::new(now);
        deadlines.opened(now, HEARTBEAT / 2);
        assert_eq!(deadlines.deadline(), now + HEARTBEAT / 2);
        deadlines.renewed(now, HEARTBEAT * 2);
        assert_eq!(deadlines.due(now + HEARTBEAT / 2), Due::Nothing);
        assert_eq!(deadlines.due(now + HEARTBEAT * 2), Due::Close(Close::TokenExpired));
    }

    #[test]
    fn who_is_sent_away_is_given_so_long() {
        let now = Instant::now();
        let mut deadlines = open(now);
        deadlines.leave(now + HEARTBEAT / 2, Close::Draining);
        assert_eq!(deadlines.leaving(), Some(Close::Draining));
        assert!(!deadlines.may_read());
        assert_eq!(deadlines.deadline(), now + HEARTBEAT / 2);
        assert_eq!(deadlines.due(now), Due::Nothing);
        assert_eq!(deadlines.due(now + HEARTBEAT / 2), Due::Close(Close::Draining));
    }

    #[test]
    fn garbage_ends_a_connection() {
        let mut deadlines = open(Instant::now());
        for _ in 1..GARBAGE {
            assert_eq!(deadlines.unreadable(), Due::Nothing);
        }
        deadlines.readable();
        for _ in 1..GARBAGE {
            assert_eq!(deadlines.unreadable(), Due::Nothing);
        }
        assert_eq!(deadlines.unreadable(), Due::Close(Close::ProtocolError));
    }

    #[test]
    fn a_sender_is_read_no_faster_than_it_is_answered() {
        let mut deadlines = open(Instant::now());
        for _ in 0..SENDS_IN_FLIGHT {
            assert!(deadlines.may_read());
            deadlines.send_begun(100);
        }
        assert!(!deadlines.may_read());
        deadlines.send_answered(100);
        assert!(deadlines.may_read());

        let mut deadlines = open(Instant::now());
        deadlines.send_begun(SENT_IN_FLIGHT - 1);
        assert!(deadlines.may_read());
        deadlines.send_begun(16 * 1024);
        assert!(!deadlines.may_read());
        deadlines.send_answered(16 * 1024);
        assert!(deadlines.may_read());
    }
}
