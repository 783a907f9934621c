//! Mails over SMTP, with a pool of connections of our own. A connection goes back into it only between two mails. The
//! server's URL is read in `relay.rs`.

use std::{
    fmt::Display,
    mem,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use lettre::{
    Message,
    message::Mailbox,
    transport::smtp::{Error, client::AsyncSmtpConnection},
};
use parlance_application::ports::{Mail, MailError, Mailer};
use tokio::time::timeout;

use crate::{
    compose::{compose, mailbox},
    relay::Relay,
};

/// How long one attempt may take: a little less than the job runner allows. Servers inspect a mail before they accept
/// it, and one abandoned meanwhile is sent again although it was accepted (RFC 5321, 4.5.3.2.6, would wait for ten
/// minutes).
const PATIENCE: Duration = Duration::from_secs(28);
/// How long it may take to get a connection.
const CONNECTING: Duration = Duration::from_secs(10);
const TOO_LONG: &str = "the mail server took too long";
/// Connections kept for the next mail.
const IDLE: usize = 8;

/// Hands mails to an SMTP server, over connections that it keeps.
///
/// lettre's pool is not used: it limits only the time of connecting, and it keeps a connection whose mail was abandoned
/// half-way, so that the next mail would read the replies to that one.
pub struct SmtpMailer {
    relay: Relay,
    from: Mailbox,
    patience: Duration,
    idle: Mutex<Vec<AsyncSmtpConnection>>,
}

impl SmtpMailer {
    /// Connects to nothing yet. `url` is
    /// `smtp[s]://[user:password@]host[:port][/greeting][?tls=required|opportunistic]`, user and password
    /// percent-encoded; `from` is `address` or `Name <address>`.
    pub fn new(url: &str, from: &str) -> Result<Self, MailError> {
        Ok(Self {
            relay: Relay::parse(url)?,
            from: mailbox(from)?,
            patience: PATIENCE,
            idle: Mutex::default(),
        })
    }

    /// Sets how long each attempt may take, instead of 28 seconds.
    #[must_use]
    pub fn with_timeout(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Sends over a connection, and keeps it afterwards. If this future is dropped, so is the connection: none is kept
    /// in the middle of a dialogue.
    async fn hand_in(&self, message: &Message) -> Result<(), MailError> {
        let connecting = timeout(CONNECTING, self.connection());
        let mut connection = connecting.await.map_err(|_| temporary(TOO_LONG))??;
        connection.send(message.envelope(), &message.formatted()).await.map_err(verdict)?;
        let mut idle = self.idle();
        if idle.len() < IDLE {
            idle.push(connection);
        }
        Ok(())
    }

    async fn connection(&self) -> Result<AsyncSmtpConnection, MailError> {
        loop {
            let kept = self.idle().pop();
            let Some(mut connection) = kept else { break };
            // Servers close connections that were idle for some minutes.
            if connection.test_connected().await {
                return Ok(connection);
            }
        }
        // Never permanent: a refusal before the mail concerns the server or our account there, which an operator can
        // fix.
        self.relay.connect(CONNECTING).await.map_err(temporary)
    }

    fn idle(&self) -> MutexGuard<'_, Vec<AsyncSmtpConnection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Mailer for SmtpMailer {
    async fn send(&self, mail: &Mail) -> Result<(), MailError> {
        let message = compose(&self.from, mail)?;
        let outcome = timeout(self.patience, self.hand_in(&message))
            .await
            .unwrap_or_else(|_| Err(temporary(TOO_LONG)));
        match &outcome {
            Ok(()) => tracing::info!(message_id = mail.message_id, "mail handed to the server"),
            // The other connections may be broken, too.
            Err(MailError::Temporary(_)) => drop(mem::take(&mut *self.idle())),
            Err(MailError::Permanent(_)) => {}
        }
        outcome
    }
}

fn temporary(error: impl Display) -> MailError {
    MailError::Temporary(error.to_string())
}

/// What the server's answer to a mail means, or the error in its place.
fn verdict(error: Error) -> MailError {
    // Or a client error: the mail needs something that the server cannot do.
    if error.is_permanent() || error.is_client() {
        MailError::Permanent(error.to_string())
    } else {
        temporary(error)
    }
}
