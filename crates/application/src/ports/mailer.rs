use async_trait::async_trait;

/// Hands a mail to whoever delivers it.
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait Mailer: Send + Sync {
    /// Returns once the mail has been accepted.
    async fn send(&self, mail: &Mail) -> Result<(), MailError>;
}

/// A mail to one person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mail {
    /// The same for every attempt, so that a repeat can be told.
    pub message_id: String,
    /// The receiver's address.
    pub to: String,
    /// The subject line.
    pub subject: String,
    /// Plain text.
    pub text: String,
    /// The same as HTML, for those who show it.
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
