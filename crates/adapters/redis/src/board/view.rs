//! A job's hash in Redis, read.

use std::collections::HashMap;

use parlance_application::{
    jobs::Job,
    ports::{JobState, JobView},
};
use parlance_domain::{JobId, Timestamp};

/// `BullMQ` puts a counter into the low bits of a delayed job's score.
const SCORE: f64 = 4096.0;

pub(super) struct Raw {
    id: String,
    fields: HashMap<String, String>,
    locked: bool,
    /// When it is due, if it is delayed: see [`SCORE`].
    score: Option<f64>,
}

impl Raw {
    pub(super) fn new(
        id: &str,
        fields: HashMap<String, String>,
        locked: bool,
        score: Option<f64>,
    ) -> Self {
        Self { id: id.to_owned(), fields, locked, score }
    }

    pub(super) fn id(&self) -> Option<JobId> {
        self.id.parse().ok()
    }

    /// Whether nobody holds its lock. If it is active nevertheless, it is stalled.
    pub(super) const fn is_unlocked(&self) -> bool {
        !self.locked
    }

    /// Who took it last.
    pub(super) fn worker(&self) -> Option<&str> {
        self.fields.get("pb").map(String::as_str)
    }

    fn time(&self, field: &str) -> Option<Timestamp> {
        self.fields.get(field)?.parse().ok().map(Timestamp::from_millis)
    }

    fn due(&self) -> Option<Timestamp> {
        #[expect(clippy::cast_possible_truncation, reason = "milliseconds since 1970 fit")]
        self.score.map(|score| Timestamp::from_millis((score / SCORE).floor() as i64))
    }

    /// `None` if it is not a job of Parlance.
    pub(super) fn view(&self, state: JobState) -> Option<JobView> {
        let job: Job = serde_json::from_str(self.fields.get("data")?).ok()?;
        let ended = matches!(state, JobState::Done | JobState::Dead);
        Some(JobView {
            job,
            state,
            attempts: self.fields.get("ats").and_then(|n| n.parse().ok()).unwrap_or(0),
            added_at: self.time("timestamp").unwrap_or(Timestamp::from_millis(0)),
            run_at: self.due().filter(|_| state == JobState::Delayed),
            started_at: self.time("processedOn"),
            finished_at: self.time("finishedOn").filter(|_| ended),
            stalled: state == JobState::Active && self.is_unlocked(),
            errors: self
                .fields
                .get("stacktrace")
                .and_then(|errors| serde_json::from_str(errors).ok())
                .unwrap_or_default(),
        })
    }
}
