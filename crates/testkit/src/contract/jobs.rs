//! Cases of [`parlance_application::ports::JobQueue`].

use std::time::Duration;

use parlance_application::ports::{Ambient, Claim, Verdict};

use crate::Stage;

const LEASE: Duration = Duration::from_mins(1);

async fn claim(stage: &Stage, limit: usize) -> Vec<Claim> {
    stage.queue.claim(limit, stage.at(), LEASE).await.expect("answers")
}

async fn claim_one(stage: &Stage) -> Claim {
    let mut claims = claim(stage, 10).await;
    assert_eq!(claims.len(), 1);
    claims.remove(0)
}

async fn settle(stage: &Stage, claim: &Claim, verdict: Verdict) {
    stage.queue.settle(claim, verdict, stage.at()).await.expect("settles");
}

async fn depth(stage: &Stage) -> (u64, u64) {
    stage.queue.depth().await.expect("answers")
}

/// In one call and in two.
pub async fn adding_twice_is_adding_once(stage: &Stage) {
    let job = stage.job();
    stage.queue.add(vec![job.clone(), job.clone()], stage.at()).await.expect("adds");
    stage.queue.add(vec![job.clone()], stage.at()).await.expect("adds");
    assert_eq!(depth(stage).await, (1, 0));
    assert_eq!(claim_one(stage).await, Claim { job: job.clone(), attempt: 1 });
    stage.queue.add(vec![job], stage.at()).await.expect("adds");
    assert_eq!(claim(stage, 10).await, []);
    assert_eq!(depth(stage).await, (1, 0));
}

/// A held one is not due.
pub async fn only_due_jobs_are_claimed(stage: &Stage) {
    let job = stage.job();
    let at = stage.ambient.now() + Duration::from_secs(10);
    stage.queue.add(vec![job], at).await.expect("adds");
    assert_eq!(claim(stage, 10).await, []);
    stage.ambient.set(at);
    claim_one(stage).await;
    assert_eq!(claim(stage, 10).await, []);
}

/// The rest waits.
pub async fn oldest_first_and_no_more_than_asked(stage: &Stage) {
    let jobs = [stage.job(), stage.job(), stage.job()];
    for job in &jobs {
        stage.queue.add(vec![job.clone()], stage.at()).await.expect("adds");
    }
    let first: Vec<_> = claim(stage, 2).await.into_iter().map(|c| c.job).collect();
    assert_eq!(first, jobs[..2]);
    assert_eq!(claim_one(stage).await.job, jobs[2]);
}

/// By the next attempt.
pub async fn a_lost_lease_is_taken_over(stage: &Stage) {
    stage.queue.add(vec![stage.job()], stage.at()).await.expect("adds");
    let lost = claim_one(stage).await;
    stage.ambient.advance(LEASE);
    let taken = claim_one(stage).await;
    assert_eq!(taken, Claim { attempt: 2, ..lost });
}

/// The new holder's verdict counts.
pub async fn a_lost_claim_settles_nothing(stage: &Stage) {
    stage.queue.add(vec![stage.job()], stage.at()).await.expect("adds");
    let lost = claim_one(stage).await;
    stage.ambient.advance(LEASE);
    let taken = claim_one(stage).await;
    let now = stage.ambient.now();
    for verdict in [
        Verdict::Done,
        Verdict::Dead { error: "x".to_owned() },
        Verdict::Retry { error: "x".to_owned(), at: now },
    ] {
        settle(stage, &lost, verdict).await;
        assert_eq!(depth(stage).await, (1, 0));
        assert_eq!(claim(stage, 10).await, []);
    }
    settle(stage, &taken, Verdict::Done).await;
    assert_eq!(depth(stage).await, (0, 0));
}

/// And counts as the next attempt.
pub async fn a_retry_waits_for_its_time(stage: &Stage) {
    stage.queue.add(vec![stage.job()], stage.at()).await.expect("adds");
    let failed = claim_one(stage).await;
    let at = stage.ambient.now() + Duration::from_secs(5);
    settle(stage, &failed, Verdict::Retry { error: "busy".to_owned(), at }).await;
    assert_eq!(claim(stage, 10).await, []);
    assert_eq!(depth(stage).await, (1, 0));
    stage.ambient.set(at);
    assert_eq!(claim_one(stage).await.attempt, 2);
}

/// Nor added again.
pub async fn the_dead_are_kept_and_not_run(stage: &Stage) {
    let job = stage.job();
    stage.queue.add(vec![job.clone()], stage.at()).await.expect("adds");
    let failed = claim_one(stage).await;
    settle(stage, &failed, Verdict::Dead { error: "no such mailbox".to_owned() }).await;
    stage.queue.add(vec![job], stage.at()).await.expect("adds");
    stage.ambient.advance(LEASE * 2);
    assert_eq!(claim(stage, 10).await, []);
    assert_eq!(depth(stage).await, (0, 1));
}

/// The outbox hands on more than once.
pub async fn a_done_job_is_not_added_again(stage: &Stage) {
    let job = stage.job();
    stage.queue.add(vec![job.clone()], stage.at()).await.expect("adds");
    let done = claim_one(stage).await;
    settle(stage, &done, Verdict::Done).await;
    stage.queue.add(vec![job], stage.at()).await.expect("adds");
    stage.ambient.advance(LEASE * 2);
    assert_eq!(claim(stage, 10).await, []);
    assert_eq!(depth(stage).await, (0, 0));
}
