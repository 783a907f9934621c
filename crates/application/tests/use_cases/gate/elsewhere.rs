//! A store that other nodes change, as a node sees it through its questions.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use async_trait::async_trait;
use parlance_application::{
    Error, Result,
    ports::store::{Changes, Head, Look, Readers, State, Subject},
};
use parlance_domain::{
    AccessRev, ConversationId, SessionId, SessionRev, Timestamp, UserId, WorkspaceId,
};
use parlance_testkit::PATIENCE;
use tokio::sync::Semaphore;

use crate::scene::nothing_new;

/// The store's state: nobody is out, and no session has ended, until the test says so.
#[derive(Clone)]
pub(in super::super) struct Elsewhere {
    book: Arc<Mutex<Book>>,
    /// One for each question about who may hear that is answered.
    answers: Arc<Semaphore>,
}

#[derive(Default)]
pub(in super::super) struct Book {
    pub(in super::super) out: HashSet<UserId>,
    /// States of subjects; others are unknown.
    pub(in super::super) states: Vec<(Subject, State)>,
    pub(in super::super) ended: HashSet<SessionId>,
    pub(in super::super) away: bool,
    /// Whether the waiting question is the one for states, not the last one.
    pub(in super::super) at_states: bool,
    pub(in super::super) asked: usize,
}

impl Elsewhere {
    pub(in super::super) fn new() -> Self {
        Self { book: Arc::default(), answers: Arc::new(Semaphore::new(Semaphore::MAX_PERMITS)) }
    }

    /// Answers nothing before [`Elsewhere::answer`].
    pub(in super::super) fn silent() -> Self {
        Self { book: Arc::default(), answers: Arc::new(Semaphore::new(0)) }
    }

    pub(in super::super) fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().expect("not poisoned")
    }

    async fn wait(&self) {
        self.book().asked += 1;
        self.answers.acquire().await.expect("open").forget();
    }

    pub(in super::super) fn answer(&self) {
        self.answers.add_permits(1);
    }

    /// Waits until this many questions have come.
    pub(in super::super) async fn asked(&self, times: usize) {
        let asked = async {
            while self.book().asked < times {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, asked).await.expect("asked in time");
    }

    fn inside(&self, users: Vec<UserId>) -> Vec<UserId> {
        let book = self.book();
        users.into_iter().filter(|user| !book.out.contains(user)).collect()
    }
}

#[async_trait]
impl Changes for Elsewhere {
    async fn changes(&self, _since: Option<Timestamp>) -> Result<Look> {
        Ok(nothing_new())
    }

    async fn heads(&self, _conversations: Vec<ConversationId>) -> Result<Vec<Head>> {
        Ok(vec![])
    }

    async fn readers(&self, _: ConversationId, users: Vec<UserId>) -> Result<Option<Readers>> {
        Ok(Some(Readers { access_rev: AccessRev(1), users: self.inside(users) }))
    }

    async fn ended_sessions(&self, of: Vec<SessionId>) -> Result<Vec<SessionId>> {
        let book = self.book();
        Ok(of.into_iter().filter(|session| book.ended.contains(session)).collect())
    }

    async fn session_rev(&self) -> Result<SessionRev> {
        if !self.book().at_states {
            self.wait().await;
        }
        let book = self.book();
        if book.away {
            return Err(Error::unavailable("away"));
        }
        Ok(SessionRev(book.ended.len() as u64))
    }

    async fn workspace_members(&self, _: WorkspaceId, users: Vec<UserId>) -> Result<Vec<UserId>> {
        Ok(self.inside(users))
    }

    async fn states(&self, of: Vec<Subject>) -> Result<Vec<(Subject, State)>> {
        if self.book().at_states {
            self.wait().await;
        }
        let book = self.book();
        Ok(book.states.iter().filter(|(subject, _)| of.contains(subject)).cloned().collect())
    }
}
