//! Cases of [`parlance_application::ports::JobBoard`], for queues that run by the times they are given and for those
//! with their own clock: so what takes time is polled for.

mod stage;

use std::{slice, time::Duration};

use parlance_application::ports::{JobCounts, JobState, MinuteView, Verdict};

pub use self::stage::BoardStage;

use self::stage::LEASE;
use super::{conflict, not_found};

/// From waiting to done.
pub async fn a_job_is_seen_in_each_state(stage: &BoardStage) {
    assert_eq!(stage.counts().await, JobCounts::default());
    let job = stage.add().await;
    assert_eq!(stage.counts().await, JobCounts { waiting: 1, ..JobCounts::default() });
    let view = stage.view(&job).await;
    assert_eq!((&view.job, view.state, view.attempts), (&job, JobState::Waiting, 0));
    assert_eq!((view.run_at, view.started_at, view.finished_at), (None, None, None));
    assert_eq!(stage.list(JobState::Waiting, 0, 10).await, slice::from_ref(&job));

    let claim = stage.claim(LEASE).await;
    assert_eq!(stage.counts().await, JobCounts { active: 1, ..JobCounts::default() });
    let view = stage.view(&job).await;
    assert_eq!((view.state, view.attempts, view.stalled), (JobState::Active, 1, false));
    assert!(view.started_at.is_some_and(|at| at >= view.added_at), "{view:?}");
    assert_eq!(stage.list(JobState::Active, 0, 10).await, slice::from_ref(&job));

    stage.settle(&claim, Verdict::Done).await;
    assert_eq!(stage.counts().await, JobCounts { done: 1, ..JobCounts::default() });
    let view = stage.view(&job).await;
    assert_eq!((view.state, view.attempts), (JobState::Done, 1));
    assert!(view.finished_at >= view.started_at && view.errors.is_empty(), "{view:?}");
    assert_eq!(stage.list(JobState::Done, 0, 10).await, [job]);
}

/// It shows its error, and when it is due.
pub async fn a_delayed_job_can_be_run_now(stage: &BoardStage) {
    let job = stage.delayed().await;
    assert_eq!(stage.counts().await, JobCounts { delayed: 1, ..JobCounts::default() });
    assert_eq!(stage.list(JobState::Delayed, 0, 10).await, slice::from_ref(&job));
    let view = stage.view(&job).await;
    assert_eq!(
        (view.state, view.errors.as_slice()),
        (JobState::Delayed, ["busy".to_owned()].as_slice())
    );
    let soon = stage.now() + Duration::from_mins(30);
    assert!(view.run_at.is_some_and(|at| at > soon) && view.finished_at.is_none(), "{view:?}");
    let none = stage.queue.claim(1, stage.now(), LEASE).await.expect("answers");
    assert_eq!(none, []);

    stage.board.promote(job.id, stage.now()).await.expect("is delayed");
    let claim = stage.claim(LEASE).await;
    assert_eq!((&claim.job, claim.attempt), (&job, 2));
    conflict(stage.board.promote(job.id, stage.now()).await);
}

/// And what is known of its failures is kept.
pub async fn a_dead_job_is_retried_with_all_its_attempts(stage: &BoardStage) {
    let job = stage.dead().await;
    assert_eq!(stage.counts().await, JobCounts { dead: 1, ..JobCounts::default() });
    assert_eq!(stage.list(JobState::Dead, 0, 10).await, slice::from_ref(&job));
    let view = stage.view(&job).await;
    assert_eq!(
        (view.state, view.errors.as_slice()),
        (JobState::Dead, ["no such mailbox".to_owned()].as_slice())
    );
    assert!(view.finished_at.is_some(), "{view:?}");

    stage.board.retry(job.id, stage.now()).await.expect("is dead");
    let view = stage.view(&job).await;
    let times = (view.started_at, view.finished_at);
    assert_eq!((view.state, times), (JobState::Waiting, (None, None)));
    let claim = stage.claim(LEASE).await;
    assert_eq!((&claim.job, claim.attempt), (&job, 1));
    conflict(stage.board.retry(job.id, stage.now()).await);
    stage.settle(&claim, Verdict::Done).await;
    conflict(stage.board.retry(job.id, stage.now()).await);
    assert_eq!(stage.counts().await, JobCounts { done: 1, ..JobCounts::default() });
}

/// All others stay as they are, dead ones too.
pub async fn the_dead_among_some_jobs_are_retried(stage: &BoardStage) {
    let (done, delayed) = (stage.ended(Verdict::Done).await, stage.delayed().await);
    let dead = [stage.dead().await, stage.dead().await];
    let other = stage.dead().await;
    let mut some = vec![done.id, delayed.id, stage.unknown()];
    some.extend(dead.iter().map(|job| job.id));
    assert_eq!(stage.board.retry_all(some.clone(), stage.now()).await.ok(), Some(2));
    let counts = JobCounts { waiting: 2, delayed: 1, done: 1, dead: 1, ..JobCounts::default() };
    assert_eq!(stage.counts().await, counts);
    assert_eq!(stage.list(JobState::Dead, 0, 10).await, [other]);
    let claims = [stage.claim(LEASE).await, stage.claim(LEASE).await];
    assert_eq!(claims.each_ref().map(|claim| claim.attempt), [1, 1]);
    let mut again = claims.map(|claim| claim.job);
    again.sort_by_key(|job| job.id);
    assert_eq!(again, dead);
    assert_eq!(stage.board.retry_all(some, stage.now()).await.ok(), Some(0));
}

/// An active one would be missed by its worker.
pub async fn every_job_but_an_active_one_can_be_removed(stage: &BoardStage) {
    let mut gone =
        vec![stage.ended(Verdict::Done).await, stage.dead().await, stage.delayed().await];
    let active = stage.add().await;
    let claim = stage.claim(LEASE).await;
    gone.push(stage.add().await);
    conflict(stage.board.remove(active.id).await);
    for job in &gone {
        stage.board.remove(job.id).await.expect("removes");
        not_found(stage.board.job(job.id, stage.now()).await);
    }
    assert_eq!(stage.counts().await, JobCounts { active: 1, ..JobCounts::default() });
    stage.settle(&claim, Verdict::Done).await;
    stage.board.remove(active.id).await.expect("removes");
    assert_eq!(stage.counts().await, JobCounts::default());
}

/// Whatever is asked.
pub async fn an_unknown_job_is_not_found(stage: &BoardStage) {
    stage.add().await;
    let id = stage.unknown();
    not_found(stage.board.job(id, stage.now()).await);
    not_found(stage.board.retry(id, stage.now()).await);
    not_found(stage.board.promote(id, stage.now()).await);
    not_found(stage.board.remove(id).await);
}

/// By pages: next to run first, last ended first.
pub async fn lists_are_in_order(stage: &BoardStage) {
    let mut done = vec![];
    for _ in 0..3 {
        let job = stage.ended(Verdict::Done).await;
        let ended = stage.view(&job).await.finished_at;
        // So that no two end at once.
        stage.until("time goes on", || async { (Some(stage.now()) > ended).then_some(()) }).await;
        done.push(job);
    }
    done.reverse();
    assert_eq!(stage.list(JobState::Done, 0, 10).await, done);
    assert_eq!(stage.list(JobState::Done, 1, 1).await, done[1..2]);
    assert_eq!(stage.list(JobState::Done, 2, 10).await, done[2..]);
    assert_eq!(stage.list(JobState::Done, 3, 10).await, []);

    let mut waiting = vec![];
    for _ in 0..3 {
        waiting.push(stage.add().await);
    }
    assert_eq!(stage.list(JobState::Waiting, 0, 2).await, waiting[..2]);
    assert_eq!(stage.list(JobState::Waiting, 2, 2).await, waiting[2..]);
    assert_eq!(stage.claim(LEASE).await.job, waiting[0]);
}

/// Until it has settled it.
pub async fn a_worker_holds_what_it_has_claimed(stage: &BoardStage) {
    let job = stage.add().await;
    let claim = stage.claim(LEASE).await;
    let held = || async {
        let workers = stage.board.workers(stage.now()).await.expect("answers");
        workers.iter().any(|worker| worker.holds.contains(&job.id))
    };
    stage.until("a worker holds it", || async { held().await.then_some(()) }).await;
    stage.settle(&claim, Verdict::Done).await;
    stage.until("no worker holds it", || async { (!held().await).then_some(()) }).await;
}

/// Once its lease has expired.
pub async fn a_silent_workers_job_is_stalled(stage: &BoardStage) {
    let job = stage.add().await;
    stage.claim(Duration::from_secs(1)).await;
    assert_eq!(stage.counts().await.active, 1);
    stage
        .until("it is stalled", || async { (stage.counts().await.stalled == 1).then_some(()) })
        .await;
    let view = stage.view(&job).await;
    assert_eq!((view.state, view.stalled), (JobState::Active, true));
    assert_eq!(stage.counts().await.active, 1);
}

/// The current one included.
pub async fn what_ended_is_counted_by_the_minute(stage: &BoardStage) {
    stage.ended(Verdict::Done).await;
    stage.ended(Verdict::Done).await;
    stage.dead().await;
    stage.delayed().await;
    let minutes = stage
        .until("all are counted", || async {
            let minutes = stage.board.throughput(5, stage.now()).await.expect("answers");
            let sum = |of: fn(&_) -> u64| minutes.iter().map(of).sum::<u64>();
            let sums = (sum(|m: &MinuteView| m.done), sum(|m| m.failed));
            (sums == (2, 1)).then_some(minutes)
        })
        .await;
    assert_eq!(minutes.len(), 5);
    for pair in minutes.windows(2) {
        assert_eq!(pair[1].at.since(pair[0].at), Duration::from_mins(1));
    }
    let last = minutes[4].at;
    let now = stage.now();
    assert!(last <= now && now.since(last) < Duration::from_mins(2), "{last} is not {now}");
    let hours = stage.board.throughput(240, stage.now()).await.expect("answers");
    assert_eq!(hours.len(), 240);
}

/// Oldest first.
pub async fn twenty_errors_are_kept(stage: &BoardStage) {
    let job = stage.add().await;
    for n in 1..=22 {
        let claim = stage.claim(LEASE).await;
        assert_eq!(claim.attempt, n);
        let retry = Verdict::Retry { error: format!("failure {n}"), at: stage.now() };
        stage.settle(&claim, retry).await;
    }
    let expected: Vec<String> = (3..=22).map(|n| format!("failure {n}")).collect();
    assert_eq!(stage.view(&job).await.errors, expected);
}

/// Turns each case of the job board's contract into a test. The expression, which may await, makes a [`BoardStage`]
/// around a fresh queue and something to hold until the test's end: `(stage, guard)`.
#[macro_export]
macro_rules! board_contract {
    ($make:expr) => {
        $crate::board_contract! { @cases $make;
            a_job_is_seen_in_each_state
            a_delayed_job_can_be_run_now
            a_dead_job_is_retried_with_all_its_attempts
            the_dead_among_some_jobs_are_retried
            every_job_but_an_active_one_can_be_removed
            an_unknown_job_is_not_found
            lists_are_in_order
            a_worker_holds_what_it_has_claimed
            a_silent_workers_job_is_stalled
            what_ended_is_counted_by_the_minute
            twenty_errors_are_kept
        }
    };
    (@cases $make:expr; $($case:ident)*) => {
        mod board {
            use super::*;
            $(
                #[tokio::test]
                async fn $case() {
                    let (stage, _guard) = $make;
                    $crate::contract::board::$case(&stage).await;
                }
            )*
        }
    };
}
