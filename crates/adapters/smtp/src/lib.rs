//! Mail by lettre: [`SmtpMailer`] hands it to a mail server, [`FileOutbox`] needs none and writes it to files.

mod compose;
mod file_outbox;
mod relay;
mod smtp;

pub use file_outbox::FileOutbox;
pub use smtp::SmtpMailer;
