//! What operators do to the job queue: the store's outbox and the queue go the same way.

use std::sync::Arc;

use async_trait::async_trait;
use futures::FutureExt as _;
use parlance_application::{
    Board, Caller, Error, Result, Tasks,
    jobs::Job,
    ports::{JobCounts, JobState, JobView, store::Outbox as _},
};
use parlance_testkit::{
    MemoryStore, Stage, TestAmbient, Weather, caller, email, mocks::MockJobBoard,
};
use tokio::task::yield_now;

/// No answer of the store comes at once.
struct Slow;

#[async_trait]
impl Weather for Slow {
    async fn before(&self, _: &'static str) -> Result<()> {
        yield_now().await;
        Ok(())
    }
}

/// A queue in which all jobs of the outbox are dead.
struct Scene {
    ambient: TestAmbient,
    store: MemoryStore,
    queue: MockJobBoard,
    dead: Vec<Job>,
    tasks: Arc<Tasks>,
    ada: Caller,
}

impl Scene {
    async fn new() -> Self {
        let store = MemoryStore::new();
        let stage = Stage::new(store.clone());
        for name in ["ada", "bob", "eve"] {
            stage.sign_up(name).await;
        }
        let ambient = TestAmbient::seeded(3);
        let ada = caller(&ambient, "ada");
        let mut scene = Self {
            ambient,
            store,
            queue: MockJobBoard::new(),
            dead: vec![],
            tasks: Arc::default(),
            ada,
        };
        scene.dead = scene.unfinished().await;
        for job in &scene.dead {
            scene.store.bury(job.id).await.expect("buries");
        }
        let dead = scene.dead.clone();
        let counts = JobCounts { dead: dead.len() as u64, ..JobCounts::default() };
        scene.queue.expect_counts().returning(move |_| Ok(counts));
        let all = dead.clone();
        scene.queue.expect_jobs().returning(move |state, _, _, _| {
            assert_eq!(state, JobState::Dead);
            Ok(all.iter().map(view).collect())
        });
        scene.queue.expect_job().returning(move |id, _| {
            Ok(view(dead.iter().find(|job| job.id == id).expect("a known job")))
        });
        scene
    }

    /// What the outbox would hand on.
    async fn unfinished(&self) -> Vec<Job> {
        let at = self.ambient.advance(std::time::Duration::from_secs(1));
        self.store.take_unfinished(9, at, at).await.expect("takes")
    }

    fn board(&mut self) -> Board {
        Board {
            board: Arc::new(std::mem::take(&mut self.queue)),
            outbox: Arc::new(self.store.behind(Arc::new(Slow))),
            ambient: Arc::new(self.ambient.clone()),
            tasks: self.tasks.clone(),
            admins: vec![email("ada")],
        }
    }
}

fn view(job: &Job) -> JobView {
    JobView {
        job: job.clone(),
        state: JobState::Dead,
        attempts: 3,
        added_at: TestAmbient::BEGIN,
        run_at: None,
        started_at: Some(TestAmbient::BEGIN),
        finished_at: Some(TestAmbient::BEGIN),
        stalled: false,
        errors: vec!["no such mailbox".to_owned()],
    }
}

/// Or the outbox would hand on a job that is dead in the queue.
#[tokio::test]
async fn who_hangs_up_leaves_no_half_of_a_retry() {
    let mut scene = Scene::new().await;
    let id = scene.dead[1].id;
    scene.queue.expect_retry().withf(move |job, _| *job == id).once().returning(|_, _| Ok(()));
    let board = scene.board();
    assert!(board.retry(&scene.ada, id).now_or_never().is_none(), "it takes its time");
    scene.tasks.wait().await;
    assert_eq!(scene.unfinished().await, scene.dead[1..2]);
}

#[tokio::test]
async fn nor_of_a_retry_of_all() {
    let mut scene = Scene::new().await;
    scene.queue.expect_retry_all().once().returning(|_, _| Ok(3));
    let board = scene.board();
    assert!(board.retry_all(&scene.ada).now_or_never().is_none(), "it takes its time");
    scene.tasks.wait().await;
    assert_eq!(scene.unfinished().await, scene.dead);
}

/// It would be taken for done, and not be run.
#[tokio::test]
async fn a_dead_job_that_the_outbox_has_lost_is_not_retried_with_the_others() {
    let mut scene = Scene::new().await;
    scene.store.finish(scene.dead[1].id).await.expect("finishes");
    let rest = [scene.dead[0].id, scene.dead[2].id];
    scene.queue.expect_retry_all().withf(move |jobs, _| *jobs == rest).returning(|_, _| Ok(2));
    assert_eq!(scene.board().retry_all(&scene.ada).await.ok(), Some(2));
}

/// The row would be handed on, and the job come back.
#[tokio::test]
async fn what_was_removed_from_the_queue_only_is_removed_by_the_next_try() {
    let mut scene = Scene::new().await;
    let (first, second) = (scene.dead[0].id, scene.dead[1].id);
    scene.queue.expect_remove().returning(|_| Err(Error::NotFound("job")));
    let board = scene.board();
    assert_eq!(board.remove(&scene.ada, first).await.ok(), Some(()));
    assert_eq!(scene.store.is_unfinished(first).await.ok(), Some(false));
    assert_eq!(scene.store.is_unfinished(second).await.ok(), Some(true));
    let again = board.remove(&scene.ada, first).await;
    assert!(matches!(again, Err(Error::NotFound(_))), "{again:?}");
}

/// Its worker would find it gone and take it for done.
#[tokio::test]
async fn an_active_job_keeps_its_row() {
    let mut scene = Scene::new().await;
    let id = scene.dead[0].id;
    scene.queue.expect_remove().returning(|_| Err(Error::conflict("the job is active")));
    let refused = scene.board().remove(&scene.ada, id).await;
    assert!(matches!(refused, Err(Error::Conflict { .. })), "{refused:?}");
    assert_eq!(scene.store.is_unfinished(id).await.ok(), Some(true));
}
