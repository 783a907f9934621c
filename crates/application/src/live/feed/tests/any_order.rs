//! A feed among a store, a bus and connections that act at random.

use proptest::prelude::*;

use super::*;

/// What happens around a feed.
#[derive(Debug, Clone, Copy)]
enum Act {
    /// A commit, whose event goes into the bus.
    Commit,
    /// Somebody's access ends; the event goes into the bus.
    Remove(usize),
    /// The bus delivers one of the events it holds, and may keep it.
    Bring {
        which: usize,
        repeat: bool,
    },
    /// The bus loses one.
    Lose(usize),
    /// Somebody joins this far behind.
    Join {
        number: u32,
        behind: u64,
    },
    /// Somebody reads a snapshot.
    Look(u32),
    /// Somebody who has is joined to what it shows.
    Attach(usize),
    Leave(usize),
    /// The store answers a question, or fails to.
    Answer {
        page: u64,
        fail: bool,
    },
    Retry,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => Just(Act::Commit),
        1 => any::<usize>().prop_map(Act::Remove),
        4 => (any::<usize>(), any::<bool>()).prop_map(|(which, repeat)| Act::Bring { which, repeat }),
        1 => any::<usize>().prop_map(Act::Lose),
        1 => (0..50_u32, 0..80_u64).prop_map(|(number, behind)| Act::Join { number, behind }),
        2 => (0..50_u32).prop_map(Act::Look),
        2 => any::<usize>().prop_map(Act::Attach),
        1 => any::<usize>().prop_map(Act::Leave),
        3 => (1..9_u64, any::<bool>()).prop_map(|(page, fail)| Act::Answer { page, fail }),
        1 => Just(Act::Retry),
    ]
}

/// A store, a bus and connections around one feed.
struct World {
    feed: Feed,
    rev: Rev,
    access_rev: AccessRev,
    /// Each event's rev, its `access_rev`, and whose access ended.
    bus: Vec<(Rev, AccessRev, Option<ConnectionId>)>,
    asked: Vec<Step>,
    /// What the last check will find: its `access_rev`, and which of those asked about are out.
    finds: (AccessRev, Vec<ConnectionId>),
    /// Those about to join, each with what their snapshot shows.
    coming: HashMap<ConnectionId, (Rev, AccessRev)>,
    /// What everybody in the feed has been told.
    told: HashMap<ConnectionId, Rev>,
    /// Those whose access has ended, with the last rev they may be told.
    removed: HashMap<ConnectionId, Rev>,
}

impl World {
    fn new() -> Self {
        Self {
            feed: Feed::new(Rev::ZERO, AccessRev(1), Listeners::default()),
            rev: Rev::ZERO,
            access_rev: AccessRev(1),
            bus: vec![],
            asked: vec![],
            finds: (AccessRev::ZERO, vec![]),
            coming: HashMap::default(),
            told: HashMap::default(),
            removed: HashMap::default(),
        }
    }

    fn range(from: Rev, to: Rev) -> Frame {
        Frame::encode(&(from, to))
    }

    fn run(&mut self, act: Act) {
        let steps = match act {
            Act::Commit => {
                self.rev = self.rev.next();
                self.bus.push((self.rev, self.access_rev, None));
                vec![]
            }
            Act::Remove(which) => {
                if let Some(whom) = self.some(which) {
                    self.access_rev = self.access_rev.next();
                    self.removed.entry(whom).or_insert(self.rev);
                    self.bus.push((Rev::ZERO, self.access_rev, Some(whom)));
                }
                vec![]
            }
            Act::Bring { .. } | Act::Lose(_) if self.bus.is_empty() => vec![],
            Act::Lose(which) => {
                let at = which % self.bus.len();
                self.bus.swap_remove(at);
                vec![]
            }
            Act::Bring { which, repeat } => {
                let at = which % self.bus.len();
                let (rev, access_rev, ended) =
                    if repeat { self.bus[at] } else { self.bus.swap_remove(at) };
                match ended {
                    Some(whom) => {
                        self.leave(whom);
                        self.feed.access_changed(access_rev)
                    }
                    None => self.feed.changed(rev, access_rev, Self::range(Rev(rev.0 - 1), rev)),
                }
            }
            Act::Join { number, behind } => {
                let (who, have) = (socket(number), Rev(self.rev.0.saturating_sub(behind)));
                if self.removed.contains_key(&who) || self.told.contains_key(&who) {
                    return;
                }
                self.coming.remove(&who);
                self.told.insert(who, have);
                self.feed.join(who, have, self.access_rev)
            }
            Act::Look(number) => {
                let who = socket(number);
                if !self.removed.contains_key(&who) && !self.told.contains_key(&who) {
                    self.coming.insert(who, (self.rev, self.access_rev));
                }
                vec![]
            }
            Act::Attach(which) => {
                let mut all: Vec<_> = self.coming.keys().copied().collect();
                all.sort_unstable();
                let Some(who) = all.get(which % all.len().max(1)).copied() else { return };
                let Some((have, access_rev)) = self.coming.remove(&who) else { return };
                self.told.insert(who, have);
                self.feed.join(who, have, access_rev)
            }
            Act::Leave(which) => {
                if let Some(who) = self.some(which) {
                    self.leave(who);
                }
                vec![]
            }
            Act::Answer { .. } if self.asked.is_empty() => vec![],
            Act::Answer { page, fail } => self.answer(page, fail),
            Act::Retry => self.feed.retry(),
        };
        self.carry_out(steps);
    }

    fn answer(&mut self, page: u64, fail: bool) -> Vec<Step> {
        match (self.asked.remove(0), fail) {
            (Step::Check, true) => {
                self.feed.unchecked();
                vec![]
            }
            // As of the question.
            (Step::Check, false) => {
                let (access_rev, out) = std::mem::take(&mut self.finds);
                for who in out {
                    self.leave(who);
                }
                self.feed.checked(access_rev)
            }
            (Step::Read { .. }, true) => {
                self.feed.unread();
                vec![]
            }
            (Step::Read { from_rev, .. }, false) => {
                let to = self.rev.min(Rev(from_rev.0 + page));
                self.feed.bridged(Bridge {
                    from_rev,
                    to_rev: to,
                    access_rev: self.access_rev,
                    complete: to == self.rev,
                    frame: Self::range(from_rev, to),
                })
            }
            (Step::Deliver(..), _) => unreachable!("carried out at once"),
        }
    }

    fn some(&self, which: usize) -> Option<ConnectionId> {
        let mut all: Vec<_> = self.told.keys().chain(self.coming.keys()).copied().collect();
        all.sort_unstable();
        (!all.is_empty()).then(|| all[which % all.len()])
    }

    fn leave(&mut self, who: ConnectionId) {
        self.feed.leave(who);
        self.told.remove(&who);
        self.coming.remove(&who);
    }

    fn carry_out(&mut self, steps: Vec<Step>) {
        for step in steps {
            let Step::Deliver(to, frame) = step else {
                let kind = std::mem::discriminant(&step);
                let twice = self.asked.iter().any(|asked| std::mem::discriminant(asked) == kind);
                assert!(!twice, "asked twice: {step:?}");
                if step == Step::Check {
                    let out = |who: &ConnectionId| self.removed.contains_key(who);
                    self.finds = (self.access_rev, self.feed.members().filter(out).collect());
                }
                self.asked.push(step);
                continue;
            };
            let (from, until): (Rev, Rev) = serde_json::from_slice(frame.bytes()).expect("a range");
            for who in to.iter() {
                let have = self.told.get_mut(who).expect("told after leaving");
                assert!(from <= *have && *have < until, "{who:?} has {have}, told {from}..{until}");
                *have = until;
                let last = self.removed.get(who).copied().unwrap_or(Rev(u64::MAX));
                assert!(until <= last, "{who:?} was told {until}, and may know {last}");
            }
        }
    }

    /// A look at the store, and a store that answers.
    fn come_to_rest(&mut self) {
        let steps = self.feed.behind(self.rev, self.access_rev);
        self.carry_out(steps);
        while !self.asked.is_empty() {
            self.run(Act::Answer { page: 7, fail: false });
        }
    }
}

proptest! {
    #[test]
    fn whatever_the_bus_does_everybody_is_told_everything_in_order(acts in prop::collection::vec(act(), 0..200)) {
        let mut world = World::new();
        for act in acts {
            world.run(act);
        }
        world.come_to_rest();
        for (who, have) in &world.told {
            prop_assert!(*have >= world.rev || world.removed.contains_key(who), "{who:?} has {have} of {}", world.rev);
            prop_assert!(!world.removed.contains_key(who), "{who:?} is still in");
        }
    }
}
