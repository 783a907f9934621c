//! Mails as files, for servers without a mail server. A mail is accepted once its file is complete and on disk under
//! its final name.

use std::{
    io,
    path::{Path, PathBuf},
};

use async_trait::async_trait;
use lettre::{AsyncFileTransport, AsyncTransport as _, Tokio1Executor, message::Mailbox};
use parlance_application::ports::{Mail, MailError, Mailer};
use tokio::fs;

use crate::compose::{compose, mailbox};

/// The directory inside the outbox where mails are written until they are complete.
const UNFINISHED: &str = ".unfinished";

/// Writes mails as `*.eml` into a directory. A repeated attempt makes a second file with the same `Message-ID`. An
/// accepted mail is complete and survives a power failure, because its job is then forgotten.
pub struct FileOutbox {
    transport: AsyncFileTransport<Tokio1Executor>,
    unfinished: PathBuf,
    dir: PathBuf,
    from: Mailbox,
}

impl FileOutbox {
    /// Opens the outbox in `dir`, which is created if missing, and removes what a process that died left half-written:
    /// its mail is written again. `from` is `address` or `Name <address>`.
    pub fn new(dir: impl AsRef<Path>, from: &str) -> Result<Self, MailError> {
        let dir = dir.as_ref().to_owned();
        let unfinished = dir.join(UNFINISHED);
        empty(&unfinished).map_err(|error| {
            MailError::Temporary(format!("cannot use {}: {error}", dir.display()))
        })?;
        let transport = AsyncFileTransport::new(&unfinished);
        Ok(Self { transport, unfinished, dir, from: mailbox(from)? })
    }

    /// Syncs a written mail, then moves it to its place; returns the path.
    async fn finish(&self, id: &str) -> io::Result<PathBuf> {
        let name = Path::new(id).with_extension("eml");
        let (from, to) = (self.unfinished.join(&name), self.dir.join(&name));
        fs::OpenOptions::new().write(true).open(&from).await?.sync_all().await?;
        fs::rename(&from, &to).await?;
        fs::File::open(&self.dir).await?.sync_all().await?;
        Ok(to)
    }
}

/// Empties this directory, or creates it if missing.
fn empty(dir: &Path) -> io::Result<()> {
    std::fs::create_dir_all(dir)?;
    for left_over in std::fs::read_dir(dir)? {
        std::fs::remove_file(left_over?.path())?;
    }
    Ok(())
}

#[async_trait]
impl Mailer for FileOutbox {
    async fn send(&self, mail: &Mail) -> Result<(), MailError> {
        let message = compose(&self.from, mail)?;
        let written = self.transport.send(message).await;
        let id = written.map_err(|error| MailError::Temporary(error.to_string()))?;
        let file = self.finish(&id).await;
        let file = file.map_err(|error| MailError::Temporary(error.to_string()))?;
        tracing::info!(message_id = mail.message_id, file = %file.display(), "mail written to the outbox");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mail() -> Mail {
        Mail {
            message_id: "0190f3a0@parlance".into(),
            to: "ada@example.com".into(),
            subject: "Grüße\r\nBcc: eve@example.com".into(),
            text: "You were mentioned.".into(),
            html: "<p>You were <b>mentioned</b>.</p>".into(),
        }
    }

    fn written(dir: &Path) -> Vec<String> {
        std::fs::read_dir(dir)
            .unwrap()
            .map(|file| file.unwrap().path())
            .filter(|path| path.extension().is_some_and(|ext| ext == "eml"))
            .map(|path| std::fs::read_to_string(path).unwrap())
            .collect()
    }

    #[tokio::test]
    async fn a_mail_becomes_a_file() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("deep/outbox");
        let outbox = FileOutbox::new(&dir, "Parlance <parlance@localhost>").unwrap();
        outbox.send(&mail()).await.unwrap();

        let [text] = <[String; 1]>::try_from(written(&dir)).unwrap();
        for line in [
            "From: Parlance <parlance@localhost>",
            "To: ada@example.com",
            "Message-ID: <0190f3a0@parlance>",
            "Content-Type: text/plain; charset=utf-8",
            "You were mentioned.",
            "Content-Type: text/html; charset=utf-8",
            "<p>You were <b>mentioned</b>.</p>",
        ] {
            assert!(text.lines().any(|it| it == line), "{line} is missing in:\n{text}");
        }
        assert!(text.contains("Content-Type: multipart/alternative;"), "{text}");
        assert!(!text.lines().any(|line| line.starts_with("Bcc:")), "{text}");
        assert_eq!(std::fs::read_dir(dir.join(UNFINISHED)).unwrap().count(), 0);
    }

    #[test]
    fn what_was_left_half_written_is_removed() {
        let root = tempfile::tempdir().unwrap();
        let unfinished = root.path().join(UNFINISHED);
        std::fs::create_dir(&unfinished).unwrap();
        std::fs::write(unfinished.join("1.eml"), "From: ").unwrap();
        std::fs::write(root.path().join("2.eml"), "whole").unwrap();
        FileOutbox::new(root.path(), "parlance@localhost").unwrap();
        assert_eq!(std::fs::read_dir(&unfinished).unwrap().count(), 0);
        assert_eq!(written(root.path()), ["whole"]);
    }

    #[tokio::test]
    async fn what_can_never_work_is_told_from_what_may_work_later() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("outbox");
        assert!(matches!(FileOutbox::new(&dir, "nobody"), Err(MailError::Permanent(_))));

        let outbox = FileOutbox::new(&dir, "parlance@localhost").unwrap();
        let bad_address = Mail { to: "not an address".into(), ..mail() };
        assert!(matches!(outbox.send(&bad_address).await, Err(MailError::Permanent(_))));
        let bad_id = Mail { message_id: "a\r\nBcc: eve@example.com".into(), ..mail() };
        assert!(matches!(outbox.send(&bad_id).await, Err(MailError::Permanent(_))));

        std::fs::remove_dir_all(&dir).unwrap();
        assert!(matches!(outbox.send(&mail()).await, Err(MailError::Temporary(_))));
    }
}
