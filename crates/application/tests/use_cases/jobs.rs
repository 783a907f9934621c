//! The job runner: what it tries, how often, and how it ends.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use parlance_application::{
    Error, Result,
    jobs::{Job, RetryPolicy, Runner, Task},
    ports::{Ambient, Claim, Mail, MailError, Mailer, Verdict},
};
use parlance_domain::{Account, JobId};
use parlance_testkit::{
    PATIENCE, RecordingMailer, TestAmbient, account,
    mocks::{MockAccounts, MockJobQueue, MockOutbox, MockWorkspaces},
};
use tokio::{sync::Notify, time::timeout};

/// A call to the outbox or the queue at the end of an attempt.
#[derive(Debug, Clone, PartialEq)]
enum End {
    Finished,
    Buried,
    Settled(Verdict),
}

struct Scene {
    ambient: TestAmbient,
    ada: Account,
    job: Job,
    /// In the order of the calls.
    ends: Arc<Mutex<Vec<End>>>,
    /// Once the queue has been asked for more than it has.
    empty: Arc<Notify>,
}

impl Scene {
    fn new() -> Self {
        let ambient = TestAmbient::seeded(5);
        let ada = account(&ambient, "ada");
        let job = Job { id: JobId(ambient.uuid()), task: Task::WelcomeMail { user_id: ada.id } };
        Self { ambient, ada, job, ends: Arc::default(), empty: Arc::default() }
    }

    /// A runner whose queue hands out the same job `attempts` times, one attempt further each time.
    fn runner(&self, mailer: &RecordingMailer, attempts: u32) -> Runner {
        self.runner_of(mailer, self.outbox(true), self.queue(attempts))
    }

    /// The outbox's reaction to an end: it notes it.
    fn told(&self, end: End) -> impl Fn(JobId) -> Result<()> + Send + use<> {
        let ends = self.ends.clone();
        move |_| {
            ends.lock().expect("unpoisoned").push(end.clone());
            Ok(())
        }
    }

    fn outbox(&self, unfinished: bool) -> MockOutbox {
        let id = self.job.id;
        let mut outbox = MockOutbox::new();
        outbox.expect_take_unfinished().returning(|_, _, _| Ok(vec![]));
        outbox.expect_take_buried().returning(|_, _, _| Ok(vec![]));
        outbox
            .expect_is_unfinished()
            .withf(move |job| *job == id)
            .returning(move |_| Ok(unfinished));
        let finished = self.told(End::Finished);
        outbox.expect_finish().withf(move |job| *job == id).returning(finished);
        let buried = self.told(End::Buried);
        outbox.expect_bury().withf(move |job| *job == id).returning(buried);
        outbox
    }

    fn queue(&self, attempts: u32) -> MockJobQueue {
        let mut queue = MockJobQueue::new();
        queue.expect_memory().returning(|| Ok("one".to_owned()));
        let (job, empty, mut attempt) = (self.job.clone(), self.empty.clone(), 0);
        queue.expect_claim().returning(move |_, _, _| {
            attempt += 1;
            if attempt > attempts {
                empty.notify_one();
                return Ok(vec![]);
            }
            Ok(vec![Claim { job: job.clone(), attempt }])
        });
        let ends = self.ends.clone();
        queue.expect_settle().returning(move |_, verdict, _| {
            ends.lock().expect("unpoisoned").push(End::Settled(verdict));
            Ok(())
        });
        queue
    }

    fn runner_of(
        &self,
        mailer: &RecordingMailer,
        outbox: MockOutbox,
        queue: MockJobQueue,
    ) -> Runner {
        let mut accounts = MockAccounts::new();
        let ada = self.ada.clone();
        accounts.expect_account().returning(move |_| Ok(ada.clone()));
        Runner {
            outbox: Arc::new(outbox),
            queue: Arc::new(queue),
            accounts: Arc::new(accounts),
            workspaces: Arc::new(MockWorkspaces::new()),
            mailer: Arc::new(mailer.clone()),
            ambient: Arc::new(self.ambient.clone()),
            retry: RetryPolicy::default(),
            public_url: "https://parlance.example".to_owned(),
        }
    }

    /// Runs until the queue is empty and what it has handed out is over.
    async fn run(&self, runner: Runner) -> Vec<End> {
        let empty = self.empty.clone();
        let run = Arc::new(runner).run(async move { empty.notified().await });
        timeout(PATIENCE * 10, run).await.expect("runs out of jobs");
        self.ends.lock().expect("unpoisoned").clone()
    }
}

#[tokio::test(start_paused = true)]
async fn a_mail_is_sent_once_and_says_who_it_is_for() {
    let (scene, mailer) = (Scene::new(), RecordingMailer::default());
    let ends = scene.run(scene.runner(&mailer, 1)).await;
    let mail = mailer.accepted().remove(0);
    assert_eq!(
        (mail.to.as_str(), mail.message_id),
        ("ada@example.org", format!("<{}@parlance>", scene.job.id))
    );
    assert!(mail.text.contains("Hello ada") && mail.text.contains("https://parlance.example"));
    assert_eq!((ends, mailer.attempts()), (vec![End::Finished, End::Settled(Verdict::Done)], 1));
}

#[tokio::test(start_paused = true)]
async fn a_temporary_failure_is_tried_three_times_and_then_dead() {
    let (scene, mailer) = (Scene::new(), RecordingMailer::default().failing(3));
    let ends = scene.run(scene.runner(&mailer, 3)).await;
    let now = scene.ambient.now();
    let delay = |end: &End| match end {
        End::Settled(Verdict::Retry { at, .. }) => Some(at.since(now).as_millis()),
        _ => None,
    };
    assert!(delay(&ends[0]).is_some_and(|ms| (1_000..=2_000).contains(&ms)), "{ends:?}");
    assert!(delay(&ends[1]).is_some_and(|ms| (2_000..=4_000).contains(&ms)), "{ends:?}");
    let dead = Verdict::Dead { error: "the server is busy".to_owned() };
    assert_eq!(ends[2..], [End::Buried, End::Settled(dead)]);
    assert_eq!((mailer.attempts(), mailer.accepted().len()), (3, 0));
}

#[tokio::test(start_paused = true)]
async fn a_failure_that_passes_is_forgotten() {
    let (scene, mailer) = (Scene::new(), RecordingMailer::default().failing(2));
    let ends = scene.run(scene.runner(&mailer, 3)).await;
    assert_eq!(ends[2..], [End::Finished, End::Settled(Verdict::Done)]);
    assert_eq!(mailer.accepted().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_permanent_failure_is_dead_at_once() {
    let (scene, mailer) = (Scene::new(), RecordingMailer::default().rejecting());
    let ends = scene.run(scene.runner(&mailer, 1)).await;
    let dead = Verdict::Dead { error: "no such mailbox".to_owned() };
    assert_eq!(ends, [End::Buried, End::Settled(dead)]);
}

#[tokio::test(start_paused = true)]
async fn what_has_ended_already_is_skipped() {
    let (scene, mailer) = (Scene::new(), RecordingMailer::default());
    let runner = scene.runner_of(&mailer, scene.outbox(false), scene.queue(1));
    let ends = scene.run(runner).await;
    assert_eq!((ends, mailer.attempts()), (vec![End::Finished, End::Settled(Verdict::Done)], 0));
}

/// For each round, the time before which a row must have been relayed to be relayed again; the clock advances by a
/// minute each.
async fn handed_on_again_before(memories: &'static [&'static str], fails: usize) -> Vec<i64> {
    let scene = Scene::new();
    let (mut queue, mut outbox) = (MockJobQueue::new(), MockOutbox::new());
    let (taken, done) = (Arc::new(Mutex::new(vec![])), Arc::new(Notify::new()));
    queue.expect_claim().returning(|_, _, _| Ok(vec![]));
    let mut told = memories.iter();
    let end = done.clone();
    queue.expect_memory().returning(move || {
        let Some(memory) = told.next() else {
            end.notify_one();
            return Err(Error::unavailable("the end"));
        };
        Ok((*memory).to_owned())
    });
    let mut round = 0;
    queue.expect_add().returning(move |_, _| {
        round += 1;
        if round == fails { Err(Error::unavailable("down")) } else { Ok(()) }
    });
    let (job, notes, ambient) = (scene.job.clone(), taken.clone(), scene.ambient.clone());
    let begin = ambient.now();
    outbox.expect_take_unfinished().returning(move |_, before, _| {
        notes.lock().expect("unpoisoned").push(before.as_millis() - begin.as_millis());
        ambient.advance(Duration::from_mins(1));
        Ok(vec![job.clone()])
    });
    outbox.expect_take_buried().returning(|_, _, _| Ok(vec![]));
    let runner = scene.runner_of(&RecordingMailer::default(), outbox, queue);
    Arc::new(runner).run(async move { done.notified().await }).await;
    let taken = taken.lock().expect("unpoisoned");
    taken.iter().map(|ms| ms / 60_000).collect()
}

#[tokio::test(start_paused = true)]
async fn all_is_handed_on_again_once_the_queue_has_another_memory() {
    let same = handed_on_again_before(&["one", "one", "one"], 0).await;
    assert_eq!(same, [0, 0, 0], "minutes since which nothing was lost");
    assert_eq!(handed_on_again_before(&["one", "one", "two", "two"], 0).await, [0, 0, 2, 2]);
}

#[tokio::test(start_paused = true)]
async fn what_could_not_be_added_is_handed_on_again() {
    assert_eq!(handed_on_again_before(&["one"; 4], 2).await, [0, 0, 2, 2]);
}

#[tokio::test(start_paused = true)]
async fn what_does_not_end_is_handed_on_again_after_five_minutes() {
    assert_eq!(handed_on_again_before(&["one"; 8], 0).await, [0, 0, 0, 0, 0, 0, 1, 2]);
}

/// An outbox that is away when the first ends are to be recorded, and when the job is dead or done.
fn away(scene: &Scene, times: usize) -> MockOutbox {
    let mut outbox = MockOutbox::new();
    outbox.expect_take_unfinished().returning(|_, _, _| Ok(vec![]));
    outbox.expect_take_buried().returning(|_, _, _| Ok(vec![]));
    outbox.expect_is_unfinished().returning(|_| Ok(true));
    let (finished, buried) = (scene.told(End::Finished), scene.told(End::Buried));
    let asked = Arc::new(AtomicUsize::new(0));
    let is_away = move || asked.fetch_add(1, Ordering::Relaxed) < times;
    let is_away_too = is_away.clone();
    let err = || Err(Error::unavailable("away"));
    outbox.expect_finish().returning(move |job| if is_away() { err() } else { finished(job) });
    outbox.expect_bury().returning(move |job| if is_away_too() { err() } else { buried(job) });
    outbox
}

/// Whoever takes a job over from a worker that dies in between finds it done, and sends no second mail.
#[tokio::test(start_paused = true)]
async fn an_end_is_recorded_before_the_queue_lets_the_job_go() {
    let (scene, mailer) = (Scene::new(), RecordingMailer::default());
    let begun = tokio::time::Instant::now();
    // The store does not come back: the queue keeps the job, and somebody else has it when the lease ends.
    let outbox = away(&scene, usize::MAX);
    let ends = scene.run(scene.runner_of(&mailer, outbox, scene.queue(1))).await;
    assert_eq!((ends, mailer.accepted().len()), (vec![], 1));
    assert!(begun.elapsed() < Duration::from_mins(1), "{:?}", begun.elapsed());
}

/// Or each mail that is sent at such a moment would be sent once more.
#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_for_a_moment_hears_of_the_end_all_the_same() {
    let (scene, mailer) = (Scene::new(), RecordingMailer::default());
    let ends = scene.run(scene.runner_of(&mailer, away(&scene, 20), scene.queue(1))).await;
    assert_eq!(ends, [End::Finished, End::Settled(Verdict::Done)]);
    let (scene, mailer) = (Scene::new(), RecordingMailer::default().rejecting());
    let ends = scene.run(scene.runner_of(&mailer, away(&scene, 20), scene.queue(1))).await;
    assert!(matches!(&ends[..], [End::Buried, End::Settled(Verdict::Dead { .. })]), "{ends:?}");
}

/// They are all that is left of the dead jobs that it had.
#[tokio::test(start_paused = true)]
async fn the_buried_are_handed_on_to_each_new_memory_once() {
    let scene = Scene::new();
    let (mut queue, mut outbox) = (MockJobQueue::new(), MockOutbox::new());
    let done = Arc::new(Notify::new());
    queue.expect_claim().returning(|_, _, _| Ok(vec![]));
    let mut memories = ["one", "one", "one", "two", "two"].into_iter();
    let end = done.clone();
    queue.expect_memory().returning(move || {
        memories.next().map(str::to_owned).ok_or_else(|| {
            end.notify_one();
            Error::unavailable("the end")
        })
    });
    let job = scene.job.clone();
    let expected = vec![job.clone()];
    queue.expect_add().times(2).withf(move |jobs, _| *jobs == expected).returning(|_, _| Ok(()));
    outbox.expect_take_unfinished().times(5).returning(|_, _, _| Ok(vec![]));
    outbox.expect_take_buried().times(2).returning(move |_, before, at| {
        assert_eq!(before, at);
        Ok(vec![job.clone()])
    });
    let runner = scene.runner_of(&RecordingMailer::default(), outbox, queue);
    Arc::new(runner).run(async move { done.notified().await }).await;
}

/// Or rows that have been handed on would be handed on again in each round, for as long as the step was.
#[tokio::test(start_paused = true)]
async fn a_clock_that_steps_back_hands_nothing_on_again() {
    let scene = Scene::new();
    let (mut queue, mut outbox) = (MockJobQueue::new(), MockOutbox::new());
    let done = Arc::new(Notify::new());
    queue.expect_claim().returning(|_, _, _| Ok(vec![]));
    queue.expect_memory().returning(|| Ok("one".to_owned()));
    outbox.expect_take_buried().returning(|_, _, _| Ok(vec![]));
    let (ambient, end, mut rounds) = (scene.ambient.clone(), done.clone(), 0);
    outbox.expect_take_unfinished().returning(move |_, before, at| {
        assert!(before <= at, "{before} is later than {at}");
        rounds += 1;
        if rounds == 2 {
            ambient.set(TestAmbient::BEGIN);
        } else if rounds == 4 {
            end.notify_one();
        }
        Ok(vec![])
    });
    scene.ambient.advance(Duration::from_hours(1));
    let runner = scene.runner_of(&RecordingMailer::default(), outbox, queue);
    timeout(PATIENCE, Arc::new(runner).run(async move { done.notified().await }))
        .await
        .expect("goes on");
}

/// A mailer that does not answer.
struct Silent;

#[async_trait]
impl Mailer for Silent {
    async fn send(&self, _: &Mail) -> Result<(), MailError> {
        std::future::pending().await
    }
}

/// Before its lease ends, so that nobody else has it meanwhile.
#[tokio::test(start_paused = true)]
async fn an_attempt_that_does_not_end_is_given_up() {
    let scene = Scene::new();
    let runner = scene.runner(&RecordingMailer::default(), 1);
    let runner = Runner { mailer: Arc::new(Silent), ..runner };
    let begun = tokio::time::Instant::now();
    let ends = scene.run(runner).await;
    assert!(begun.elapsed() < Duration::from_mins(1), "{:?}", begun.elapsed());
    assert!(
        matches!(&ends[..], [End::Settled(Verdict::Retry { error, .. })] if error.contains("too long")),
        "{ends:?}"
    );
}

/// The reason to write has gone with them.
#[tokio::test(start_paused = true)]
async fn nobody_is_written_to_who_is_gone() {
    let (scene, mailer) = (Scene::new(), RecordingMailer::default());
    let mut accounts = MockAccounts::new();
    accounts.expect_account().once().returning(|_| Err(Error::NotFound("user")));
    let runner = scene.runner(&mailer, 1);
    let runner = Runner { accounts: Arc::new(accounts), ..runner };
    let ends = scene.run(runner).await;
    assert_eq!((ends, mailer.attempts()), (vec![End::Finished, End::Settled(Verdict::Done)], 0));
}
