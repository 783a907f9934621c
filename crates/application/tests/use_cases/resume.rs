//! What a returning client is told, planned and paged.

use parlance_application::{
    Error, Unauthenticated,
    live::{Asked, CatchUp, Next, Resume},
    ports::store::{ReplayPage, Snapshot, SnapshotEntry},
};
use parlance_domain::{AccessRev, Conversation, ConversationId, Rev, SessionRev};
use parlance_testkit::{channel, summary};
use serde_json::Value;
use uuid::Uuid;

const MIB: usize = 1024 * 1024;

fn id(n: u128) -> ConversationId {
    ConversationId(Uuid::from_u128(n))
}

/// Conversations 1, 2, 3 …, each at rev 10, most recently active first.
fn snapshot(count: u128) -> Snapshot {
    let entry =
        |n| SnapshotEntry { summary: summary(channel(id(n), 10)), access_rev: AccessRev(3) };
    let conversations = (1..=count).map(entry).collect();
    Snapshot { epoch: "one".into(), workspaces: vec![], conversations }
}

fn resume(epoch: &str, cursors: &[(u128, u64)]) -> Resume {
    let cursors = cursors.iter().map(|(n, rev)| (id(*n), Rev(*rev))).collect();
    Resume { epoch: epoch.into(), cursors }
}

fn page(conversation: Conversation, from_rev: u64, to_rev: u64, complete: bool) -> ReplayPage {
    let (messages, reset, access_rev) = (vec![], false, AccessRev(4));
    let session_rev = SessionRev::ZERO;
    ReplayPage {
        from_rev: Rev(from_rev),
        to_rev: Rev(to_rev),
        complete,
        reset,
        messages,
        conversation,
        access_rev,
        session_rev,
    }
}

/// Weighs all that is asked for.
fn weighed(
    snapshot: &Snapshot,
    resume: &Resume,
    weight: impl Fn(ConversationId) -> usize,
) -> CatchUp {
    let mut catch_up = CatchUp::new(snapshot, Some(resume));
    while let Some((asked, _)) = catch_up.to_weigh() {
        catch_up.weighed(&asked.iter().map(|(id, _)| weight(*id)).collect::<Vec<_>>());
    }
    catch_up
}

#[test]
fn who_comes_for_the_first_time_or_has_everything_is_replayed_nothing() {
    let snapshot = snapshot(2);
    assert_eq!(CatchUp::new(&snapshot, None).next(), None);
    let catch_up = CatchUp::new(&snapshot, Some(&resume("one", &[(1, 10), (7, 3)])));
    assert_eq!((catch_up.to_weigh(), catch_up.next()), (None, None));
}

#[test]
fn is_told_page_by_page() {
    let snapshot = snapshot(3);
    let mut catch_up = weighed(&snapshot, &resume("one", &[(3, 9), (1, 4)]), |_| 5_000);
    assert_eq!(
        catch_up.pending().map(|head| head.conversation_id).collect::<Vec<_>>(),
        [id(1), id(3)],
        "most recent first"
    );
    assert_eq!(catch_up.next(), Some(Next::Read(id(1), Rev(4))));

    let first = catch_up.page(Ok(page(channel(id(1), 11), 4, 7, false)));
    assert!(matches!(first, Ok(Asked::Tell(page)) if page.then.is_none()));
    assert_eq!(catch_up.next(), Some(Next::Read(id(1), Rev(7))), "on from where it ended");
    let last = catch_up.page(Ok(page(channel(id(1), 11), 7, 11, true)));
    let Ok(Asked::Tell(last)) = last else { unreachable!("{last:?}") };
    let then = last.then.expect("the last one");
    assert_eq!(
        (then.conversation_id, then.rev, then.access_rev),
        (id(1), Rev(11), AccessRev(3)),
        "as of the snapshot"
    );
    catch_up.done();
    assert_eq!(catch_up.next(), Some(Next::Read(id(3), Rev(9))));
    catch_up.done();
    assert_eq!(catch_up.next(), None);
}

#[test]
fn no_page_is_kept() {
    let mut catch_up = weighed(&snapshot(1), &resume("one", &[(1, 4)]), |_| 1);
    for (from_rev, to_rev) in [(4, 7), (7, 10)] {
        assert_eq!(
            catch_up.next(),
            Some(Next::Read(id(1), Rev(from_rev))),
            "before it is asked for"
        );
        let page = page(channel(id(1), 10), from_rev, to_rev, to_rev == 10);
        let Ok(Asked::Tell(page)) = catch_up.page(Ok(page)) else { unreachable!("not told") };
        let frame = page.frame.expect("a frame");
        assert!(frame.bytes().is_unique(), "after it was told");
    }
}

#[test]
fn what_does_not_fit_is_left_behind() {
    let snapshot = snapshot(4);
    let everything = resume("one", &[(1, 0), (2, 0), (3, 0), (4, 0)]);
    let weight = |of| if of == id(2) { MIB } else { MIB * 2 / 3 };
    let catch_up = weighed(&snapshot, &everything, weight);
    assert_eq!(
        catch_up.pending().map(|head| head.conversation_id).collect::<Vec<_>>(),
        [id(1), id(2)]
    );
    assert_eq!(catch_up.behind(), [id(3), id(4)]);
}

/// A question to the store is only as long as what it can cost.
#[test]
fn more_are_weighed_at_once_while_all_fit() {
    let snapshot = snapshot(1_000);
    let cursors: Vec<_> = (1..=1_000).map(|n| (n, 0)).collect();
    let mut catch_up = CatchUp::new(&snapshot, Some(&resume("one", &cursors)));
    let mut asked = vec![];
    for heavy in [false, false, false, false, true, false] {
        let (of, _) = catch_up.to_weigh().expect("a question");
        asked.push(of.len());
        let mut weights = vec![1; of.len()];
        weights[0] = if heavy { 3 * MIB } else { 1 };
        catch_up.weighed(&weights);
    }
    assert_eq!(asked, [8, 16, 32, 64, 64, 8]);
}

#[test]
fn the_search_for_what_still_fits_ends() {
    let snapshot = snapshot(1_000);
    let cursors: Vec<_> = (1..=1_000).map(|n| (n, 0)).collect();
    let resume = resume("one", &cursors);
    let mut catch_up = CatchUp::new(&snapshot, Some(&resume));
    let (asked, most) = catch_up.to_weigh().expect("a question");
    assert!(asked.len() == 8 && most == 2 * MIB);
    catch_up.weighed(&vec![3 * MIB; asked.len()]);
    assert_eq!((catch_up.to_weigh(), catch_up.behind().len()), (None, 1_000));
}

#[test]
fn another_history_is_reset() {
    let snapshot = snapshot(2);
    for resume in [resume("two", &[(2, 3)]), resume("one", &[(2, 11)])] {
        let mut catch_up = weighed(&snapshot, &resume, |_| unreachable!("a reset weighs nothing"));
        let Some(Next::Tell(page)) = catch_up.next() else { unreachable!("not a reset") };
        let frame = page.frame.expect("a frame");
        let frame: Value = serde_json::from_slice(frame.bytes()).expect("JSON");
        assert_eq!((&frame["reset"], &frame["to_rev"]), (&true.into(), &10.into()));
        assert_eq!(
            page.then.map(|head| (head.rev, head.access_rev)),
            Some((Rev(10), AccessRev(3)))
        );
        catch_up.done();
        assert_eq!(catch_up.next(), None);
    }
}

#[test]
fn who_lost_access_is_told_nothing_more_of_it() {
    let snapshot = snapshot(2);
    let mut catch_up = weighed(&snapshot, &resume("one", &[(1, 0), (2, 0)]), |_| 1);
    let asked = catch_up.page(Err(Error::NotFound("conversation")));
    assert_eq!(asked.ok(), Some(Asked::LostAccess));
    assert_eq!(catch_up.next(), Some(Next::Read(id(2), Rev(0))));
}

/// Or their client would forget a conversation that they are still in.
#[test]
fn whose_session_has_ended_is_not_told_that_they_left() {
    let snapshot = snapshot(2);
    let mut catch_up = weighed(&snapshot, &resume("one", &[(1, 0), (2, 0)]), |_| 1);
    let asked = catch_up.page(Err(Unauthenticated::Revoked.into()));
    assert_eq!(asked.ok(), Some(Asked::InVain));
    assert_eq!(catch_up.next(), None);
}

#[test]
fn a_silent_store_is_asked_again() {
    let snapshot = snapshot(1);
    let mut catch_up = weighed(&snapshot, &resume("one", &[(1, 6)]), |_| 1);
    assert!(catch_up.page(Err(Error::unavailable("gone"))).is_err());
    assert_eq!(catch_up.next(), Some(Next::Read(id(1), Rev(6))));
}

#[test]
fn what_cannot_be_read_is_left_behind() {
    let snapshot = snapshot(2);
    let mut catch_up = weighed(&snapshot, &resume("one", &[(1, 6), (2, 6)]), |_| 1);
    let defect = || Err(Error::internal("a row"));
    assert!(catch_up.page(defect()).is_err() && catch_up.page(defect()).is_err());
    assert!(matches!(catch_up.page(Ok(page(channel(id(1), 10), 6, 8, false))), Ok(Asked::Tell(_))));
    // Another page, which has its own tries.
    assert!(catch_up.page(defect()).is_err() && catch_up.page(defect()).is_err());
    assert!(catch_up.page(Err(Error::unavailable("gone"))).is_err());
    let Ok(Asked::Tell(none)) = catch_up.page(defect()) else { unreachable!("asked again") };
    let head = snapshot.conversations[0].head();
    assert_eq!((none.frame, none.then), (None, Some(head)), "joins without it");
    catch_up.done();
    assert_eq!(catch_up.next(), Some(Next::Read(id(2), Rev(6))));
}
