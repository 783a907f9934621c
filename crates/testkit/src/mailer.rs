//! A mailer that records, and fails when told to.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use parlance_application::ports::{Mail, MailError, Mailer};

/// Records what would be delivered, and fails as scripted. Clones share both.
#[derive(Debug, Clone, Default)]
pub struct RecordingMailer(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    accepted: Vec<Mail>,
    attempts: usize,
    failures: VecDeque<MailError>,
}

impl RecordingMailer {
    /// The next `times` attempts fail temporarily.
    #[must_use]
    pub fn failing(self, times: usize) -> Self {
        let failure = MailError::Temporary("the server is busy".to_owned());
        self.lock().failures.extend(std::iter::repeat_n(failure, times));
        self
    }

    /// The attempt after those scripted so far fails permanently.
    #[must_use]
    pub fn rejecting(self) -> Self {
        self.lock().failures.push_back(MailError::Permanent("no such mailbox".to_owned()));
        self
    }

    /// What was accepted, in order.
    pub fn accepted(&self) -> Vec<Mail> {
        self.lock().accepted.clone()
    }

    /// How often somebody tried.
    pub fn attempts(&self) -> usize {
        self.lock().attempts
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Mailer for RecordingMailer {
    async fn send(&self, mail: &Mail) -> Result<(), MailError> {
        let mut state = self.lock();
        state.attempts += 1;
        if let Some(failure) = state.failures.pop_front() {
            return Err(failure);
        }
        state.accepted.push(mail.clone());
        Ok(())
    }
}
