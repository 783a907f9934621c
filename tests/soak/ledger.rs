//! What was sent, acknowledged and received, as all the clients of a scenario saw it together.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// Violations printed in full; the rest are counted.
const TOLD: usize = 20;

#[derive(Default)]
pub(crate) struct Ledger(Mutex<Book>);

#[derive(Default)]
pub(crate) struct Book {
    /// By `client_msg_id`, which no two people share here.
    pub(crate) sends: HashMap<String, Fate>,
    /// Whose access is being ended, and when that was acknowledged.
    removed: HashMap<String, Option<Instant>>,
    pub(crate) delivered: u64,
    /// Answers that asked to come again.
    pub(crate) put_off: u64,
    /// Commands that were retried; the client counts no sends.
    pub(crate) retries: u64,
    /// Between acknowledgement and arrival, while the receiver was connected.
    pub(crate) gaps: Times,
    /// Between a command's first try and its answer.
    pub(crate) answers: Times,
    /// Without a live connection.
    pub(crate) absences: Times,
    wrongs: Vec<String>,
    more_wrongs: u64,
}

/// What became of a message.
pub(crate) struct Fate {
    pub(crate) author: String,
    pub(crate) conversation: String,
    pub(crate) begun: Instant,
    pub(crate) acked: Option<Acked>,
    /// The last text that was asked for.
    pub(crate) text: String,
    pub(crate) deleted: bool,
}

pub(crate) struct Acked {
    pub(crate) at: Instant,
    pub(crate) id: String,
    pub(crate) seq: u64,
}

/// Times of one kind: the longest, and how many were below each power of two of milliseconds.
#[derive(Default, Clone)]
pub(crate) struct Times {
    pub(crate) longest: Duration,
    /// What the longest was.
    of: String,
    below: [u64; 24],
    count: u64,
}

impl Ledger {
    pub(crate) fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    pub(crate) fn begin(&mut self, author: &str, conversation: &str, key: &str, text: &str) {
        let fate = Fate {
            author: author.to_owned(),
            conversation: conversation.to_owned(),
            begun: Instant::now(),
            acked: None,
            text: text.to_owned(),
            deleted: false,
        };
        self.sends.insert(key.to_owned(), fate);
    }

    pub(crate) fn acknowledged(&mut self, key: &str, id: &str, seq: u64) {
        let Some(fate) = self.sends.get_mut(key) else {
            return self.wrong(format!("an answer to {key}, which nobody sent"));
        };
        let acked = Acked { at: Instant::now(), id: id.to_owned(), seq };
        self.answers.add(acked.at - fate.begun, key);
        if let Some(before) = fate.acked.replace(acked) {
            self.wrong(format!("{key} was answered twice: {} and {seq}", before.seq));
        }
    }

    pub(crate) fn removing(&mut self, person: &str) {
        self.removed.insert(person.to_owned(), None);
    }

    pub(crate) fn removed(&mut self, person: &str) {
        self.removed.insert(person.to_owned(), Some(Instant::now()));
    }

    pub(crate) fn is_removed(&self, person: &str) -> bool {
        self.removed.contains_key(person)
    }

    /// A message is new to a person who has had these connections. It took the longest time that any one of them went
    /// without it after its acknowledgement: that it came after all, over a later one, is no excuse.
    pub(crate) fn arrived(
        &mut self,
        person: &str,
        key: &str,
        connections: &VecDeque<(Instant, Option<Instant>)>,
    ) {
        self.delivered += 1;
        let Some(fate) = self.sends.get(key) else {
            return self.wrong(format!("{person} got {key}, which nobody sent"));
        };
        let removed = self.removed.get(person).copied().flatten();
        if removed.is_some_and(|removed| fate.begun > removed) {
            return self
                .wrong(format!("{person} got {key}, which was sent after they were removed"));
        }
        let Some(acked) = &fate.acked else { return };
        let waits = connections.iter().filter_map(|(since, until)| {
            let until = until.unwrap_or_else(Instant::now);
            until.checked_duration_since(acked.at.max(*since))
        });
        let gap = waits.max().unwrap_or_default();
        if gap > self.gaps.longest {
            self.gaps.add(gap, &format!("{key} (seq {}) to {person}", acked.seq));
        } else {
            self.gaps.add(gap, "");
        }
    }

    pub(crate) fn wrong(&mut self, what: String) {
        if self.wrongs.len() < TOLD {
            self.wrongs.push(what);
        } else {
            self.more_wrongs += 1;
        }
    }

    pub(crate) fn acked(&self) -> usize {
        self.sends.values().filter(|fate| fate.acked.is_some()).count()
    }

    pub(crate) fn wrongs(&self) -> Option<String> {
        let more = match self.more_wrongs {
            0 => String::new(),
            more => format!("\n… and {more} more"),
        };
        (!self.wrongs.is_empty()).then(|| self.wrongs.join("\n") + &more)
    }
}

impl Times {
    pub(crate) fn add(&mut self, time: Duration, of: &str) {
        if time > self.longest {
            self.longest = time;
            of.clone_into(&mut self.of);
        }
        let bits = u64::BITS - u64::try_from(time.as_millis()).unwrap_or(u64::MAX).leading_zeros();
        self.below[(bits as usize).min(self.below.len() - 1)] += 1;
        self.count += 1;
    }

    /// The time that this many per mille did not exceed, to the next power of two.
    fn quantile(&self, per_mille: u64) -> Duration {
        let mut left = self.count * per_mille / 1_000;
        for (bits, count) in self.below.iter().enumerate() {
            if *count > left {
                return Duration::from_millis(1 << bits).min(self.longest);
            }
            left -= count;
        }
        self.longest
    }
}

impl std::fmt::Display for Times {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [half, most] = [500, 990].map(|per_mille| self.quantile(per_mille).as_millis());
        write!(f, "50 % ≤ {half} ms, 99 % ≤ {most} ms, longest {} ms", self.longest.as_millis())?;
        if self.of.is_empty() { Ok(()) } else { write!(f, " ({})", self.of) }
    }
}
