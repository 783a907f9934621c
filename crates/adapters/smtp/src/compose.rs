//! From a [`Mail`] to a MIME message, for both mailers. No value may break out of its header: an unfit `message_id` is
//! refused, the rest is lettre's to encode.

use lettre::{
    Message,
    message::{Mailbox, MultiPart},
};
use parlance_application::ports::{Mail, MailError};

/// `address` or `Name <address>`.
pub(crate) fn mailbox(address: &str) -> Result<Mailbox, MailError> {
    address.parse().map_err(|error| {
        MailError::Permanent(format!("{address:?} is not a mail address: {error}"))
    })
}

/// Text first: mail clients show the last part that they understand.
pub(crate) fn compose(from: &Mailbox, mail: &Mail) -> Result<Message, MailError> {
    // The library does not check the id: a line break in it would inject a header.
    if mail.message_id.is_empty() || !mail.message_id.chars().all(|c| c.is_ascii_graphic()) {
        return Err(MailError::Permanent(format!("{:?} is not a message id", mail.message_id)));
    }
    let id = mail.message_id.trim_start_matches('<').trim_end_matches('>');
    Message::builder()
        .from(from.clone())
        .to(mailbox(&mail.to)?)
        .subject(mail.subject.as_str())
        .message_id(Some(format!("<{id}>")))
        .multipart(MultiPart::alternative_plain_html(mail.text.clone(), mail.html.clone()))
        .map_err(|error| MailError::Permanent(error.to_string()))
}
