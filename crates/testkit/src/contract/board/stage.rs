//! The scene of the job board's contract: a queue, and steps that wait for what a queue on a server shows late.

use std::{sync::Arc, time::Duration};

use parlance_application::{
    jobs::{Job, Task},
    ports::{Claim, JobBoard, JobCounts, JobQueue, JobState, JobView, Verdict},
};
use parlance_domain::{JobId, Timestamp, UserId};

use crate::{PATIENCE, TestAmbient};

/// Long enough for any case.
pub(super) const LEASE: Duration = Duration::from_mins(1);
/// Between two looks.
const AGAIN: Duration = Duration::from_millis(20);

/// An empty queue and its board.
pub struct BoardStage {
    pub(super) queue: Arc<dyn JobQueue>,
    pub(super) board: Arc<dyn JobBoard>,
    now: Box<dyn Fn() -> Timestamp + Send + Sync>,
    ids: TestAmbient,
}

impl BoardStage {
    /// Sets up around a fresh queue. `now` must advance in real time; for a queue with its own clock it must be the
    /// real time. A queue with its own lease must be made with a short one.
    pub fn new(
        queue: impl JobQueue + JobBoard + 'static,
        now: impl Fn() -> Timestamp + Send + Sync + 'static,
    ) -> Self {
        let queue = Arc::new(queue);
        let ids = TestAmbient::seeded(13);
        Self { queue: queue.clone(), board: queue, now: Box::new(now), ids }
    }

    /// The same with a clock that begins at [`TestAmbient::BEGIN`] and advances in real time.
    pub fn ticking(queue: impl JobQueue + JobBoard + 'static) -> Self {
        let began = tokio::time::Instant::now();
        Self::new(queue, move || TestAmbient::BEGIN + began.elapsed())
    }

    pub(super) fn now(&self) -> Timestamp {
        (self.now)()
    }

    pub(super) fn unknown(&self) -> JobId {
        JobId(self.ids.next_uuid())
    }

    /// A new job, in the queue.
    pub(super) async fn add(&self) -> Job {
        let task = Task::WelcomeMail { user_id: UserId(self.ids.next_uuid()) };
        let job = Job { id: self.unknown(), task };
        self.queue.add(vec![job.clone()], self.now()).await.expect("adds");
        job
    }

    /// Waits for the next job that is due.
    pub(super) async fn claim(&self, lease: Duration) -> Claim {
        self.until("a job is due", || async {
            self.queue.claim(1, self.now(), lease).await.expect("answers").pop()
        })
        .await
    }

    pub(super) async fn settle(&self, claim: &Claim, verdict: Verdict) {
        self.queue.settle(claim, verdict, self.now()).await.expect("settles");
    }

    /// A new job that ended with this verdict. Nothing else may be due.
    pub(super) async fn ended(&self, verdict: Verdict) -> Job {
        let job = self.add().await;
        let claim = self.claim(LEASE).await;
        assert_eq!(claim.job, job, "the only job that is due");
        self.settle(&claim, verdict).await;
        job
    }

    pub(super) async fn dead(&self) -> Job {
        self.ended(Verdict::Dead { error: "no such mailbox".to_owned() }).await
    }

    pub(super) async fn delayed(&self) -> Job {
        let at = self.now() + Duration::from_hours(1);
        self.ended(Verdict::Retry { error: "busy".to_owned(), at }).await
    }

    pub(super) async fn counts(&self) -> JobCounts {
        self.board.counts(self.now()).await.expect("answers")
    }

    pub(super) async fn view(&self, job: &Job) -> JobView {
        self.board.job(job.id, self.now()).await.expect("knows it")
    }

    pub(super) async fn list(&self, state: JobState, offset: usize, limit: usize) -> Vec<Job> {
        let views = self.board.jobs(state, offset, limit, self.now()).await.expect("answers");
        assert!(views.iter().all(|view| view.state == state), "{state:?}: {views:?}");
        views.into_iter().map(|view| view.job).collect()
    }

    pub(super) async fn until<T, F: Future<Output = Option<T>>>(
        &self,
        what: &str,
        look: impl Fn() -> F,
    ) -> T {
        let looking = async {
            loop {
                if let Some(seen) = look().await {
                    return seen;
                }
                tokio::time::sleep(AGAIN).await;
            }
        };
        let seen = tokio::time::timeout(PATIENCE, looking).await;
        seen.unwrap_or_else(|_| panic!("waited in vain until {what}"))
    }
}
