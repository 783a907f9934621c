use std::time::Duration;

use parlance_application::ports::{JobQueue, Verdict, store::Outbox};
use parlance_domain::{JobId, Timestamp};
use uuid::Uuid;

use crate::world::*;

const LEASE: Duration = Duration::from_secs(30);

fn at(ms: i64) -> Timestamp {
    Timestamp::from_millis(ms)
}

#[tokio::test]
async fn a_lost_lease_goes_to_another_worker() {
    let world = world().await;
    let store = &world.store;
    store.add(vec![job(1, ADA), job(2, BOB), job(1, BOB)], at(0)).await.expect("adds");
    assert_eq!(store.depth().await.expect("counts"), (2, 0));
    let first = store.claim(1, at(0), LEASE).await.expect("claims");
    assert_eq!((first.len(), &first[0].job, first[0].attempt), (1, &job(1, ADA), 1));
    let second = store.claim(9, at(1), LEASE).await.expect("claims");
    assert_eq!(second[0].job, job(2, BOB));
    assert!(store.claim(9, at(29_999), LEASE).await.expect("claims").is_empty());

    let taken = store.claim(1, at(30_000), LEASE).await.expect("claims");
    assert_eq!((&taken[0].job, taken[0].attempt), (&job(1, ADA), 2));
    // The first worker comes back too late.
    store.settle(&first[0], Verdict::Done, at(30_001)).await.expect("changes nothing");
    assert_eq!(store.depth().await.expect("counts"), (2, 0));
    let retry = Verdict::Retry { error: "later".to_owned(), at: at(100_000) };
    store.settle(&taken[0], retry, at(30_002)).await.expect("settles");
    store
        .settle(&second[0], Verdict::Dead { error: "never".to_owned() }, at(30_002))
        .await
        .expect("settles");
    assert_eq!(store.depth().await.expect("counts"), (1, 1));
    assert!(store.claim(9, at(99_999), LEASE).await.expect("claims").is_empty());
    let third = store.claim(9, at(100_000), LEASE).await.expect("claims");
    assert_eq!(third[0].attempt, 3);
    store.settle(&third[0], Verdict::Done, at(100_001)).await.expect("settles");
    store.add(vec![job(1, ADA), job(2, BOB)], at(100_002)).await.expect("adds nothing");
    assert_eq!(store.depth().await.expect("counts"), (0, 1));
}

#[tokio::test]
async fn the_outbox_keeps_a_job_until_it_has_ended() {
    let world = world().await;
    let store = &world.store;
    let jobs = store.take_unfinished(2, at(0), at(10)).await.expect("takes");
    assert_eq!(
        jobs.iter().map(|job| job.id).collect::<Vec<_>>(),
        [JobId(Uuid::from_u128(1)), JobId(Uuid::from_u128(2))]
    );
    assert_eq!(store.take_unfinished(9, at(10), at(11)).await.expect("takes").len(), 1);
    assert!(store.take_unfinished(9, at(10), at(12)).await.expect("takes").is_empty());
    assert_eq!(store.take_unfinished(9, at(11), at(12)).await.expect("takes").len(), 2);
    assert!(store.is_unfinished(jobs[0].id).await.expect("reads"));
    store.finish(jobs[0].id).await.expect("finishes");
    assert!(!store.is_unfinished(jobs[0].id).await.expect("reads"));
}
