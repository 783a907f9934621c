//! The board's JSON.

use actix_web::{
    HttpResponse,
    web::{Data, Json},
};
use parlance_application::{
    App, Error, Overview,
    jobs::Task,
    ports::{JobCounts, JobState, JobView, KEPT_MINUTES, MinuteView, WorkerView},
};
use parlance_domain::{JobId, Timestamp};
use serde::{Deserialize, Serialize};

use super::Admin;
use crate::{
    error::ApiError,
    extract::{Authenticated, Params, Path, count_or},
    number::count_in_query,
};

const MINUTES: usize = 60;
const LIMIT: usize = 25;

#[derive(Deserialize, garde::Validate)]
#[serde(deny_unknown_fields)]
pub(super) struct Span {
    #[garde(range(min = 1, max = KEPT_MINUTES))]
    #[serde(default, deserialize_with = "count_in_query")]
    minutes: Option<i64>,
}

#[derive(Deserialize, garde::Validate)]
#[serde(deny_unknown_fields)]
pub(super) struct Page {
    #[garde(skip)]
    state: String,
    #[garde(range(min = 0, max = 1_000_000))]
    #[serde(default, deserialize_with = "count_in_query")]
    offset: Option<i64>,
    #[garde(range(min = 1, max = 100))]
    #[serde(default, deserialize_with = "count_in_query")]
    limit: Option<i64>,
}

#[derive(Serialize)]
pub(super) struct Glance {
    at: Timestamp,
    counts: JobCounts,
    workers: Vec<WorkerView>,
    throughput: Vec<MinuteView>,
}

#[derive(Serialize)]
pub(super) struct Jobs {
    items: Vec<Job>,
}

#[derive(Serialize)]
pub(super) struct Job {
    id: JobId,
    kind: &'static str,
    task: Task,
    state: &'static str,
    stalled: bool,
    attempts: u32,
    added_at: Timestamp,
    run_at: Option<Timestamp>,
    started_at: Option<Timestamp>,
    finished_at: Option<Timestamp>,
    errors: Vec<String>,
}

#[derive(Serialize)]
pub(super) struct Retried {
    retried: u64,
}

pub(super) async fn overview(
    app: Data<App>,
    admin: Data<Admin>,
    Authenticated(caller): Authenticated,
    Params(span): Params<Span>,
) -> Result<Json<Glance>, ApiError> {
    let minutes = count_or(span.minutes, MINUTES);
    let Overview { counts, workers, throughput } = admin.board.overview(&caller, minutes).await?;
    Ok(Json(Glance { at: app.ambient.now(), counts, workers, throughput }))
}

pub(super) async fn jobs(
    admin: Data<Admin>,
    Authenticated(caller): Authenticated,
    Params(page): Params<Page>,
) -> Result<Json<Jobs>, ApiError> {
    let state = JobState::ALL.into_iter().find(|state| state.name() == page.state);
    let state = state.ok_or_else(|| {
        Error::refused("state", "unknown", "must be waiting, delayed, active, done or dead")
    })?;
    let (offset, limit) = (count_or(page.offset, 0), count_or(page.limit, LIMIT));
    let jobs = admin.board.jobs(&caller, state, offset, limit).await?;
    Ok(Json(Jobs { items: jobs.into_iter().map(Job::from).collect() }))
}

pub(super) async fn job(
    admin: Data<Admin>,
    Authenticated(caller): Authenticated,
    Path(id): Path<JobId>,
) -> Result<Json<Job>, ApiError> {
    Ok(Json(admin.board.job(&caller, id).await?.into()))
}

pub(super) async fn retry(
    admin: Data<Admin>,
    Authenticated(caller): Authenticated,
    Path(id): Path<JobId>,
) -> Result<HttpResponse, ApiError> {
    admin.board.retry(&caller, id).await?;
    Ok(HttpResponse::NoContent().finish())
}

pub(super) async fn promote(
    admin: Data<Admin>,
    Authenticated(caller): Authenticated,
    Path(id): Path<JobId>,
) -> Result<HttpResponse, ApiError> {
    admin.board.promote(&caller, id).await?;
    Ok(HttpResponse::NoContent().finish())
}

pub(super) async fn remove(
    admin: Data<Admin>,
    Authenticated(caller): Authenticated,
    Path(id): Path<JobId>,
) -> Result<HttpResponse, ApiError> {
    admin.board.remove(&caller, id).await?;
    Ok(HttpResponse::NoContent().finish())
}

pub(super) async fn retry_all(
    admin: Data<Admin>,
    Authenticated(caller): Authenticated,
) -> Result<Json<Retried>, ApiError> {
    Ok(Json(Retried { retried: admin.board.retry_all(&caller).await? }))
}

impl From<JobView> for Job {
    fn from(view: JobView) -> Self {
        Self {
            id: view.job.id,
            kind: view.job.task.name(),
            task: view.job.task,
            state: view.state.name(),
            stalled: view.stalled,
            attempts: view.attempts,
            added_at: view.added_at,
            run_at: view.run_at,
            started_at: view.started_at,
            finished_at: view.finished_at,
            errors: view.errors,
        }
    }
}
