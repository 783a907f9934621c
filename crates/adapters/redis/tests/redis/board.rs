//! What operators see and do, beyond the contract.

use std::time::Duration;

use parlance_application::{
    Error, Result,
    ports::{Claim, JobBoard, JobCounts, JobQueue, JobState, MinuteView, Verdict, WorkerView},
};
use parlance_domain::Timestamp;
use parlance_redis::RedisJobs;
use parlance_testkit::PATIENCE;
use tokio::time::{sleep, timeout};

use super::{
    jobs::{AT, claim, job, quick},
    server_time, unique, url,
};

fn board() -> RedisJobs {
    RedisJobs::connect(&url(), quick(&unique(), "one")).expect("a URL")
}

fn dead(error: &str) -> Verdict {
    Verdict::Dead { error: error.to_owned() }
}

fn later(error: &str, by: Duration) -> Verdict {
    Verdict::Retry { error: error.to_owned(), at: AT + by }
}

async fn settle(jobs: &RedisJobs, claim: &Claim, verdict: Verdict) {
    jobs.settle(claim, verdict, AT).await.expect("settles");
}

/// The ids of a state, by their numbers.
async fn numbers(jobs: &RedisJobs, state: JobState, offset: usize, limit: usize) -> Vec<u128> {
    let views = jobs.jobs(state, offset, limit, AT).await.expect("answers");
    assert!(views.iter().all(|view| view.state == state));
    views.iter().map(|view| view.job.id.0.as_u128()).collect()
}

#[track_caller]
fn not_found<T>(outcome: Result<T>) {
    assert!(matches!(outcome.err(), Some(Error::NotFound(_))), "not `NotFound`");
}

#[tokio::test]
async fn each_state_is_counted_and_listed() {
    let jobs = board();
    jobs.add((1..=6).map(job).collect(), AT).await.expect("adds");
    for verdict in [Verdict::Done, Verdict::Done, dead("a"), dead("b")] {
        let claim = claim(&jobs).await;
        settle(&jobs, &claim, verdict).await;
        let ended = jobs.job(claim.job.id, AT).await.expect("a job").finished_at.expect("a time");
        // What ends in the same millisecond has no order.
        while server_time().await <= ended {}
    }
    let fifth = claim(&jobs).await;
    settle(&jobs, &fifth, later("busy", Duration::from_mins(1))).await;
    claim(&jobs).await;
    jobs.add((7..=11).map(job).collect(), AT).await.expect("adds");

    let counts = jobs.counts(AT).await.expect("answers");
    let expected = JobCounts { waiting: 5, delayed: 1, active: 1, stalled: 0, done: 2, dead: 2 };
    assert_eq!(counts, expected);
    assert_eq!(numbers(&jobs, JobState::Waiting, 0, 10).await, [7, 8, 9, 10, 11]);
    assert_eq!(numbers(&jobs, JobState::Waiting, 1, 2).await, [8, 9]);
    assert_eq!(numbers(&jobs, JobState::Waiting, 5, 2).await, []);
    assert_eq!(numbers(&jobs, JobState::Waiting, 0, 0).await, []);
    assert_eq!(numbers(&jobs, JobState::Delayed, 0, 10).await, [5]);
    assert_eq!(numbers(&jobs, JobState::Active, 0, 10).await, [6]);
    assert_eq!(numbers(&jobs, JobState::Done, 0, 10).await, [2, 1]);
    assert_eq!(numbers(&jobs, JobState::Dead, 0, 1).await, [4]);
}

#[tokio::test]
async fn a_job_shows_its_history() {
    let jobs = board();
    jobs.add(vec![job(1)], AT).await.expect("adds");
    let waiting = jobs.job(job(1).id, AT).await.expect("a job");
    assert_eq!((waiting.state, waiting.attempts, waiting.errors.len()), (JobState::Waiting, 0, 0));

    let first = claim(&jobs).await;
    let active = jobs.job(job(1).id, AT).await.expect("a job");
    assert_eq!((active.state, active.attempts, active.stalled), (JobState::Active, 1, false));
    assert!(active.started_at.is_some_and(|at| at >= active.added_at));

    settle(&jobs, &first, later("first", Duration::from_mins(5))).await;
    let delayed = jobs.job(job(1).id, AT).await.expect("a job");
    let wait = delayed.run_at.expect("a time").since(delayed.started_at.expect("a time"));
    assert!((290..=310).contains(&wait.as_secs()), "{wait:?}");
    assert_eq!(delayed.finished_at, None);

    jobs.promote(job(1).id, AT).await.expect("promotes");
    let second = claim(&jobs).await;
    assert_eq!(second.attempt, 2);
    settle(&jobs, &second, dead(&"long ".repeat(1000))).await;
    let ended = jobs.job(job(1).id, AT).await.expect("a job");
    assert_eq!((ended.state, ended.attempts), (JobState::Dead, 2));
    assert!(ended.finished_at.is_some_and(|at| at >= ended.added_at));
    assert_eq!(ended.errors.len(), 2);
    assert_eq!((&*ended.errors[0], ended.errors[1].len()), ("first", 1000));
    assert_eq!(ended.job, job(1));
}

#[tokio::test]
async fn the_last_thousand_done_are_kept() {
    let jobs = board();
    jobs.add((1..=1050).map(job).collect(), AT).await.expect("adds");
    let work = async {
        let mut left = 1050;
        while left > 0 {
            let claims = jobs.claim(100, AT, Duration::from_mins(1)).await.expect("answers");
            left -= claims.len();
            for claim in &claims {
                settle(&jobs, claim, Verdict::Done).await;
            }
        }
    };
    timeout(PATIENCE, work).await.expect("the work is done in time");
    assert_eq!(jobs.counts(AT).await.expect("answers").done, 1000);
    not_found(jobs.job(job(1).id, AT).await);
    jobs.job(job(1050).id, AT).await.expect("kept");
}

#[tokio::test]
async fn workers_are_shown_while_they_live() {
    let prefix = unique();
    let one = RedisJobs::connect(&url(), quick(&prefix, "one two:3")).expect("a URL");
    one.add(vec![job(1)], AT).await.expect("adds");
    assert_eq!(one.workers(AT).await.expect("answers"), [], "it has not asked for jobs yet");
    claim(&one).await;
    let view = WorkerView { name: "one-two-3".to_owned(), holds: vec![job(1).id] };
    assert_eq!(one.workers(AT).await.expect("answers"), [view]);

    let two = RedisJobs::connect(&url(), quick(&prefix, "two")).expect("a URL");
    drop(one);
    let silent = async {
        while !two.workers(AT).await.expect("answers").is_empty() {
            sleep(Duration::from_millis(10)).await;
        }
        while two.counts(AT).await.expect("answers").stalled == 0 {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, silent).await.expect("its silence is noticed");
    assert!(two.job(job(1).id, AT).await.expect("a job").stalled);
}

#[tokio::test]
async fn ends_are_counted_by_the_minute() {
    let jobs = board();
    jobs.add((1..=4).map(job).collect(), AT).await.expect("adds");
    let minute = Duration::from_mins(1);
    for (verdict, at) in [
        (Verdict::Done, AT),
        (Verdict::Done, AT),
        (dead("x"), AT + minute),
        (later("y", minute), AT + minute),
    ] {
        let claim = claim(&jobs).await;
        jobs.settle(&claim, verdict, at).await.expect("settles");
    }
    let start = AT.as_millis() - AT.as_millis() % 60_000;
    let view = |n: i64, done, failed| MinuteView {
        at: Timestamp::from_millis(start + n * 60_000),
        done,
        failed,
    };
    let shown = jobs.throughput(4, AT + minute * 2).await.expect("answers");
    assert_eq!(shown, [view(-1, 0, 0), view(0, 2, 0), view(1, 0, 1), view(2, 0, 0)]);
    assert_eq!(jobs.throughput(10_000, AT).await.expect("answers").len(), 240);
}
