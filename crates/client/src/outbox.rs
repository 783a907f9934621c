//! Sends awaiting their answer. Those of a conversation go one after another, so that a repeated send is not overtaken.
//! No I/O, no clock.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use tokio::time::Instant;

/// The server stops reading a connection while this many of its sends wait.
const IN_FLIGHT: usize = 64;

/// See the module's description.
#[derive(Debug)]
pub struct Outbox {
    /// The sends of each conversation that has any.
    lanes: BTreeMap<String, VecDeque<Entry>>,
    len: usize,
    capacity: usize,
    in_flight: usize,
    next_ticket: u64,
}

#[derive(Debug)]
struct Entry {
    /// Counts sends; gives their order.
    ticket: u64,
    client_msg_id: String,
    text: String,
    attempts: u32,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting { until: Option<Instant> },
    InFlight,
}

/// A send to transmit now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Send {
    /// The conversation to send to.
    pub conversation_id: String,
    /// The send's id, the same at each attempt.
    pub client_msg_id: String,
    /// The message's text.
    pub text: String,
    /// How often it was transmitted before.
    pub attempts: u32,
}

/// An answer to a send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is committed.
    Acknowledged,
    /// The outcome is unknown, or the server cannot do it now: it is resent, with the same id, after at least this
    /// time.
    Retry {
        /// How long to wait.
        after: Duration,
    },
    /// It is not committed and will not be.
    Refused,
}

/// Why a send was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotTaken {
    /// Too many wait already.
    #[error("{0} sends wait already")]
    Full(usize),
    /// A send with this id waits in this conversation.
    #[error("a send with this client_msg_id waits already")]
    Repeated,
}

impl Outbox {
    /// An outbox in which at most `capacity` sends wait.
    pub fn new(capacity: usize) -> Self {
        Self { lanes: BTreeMap::new(), len: 0, capacity, in_flight: 0, next_ticket: 0 }
    }

    /// Queues a send, behind all that wait in the same conversation.
    pub fn push(
        &mut self,
        conversation_id: &str,
        client_msg_id: &str,
        text: &str,
    ) -> Result<(), NotTaken> {
        if self.len >= self.capacity {
            return Err(NotTaken::Full(self.len));
        }
        let lane = self.lanes.entry(conversation_id.to_owned()).or_default();
        if lane.iter().any(|entry| entry.client_msg_id == client_msg_id) {
            return Err(NotTaken::Repeated);
        }
        lane.push_back(Entry {
            ticket: self.next_ticket,
            client_msg_id: client_msg_id.to_owned(),
            text: text.to_owned(),
            attempts: 0,
            state: State::Waiting { until: None },
        });
        self.len += 1;
        self.next_ticket += 1;
        Ok(())
    }

    /// What to transmit now, the longest-waiting first. It counts as in flight from here on.
    pub fn due(&mut self, now: Instant) -> Vec<Send> {
        let mut heads: Vec<(&String, &mut Entry)> = self
            .lanes
            .iter_mut()
            .filter_map(|(id, lane)| Some((id, lane.front_mut()?)))
            .filter(|(_, head)| match head.state {
                State::Waiting { until } => until.is_none_or(|until| until <= now),
                State::InFlight => false,
            })
            .collect();
        heads.sort_by_key(|(_, head)| head.ticket);
        heads.truncate(IN_FLIGHT - self.in_flight.min(IN_FLIGHT));
        self.in_flight += heads.len();
        let transmit = |(id, head): (&String, &mut Entry)| {
            head.state = State::InFlight;
            head.attempts = head.attempts.saturating_add(1);
            Send {
                conversation_id: id.clone(),
                client_msg_id: head.client_msg_id.clone(),
                text: head.text.clone(),
                attempts: head.attempts - 1,
            }
        };
        heads.into_iter().map(transmit).collect()
    }

    /// When a deferred send is due; `None` while no more may be in flight, because an answer has to come first.
    pub fn next_due(&self) -> Option<Instant> {
        if self.in_flight >= IN_FLIGHT {
            return None;
        }
        let until = |lane: &VecDeque<Entry>| match lane.front()?.state {
            State::Waiting { until } => until,
            State::InFlight => None,
        };
        self.lanes.values().filter_map(until).min()
    }

    /// Takes the answer to a send that is in flight; false if there is no such send.
    pub fn answered(
        &mut self,
        conversation_id: &str,
        client_msg_id: &str,
        outcome: Outcome,
        now: Instant,
    ) -> bool {
        let Some(lane) = self.lanes.get_mut(conversation_id) else { return false };
        let Some(head) = lane
            .front_mut()
            .filter(|head| head.client_msg_id == client_msg_id && head.state == State::InFlight)
        else {
            return false;
        };
        self.in_flight -= 1;
        if let Outcome::Retry { after } = outcome {
            head.state = State::Waiting { until: now.checked_add(after) };
            return true;
        }
        lane.pop_front();
        self.len -= 1;
        if lane.is_empty() {
            self.lanes.remove(conversation_id);
        }
        true
    }

    /// The connection is gone: what was in flight is due again on the next one.
    pub fn disconnected(&mut self) {
        self.in_flight = 0;
        for head in self.lanes.values_mut().filter_map(VecDeque::front_mut) {
            if head.state == State::InFlight {
                head.state = State::Waiting { until: None };
            }
        }
    }

    /// How many wait, those in flight included.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn outbox(sends: &[(&str, &str)]) -> Outbox {
        let mut outbox = Outbox::new(200);
        for (conversation, id) in sends {
            outbox.push(conversation, id, "text").unwrap();
        }
        outbox
    }

    fn due(outbox: &mut Outbox, now: Instant) -> Vec<String> {
        outbox.due(now).into_iter().map(|send| send.client_msg_id).collect()
    }

    #[test]
    fn one_at_a_time_for_each_conversation_in_the_order_they_came() {
        let now = Instant::now();
        let mut outbox = outbox(&[("b", "b1"), ("a", "a1"), ("b", "b2"), ("a", "a2")]);
        assert_eq!(due(&mut outbox, now), ["b1", "a1"]);
        assert_eq!(due(&mut outbox, now), [""; 0]);
        assert!(outbox.answered("b", "b1", Outcome::Acknowledged, now));
        assert_eq!(due(&mut outbox, now), ["b2"]);
        assert!(outbox.answered("a", "a1", Outcome::Refused, now));
        assert_eq!(due(&mut outbox, now), ["a2"]);
        assert_eq!(outbox.len(), 2);
    }

    #[test]
    fn a_retry_keeps_its_id_and_its_place() {
        let now = Instant::now();
        let mut outbox = outbox(&[("a", "a1"), ("a", "a2"), ("b", "b1")]);
        assert_eq!(due(&mut outbox, now), ["a1", "b1"]);
        assert!(outbox.answered("a", "a1", Outcome::Retry { after: SECOND }, now));
        assert_eq!(due(&mut outbox, now), [""; 0], "neither too early nor overtaken");
        assert_eq!(outbox.next_due(), Some(now + SECOND));
        let again = outbox.due(now + SECOND);
        assert_eq!((&*again[0].client_msg_id, again[0].attempts), ("a1", 1));
        assert_eq!(outbox.next_due(), None);
    }

    #[test]
    fn a_lost_connection_makes_the_same_sends_due_again() {
        let now = Instant::now();
        let mut outbox = outbox(&[("a", "a1"), ("a", "a2"), ("b", "b1")]);
        assert_eq!(due(&mut outbox, now), ["a1", "b1"]);
        outbox.disconnected();
        assert!(!outbox.answered("a", "a1", Outcome::Acknowledged, now), "of the old connection");
        assert_eq!(due(&mut outbox, now), ["a1", "b1"]);
        assert!(outbox.answered("a", "a1", Outcome::Acknowledged, now));
        assert!(!outbox.answered("a", "a1", Outcome::Acknowledged, now));
        assert_eq!(due(&mut outbox, now), ["a2"]);
    }

    #[test]
    fn is_bounded_and_takes_no_id_twice() {
        let now = Instant::now();
        let mut outbox = Outbox::new(2);
        outbox.push("a", "1", "text").unwrap();
        assert_eq!(outbox.push("a", "1", "text"), Err(NotTaken::Repeated));
        outbox.push("b", "1", "text").unwrap();
        assert_eq!(outbox.push("a", "2", "text"), Err(NotTaken::Full(2)));
        assert_eq!(outbox.due(now).len(), 2);
        assert!(outbox.answered("a", "1", Outcome::Acknowledged, now));
        outbox.push("a", "2", "text").unwrap();
        assert!(!outbox.is_empty());
    }

    #[test]
    fn keeps_to_what_the_server_reads_ahead_and_starves_nobody() {
        let now = Instant::now();
        let ids: Vec<_> = (0..100).map(|n| format!("{n:03}")).collect();
        let sends: Vec<_> = ids.iter().map(|id| (id.as_str(), id.as_str())).collect();
        let mut outbox = outbox(&sends);
        assert_eq!(due(&mut outbox, now), ids[..64]);
        assert!(outbox.answered("005", "005", Outcome::Acknowledged, now));
        outbox.push("000", "again", "text").unwrap();
        assert_eq!(due(&mut outbox, now), ids[64..65]);
    }

    /// Whoever sleeps until it is due would keep waking at once, and could not send it.
    #[test]
    fn what_is_put_off_is_not_due_before_there_is_room_for_it() {
        let now = Instant::now();
        let ids: Vec<_> = (0..65).map(|n| format!("{n:03}")).collect();
        let sends: Vec<_> = ids.iter().map(|id| (id.as_str(), id.as_str())).collect();
        let mut outbox = outbox(&sends);
        outbox.due(now);
        assert!(outbox.answered("000", "000", Outcome::Retry { after: SECOND }, now));
        assert_eq!(outbox.next_due(), Some(now + SECOND));
        assert_eq!(due(&mut outbox, now), ids[64..]);
        assert_eq!(outbox.next_due(), None);
        assert!(outbox.answered("001", "001", Outcome::Acknowledged, now));
        assert_eq!(outbox.next_due(), Some(now + SECOND));
        assert_eq!(due(&mut outbox, now + SECOND), ids[..1]);
    }
}
