//! Leases, and jobs that another version of the program has written, in the embedded queue and outbox.

use std::time::Duration;

use parlance_application::ports::{
    JobBoard, JobCounts, JobQueue, JobState, Verdict, store::Outbox,
};
use parlance_domain::{JobId, Timestamp};
use rusqlite::{Connection, params};
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
    let counts = async |ms| store.counts(at(ms)).await.expect("counts");
    assert_eq!(counts(0).await, JobCounts { waiting: 2, ..JobCounts::default() });
    let first = store.claim(1, at(0), LEASE).await.expect("claims");
    assert_eq!((first.len(), &first[0].job, first[0].attempt), (1, &job(1, ADA), 1));
    let second = store.claim(9, at(1), LEASE).await.expect("claims");
    assert_eq!(second[0].job, job(2, BOB));
    assert!(store.claim(9, at(29_999), LEASE).await.expect("claims").is_empty());

    let taken = store.claim(1, at(30_000), LEASE).await.expect("claims");
    assert_eq!((&taken[0].job, taken[0].attempt), (&job(1, ADA), 2));
    // The first worker comes back too late.
    store.settle(&first[0], Verdict::Done, at(30_001)).await.expect("changes nothing");
    assert_eq!(counts(30_000).await, JobCounts { active: 2, ..JobCounts::default() });
    let retry = Verdict::Retry { error: "later".to_owned(), at: at(100_000) };
    store.settle(&taken[0], retry, at(30_002)).await.expect("settles");
    store
        .settle(&second[0], Verdict::Dead { error: "never".to_owned() }, at(30_002))
        .await
        .expect("settles");
    assert_eq!(counts(30_002).await, JobCounts { delayed: 1, dead: 1, ..JobCounts::default() });
    assert!(store.claim(9, at(99_999), LEASE).await.expect("claims").is_empty());
    let third = store.claim(9, at(100_000), LEASE).await.expect("claims");
    assert_eq!(third[0].attempt, 3);
    store.settle(&third[0], Verdict::Done, at(100_001)).await.expect("settles");
    store.add(vec![job(1, ADA), job(2, BOB)], at(100_002)).await.expect("adds nothing");
    assert_eq!(counts(100_002).await, JobCounts { done: 1, dead: 1, ..JobCounts::default() });
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

/// What another version of the program might have written.
const STRANGE: &str = r#"{"kind":"tomorrows_mail"}"#;

/// Gives rows of a table another task.
fn rewrite(world: &World, table: &str, jobs: &[u128], task: &str) {
    let conn = Connection::open(world.dir.path().join("parlance.db")).expect("opens");
    for n in jobs {
        let update = format!("UPDATE {table} SET task = ?2 WHERE id = ?1");
        let updated = conn.execute(&update, params![Uuid::from_u128(*n), task]);
        assert_eq!(updated.expect("updates"), 1);
    }
}

#[tokio::test]
async fn a_row_that_cannot_be_read_holds_no_other_back() {
    let world = world().await;
    let store = &world.store;
    rewrite(&world, "outbox", &[1], STRANGE);
    rewrite(&world, "outbox", &[2], "{");
    let jobs = store.take_unfinished(1, at(0), at(10)).await.expect("takes");
    assert_eq!(jobs.len(), 1);
    assert!(!jobs.contains(&job(1, ADA)) && !jobs.contains(&job(2, BOB)), "{jobs:?}");
    assert!(store.is_unfinished(job(1, ADA).id).await.expect("reads"));
    // Due again together with those that were relayed.
    let task = serde_json::to_string(&job(1, ADA).task).expect("JSON");
    rewrite(&world, "outbox", &[1], &task);
    assert_eq!(store.take_unfinished(9, at(10), at(11)).await.expect("takes"), []);
    let jobs = store.take_unfinished(1, at(11), at(12)).await.expect("takes");
    assert_eq!(jobs, [job(1, ADA)]);
}

#[tokio::test]
async fn a_job_that_cannot_be_read_waits_a_minute_and_holds_no_other_up() {
    let world = world().await;
    let store = &world.store;
    let all = [job(1, ADA), job(2, BOB), job(3, ADA), job(4, BOB)];
    store.add(all.to_vec(), at(0)).await.expect("adds");
    store.claim(1, at(0), LEASE).await.expect("claims");
    rewrite(&world, "jobs", &[1, 2], STRANGE);
    // The first one's lease has expired.
    let claims = store.claim(1, at(30_000), LEASE).await.expect("claims");
    assert_eq!(claims[0].job, all[2]);
    let claims = store.claim(9, at(30_000), LEASE).await.expect("claims");
    assert_eq!(claims[0].job, all[3]);
    let shown = store.jobs(JobState::Delayed, 0, 9, at(30_000)).await.expect("lists");
    assert!(shown.is_empty() && not_found(store.job(all[1].id, at(30_000)).await), "{shown:?}");
    let expected = JobCounts { delayed: 1, active: 3, stalled: 1, ..JobCounts::default() };
    assert_eq!(store.counts(at(30_000)).await.expect("counts"), expected);

    for (n, known) in [(1, &all[0]), (2, &all[1])] {
        let task = serde_json::to_string(&known.task).expect("JSON");
        rewrite(&world, "jobs", &[n], &task);
    }
    for claim in claims {
        store.settle(&claim, Verdict::Done, at(30_001)).await.expect("settles");
    }
    assert!(store.claim(1, at(59_999), LEASE).await.expect("claims").is_empty());
    let claims = store.claim(9, at(90_000), LEASE).await.expect("claims");
    let attempts: Vec<_> = claims.into_iter().map(|claim| (claim.job, claim.attempt)).collect();
    assert_eq!(attempts[..2], [(all[2].clone(), 2), (all[0].clone(), 2)]);
    assert_eq!(attempts[2..], [(all[1].clone(), 1)]);
}
