//! What the embedded queue keeps and counts, beyond the shared contract of the board.

use std::time::Duration;

use parlance_application::ports::{JobBoard, JobQueue, Verdict, store::Outbox};
use parlance_domain::Timestamp;

use crate::world::*;

const LEASE: Duration = Duration::from_secs(30);

fn at(ms: i64) -> Timestamp {
    Timestamp::from_millis(ms)
}

#[tokio::test]
async fn the_last_thousand_done_jobs_are_kept_and_all_are_counted() {
    let world = world().await;
    let store = &world.store;
    store.add((1..=1_003).map(|n| job(n, ADA)).collect(), at(0)).await.expect("adds");
    let claims = store.claim(2_000, at(0), LEASE).await.expect("claims");
    for (claim, ms) in claims.iter().zip(1..) {
        store.settle(claim, Verdict::Done, at(ms)).await.expect("settles");
    }
    assert_eq!(store.counts(at(2_000)).await.expect("counts").done, 1_000);
    for n in 1..=3 {
        assert!(not_found(store.job(job(n, ADA).id, at(2_000)).await));
    }
    let minutes = store.throughput(2, at(60_000)).await.expect("counts");
    let counted: Vec<_> = minutes.iter().map(|m| (m.at, m.done, m.failed)).collect();
    assert_eq!(counted, [(at(0), 1_003, 0), (at(60_000), 0, 0)]);
}

#[tokio::test]
async fn counts_older_than_four_hours_are_forgotten() {
    let world = world().await;
    let store = &world.store;
    store.add(vec![job(1, ADA), job(2, ADA)], at(0)).await.expect("adds");
    let claims = store.claim(2, at(0), LEASE).await.expect("claims");
    let later = at(0) + Duration::from_hours(4);
    store.settle(&claims[0], Verdict::Done, at(0)).await.expect("settles");
    let before = store.throughput(240, at(239 * 60_000)).await.expect("counts");
    store
        .settle(&claims[1], Verdict::Dead { error: "x".to_owned() }, later)
        .await
        .expect("settles");
    let after = store.throughput(240, at(239 * 60_000)).await.expect("counts");
    assert_eq!((before[0].done, after[0].done), (1, 0));
    let last = store.throughput(1, later).await.expect("counts");
    assert_eq!((last.len(), last[0].failed), (1, 1));
}

#[tokio::test]
async fn a_lost_lease_is_noted_as_a_failure() {
    let world = world().await;
    let store = &world.store;
    store.add(vec![job(1, ADA)], at(0)).await.expect("adds");
    store.claim(1, at(0), LEASE).await.expect("claims");
    assert!(store.job(job(1, ADA).id, at(30_000)).await.expect("reads").stalled);
    store.claim(1, at(30_000), LEASE).await.expect("claims");
    let view = store.job(job(1, ADA).id, at(30_001)).await.expect("reads");
    assert_eq!(view.errors, ["the worker went silent"]);
    assert_eq!((view.stalled, view.started_at), (false, Some(at(30_000))));
}

#[tokio::test]
async fn a_buried_job_is_not_handed_on_but_may_run() {
    let world = world().await;
    let store = &world.store;
    let jobs = store.take_unfinished(9, at(0), at(10)).await.expect("takes");
    store.bury(jobs[0].id).await.expect("buries");
    assert_eq!(store.take_unfinished(9, at(11), at(12)).await.expect("takes"), jobs[1..]);
    assert!(store.is_unfinished(jobs[0].id).await.expect("reads"));
    store.finish(jobs[0].id).await.expect("finishes");
    assert!(!store.is_unfinished(jobs[0].id).await.expect("reads"));
}

#[tokio::test]
async fn a_process_that_asks_for_no_jobs_is_no_worker() {
    let world = world().await;
    let store = &world.store;
    let workers = async |ms| store.workers(at(ms)).await.expect("answers").len();
    assert_eq!(workers(0).await, 0);
    store.claim(1, at(0), LEASE).await.expect("claims");
    assert_eq!((workers(60_000).await, workers(60_001).await), (1, 0));
}
