use proptest::prelude::*;

use super::*;

fn socket(number: u32) -> ConnectionId {
    ConnectionId { worker: 0, number }
}

fn frame(rev: u64) -> Frame {
    Frame::encode(&rev)
}

fn bridge(from_rev: u64, to_rev: u64, access_rev: u64, frame: Frame) -> Bridge {
    Bridge { from_rev, to_rev, access_rev, complete: true, frame }
}

fn told(step: &Step) -> (Vec<u32>, String) {
    match step {
        Step::Deliver(to, frame) => {
            let mut to: Vec<u32> = to.iter().map(|c| c.number).collect();
            to.sort_unstable();
            (to, String::from_utf8_lossy(frame.bytes()).into_owned())
        }
        Step::Read { from_rev, after } if after.is_zero() => {
            (vec![], format!("read from {from_rev}"))
        }
        Step::Read { from_rev, .. } => (vec![], format!("later read from {from_rev}")),
        Step::Check => (vec![], "check".into()),
    }
}

fn all(steps: &[Step]) -> Vec<(Vec<u32>, String)> {
    steps.iter().map(told).collect()
}

#[test]
fn passes_events_on_in_order_and_repeats_never() {
    let mut feed = Feed::new(4, 1, Listeners::default());
    assert_eq!(feed.join(socket(1), 4, 1), []);
    assert_eq!(all(&feed.changed(5, 1, frame(5))), [(vec![1], "5".into())]);
    assert_eq!(feed.changed(5, 1, frame(5)), []);
    assert_eq!(feed.changed(3, 1, frame(3)), []);
}

#[test]
fn bridges_a_hole_from_the_store() {
    let mut feed = Feed::new(4, 1, Listeners::default());
    feed.join(socket(1), 4, 1);
    assert_eq!(all(&feed.changed(7, 1, frame(7))), [(vec![], "read from 4".into())]);
    // Only one read at a time, and an event that closes part of the hole still passes.
    assert_eq!(all(&feed.changed(5, 1, frame(5))), [(vec![1], "5".into())]);
    assert_eq!(
        all(&feed.bridged(bridge(4, 6, 1, frame(46)))),
        [(vec![1], "46".into()), (vec![], "read from 6".into())]
    );
    assert_eq!(all(&feed.bridged(bridge(6, 8, 1, frame(68)))), [(vec![1], "68".into())]);
    assert_eq!(feed.changed(8, 1, frame(8)), []);
    assert_eq!(all(&feed.changed(9, 1, frame(9))), [(vec![1], "9".into())]);
}

#[test]
fn asks_again_when_the_store_did_not_answer() {
    let mut feed = Feed::new(0, 1, Listeners::default());
    feed.join(socket(1), 0, 1);
    feed.changed(2, 1, frame(2));
    feed.unread();
    assert_eq!(all(&feed.retry()), [(vec![], "read from 0".into())]);
    assert_eq!(feed.retry(), []);
}

#[test]
fn catches_up_who_joins_a_little_behind() {
    let mut feed = Feed::new(0, 1, Listeners::default());
    feed.join(socket(1), 0, 1);
    for rev in 1..=3 {
        feed.changed(rev, 1, frame(rev));
    }
    assert_eq!(all(&feed.join(socket(2), 1, 1)), [(vec![2], "2".into()), (vec![2], "3".into())]);
    assert_eq!(all(&feed.changed(4, 1, frame(4))), [(vec![1, 2], "4".into())]);
}

#[test]
fn reads_the_store_for_who_joins_far_behind() {
    let mut feed = Feed::new(100, 1, Listeners::default());
    feed.join(socket(1), 100, 1);
    assert_eq!(all(&feed.join(socket(2), 10, 1)), [(vec![], "read from 10".into())]);
    assert_eq!(all(&feed.changed(101, 1, frame(101))), [(vec![1], "101".into())]);
    // The page ends before the feed's position, and the rest is in the recent frames.
    assert_eq!(
        all(&feed.bridged(bridge(10, 100, 1, frame(10_100)))),
        [(vec![2], "10100".into()), (vec![2], "101".into())]
    );
    assert_eq!(all(&feed.changed(102, 1, frame(102))), [(vec![1, 2], "102".into())]);
}

#[test]
fn who_joins_ahead_hears_nothing_twice() {
    let mut feed = Feed::new(4, 1, Listeners::default());
    feed.join(socket(1), 4, 1);
    feed.join(socket(2), 6, 1);
    assert_eq!(all(&feed.changed(5, 1, frame(5))), [(vec![1], "5".into())]);
    assert_eq!(all(&feed.changed(6, 1, frame(6))), [(vec![1], "6".into())]);
    assert_eq!(all(&feed.changed(7, 1, frame(7))), [(vec![1, 2], "7".into())]);
}

#[test]
fn who_left_hears_nothing_more() {
    let mut feed = Feed::new(0, 1, Listeners::default());
    feed.join(socket(1), 0, 1);
    feed.join(socket(2), 9, 1);
    feed.leave(socket(1));
    feed.leave(socket(2));
    assert!(feed.is_empty());
    assert_eq!(all(&feed.changed(1, 1, frame(1))), [(vec![], "1".into())]);
}

#[test]
fn what_follows_a_change_of_access_waits_for_a_check() {
    let mut feed = Feed::new(4, 1, Listeners::default());
    feed.join(socket(1), 4, 1);
    feed.join(socket(2), 4, 1);
    assert_eq!(all(&feed.changed(5, 2, frame(5))), [(vec![], "check".into())]);
    assert_eq!(feed.changed(6, 2, frame(6)), [], "one check at a time");
    feed.leave(socket(2));
    assert_eq!(all(&feed.checked(2)), [(vec![], "read from 4".into())]);
    assert_eq!(all(&feed.bridged(bridge(4, 6, 2, frame(46)))), [(vec![1], "46".into())]);
    assert_eq!(all(&feed.changed(7, 2, frame(7))), [(vec![1], "7".into())]);
    // What was seen after the question is not forgotten with the answer.
    assert_eq!(all(&feed.behind(0, 4)), [(vec![], "check".into())]);
    feed.behind(0, 5);
    assert_eq!(all(&feed.checked(4)), [(vec![], "check".into())]);
    assert_eq!(feed.checked(5), []);
}

#[test]
fn a_replay_waits_for_a_check_too() {
    let mut feed = Feed::new(4, 1, Listeners::default());
    feed.join(socket(1), 4, 1);
    feed.changed(6, 1, frame(6));
    assert_eq!(all(&feed.bridged(bridge(4, 6, 2, frame(46)))), [(vec![], "check".into())]);
    feed.unchecked();
    assert_eq!(all(&feed.retry()), [(vec![], "check".into())]);
    assert_eq!(all(&feed.checked(2)), [(vec![1], "46".into())]);
}

#[test]
fn a_page_is_told_when_a_check_covers_it() {
    let mut feed = Feed::new(4, 1, Listeners::default());
    feed.join(socket(1), 4, 1);
    feed.changed(7, 1, frame(7));
    assert_eq!(all(&feed.bridged(bridge(4, 7, 3, frame(47)))), [(vec![], "check".into())]);
    assert_eq!(feed.retry(), [], "no other page is read");
    assert_eq!(all(&feed.changed(5, 1, frame(5))), [(vec![1], "5".into())]);
    feed.behind(0, 3);
    assert_eq!(all(&feed.checked(2)), [(vec![], "check".into())], "the last was asked before that");
    assert_eq!(all(&feed.checked(2)), [(vec![], "read from 5".into())], "the store was restored");
    assert_eq!(all(&feed.bridged(bridge(5, 7, 3, frame(57)))), [(vec![], "check".into())]);
    assert_eq!(all(&feed.checked(3)), [(vec![1], "57".into())]);
    assert_eq!(feed.retry(), []);
    // Or when the change of access is heard of.
    feed.changed(9, 3, frame(9));
    assert_eq!(all(&feed.bridged(bridge(7, 9, 4, frame(79)))), [(vec![], "check".into())]);
    assert_eq!(all(&feed.access_changed(4)), [(vec![1], "79".into())]);
}

#[test]
fn pages_leave_time_between_them() {
    let mut feed = Feed::new(0, 1, Listeners::default());
    feed.join(socket(1), 0, 1);
    assert_eq!(all(&feed.behind(9, 1)), [(vec![], "read from 0".into())]);
    let part = |from, to, frame| Bridge { complete: false, ..bridge(from, to, 1, frame) };
    assert_eq!(
        all(&feed.bridged(part(0, 4, frame(4)))),
        [(vec![1], "4".into()), (vec![], "read from 4".into())],
        "a short one fills nobody's queue"
    );
    let long = Frame::encode(&"x".repeat(BURST));
    let steps = feed.bridged(part(4, 6, long));
    assert_eq!(steps.last(), Some(&Step::Read { from_rev: 6, after: PAUSE }));
    feed.changed(11, 1, frame(11));
    // What has come meanwhile is read at once.
    assert_eq!(
        all(&feed.bridged(bridge(6, 9, 1, frame(69)))),
        [(vec![1], "69".into()), (vec![], "read from 9".into())]
    );
}

#[test]
fn who_is_far_behind_holds_nobody_up() {
    let mut feed = Feed::new(1_000, 1, Listeners::default());
    feed.join(socket(1), 1_000, 1);
    assert_eq!(all(&feed.join(socket(2), 10, 1)), [(vec![], "read from 10".into())]);
    // All have a hole, too.
    assert_eq!(feed.changed(1_003, 1, frame(1_003)), []);
    let part = |from, to| Bridge { complete: false, ..bridge(from, to, 1, frame(to)) };
    assert_eq!(
        all(&feed.bridged(part(10, 210))),
        [(vec![2], "210".into()), (vec![], "read from 1000".into())]
    );
    assert_eq!(feed.changed(1_005, 1, frame(1_005)), []);
    assert_eq!(
        all(&feed.bridged(part(1_000, 1_002))),
        [(vec![1], "1002".into()), (vec![], "read from 210".into())]
    );
    assert_eq!(
        all(&feed.bridged(part(210, 410))),
        [(vec![2], "410".into()), (vec![], "read from 1002".into())]
    );
}

#[test]
fn a_change_of_access_that_was_heard_needs_no_check() {
    let mut feed = Feed::new(4, 1, Listeners::default());
    feed.join(socket(1), 4, 1);
    assert_eq!(feed.access_changed(2), []);
    assert_eq!(all(&feed.changed(5, 2, frame(5))), [(vec![1], "5".into())]);
    assert_eq!(all(&feed.access_changed(4)), [(vec![], "check".into())], "one was lost");
}

#[test]
fn who_joins_with_an_older_view_is_checked() {
    let mut feed = Feed::new(4, 3, Listeners::default());
    feed.join(socket(1), 4, 3);
    assert_eq!(all(&feed.join(socket(2), 4, 2)), [(vec![], "check".into())]);
    // A check that was asked before somebody joined says nothing of them.
    assert_eq!(feed.join(socket(3), 4, 2), []);
    assert_eq!(feed.join(socket(4), 4, 3), []);
    assert_eq!(all(&feed.checked(4)), [(vec![], "check".into())]);
    assert_eq!(all(&feed.changed(5, 4, frame(5))), [(vec![1, 2], "5".into())]);
    let mut told = all(&feed.checked(4));
    told.sort_unstable();
    assert_eq!(told, [(vec![3], "5".into()), (vec![4], "5".into())]);
    assert_eq!(all(&feed.changed(6, 4, frame(6))), [(vec![1, 2, 3, 4], "6".into())]);
}

#[test]
fn who_joins_with_an_older_view_is_told_nothing_before_the_check() {
    let mut feed = Feed::new(4, 1, Listeners::default());
    feed.join(socket(1), 4, 1);
    // Somebody's removal, whose event is lost; they are no member yet.
    assert_eq!(all(&feed.behind(0, 2)), [(vec![], "check".into())]);
    assert_eq!(all(&feed.checked(2)), []);
    assert_eq!(all(&feed.changed(5, 2, frame(5))), [(vec![1], "5".into())]);
    assert_eq!(all(&feed.join(socket(2), 4, 1)), [(vec![], "check".into())]);
    feed.join(socket(3), 4, 2);
    assert!(feed.members().any(|member| member == socket(2)), "the check asks about them");
    feed.leave(socket(2));
    assert_eq!(all(&feed.checked(2)), []);
    let mut feed = Feed::new(4, 2, Listeners::default());
    feed.join(socket(1), 4, 2);
    feed.changed(5, 2, frame(5));
    feed.join(socket(2), 4, 1);
    feed.unchecked();
    assert_eq!(all(&feed.retry()), [(vec![], "check".into())]);
    assert_eq!(all(&feed.checked(2)), [(vec![2], "5".into())], "who may read is told then");
}

#[test]
fn who_joins_with_an_older_view_holds_nobody_up() {
    let mut feed = Feed::new(4, 3, Listeners::default());
    feed.join(socket(1), 4, 3);
    assert_eq!(all(&feed.join(socket(2), 4, 2)), [(vec![], "check".into())]);
    for rev in 5..=100 {
        assert_eq!(all(&feed.changed(rev, 3, frame(rev))), [(vec![1], rev.to_string())]);
        // One after the other comes like that.
        feed.join(socket(u32::try_from(rev).expect("small")), rev, 2);
    }
    assert_eq!(all(&feed.changed(102, 3, frame(102))), [(vec![], "read from 100".into())]);
    let bridged = all(&feed.bridged(bridge(100, 102, 3, frame(102))));
    assert_eq!(bridged, [(vec![1], "102".into())]);
    // Their check has come; the others wait for the next.
    assert_eq!(all(&feed.checked(3)), [(vec![], "check".into()), (vec![], "read from 4".into())]);
}

#[test]
fn ways_in_that_were_heard_of_need_no_check() {
    let mut feed = Feed::new(4, 1, Listeners::default());
    feed.join(socket(1), 4, 1);
    assert_eq!(all(&feed.access_changed(2)), []);
    assert_eq!(all(&feed.access_changed(3)), []);
    assert_eq!(all(&feed.join(socket(2), 4, 2)), []);
    assert_eq!(all(&feed.join(socket(3), 4, 3)), []);
    assert_eq!(all(&feed.changed(5, 3, frame(5))), [(vec![1, 2, 3], "5".into())]);
}

#[test]
fn the_last_frames_are_kept_and_none_beyond_a_hole() {
    let mut feed = Feed::new(0, 1, Listeners::default());
    feed.join(socket(1), 0, 1);
    for rev in (1..=100).chain(102..=300) {
        feed.changed(rev, 1, frame(rev));
    }
    assert_eq!(RECENT, 64);
    assert!(feed.recent.iter().map(|(rev, _)| *rev).eq(37..=100));
}

/// What happens around a feed.
#[derive(Debug, Clone, Copy)]
enum Act {
    /// A commit, whose event goes into the bus.
    Commit,
    /// Somebody's access ends; the event goes into the bus.
    Remove(usize),
    /// The bus brings one of the events that it holds, and may keep it.
    Bring {
        which: usize,
        repeat: bool,
    },
    /// The bus loses one.
    Lose(usize),
    /// Somebody comes in, who knows this much less than everything.
    Join {
        number: u32,
        behind: u64,
    },
    /// Somebody reads a snapshot.
    Look(u32),
    /// One of those who have is joined to what it shows.
    Attach(usize),
    Leave(usize),
    /// The store answers a question, or does not.
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
    rev: u64,
    access_rev: u64,
    /// Each with its rev, the count of changes of access, and whose access ended.
    bus: Vec<(u64, u64, Option<ConnectionId>)>,
    asked: Vec<Step>,
    /// What the last check will say: its count, and who of those it asks about is out.
    finds: (u64, Vec<ConnectionId>),
    /// Those on their way in, each with what their snapshot shows.
    coming: HashMap<ConnectionId, (u64, u64)>,
    /// What everybody in the feed has been told.
    told: HashMap<ConnectionId, u64>,
    /// Those whose access has ended, with the last rev that they may be told.
    removed: HashMap<ConnectionId, u64>,
}

impl World {
    fn new() -> Self {
        Self {
            feed: Feed::new(0, 1, Listeners::default()),
            rev: 0,
            access_rev: 1,
            bus: vec![],
            asked: vec![],
            finds: (0, vec![]),
            coming: HashMap::default(),
            told: HashMap::default(),
            removed: HashMap::default(),
        }
    }

    fn range(from: u64, to: u64) -> Frame {
        Frame::encode(&(from, to))
    }

    fn run(&mut self, act: Act) {
        let steps = match act {
            Act::Commit => {
                self.rev += 1;
                self.bus.push((self.rev, self.access_rev, None));
                vec![]
            }
            Act::Remove(which) => {
                if let Some(whom) = self.some(which) {
                    self.access_rev += 1;
                    self.removed.entry(whom).or_insert(self.rev);
                    self.bus.push((0, self.access_rev, Some(whom)));
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
                    None => self.feed.changed(rev, access_rev, Self::range(rev - 1, rev)),
                }
            }
            Act::Join { number, behind } => {
                let (who, have) = (socket(number), self.rev.saturating_sub(behind));
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
            // As it was when it was asked.
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
                let to = self.rev.min(from_rev + page);
                self.feed.bridged(Bridge {
                    complete: to == self.rev,
                    ..bridge(from_rev, to, self.access_rev, Self::range(from_rev, to))
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
            let (from, until): (u64, u64) = serde_json::from_slice(frame.bytes()).expect("a range");
            for who in to.iter() {
                let have = self.told.get_mut(who).expect("told after leaving");
                assert!(from <= *have && *have < until, "{who:?} has {have}, told {from}..{until}");
                *have = until;
                let last = self.removed.get(who).copied().unwrap_or(u64::MAX);
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
        prop_assert!(world.feed.recent.len() <= RECENT);
    }
}

#[test]
fn feeds_with_the_same_listeners_share_a_list_of_them() {
    let mut sharing = Sharing::default();
    let mut feeds = [(); 2].map(|()| Feed::new(4, 1, Listeners::default()));
    for (feed, order) in feeds.iter_mut().zip([[1, 2, 3], [3, 1, 2]]) {
        for number in order {
            feed.join(socket(number), 4, 1);
        }
        feed.share(&mut sharing);
    }
    assert!(Arc::ptr_eq(&feeds[0].audience(), &feeds[1].audience()));
}
