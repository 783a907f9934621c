//! The rules of a feed, one by one. `any_order.rs` tests them together, at random.

use super::*;

mod any_order;

fn socket(number: u32) -> ConnectionId {
    ConnectionId { worker: 0, number }
}

fn frame(rev: u64) -> Frame {
    Frame::encode(&rev)
}

fn bridge(from_rev: u64, to_rev: u64, access_rev: u64, frame: Frame) -> Bridge {
    let (from_rev, to_rev, access_rev) = (Rev(from_rev), Rev(to_rev), AccessRev(access_rev));
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
    let mut feed = Feed::new(Rev(4), AccessRev(1), Listeners::default());
    assert_eq!(feed.join(socket(1), Rev(4), AccessRev(1)), []);
    assert_eq!(all(&feed.changed(Rev(5), AccessRev(1), frame(5))), [(vec![1], "5".into())]);
    assert_eq!(feed.changed(Rev(5), AccessRev(1), frame(5)), []);
    assert_eq!(feed.changed(Rev(3), AccessRev(1), frame(3)), []);
}

#[test]
fn bridges_a_hole_from_the_store() {
    let mut feed = Feed::new(Rev(4), AccessRev(1), Listeners::default());
    feed.join(socket(1), Rev(4), AccessRev(1));
    assert_eq!(
        all(&feed.changed(Rev(7), AccessRev(1), frame(7))),
        [(vec![], "read from 4".into())]
    );
    // Only one read at a time, and an event that closes part of the hole still passes.
    assert_eq!(all(&feed.changed(Rev(5), AccessRev(1), frame(5))), [(vec![1], "5".into())]);
    assert_eq!(
        all(&feed.bridged(bridge(4, 6, 1, frame(46)))),
        [(vec![1], "46".into()), (vec![], "read from 6".into())]
    );
    assert_eq!(all(&feed.bridged(bridge(6, 8, 1, frame(68)))), [(vec![1], "68".into())]);
    assert_eq!(feed.changed(Rev(8), AccessRev(1), frame(8)), []);
    assert_eq!(all(&feed.changed(Rev(9), AccessRev(1), frame(9))), [(vec![1], "9".into())]);
}

#[test]
fn asks_again_when_the_store_did_not_answer() {
    let mut feed = Feed::new(Rev(0), AccessRev(1), Listeners::default());
    feed.join(socket(1), Rev(0), AccessRev(1));
    feed.changed(Rev(2), AccessRev(1), frame(2));
    feed.unread();
    assert_eq!(all(&feed.retry()), [(vec![], "read from 0".into())]);
    assert_eq!(feed.retry(), []);
}

#[test]
fn catches_up_who_joins_a_little_behind() {
    let mut feed = Feed::new(Rev(0), AccessRev(1), Listeners::default());
    feed.join(socket(1), Rev(0), AccessRev(1));
    for rev in 1..=3 {
        feed.changed(Rev(rev), AccessRev(1), frame(rev));
    }
    assert_eq!(
        all(&feed.join(socket(2), Rev(1), AccessRev(1))),
        [(vec![2], "2".into()), (vec![2], "3".into())]
    );
    assert_eq!(all(&feed.changed(Rev(4), AccessRev(1), frame(4))), [(vec![1, 2], "4".into())]);
}

#[test]
fn reads_the_store_for_who_joins_far_behind() {
    let mut feed = Feed::new(Rev(100), AccessRev(1), Listeners::default());
    feed.join(socket(1), Rev(100), AccessRev(1));
    assert_eq!(
        all(&feed.join(socket(2), Rev(10), AccessRev(1))),
        [(vec![], "read from 10".into())]
    );
    assert_eq!(all(&feed.changed(Rev(101), AccessRev(1), frame(101))), [(vec![1], "101".into())]);
    // The page ends before the feed's position, and the rest is in the recent frames.
    assert_eq!(
        all(&feed.bridged(bridge(10, 100, 1, frame(10_100)))),
        [(vec![2], "10100".into()), (vec![2], "101".into())]
    );
    assert_eq!(
        all(&feed.changed(Rev(102), AccessRev(1), frame(102))),
        [(vec![1, 2], "102".into())]
    );
}

#[test]
fn who_joins_ahead_hears_nothing_twice() {
    let mut feed = Feed::new(Rev(4), AccessRev(1), Listeners::default());
    feed.join(socket(1), Rev(4), AccessRev(1));
    feed.join(socket(2), Rev(6), AccessRev(1));
    assert_eq!(all(&feed.changed(Rev(5), AccessRev(1), frame(5))), [(vec![1], "5".into())]);
    assert_eq!(all(&feed.changed(Rev(6), AccessRev(1), frame(6))), [(vec![1], "6".into())]);
    assert_eq!(all(&feed.changed(Rev(7), AccessRev(1), frame(7))), [(vec![1, 2], "7".into())]);
}

#[test]
fn who_left_hears_nothing_more() {
    let mut feed = Feed::new(Rev(0), AccessRev(1), Listeners::default());
    feed.join(socket(1), Rev(0), AccessRev(1));
    feed.join(socket(2), Rev(9), AccessRev(1));
    feed.leave(socket(1));
    feed.leave(socket(2));
    assert!(feed.is_empty());
    assert_eq!(all(&feed.changed(Rev(1), AccessRev(1), frame(1))), [(vec![], "1".into())]);
}

#[test]
fn what_follows_a_change_of_access_waits_for_a_check() {
    let mut feed = Feed::new(Rev(4), AccessRev(1), Listeners::default());
    feed.join(socket(1), Rev(4), AccessRev(1));
    feed.join(socket(2), Rev(4), AccessRev(1));
    assert_eq!(all(&feed.changed(Rev(5), AccessRev(2), frame(5))), [(vec![], "check".into())]);
    assert_eq!(feed.changed(Rev(6), AccessRev(2), frame(6)), [], "one check at a time");
    feed.leave(socket(2));
    assert_eq!(all(&feed.checked(AccessRev(2))), [(vec![], "read from 4".into())]);
    assert_eq!(all(&feed.bridged(bridge(4, 6, 2, frame(46)))), [(vec![1], "46".into())]);
    assert_eq!(all(&feed.changed(Rev(7), AccessRev(2), frame(7))), [(vec![1], "7".into())]);
    // What was seen after the question is not forgotten with the answer.
    assert_eq!(all(&feed.behind(Rev(0), AccessRev(4))), [(vec![], "check".into())]);
    feed.behind(Rev(0), AccessRev(5));
    assert_eq!(all(&feed.checked(AccessRev(4))), [(vec![], "check".into())]);
    assert_eq!(feed.checked(AccessRev(5)), []);
}

#[test]
fn a_replay_waits_for_a_check_too() {
    let mut feed = Feed::new(Rev(4), AccessRev(1), Listeners::default());
    feed.join(socket(1), Rev(4), AccessRev(1));
    feed.changed(Rev(6), AccessRev(1), frame(6));
    assert_eq!(all(&feed.bridged(bridge(4, 6, 2, frame(46)))), [(vec![], "check".into())]);
    feed.unchecked();
    assert_eq!(all(&feed.retry()), [(vec![], "check".into())]);
    assert_eq!(all(&feed.checked(AccessRev(2))), [(vec![1], "46".into())]);
}

#[test]
fn a_page_is_told_when_a_check_covers_it() {
    let mut feed = Feed::new(Rev(4), AccessRev(1), Listeners::default());
    feed.join(socket(1), Rev(4), AccessRev(1));
    feed.changed(Rev(7), AccessRev(1), frame(7));
    assert_eq!(all(&feed.bridged(bridge(4, 7, 3, frame(47)))), [(vec![], "check".into())]);
    assert_eq!(feed.retry(), [], "no other page is read");
    assert_eq!(all(&feed.changed(Rev(5), AccessRev(1), frame(5))), [(vec![1], "5".into())]);
    feed.behind(Rev(0), AccessRev(3));
    assert_eq!(
        all(&feed.checked(AccessRev(2))),
        [(vec![], "check".into())],
        "the last was asked before that"
    );
    assert_eq!(
        all(&feed.checked(AccessRev(2))),
        [(vec![], "read from 5".into())],
        "the store was restored"
    );
    assert_eq!(all(&feed.bridged(bridge(5, 7, 3, frame(57)))), [(vec![], "check".into())]);
    assert_eq!(all(&feed.checked(AccessRev(3))), [(vec![1], "57".into())]);
    assert_eq!(feed.retry(), []);
    // Or once the event of the change of access comes.
    feed.changed(Rev(9), AccessRev(3), frame(9));
    assert_eq!(all(&feed.bridged(bridge(7, 9, 4, frame(79)))), [(vec![], "check".into())]);
    assert_eq!(all(&feed.access_changed(AccessRev(4))), [(vec![1], "79".into())]);
}

#[test]
fn pages_leave_time_between_them() {
    let mut feed = Feed::new(Rev(0), AccessRev(1), Listeners::default());
    feed.join(socket(1), Rev(0), AccessRev(1));
    assert_eq!(all(&feed.behind(Rev(9), AccessRev(1))), [(vec![], "read from 0".into())]);
    let part = |from, to, frame| Bridge { complete: false, ..bridge(from, to, 1, frame) };
    assert_eq!(
        all(&feed.bridged(part(0, 4, frame(4)))),
        [(vec![1], "4".into()), (vec![], "read from 4".into())],
        "a short one fills nobody's queue"
    );
    let long = Frame::encode(&"x".repeat(BURST));
    let steps = feed.bridged(part(4, 6, long));
    assert_eq!(steps.last(), Some(&Step::Read { from_rev: Rev(6), after: PAUSE }));
    feed.changed(Rev(11), AccessRev(1), frame(11));
    // What has come meanwhile is read at once.
    assert_eq!(
        all(&feed.bridged(bridge(6, 9, 1, frame(69)))),
        [(vec![1], "69".into()), (vec![], "read from 9".into())]
    );
}

#[test]
fn who_is_far_behind_holds_nobody_up() {
    let mut feed = Feed::new(Rev(1_000), AccessRev(1), Listeners::default());
    feed.join(socket(1), Rev(1_000), AccessRev(1));
    assert_eq!(
        all(&feed.join(socket(2), Rev(10), AccessRev(1))),
        [(vec![], "read from 10".into())]
    );
    // All have a hole, too.
    assert_eq!(feed.changed(Rev(1_003), AccessRev(1), frame(1_003)), []);
    let part = |from, to| Bridge { complete: false, ..bridge(from, to, 1, frame(to)) };
    assert_eq!(
        all(&feed.bridged(part(10, 210))),
        [(vec![2], "210".into()), (vec![], "read from 1000".into())]
    );
    assert_eq!(feed.changed(Rev(1_005), AccessRev(1), frame(1_005)), []);
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
    let mut feed = Feed::new(Rev(4), AccessRev(1), Listeners::default());
    feed.join(socket(1), Rev(4), AccessRev(1));
    assert_eq!(feed.access_changed(AccessRev(2)), []);
    assert_eq!(all(&feed.changed(Rev(5), AccessRev(2), frame(5))), [(vec![1], "5".into())]);
    assert_eq!(all(&feed.access_changed(AccessRev(4))), [(vec![], "check".into())], "one was lost");
}

#[test]
fn who_joins_with_an_older_view_is_checked() {
    let mut feed = Feed::new(Rev(4), AccessRev(3), Listeners::default());
    feed.join(socket(1), Rev(4), AccessRev(3));
    assert_eq!(all(&feed.join(socket(2), Rev(4), AccessRev(2))), [(vec![], "check".into())]);
    // A check asked before somebody joined does not cover them.
    assert_eq!(feed.join(socket(3), Rev(4), AccessRev(2)), []);
    assert_eq!(feed.join(socket(4), Rev(4), AccessRev(3)), []);
    assert_eq!(all(&feed.checked(AccessRev(4))), [(vec![], "check".into())]);
    assert_eq!(all(&feed.changed(Rev(5), AccessRev(4), frame(5))), [(vec![1, 2], "5".into())]);
    let mut told = all(&feed.checked(AccessRev(4)));
    told.sort_unstable();
    assert_eq!(told, [(vec![3], "5".into()), (vec![4], "5".into())]);
    assert_eq!(
        all(&feed.changed(Rev(6), AccessRev(4), frame(6))),
        [(vec![1, 2, 3, 4], "6".into())]
    );
}

#[test]
fn who_joins_with_an_older_view_is_told_nothing_before_the_check() {
    let mut feed = Feed::new(Rev(4), AccessRev(1), Listeners::default());
    feed.join(socket(1), Rev(4), AccessRev(1));
    // Somebody's removal, whose event is lost; they are not a member yet.
    assert_eq!(all(&feed.behind(Rev(0), AccessRev(2))), [(vec![], "check".into())]);
    assert_eq!(all(&feed.checked(AccessRev(2))), []);
    assert_eq!(all(&feed.changed(Rev(5), AccessRev(2), frame(5))), [(vec![1], "5".into())]);
    assert_eq!(all(&feed.join(socket(2), Rev(4), AccessRev(1))), [(vec![], "check".into())]);
    feed.join(socket(3), Rev(4), AccessRev(2));
    assert!(feed.members().any(|member| member == socket(2)), "the check asks about them");
    feed.leave(socket(2));
    assert_eq!(all(&feed.checked(AccessRev(2))), []);
    let mut feed = Feed::new(Rev(4), AccessRev(2), Listeners::default());
    feed.join(socket(1), Rev(4), AccessRev(2));
    feed.changed(Rev(5), AccessRev(2), frame(5));
    feed.join(socket(2), Rev(4), AccessRev(1));
    feed.unchecked();
    assert_eq!(all(&feed.retry()), [(vec![], "check".into())]);
    assert_eq!(
        all(&feed.checked(AccessRev(2))),
        [(vec![2], "5".into())],
        "who may read is told then"
    );
}

#[test]
fn who_joins_with_an_older_view_holds_nobody_up() {
    let mut feed = Feed::new(Rev(4), AccessRev(3), Listeners::default());
    feed.join(socket(1), Rev(4), AccessRev(3));
    assert_eq!(all(&feed.join(socket(2), Rev(4), AccessRev(2))), [(vec![], "check".into())]);
    for rev in 5..=100 {
        assert_eq!(
            all(&feed.changed(Rev(rev), AccessRev(3), frame(rev))),
            [(vec![1], rev.to_string())]
        );
        // More join like that, one after another.
        feed.join(socket(u32::try_from(rev).expect("small")), Rev(rev), AccessRev(2));
    }
    assert_eq!(
        all(&feed.changed(Rev(102), AccessRev(3), frame(102))),
        [(vec![], "read from 100".into())]
    );
    let bridged = all(&feed.bridged(bridge(100, 102, 3, frame(102))));
    assert_eq!(bridged, [(vec![1], "102".into())]);
    // The first one's check has come; the others wait for the next.
    assert_eq!(
        all(&feed.checked(AccessRev(3))),
        [(vec![], "check".into()), (vec![], "read from 4".into())]
    );
}

#[test]
fn ways_in_that_were_heard_of_need_no_check() {
    let mut feed = Feed::new(Rev(4), AccessRev(1), Listeners::default());
    feed.join(socket(1), Rev(4), AccessRev(1));
    assert_eq!(all(&feed.access_changed(AccessRev(2))), []);
    assert_eq!(all(&feed.access_changed(AccessRev(3))), []);
    assert_eq!(all(&feed.join(socket(2), Rev(4), AccessRev(2))), []);
    assert_eq!(all(&feed.join(socket(3), Rev(4), AccessRev(3))), []);
    assert_eq!(all(&feed.changed(Rev(5), AccessRev(3), frame(5))), [(vec![1, 2, 3], "5".into())]);
}

#[test]
fn the_last_frames_are_kept_and_none_beyond_a_hole() {
    let mut feed = Feed::new(Rev(0), AccessRev(1), Listeners::default());
    feed.join(socket(1), Rev(0), AccessRev(1));
    for rev in (1..=100).chain(102..=300) {
        feed.changed(Rev(rev), AccessRev(1), frame(rev));
    }
    let kept = |rev| feed.recent.after(Rev(rev)).map(Iterator::count);
    assert_eq!((kept(36), kept(35), kept(100)), (Some(64), None, Some(0)));
}

#[test]
fn feeds_with_the_same_listeners_share_a_list_of_them() {
    let mut sharing = Sharing::default();
    let mut feeds = [(); 2].map(|()| Feed::new(Rev(4), AccessRev(1), Listeners::default()));
    for (feed, order) in feeds.iter_mut().zip([[1, 2, 3], [3, 1, 2]]) {
        for number in order {
            feed.join(socket(number), Rev(4), AccessRev(1));
        }
        feed.share(&mut sharing);
    }
    assert!(Arc::ptr_eq(&feeds[0].audience(), &feeds[1].audience()));
}
