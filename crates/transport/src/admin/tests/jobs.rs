//! What operators see of jobs and do to them.

use std::time::Duration;

use actix_web::http::{Method, StatusCode, header};
use parlance_application::{
    Error,
    jobs::{Job, Task},
    ports::{JobCounts, JobState, JobView},
};
use parlance_domain::UserId;
use parlance_testkit::TestAmbient;
use serde_json::Value;
use uuid::Uuid;

use super::{JOB, Scene};

fn view(state: JobState) -> JobView {
    JobView {
        job: Job { id: JOB, task: Task::WelcomeMail { user_id: UserId(Uuid::from_u128(1)) } },
        state,
        attempts: 3,
        added_at: TestAmbient::BEGIN,
        run_at: None,
        started_at: Some(TestAmbient::BEGIN),
        finished_at: Some(TestAmbient::BEGIN + Duration::from_secs(1)),
        stalled: false,
        errors: vec!["<b>no such mailbox</b>".to_owned()],
    }
}

#[actix_web::test]
async fn a_dead_job_is_retried() {
    let mut scene = Scene::new();
    scene.board.expect_job().returning(|_, _| Ok(view(JobState::Dead)));
    scene.board.expect_retry().times(1).withf(|id, _| *id == JOB).return_once(|_, _| Ok(()));
    scene.outbox.expect_revive().times(1).withf(|ids| *ids == [JOB]).return_once(Ok);
    let request = scene.change(Method::POST, &format!("/admin/api/jobs/{JOB}/retry"));
    assert_eq!(scene.answer(request).await.status, StatusCode::NO_CONTENT);
}

#[actix_web::test]
async fn a_dead_job_that_the_outbox_has_lost_is_not_retried() {
    let mut scene = Scene::new();
    scene.board.expect_job().returning(|_, _| Ok(view(JobState::Dead)));
    scene.outbox.expect_revive().return_once(|_| Ok(vec![]));
    let request = scene.change(Method::POST, &format!("/admin/api/jobs/{JOB}/retry"));
    scene.answer(request).await.refused(StatusCode::CONFLICT, "conflict");
}

#[actix_web::test]
async fn a_removed_job_leaves_the_outbox() {
    let mut scene = Scene::new();
    scene.board.expect_remove().return_once(|_| Ok(()));
    scene.outbox.expect_finish().times(1).withf(|id| *id == JOB).return_once(|_| Ok(()));
    let request = scene.change(Method::DELETE, &format!("/admin/api/jobs/{JOB}"));
    assert_eq!(scene.answer(request).await.status, StatusCode::NO_CONTENT);
}

#[actix_web::test]
async fn the_ports_refusals_are_told() {
    let mut scene = Scene::new();
    scene.board.expect_promote().return_once(|_, _| Err(Error::conflict("not delayed")));
    scene.board.expect_remove().return_once(|_| Err(Error::conflict("active")));
    scene.board.expect_job().return_once(|_, _| Err(Error::NotFound("job")));
    let counts = JobCounts { dead: 501, ..JobCounts::default() };
    scene.board.expect_counts().return_once(move |_| Ok(counts));
    scene.board.expect_jobs().times(2).returning(|_, offset, _, _| {
        Ok(if offset == 0 { vec![] } else { vec![view(JobState::Dead)] })
    });
    scene.outbox.expect_revive().times(1).withf(|ids| *ids == [JOB]).return_once(Ok);
    scene.board.expect_retry_all().withf(|ids, _| *ids == [JOB]).return_once(|_, _| Ok(3));
    let path = format!("/admin/api/jobs/{JOB}");
    let requests = [
        scene.change(Method::POST, &format!("{path}/promote")),
        scene.change(Method::DELETE, &path),
        scene.get(&path),
        scene.change(Method::POST, "/admin/api/retry-all"),
        scene.change(Method::PUT, &path),
        scene.get("/admin/api/nothing"),
    ];
    let answers = scene.answers(requests).await;
    answers[0].refused(StatusCode::CONFLICT, "conflict");
    answers[1].refused(StatusCode::CONFLICT, "conflict");
    answers[2].refused(StatusCode::NOT_FOUND, "not_found");
    assert_eq!(answers[3].json(), serde_json::json!({ "retried": 3 }));
    answers[4].refused(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed");
    assert_eq!(answers[4].header(header::ALLOW), "GET, HEAD, DELETE");
    answers[5].refused(StatusCode::NOT_FOUND, "not_found");
}

#[actix_web::test]
async fn lists_are_asked_for_by_state() {
    let mut scene = Scene::new();
    scene
        .board
        .expect_jobs()
        .withf(|state, offset, limit, _| (*state, *offset, *limit) == (JobState::Dead, 50, 10))
        .return_once(|_, _, _, _| Ok(vec![view(JobState::Dead)]));
    let requests = [
        "/admin/api/jobs?state=dead&offset=50&limit=10",
        "/admin/api/jobs?state=asleep",
        "/admin/api/jobs?state=dead&limit=101",
        "/admin/api/jobs",
        "/admin/api/jobs?state=dead&offset=-1",
        "/admin/api/overview?minutes=241",
    ]
    .map(|path| scene.get(path));
    let answers = scene.answers(requests).await;
    let job = &answers[0].json()["items"][0];
    assert_eq!(job["task"]["kind"], "welcome_mail");
    assert_eq!(
        (&job["kind"], &job["state"], &job["attempts"]),
        (&"welcome_mail".into(), &"dead".into(), &3.into())
    );
    assert_eq!(
        (&job["run_at"], &job["added_at"]),
        (&Value::Null, &"2024-11-24T06:14:29.000Z".into())
    );
    assert_eq!(job["errors"][0], "<b>no such mailbox</b>");
    answers[1].refused(StatusCode::UNPROCESSABLE_ENTITY, "validation_failed");
    answers[2].refused(StatusCode::UNPROCESSABLE_ENTITY, "validation_failed");
    answers[3].refused(StatusCode::BAD_REQUEST, "bad_request");
    answers[4].refused(StatusCode::UNPROCESSABLE_ENTITY, "validation_failed");
    answers[5].refused(StatusCode::UNPROCESSABLE_ENTITY, "validation_failed");
}
