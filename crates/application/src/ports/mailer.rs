//! Outgoing mail. Delivery is at-least-once: a repeat has the same `message_id`. The job runner calls it and decides
//! when to retry.

use async_trait::async_trait;

/// Hands mails over to a mail server.
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait Mailer: Send + Sync {
    /// Returns once the mail has been accepted. After [`MailError::Temporary`], it may have been accepted all the same.
    async fn send(&self, mail: &Mail) -> Result<(), MailError>;
}

/// A mail to one person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mail {
    /// The `Message-ID` header, the same for every attempt, so that repeats can be recognised.
    pub message_id: String,
    /// The recipient's address.
    pub to: String,
    /// The subject line.
    pub subject: String,
    /// Plain text.
    pub text: String,
    /// The same as HTML.
    pub html: String,
}

/// Why a mail was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MailError {
    /// May work later.
    #[error("{0}")]
    Temporary(String),
    /// Will never work.
    #[error("{0}")]
    Permanent(String),
}
