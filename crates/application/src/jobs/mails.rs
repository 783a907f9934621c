//! What mails say. Each has the same wording as text and as HTML.
//!
//! Whoever signs up or adds somebody chooses the recipient and the names in the mail: a name that mail clients would
//! show as a link is left out (`a_name_that_is_a_link_is_not_repeated`).

use parlance_domain::JobId;

use crate::ports::Mail;

/// A mail in parts; names are as people typed them.
pub(super) struct Letter<'a> {
    pub(super) name: &'a str,
    pub(super) subject: String,
    pub(super) body: String,
    pub(super) link: &'a str,
    pub(super) action: &'static str,
}

impl<'a> Letter<'a> {
    pub(super) fn welcome(name: &'a str, link: &'a str) -> Self {
        Self {
            name,
            subject: "Welcome to Parlance".into(),
            body: "your account is ready. Create a workspace, or join one with its join code:"
                .into(),
            link,
            action: "Open Parlance",
        }
    }

    pub(super) fn added(name: &'a str, workspace: &str, link: &'a str) -> Self {
        let workspace = match harmless(workspace) {
            Some(name) => format!("the workspace {name}"),
            None => "a workspace".to_owned(),
        };
        Self {
            name,
            subject: format!("You are now a member of {workspace}"),
            body: format!("you have been added to {workspace}. Sign in to join the conversation:"),
            link,
            action: "Sign in",
        }
    }

    /// The mail of a job: every attempt has the same id.
    pub(super) fn mail(self, job: JobId, to: String) -> Mail {
        let Self { name, subject, body, link, action } = self;
        let hello = harmless(name).map_or("Hello,".to_owned(), |name| format!("Hello {name},"));
        let text = format!("{hello}\n\n{body}\n\n{link}\n");
        let html = format!(
            "<!doctype html><html><body style=\"font-family:system-ui,sans-serif;line-height:1.5\">\
             <p>{}</p><p>{}</p><p><a href=\"{}\">{action}</a></p></body></html>\n",
            escaped(&hello),
            escaped(&body),
            escaped(link),
        );
        Mail { message_id: format!("<{job}@parlance>"), to, subject, text, html }
    }
}

/// The name, unless it looks like a link or an address: a dot or colon followed by a non-space, or an `@`.
fn harmless(name: &str) -> Option<&str> {
    let mut pairs = name.chars().zip(name.chars().skip(1));
    let link = name.contains('@')
        || pairs.any(|(mark, next)| matches!(mark, '.' | ':') && !next.is_whitespace());
    (!link).then_some(name)
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn names_are_text_in_html() {
        let mail = Letter::added("<b>Ada</b>", "R&D \"Lab\"", "http://127.0.0.1/?a=1&b=2")
            .mail(JobId(Uuid::nil()), "ada@example.org".into());
        assert!(mail.text.contains("Hello <b>Ada</b>,"));
        assert!(mail.html.contains("Hello &lt;b&gt;Ada&lt;/b&gt;,"));
        assert!(mail.html.contains("R&amp;D &quot;Lab&quot;"));
        assert!(mail.html.contains("href=\"http://127.0.0.1/?a=1&amp;b=2\""));
        assert_eq!(mail.message_id, "<00000000-0000-0000-0000-000000000000@parlance>");
    }

    #[test]
    fn a_name_that_is_a_link_is_not_repeated() {
        let mail = |name, workspace| {
            let letter = Letter::added(name, workspace, "http://127.0.0.1/");
            letter.mail(JobId(Uuid::nil()), "ada@example.org".into())
        };
        for name in ["Win at evil.example now", "http://evil", "mailto:x", "me@evil"] {
            let Mail { subject, text, html, .. } = mail(name, name);
            assert!(![&subject, &text, &html].into_iter().any(|part| part.contains(name)));
            assert!(text.starts_with("Hello,\n") && subject.ends_with("a workspace"), "{text}");
        }
        for name in ["Ada", "Dr. Ada K.", "R&D: the lab", "Ada / Bob"] {
            let mail = mail(name, name);
            assert!(mail.text.starts_with(&format!("Hello {name},")), "{}", mail.text);
            assert_eq!(mail.subject, format!("You are now a member of the workspace {name}"));
        }
    }
}
