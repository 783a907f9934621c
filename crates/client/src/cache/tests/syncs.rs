//! Gaps, and how they are closed.

use super::*;

#[test]
fn one_sync_at_a_time_and_again_for_what_came_meanwhile() {
    let mut cache = welcomed();
    assert_eq!(cache.apply(&created(12, &message(4, 12))).unwrap().syncs, sync(10));
    assert_eq!(cache.apply(&created(13, &message(5, 13))).unwrap().syncs, []);
    assert_eq!(cache.apply(&replay(12, 14, &[])).unwrap().syncs, []);
    assert_eq!(cache.sync_of("c"), sync(10).pop());
    // The page was read before 13 and 14 were committed.
    let applied = cache.synced(&page(10, 12, &[message(3, 11), message(4, 12)])).unwrap();
    assert_eq!((seqs(&applied.created), applied.syncs), (vec![3, 4], sync(12)));
    let applied = cache.synced(&page(12, 14, &[message(5, 13)])).unwrap();
    assert_eq!((cache.cursor("c"), applied.syncs), (Some(14), vec![]));
    assert_eq!(cache.sync_of("c"), None);
    // Live again.
    cache.apply(&created(15, &message(6, 15))).unwrap();
    assert_eq!(cache.cursor("c"), Some(15));
}

#[test]
fn an_incomplete_page_is_asked_on_from_its_end() {
    let mut cache = welcomed();
    cache.apply(&created(12, &message(4, 12))).unwrap();
    // The head has moved on since, and the answer does not reach it.
    let mut first = page(10, 15, &[message(3, 11)]);
    first["complete"] = false.into();
    assert_eq!(cache.synced(&first).unwrap().syncs, sync(15));
    assert_eq!(cache.synced(&page(15, 20, &[message(9, 20)])).unwrap().syncs, []);
    assert_eq!(held(&cache), [(3, 11), (9, 20)]);
}

#[test]
fn a_hole_that_a_replay_has_closed_meanwhile_makes_the_answer_superfluous() {
    let mut cache = welcomed();
    assert_eq!(cache.apply(&created(12, &message(4, 12))).unwrap().syncs, sync(10));
    cache.apply(&replay(10, 12, &[message(3, 11), message(4, 12)])).unwrap();
    assert_eq!(cache.apply(&created(14, &message(6, 14))).unwrap().syncs, [], "one is on its way");
    // It was read before 13: what was seen beyond is asked for again.
    let applied = cache.synced(&page(10, 12, &[message(3, 11)])).unwrap();
    assert_eq!((applied.duplicates, applied.syncs), (0, sync(12)));
    // A server that has nothing more is believed.
    assert_eq!(cache.synced(&page(12, 12, &[])).unwrap().syncs, []);
    assert_eq!(cache.apply(&created(14, &message(6, 14))).unwrap().syncs, sync(12));
}

#[test]
fn a_sync_that_fails_is_forgotten() {
    let mut cache = welcomed();
    assert_eq!(cache.apply(&created(12, &message(4, 12))).unwrap().syncs, sync(10));
    cache.sync_failed("c");
    cache.sync_failed("gone");
    assert_eq!(cache.apply(&created(13, &message(4, 12))).unwrap().syncs, sync(10));
    // And so is one whose connection was lost.
    cache.welcome(&hello("one", &[summary("c", 13, 4)], &[])).unwrap();
    assert_eq!(cache.apply(&created(14, &message(4, 12))).unwrap().syncs, sync(10));
}

#[test]
fn a_reset_drops_the_cache_of_the_conversation() {
    for answer in [false, true] {
        let mut cache = welcomed();
        cache.apply(&created(11, &message(3, 11))).unwrap();
        let mut reset = if answer { page(0, 6, &[]) } else { replay(0, 6, &[]) };
        reset["reset"] = true.into();
        let applied = if answer { cache.synced(&reset) } else { cache.apply(&reset) }.unwrap();
        assert!(applied.reset);
        assert_eq!((cache.cursor("c"), held(&cache)), (Some(6), vec![]));
        assert_eq!(cache.conversation("c").unwrap().facts()["name"], "c at 6");
        // Events of the new history that came before the answer may have been mistaken for old ones.
        assert_eq!(applied.syncs, if answer { sync(6) } else { vec![] });
        if answer {
            assert_eq!(cache.synced(&page(6, 6, &[])).unwrap().syncs, []);
        }
        assert_eq!(seqs(&cache.apply(&created(7, &message(10, 7))).unwrap().created), [10]);
    }
}
