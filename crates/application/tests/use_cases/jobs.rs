//! The job runner: what it tries, how often, and how it ends.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use parlance_application::{
    Error,
    jobs::{Job, RetryPolicy, Runner, Task},
    ports::{Ambient, Claim, Mail, MailError, Mailer, PasswordHash, Verdict, store::Credentials},
};
use parlance_domain::{Account, JobId};
use parlance_testkit::{
    RecordingMailer, TestAmbient, account,
    mocks::{MockAccounts, MockJobQueue, MockOutbox, MockWorkspaces},
};
use tokio::sync::Notify;

struct Scene {
    ambient: TestAmbient,
    ada: Account,
    job: Job,
    verdicts: Arc<Mutex<Vec<Verdict>>>,
}

impl Scene {
    fn new() -> Self {
        let ambient = TestAmbient::seeded(5);
        let ada = account(&ambient, "ada");
        let job = Job { id: JobId(ambient.uuid()), task: Task::WelcomeMail { user_id: ada.id } };
        Self { ambient, ada, job, verdicts: Arc::default() }
    }

    /// A runner whose queue hands out the same job each round, one attempt further. The job is finished so often, else buried.
    fn runner(&self, mailer: &RecordingMailer, unfinished: bool, finishes: usize) -> Runner {
        let id = self.job.id;
        let mut outbox = MockOutbox::new();
        outbox.expect_take_unfinished().returning(|_, _, _| Ok(vec![]));
        outbox
            .expect_is_unfinished()
            .withf(move |job| *job == id)
            .returning(move |_| Ok(unfinished));
        outbox.expect_bury().withf(move |job| *job == id).times(1 - finishes).returning(|_| Ok(()));
        outbox.expect_finish().withf(move |job| *job == id).times(finishes).returning(|_| Ok(()));
        let mut queue = MockJobQueue::new();
        queue.expect_memory().returning(|| Ok("one".to_owned()));
        let (job, mut attempt) = (self.job.clone(), 0);
        queue.expect_claim().returning(move |_, _, _| {
            attempt += 1;
            Ok(vec![Claim { job: job.clone(), attempt }])
        });
        let verdicts = self.verdicts.clone();
        queue.expect_settle().returning(move |_, verdict, _| {
            verdicts.lock().expect("unpoisoned").push(verdict);
            Ok(())
        });
        self.runner_of(mailer, outbox, queue)
    }

    fn runner_of(
        &self,
        mailer: &RecordingMailer,
        outbox: MockOutbox,
        queue: MockJobQueue,
    ) -> Runner {
        let mut accounts = MockAccounts::new();
        let known =
            Credentials { account: self.ada.clone(), password: PasswordHash(String::new()) };
        accounts.expect_credentials_of().returning(move |_| Ok(known.clone()));
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

    fn verdicts(&self) -> Vec<Verdict> {
        self.verdicts.lock().expect("unpoisoned").clone()
    }
}

#[tokio::test]
async fn a_mail_is_sent_once_and_says_who_it_is_for() {
    let (scene, mailer) = (Scene::new(), RecordingMailer::default());
    assert_eq!(scene.runner(&mailer, true, 1).work().await.ok(), Some(1));
    let mail = mailer.accepted().remove(0);
    assert_eq!(
        (mail.to.as_str(), mail.message_id),
        ("ada@example.org", format!("<{}@parlance>", scene.job.id))
    );
    assert!(mail.text.contains("Hello ada") && mail.text.contains("https://parlance.example"));
    assert_eq!(scene.verdicts(), [Verdict::Done]);
}

#[tokio::test]
async fn a_temporary_failure_is_tried_three_times_and_then_dead() {
    let (scene, mailer) = (Scene::new(), RecordingMailer::default().failing(3));
    let runner = scene.runner(&mailer, true, 0);
    for _ in 0..3 {
        runner.work().await.expect("works");
    }
    let verdicts = scene.verdicts();
    let now = scene.ambient.now();
    let delay = |verdict: &Verdict| match verdict {
        Verdict::Retry { at, .. } => Some(at.since(now).as_millis()),
        _ => None,
    };
    assert!(delay(&verdicts[0]).is_some_and(|ms| (1_000..=2_000).contains(&ms)), "{verdicts:?}");
    assert!(delay(&verdicts[1]).is_some_and(|ms| (2_000..=4_000).contains(&ms)), "{verdicts:?}");
    assert_eq!(verdicts[2], Verdict::Dead { error: "the server is busy".to_owned() });
    assert_eq!((mailer.attempts(), mailer.accepted().len()), (3, 0));
}

#[tokio::test]
async fn a_failure_that_passes_is_forgotten() {
    let (scene, mailer) = (Scene::new(), RecordingMailer::default().failing(2));
    let runner = scene.runner(&mailer, true, 1);
    for _ in 0..3 {
        runner.work().await.expect("works");
    }
    assert_eq!((scene.verdicts().pop(), mailer.accepted().len()), (Some(Verdict::Done), 1));
}

#[tokio::test]
async fn a_permanent_failure_is_dead_at_once() {
    let (scene, mailer) = (Scene::new(), RecordingMailer::default().rejecting());
    scene.runner(&mailer, true, 0).work().await.expect("works");
    assert_eq!(scene.verdicts(), [Verdict::Dead { error: "no such mailbox".to_owned() }]);
}

#[tokio::test]
async fn what_has_ended_already_is_skipped() {
    let (scene, mailer) = (Scene::new(), RecordingMailer::default());
    scene.runner(&mailer, false, 1).work().await.expect("works");
    assert_eq!((scene.verdicts(), mailer.attempts()), (vec![Verdict::Done], 0));
}

/// When a row must have been handed on before, to be handed on in each of the rounds; the clock goes on by a minute each.
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

/// Whoever takes a job over from a worker that dies in between finds it done, and sends no second mail.
#[tokio::test]
async fn an_end_is_recorded_before_the_queue_lets_the_job_go() {
    let scene = Scene::new();
    let (mut queue, mut outbox) = (MockJobQueue::new(), MockOutbox::new());
    outbox.expect_take_unfinished().returning(|_, _, _| Ok(vec![]));
    outbox.expect_is_unfinished().returning(|_| Ok(true));
    queue.expect_memory().returning(|| Ok("one".to_owned()));
    let job = scene.job.clone();
    queue.expect_claim().returning(move |_, _, _| Ok(vec![Claim { job: job.clone(), attempt: 1 }]));
    // A store that is away at this moment: the queue keeps the job.
    outbox.expect_finish().once().returning(|_| Err(Error::unavailable("away")));
    queue.expect_settle().never();
    let mailer = RecordingMailer::default();
    let ended = scene.runner_of(&mailer, outbox, queue).work().await;
    assert!(ended.is_err(), "{ended:?}");
    assert_eq!(mailer.accepted().len(), 1);
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
    let (mut queue, mut outbox) = (MockJobQueue::new(), MockOutbox::new());
    outbox.expect_take_unfinished().returning(|_, _, _| Ok(vec![]));
    outbox.expect_is_unfinished().returning(|_| Ok(true));
    queue.expect_memory().returning(|| Ok("one".to_owned()));
    let (job, verdicts) = (scene.job.clone(), scene.verdicts.clone());
    queue.expect_claim().returning(move |_, _, _| Ok(vec![Claim { job: job.clone(), attempt: 1 }]));
    queue.expect_settle().once().returning(move |_, verdict, _| {
        verdicts.lock().expect("unpoisoned").push(verdict);
        Ok(())
    });
    let runner = scene.runner_of(&RecordingMailer::default(), outbox, queue);
    let runner = Runner { mailer: Arc::new(Silent), ..runner };
    let begun = tokio::time::Instant::now();
    runner.work().await.expect("works");
    assert!(begun.elapsed() < Duration::from_mins(1), "{:?}", begun.elapsed());
    let verdicts = scene.verdicts();
    assert!(
        matches!(&verdicts[..], [Verdict::Retry { error, .. }] if error.contains("too long")),
        "{verdicts:?}"
    );
}

/// The reason to write has gone with them.
#[tokio::test]
async fn nobody_is_written_to_who_is_gone() {
    let (scene, mailer) = (Scene::new(), RecordingMailer::default());
    let mut accounts = MockAccounts::new();
    accounts.expect_credentials_of().once().returning(|_| Err(Error::NotFound("user")));
    let runner = scene.runner(&mailer, true, 1);
    let runner = Runner { accounts: Arc::new(accounts), ..runner };
    runner.work().await.expect("works");
    assert_eq!((scene.verdicts(), mailer.attempts()), (vec![Verdict::Done], 0));
}
