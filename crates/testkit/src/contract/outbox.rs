//! Cases of [`parlance_application::ports::store::Outbox`].

use std::time::Duration;

use parlance_application::{jobs::Job, ports::Ambient};
use parlance_domain::{JobId, Timestamp};

use crate::Stage;

async fn take(stage: &Stage, limit: usize, before: Timestamp) -> Vec<Job> {
    stage.store.take_unfinished(limit, before, stage.at()).await.expect("answers")
}

/// But not before its interval is over.
pub async fn a_job_is_taken_once_and_again_later(stage: &Stage) {
    stage.person("ada").await;
    let begin = stage.ambient.now();
    let jobs = take(stage, 10, begin).await;
    assert_eq!(jobs.len(), 1);
    assert_eq!(take(stage, 10, begin).await, []);
    let later = stage.ambient.advance(Duration::from_mins(5));
    assert_eq!(take(stage, 10, later).await, jobs);
    assert_eq!(take(stage, 10, later).await, []);
    assert_eq!(stage.store.is_unfinished(jobs[0].id).await.ok(), Some(true));
}

/// What was not taken comes next.
pub async fn oldest_first_up_to_the_limit(stage: &Stage) {
    stage.people(["ada", "bob", "eve"]).await;
    let begin = stage.ambient.now();
    let (first, second) = (take(stage, 2, begin).await, take(stage, 2, begin).await);
    assert_eq!((first.len(), second.len()), (2, 1));
    let later = stage.ambient.advance(Duration::from_mins(5));
    assert_eq!(take(stage, 3, later).await, [first, second].concat());
}

/// Finishing twice, or what never was, is no error.
pub async fn a_finished_job_never_comes_back(stage: &Stage) {
    stage.people(["ada", "bob"]).await;
    let jobs = take(stage, 10, stage.ambient.now()).await;
    for _ in 0..2 {
        stage.store.finish(jobs[0].id).await.expect("finishes");
    }
    assert_eq!(stage.store.is_unfinished(jobs[0].id).await.ok(), Some(false));
    stage.store.finish(JobId(stage.ambient.uuid())).await.expect("does nothing");
    let later = stage.ambient.advance(Duration::from_mins(5));
    assert_eq!(take(stage, 10, later).await, jobs[1..]);
}

/// But may still be run, until it is finished.
pub async fn a_buried_job_is_not_handed_on(stage: &Stage) {
    stage.person("ada").await;
    let jobs = take(stage, 10, stage.ambient.now()).await;
    stage.store.bury(jobs[0].id).await.expect("buries");
    let later = stage.ambient.advance(Duration::from_mins(5));
    assert_eq!(take(stage, 10, later).await, []);
    assert_eq!(stage.store.is_unfinished(jobs[0].id).await.ok(), Some(true));
    stage.store.finish(jobs[0].id).await.expect("finishes");
    assert_eq!(stage.store.is_unfinished(jobs[0].id).await.ok(), Some(false));
}

/// As if it had not died.
pub async fn a_revived_job_is_handed_on_again(stage: &Stage) {
    stage.person("ada").await;
    let jobs = take(stage, 10, stage.ambient.now()).await;
    stage.store.bury(jobs[0].id).await.expect("buries");
    let unknown = stage.job().id;
    let revived = stage.store.revive(vec![unknown, jobs[0].id]).await.expect("revives");
    assert_eq!(revived, [jobs[0].id]);
    let later = stage.ambient.advance(Duration::from_mins(5));
    assert_eq!(take(stage, 10, later).await, jobs);
    assert_eq!(stage.store.is_unfinished(unknown).await.ok(), Some(false));
}

/// Once each, and none that lives.
pub async fn the_buried_are_handed_on_to_who_asks_for_them(stage: &Stage) {
    stage.people(["ada", "bob", "eve", "kim"]).await;
    let begin = stage.ambient.now();
    let jobs = take(stage, 10, begin).await;
    for dead in &jobs[..3] {
        stage.store.bury(dead.id).await.expect("buries");
    }
    let buried = async |limit, before| {
        stage.store.take_buried(limit, before, stage.at()).await.expect("answers")
    };
    assert_eq!(buried(10, begin).await, []);
    let later = stage.ambient.advance(Duration::from_mins(5));
    assert_eq!(buried(0, later).await, []);
    assert_eq!(buried(2, later).await, jobs[..2]);
    assert_eq!(buried(2, later).await, jobs[2..3]);
    assert_eq!(buried(2, later).await, []);
    assert_eq!(take(stage, 10, later).await, jobs[3..], "the others stay buried");
}
