//! What Redis may lose: all that it has kept, a single key, an answer.

use std::{sync::Arc, time::Duration};

use deadpool_redis::redis;
use parlance_application::{
    jobs::{RetryPolicy, Runner, Task},
    ports::{
        JobBoard, JobCounts, JobQueue, Verdict,
        store::{Accounts, Outbox},
    },
};
use parlance_redis::RedisJobs;
use parlance_testkit::{MemoryStore, PATIENCE, RecordingMailer, Stage, TestAmbient, account};
use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};

use super::{
    jobs::{AT, claim, job, quick},
    server::Server,
    unique, url,
};

async fn command(url: &str, command: &[&str]) {
    let client = redis::Client::open(url).expect("a URL");
    let mut connection = client.get_multiplexed_async_connection().await.expect("connects");
    let mut all = redis::cmd(command[0]);
    all.arg(&command[1..]);
    all.query_async::<()>(&mut connection).await.expect("obeys");
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let holds = async {
        while !holds().await {
            sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(timeout(PATIENCE, holds).await.is_ok(), "{what} in time");
}

/// Otherwise nobody could have them run again.
#[tokio::test]
async fn dead_jobs_outlive_the_memory_of_redis() {
    let server = Server::started().await;
    let queue = Arc::new(RedisJobs::connect(&server.url(), quick("bull", "one")).expect("a URL"));
    let (store, ambient) = (Arc::new(MemoryStore::new()), TestAmbient::seeded(7));
    let stage = Stage::new((*store).clone());
    let ada = account(&stage.ambient, "ada");
    let (session, mut welcome) = (stage.session(ada.id), stage.job());
    welcome.task = Task::WelcomeMail { user_id: ada.id };
    store.create_account(ada, Stage::hash(), session, welcome).await.expect("signs up");
    let mailer = RecordingMailer::default().rejecting().rejecting();
    let runner = Runner {
        outbox: store.clone(),
        queue: queue.clone(),
        accounts: store.clone(),
        workspaces: store.clone(),
        mailer: Arc::new(mailer.clone()),
        ambient: Arc::new(ambient.clone()),
        retry: RetryPolicy::default(),
        public_url: String::new(),
    };
    let stop = Arc::new(Notify::new());
    let stopped = stop.clone();
    let run = tokio::spawn(Arc::new(runner).run(async move { stopped.notified().await }));
    let dead = async || queue.counts(AT).await.is_ok_and(|counts| counts.dead == 1);
    until("it is dead", dead).await;

    ambient.advance(Duration::from_secs(1));
    command(&server.url(), &["FLUSHALL"]).await;
    until("it is run again", async || mailer.attempts() == 2).await;
    until("it is dead again", dead).await;
    stop.notify_one();
    run.await.expect("stops");
    let later = ambient.advance(Duration::from_hours(1));
    assert_eq!(store.take_unfinished(9, later, later).await.expect("answers"), []);
}

#[tokio::test]
async fn a_flush_gives_another_memory() {
    let server = Server::started().await;
    let one = RedisJobs::connect(&server.url(), quick("bull", "one")).expect("a URL");
    let two = RedisJobs::connect(&server.url(), quick("bull", "two")).expect("a URL");
    let before = one.memory().await.expect("answers");
    assert_eq!(two.memory().await.expect("answers"), before);
    command(&server.url(), &["FLUSHALL"]).await;
    let after = one.memory().await.expect("answers");
    assert_ne!(after, before);
    assert_eq!(two.memory().await.expect("answers"), after);
}

/// Their own worker would find no trace of them any more.
#[tokio::test]
async fn the_jobs_of_another_store_are_left_alone() {
    let server = Server::started().await;
    let ours = RedisJobs::connect(&server.url(), quick("bull", "one")).expect("a URL");
    let mut options = quick("bull", "two");
    options.store = "b".to_owned();
    let theirs = RedisJobs::connect(&server.url(), options).expect("a URL");
    ours.memory().await.expect("answers");
    ours.add(vec![job(1)], AT).await.expect("adds");
    assert!(theirs.claim(1, AT, Duration::from_mins(1)).await.is_err());
    assert!(theirs.memory().await.is_err());
    assert!(theirs.counts(AT).await.is_err());
    assert!(theirs.remove(job(1).id).await.is_err());
    assert_eq!(claim(&ours).await.job, job(1));

    // After that, whoever comes first owns it.
    command(&server.url(), &["FLUSHALL"]).await;
    theirs.memory().await.expect("answers");
    assert!(ours.memory().await.is_err());
    theirs.counts(AT).await.expect("answers");
}

/// Whoever looks for what has filled it sees the jobs.
#[tokio::test]
async fn a_full_redis_shows_the_jobs() {
    let server = Server::started().await;
    let jobs = RedisJobs::connect(&server.url(), quick("bull", "one")).expect("a URL");
    jobs.memory().await.expect("answers");
    jobs.add(vec![job(1)], AT).await.expect("adds");
    command(&server.url(), &["CONFIG", "SET", "maxmemory", "1"]).await;
    let counts = jobs.counts(AT).await.expect("answers");
    assert_eq!(counts, JobCounts { waiting: 1, ..JobCounts::default() });
    assert!(jobs.add(vec![job(2)], AT).await.is_err());
}

#[tokio::test]
async fn a_job_that_was_evicted_can_be_added_again() {
    let prefix = unique();
    let jobs = RedisJobs::connect(&url(), quick(&prefix, "one")).expect("a URL");
    jobs.add(vec![job(1), job(2)], AT).await.expect("adds");
    command(&url(), &["DEL", &format!("{prefix}:mail:{}", job(1).id)]).await;
    assert_eq!(claim(&jobs).await.job, job(2));
    let counts = jobs.counts(AT).await.expect("answers");
    assert_eq!(counts, JobCounts { active: 1, ..JobCounts::default() });
    jobs.add(vec![job(1)], AT).await.expect("adds");
    let again = claim(&jobs).await;
    assert_eq!((again.job, again.attempt), (job(1), 1));
}

/// The first answer is lost, but not the request.
#[tokio::test]
async fn a_verdict_that_is_sent_twice_is_noted_once() {
    let server = Server::started().await;
    let mut options = quick("bull", "one");
    options.lock = Duration::from_mins(1);
    let jobs = RedisJobs::connect(&server.url(), options).expect("a URL");
    jobs.add(vec![job(2), job(1)], AT).await.expect("adds");
    let busy = Verdict::Retry { error: "busy".to_owned(), at: AT + Duration::from_hours(1) };
    // A script that the server knows is run by the first command that names it.
    let other = claim(&jobs).await;
    jobs.settle(&other, busy.clone(), AT).await.expect("settles");
    let held = claim(&jobs).await;
    server.signal("STOP");
    let wake = async {
        sleep(Duration::from_secs(6)).await;
        server.signal("CONT");
    };
    let (settled, ()) = tokio::join!(jobs.settle(&held, busy, AT), wake);
    settled.expect("settles");
    let view = jobs.job(job(1).id, AT).await.expect("a job");
    assert_eq!(view.errors, ["busy"]);
    let counts = jobs.counts(AT).await.expect("answers");
    assert_eq!(counts, JobCounts { delayed: 2, ..JobCounts::default() });
}
