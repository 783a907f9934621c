//! The job queue when workers and Redis come and go.

use std::time::Duration;

use bullmq::{Queue, options::QueueOptions, options::RedisConnectionOptions};
use parlance_application::{
    Error,
    jobs::{Job, Task},
    ports::{Claim, JobBoard, JobCounts, JobQueue, JobState, Verdict},
};
use parlance_domain::{JobId, Timestamp, UserId};
use parlance_redis::{RedisJobs, RedisJobsOptions};
use parlance_testkit::PATIENCE;
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

use super::{server::Server, unique, url};

pub(crate) const AT: Timestamp = Timestamp::from_millis(1_732_428_869_000);
const LEASE: Duration = Duration::from_mins(1);

/// Short locks and frequent stalled checks.
pub(crate) fn quick(prefix: &str, worker: &str) -> RedisJobsOptions {
    RedisJobsOptions {
        prefix: prefix.to_owned(),
        lock: Duration::from_millis(1500),
        stalled_check: Duration::from_millis(250),
        ..RedisJobsOptions::new("a", worker)
    }
}

pub(crate) fn job(n: u128) -> Job {
    let task = Task::WelcomeMail { user_id: UserId(Uuid::from_u128(n)) };
    Job { id: JobId(Uuid::from_u128(n)), task }
}

/// Claims until there is one, whatever the answers in between.
pub(crate) async fn claim(jobs: &RedisJobs) -> Claim {
    let one = async {
        loop {
            if let Ok(mut claims) = jobs.claim(1, AT, LEASE).await
                && let Some(claim) = claims.pop()
            {
                return claim;
            }
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, one).await.expect("a job in time")
}

#[tokio::test]
async fn a_killed_workers_job_is_taken_over() {
    let prefix = unique();
    let one = RedisJobs::connect(&url(), quick(&prefix, "one")).expect("a URL");
    let two = RedisJobs::connect(&url(), quick(&prefix, "two")).expect("a URL");
    one.add(vec![job(1)], AT).await.expect("adds");
    assert_eq!(claim(&one).await, Claim { job: job(1), attempt: 1 });
    // Nothing happens, for twice as long as an unrenewed lock lasts; no shorter time would show it.
    let until = Instant::now() + 2 * quick(&prefix, "one").lock;
    while Instant::now() < until {
        assert_eq!(two.claim(1, AT, LEASE).await.expect("answers"), [], "taken from the living");
        sleep(Duration::from_millis(50)).await;
    }
    drop(one);
    let taken = claim(&two).await;
    assert_eq!(taken, Claim { job: job(1), attempt: 2 });
    two.settle(&taken, Verdict::Done, AT).await.expect("settles");
    let counts = two.counts(AT).await.expect("answers");
    assert_eq!(counts, JobCounts { done: 1, ..JobCounts::default() });
}

#[tokio::test]
async fn many_stalls_kill_no_job() {
    let prefix = unique();
    for attempt in 1..=4 {
        let worker = format!("worker-{attempt}");
        let jobs = RedisJobs::connect(&url(), quick(&prefix, &worker)).expect("a URL");
        jobs.add(vec![job(1)], AT).await.expect("adds");
        assert_eq!(claim(&jobs).await.attempt, attempt);
    }
}

#[tokio::test]
async fn a_restart_of_redis_is_survived() {
    let mut server = Server::started().await;
    let jobs = RedisJobs::connect(&server.url(), quick("bull", "one")).expect("a URL");
    jobs.add(vec![job(1), job(2), job(3)], AT).await.expect("adds");
    let held = claim(&jobs).await;

    server.kill();
    let begun = Instant::now();
    let refused = jobs.claim(1, AT, LEASE).await;
    assert!(matches!(refused, Err(Error::Unavailable { .. })), "{refused:?}");
    assert!(matches!(jobs.counts(AT).await, Err(Error::Unavailable { .. })));
    assert!(jobs.add(vec![job(4)], AT).await.is_err());
    assert!(begun.elapsed() < PATIENCE, "a call hung");
    server.start().await;

    assert_eq!(claim(&jobs).await.job, job(2));
    jobs.settle(&held, Verdict::Done, AT).await.expect("settles");
    // The held one may have been taken over meanwhile, and is then run again.
    let third = claim(&jobs).await.job;
    assert!(third == job(3) || third == job(1), "{third:?}");
    assert_eq!(jobs.workers(AT).await.expect("answers").len(), 1);
}

#[tokio::test]
async fn a_restart_of_redis_is_told_even_if_nothing_was_asked_meanwhile() {
    let mut server = Server::started().await;
    let jobs = RedisJobs::connect(&server.url(), quick("bull", "one")).expect("a URL");
    let before = jobs.memory().await.expect("answers");
    assert_eq!(jobs.memory().await.expect("answers"), before);
    server.kill();
    server.start().await;
    let after = async {
        loop {
            if let Ok(after) = jobs.memory().await {
                return after;
            }
            sleep(Duration::from_millis(10)).await;
        }
    };
    assert_ne!(timeout(PATIENCE, after).await.expect("an answer in time"), before);
}

#[tokio::test]
async fn a_verdict_waits_out_a_restart() {
    let mut server = Server::started().await;
    let mut options = quick("bull", "one");
    options.lock = Duration::from_secs(10);
    let jobs = RedisJobs::connect(&server.url(), options).expect("a URL");
    jobs.add(vec![job(1)], AT).await.expect("adds");
    let held = claim(&jobs).await;
    server.kill();
    server.start().await;
    jobs.settle(&held, Verdict::Dead { error: "no such mailbox".to_owned() }, AT)
        .await
        .expect("settles");
    let counts = jobs.counts(AT).await.expect("answers");
    assert_eq!(counts, JobCounts { dead: 1, ..JobCounts::default() });
}

#[tokio::test]
async fn a_hanging_redis_is_noticed() {
    let server = Server::started().await;
    let jobs = RedisJobs::connect(&server.url(), quick("bull", "one")).expect("a URL");
    jobs.add(vec![job(1), job(2)], AT).await.expect("adds");
    assert_eq!(claim(&jobs).await.job, job(1));
    server.signal("STOP");
    let begun = Instant::now();
    assert!(jobs.claim(1, AT, LEASE).await.is_err());
    assert!(jobs.counts(AT).await.is_err());
    assert!(begun.elapsed() < PATIENCE, "a call hung");
    server.signal("CONT");
    // Its lock expired meanwhile, so the first may be first again.
    let (one, two) = (claim(&jobs).await, claim(&jobs).await);
    assert!([one.job, two.job].contains(&job(2)));
}

#[tokio::test]
async fn without_redis_calls_fail_and_do_not_hang() {
    let server = Server::absent();
    let jobs = RedisJobs::connect(&server.url(), quick("bull", "one")).expect("a URL");
    let begun = Instant::now();
    assert!(jobs.claim(1, AT, LEASE).await.is_err());
    assert!(jobs.add(vec![job(1)], AT).await.is_err());
    assert!(jobs.counts(AT).await.is_err());
    assert!(begun.elapsed() < Duration::from_secs(10), "a call hung");
}

#[tokio::test]
async fn a_retry_pressed_elsewhere_is_claimed() {
    let prefix = unique();
    let jobs = RedisJobs::connect(&url(), quick(&prefix, "one")).expect("a URL");
    jobs.add(vec![job(1)], AT).await.expect("adds");
    let failed = claim(&jobs).await;
    let dead = Verdict::Dead { error: "no such mailbox".to_owned() };
    jobs.settle(&failed, dead, AT).await.expect("settles");

    // As Bull Board does it.
    let mut theirs = bull(&prefix).await.get_job(&job(1).id.to_string()).await.expect("answers");
    let theirs = theirs.as_mut().expect("a job");
    assert_eq!(theirs.failed_reason(), "no such mailbox");
    assert_eq!((theirs.name(), theirs.attempts_made()), ("welcome_mail", 1));
    theirs.retry("failed", None).await.expect("retries");
    assert_eq!(claim(&jobs).await, Claim { job: job(1), attempt: 2 });
}

#[tokio::test]
async fn what_is_no_job_of_ours_is_dead() {
    let prefix = unique();
    let jobs = RedisJobs::connect(&url(), quick(&prefix, "one")).expect("a URL");
    bull(&prefix).await.add("greet", serde_json::json!({ "who": "me" })).await.expect("adds");
    jobs.add(vec![job(1)], AT).await.expect("adds");
    assert_eq!(claim(&jobs).await.job, job(1));
    let counts = jobs.counts(AT).await.expect("answers");
    assert_eq!(counts, JobCounts { active: 1, dead: 1, ..JobCounts::default() });
    let shown = jobs.jobs(JobState::Dead, 0, 10, AT).await.expect("answers");
    assert_eq!(shown, [], "it is not ours to show");
}

/// While two versions of the program are running.
#[tokio::test]
async fn a_job_of_another_version_is_left_for_it() {
    const WHY: &str = "the mail server said no";
    let prefix = unique();
    let jobs = RedisJobs::connect(&url(), quick(&prefix, "one")).expect("a URL");
    jobs.add(vec![job(1)], AT).await.expect("adds");
    let failed = claim(&jobs).await;
    let verdict = Verdict::Retry { error: WHY.to_owned(), at: AT + LEASE };
    jobs.settle(&failed, verdict, AT).await.expect("settles");
    jobs.promote(job(1).id, AT).await.expect("promotes");
    jobs.add(vec![job(2), job(3)], AT).await.expect("adds");
    let queue = bull(&prefix).await;
    let get = async |n| {
        let found = queue.get_job(&job(n).id.to_string()).await.expect("answers");
        found.expect("a job")
    };
    for n in [1, 2] {
        let strange = serde_json::json!({ "id": job(n).id, "task": { "kind": "tomorrows_mail" } });
        get(n).await.update_data(strange).await.expect("updates");
    }
    assert_eq!(claim(&jobs).await.job, job(3));
    let counts = jobs.counts(AT).await.expect("answers");
    assert_eq!((counts.delayed, counts.active, counts.dead), (2, 1, 0));
    // It was no attempt: an error each minute would push out those of real ones.
    for (n, attempts, reason) in [(1, 1, WHY), (2, 0, "")] {
        let put_off = get(n).await;
        assert_eq!((put_off.attempts_started(), put_off.attempts_made()), (attempts, attempts));
        assert_eq!(put_off.failed_reason(), reason);
    }
    let delay = jobs.jobs(JobState::Delayed, 0, 9, AT).await.expect("answers");
    assert_eq!(delay, [], "it cannot be shown");

    // To whoever knows it, it is unchanged.
    let known = serde_json::to_value(job(1)).expect("JSON");
    get(1).await.update_data(known).await.expect("updates");
    let view = jobs.job(job(1).id, AT).await.expect("is known");
    assert_eq!(view.errors, [WHY]);
    let (due, begun) = (view.run_at.expect("a time"), view.started_at.expect("a time"));
    assert!((55..=65).contains(&due.since(begun).as_secs()), "{view:?}");
    jobs.promote(job(1).id, AT).await.expect("promotes");
    assert_eq!(claim(&jobs).await, Claim { job: job(1), attempt: 2 });
}

async fn bull(prefix: &str) -> Queue {
    let connection = RedisConnectionOptions::default().url(url());
    let options = QueueOptions::default().connection(connection).prefix(prefix);
    Queue::with_options("mail", options).await.expect("connects")
}
