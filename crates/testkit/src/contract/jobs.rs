//! Cases of [`parlance_application::ports::JobQueue`]. A queue may run by the times it is given, or by its own clock:
//! so what takes time is polled for.

use std::{sync::Arc, time::Duration};

use parlance_application::{
    jobs::{Job, Task},
    ports::{Ambient, Claim, JobBoard, JobQueue, Verdict},
};
use parlance_domain::{JobId, UserId};

use crate::{PATIENCE, TestAmbient};

/// A queue with nothing in it.
pub struct Jobs {
    /// The queue.
    pub queue: Arc<dyn JobQueue>,
    board: Arc<dyn JobBoard>,
    /// Clock, ids, randomness.
    pub ambient: TestAmbient,
    /// How long claims hold. Short for a queue with a clock of its own.
    pub lease: Duration,
    /// How long a retry waits. Short for such a queue as well.
    pub delay: Duration,
}

impl Jobs {
    /// A queue that runs by the times it is given.
    pub fn new(queue: impl JobQueue + JobBoard + 'static) -> Self {
        let queue = Arc::new(queue);
        Self {
            queue: queue.clone(),
            board: queue,
            ambient: TestAmbient::seeded(11),
            lease: Duration::from_mins(1),
            delay: Duration::from_secs(5),
        }
    }

    /// A job of no importance.
    pub fn job(&self) -> Job {
        Job {
            id: JobId(self.ambient.uuid()),
            task: Task::WelcomeMail { user_id: UserId(self.ambient.uuid()) },
        }
    }

    /// Adds a job of no importance.
    pub async fn added(&self) -> Job {
        let job = self.job();
        self.add(&[&job]).await;
        job
    }

    async fn add(&self, jobs: &[&Job]) {
        let jobs = jobs.iter().map(|job| (*job).clone()).collect();
        self.queue.add(jobs, self.ambient.tick()).await.expect("adds");
    }

    /// What can be claimed at once.
    pub async fn claim(&self, limit: usize) -> Vec<Claim> {
        self.queue.claim(limit, self.ambient.tick(), self.lease).await.expect("answers")
    }

    /// Claims until there are this many, one or more at a time.
    pub async fn claim_all(&self, count: usize) -> Vec<Claim> {
        let all = async {
            let mut claims = Vec::new();
            while claims.len() < count {
                claims.extend(self.claim(count - claims.len()).await);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            claims
        };
        tokio::time::timeout(PATIENCE, all).await.expect("jobs to claim in time")
    }

    /// Claims until there is one.
    pub async fn claim_one(&self) -> Claim {
        self.claim_all(1).await.remove(0)
    }

    /// Settles.
    pub async fn settle(&self, claim: &Claim, verdict: Verdict) {
        self.queue.settle(claim, verdict, self.ambient.tick()).await.expect("settles");
    }

    /// Has a claim fail, to be retried.
    pub async fn fail(&self, claim: &Claim) {
        let now = self.ambient.tick();
        let verdict = Verdict::Retry { error: "busy".to_owned(), at: now + self.delay };
        self.queue.settle(claim, verdict, now).await.expect("settles");
    }

    /// How many jobs have not ended, and how many are dead.
    async fn open_and_dead(&self) -> (u64, u64) {
        let counts = self.board.counts(self.ambient.now()).await.expect("answers");
        (counts.waiting + counts.delayed + counts.active, counts.dead)
    }
}

/// In one call and in two.
pub async fn adding_twice_is_adding_once(jobs: &Jobs) {
    let job = jobs.job();
    jobs.add(&[&job, &job]).await;
    jobs.add(&[&job]).await;
    assert_eq!(jobs.open_and_dead().await, (1, 0));
    assert_eq!(jobs.claim_one().await, Claim { job: job.clone(), attempt: 1 });
    jobs.add(&[&job]).await;
    assert_eq!(jobs.claim(10).await, []);
    assert_eq!(jobs.open_and_dead().await, (1, 0));
}

/// A held one is not due.
pub async fn only_due_jobs_are_claimed(jobs: &Jobs) {
    assert_eq!(jobs.claim(10).await, []);
    let first = jobs.added().await;
    let held = jobs.claim_one().await;
    assert_eq!((&held.job, held.attempt), (&first, 1));
    let second = jobs.added().await;
    assert_eq!(jobs.claim_one().await.job, second);
    assert_eq!(jobs.claim(10).await, []);
}

/// The rest waits.
pub async fn oldest_first_and_no_more_than_asked(jobs: &Jobs) {
    let added = [jobs.added().await, jobs.added().await, jobs.added().await];
    assert!(jobs.claim(0).await.is_empty());
    let first: Vec<_> = jobs.claim_all(2).await.into_iter().map(|c| c.job).collect();
    assert_eq!(first, added[..2]);
    assert_eq!(jobs.claim_one().await.job, added[2]);
}

/// By a further attempt.
pub async fn a_lost_lease_is_taken_over(jobs: &Jobs) {
    jobs.added().await;
    let lost = jobs.claim_one().await;
    jobs.ambient.advance(jobs.lease);
    let taken = jobs.claim_one().await;
    assert_eq!(taken.job, lost.job);
    assert!(taken.attempt > lost.attempt, "{taken:?}");
}

/// The new holder's verdict counts.
pub async fn a_lost_claim_settles_nothing(jobs: &Jobs) {
    jobs.added().await;
    let lost = jobs.claim_one().await;
    jobs.ambient.advance(jobs.lease);
    let taken = jobs.claim_one().await;
    for verdict in [Verdict::Done, Verdict::Dead { error: "x".to_owned() }] {
        jobs.settle(&lost, verdict).await;
        assert_eq!(jobs.open_and_dead().await, (1, 0));
        assert_eq!(jobs.claim(10).await, []);
    }
    jobs.fail(&lost).await;
    assert_eq!(jobs.open_and_dead().await, (1, 0));
    jobs.settle(&taken, Verdict::Done).await;
    assert_eq!(jobs.open_and_dead().await, (0, 0));
}

/// And counts as the next attempt.
pub async fn a_retry_waits_for_its_time(jobs: &Jobs) {
    jobs.added().await;
    let failed = jobs.claim_one().await;
    jobs.fail(&failed).await;
    assert_eq!(jobs.claim(10).await, []);
    assert_eq!(jobs.open_and_dead().await, (1, 0));
    jobs.ambient.advance(jobs.delay);
    assert_eq!(jobs.claim_one().await.attempt, 2);
}

/// Nor added again.
pub async fn the_dead_are_kept_and_not_run(jobs: &Jobs) {
    let job = jobs.added().await;
    let failed = jobs.claim_one().await;
    jobs.settle(&failed, Verdict::Dead { error: "no such mailbox".to_owned() }).await;
    jobs.add(&[&job]).await;
    jobs.ambient.advance(jobs.lease * 2);
    assert_eq!(jobs.claim(10).await, []);
    assert_eq!(jobs.open_and_dead().await, (0, 1));
}

/// The outbox may relay it more than once.
pub async fn a_done_job_is_not_added_again(jobs: &Jobs) {
    let job = jobs.added().await;
    let done = jobs.claim_one().await;
    jobs.settle(&done, Verdict::Done).await;
    jobs.add(&[&job]).await;
    jobs.ambient.advance(jobs.lease * 2);
    assert_eq!(jobs.claim(10).await, []);
    assert_eq!(jobs.open_and_dead().await, (0, 0));
}

/// Whatever is done with its jobs.
pub async fn a_memory_that_lasts_is_known_by_one_name(jobs: &Jobs) {
    let memory = async || jobs.queue.memory().await.expect("answers");
    let name = memory().await;
    jobs.added().await;
    assert_eq!(memory().await, name);
    let claim = jobs.claim_one().await;
    assert_eq!(memory().await, name);
    jobs.settle(&claim, Verdict::Done).await;
    assert_eq!(memory().await, name);
}
