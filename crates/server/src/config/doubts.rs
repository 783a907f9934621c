//! Settings that are allowed, but that hardly anybody means.

use url::Url;

use super::{NAMES, PREFIX, Secret, Settings};

impl Settings {
    /// What an operator should know of these settings, each a sentence.
    pub(crate) fn doubts(&self) -> Vec<&'static str> {
        let (mongodb, redis, smtp) =
            (self.mongodb_uri.is_some(), self.redis_url.is_some(), &self.smtp_url);
        let doubts = [
            (
                !self.rate_limits.is_on(),
                "PARLANCE_RATE_LIMITS is off: nothing slows down who guesses passwords",
            ),
            (
                !self.run_jobs.is_on() && !redis,
                "PARLANCE_RUN_JOBS is off, and without PARLANCE_REDIS_URL no other process can run the jobs: no mail is sent",
            ),
            (
                mongodb && !redis,
                "PARLANCE_REDIS_URL is not set: a second server on this store would send its mails again, and be told late \
                 of what is said here",
            ),
            (
                mongodb && smtp.is_none(),
                "PARLANCE_SMTP_URL is not set: mails are written into the data directory of whichever process runs their job",
            ),
            (
                smtp.as_ref().is_some_and(tells_password),
                "PARLANCE_SMTP_URL has a password and no ?tls=required: it can be read on its way to the mail server",
            ),
        ];
        doubts.into_iter().filter_map(|(is_so, doubt)| is_so.then_some(doubt)).collect()
    }
}

/// Those of these variable names that look like settings, but are none.
pub(crate) fn unknown(names: impl Iterator<Item = String>) -> Vec<String> {
    let known = |name: &str| NAMES.iter().any(|known| known.to_uppercase() == name);
    // The test environment's own, and what Kubernetes sets for a service of this name.
    let other = |name: &str| {
        ["CONFIG", "PORT"].contains(&name)
            || ["TEST_", "PORT_", "SERVICE_"].iter().any(|prefix| name.starts_with(prefix))
    };
    names
        .filter(|name| name.strip_prefix(PREFIX).is_some_and(|rest| !known(rest) && !other(rest)))
        .collect()
}

fn tells_password(url: &Secret) -> bool {
    Url::parse(url.expose()).is_ok_and(|url| {
        let required = url.query_pairs().any(|(name, value)| name == "tls" && value == "required");
        url.scheme() == "smtp" && url.password().is_some() && !required
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::load;

    fn doubts(settings: &[(&str, &str)]) -> Vec<&'static str> {
        load(&[], settings, None).expect("valid settings").doubts()
    }

    #[test]
    fn what_is_usual_is_not_doubted() {
        let shared = [
            ("PARLANCE_MONGODB_URI", "mongodb://127.0.0.1/parlance"),
            ("PARLANCE_REDIS_URL", "redis://127.0.0.1"),
            ("PARLANCE_JWT_SECRET", "0123456789abcdef0123456789abcdef"),
            ("PARLANCE_RUN_JOBS", "off"),
            ("PARLANCE_SMTP_URL", "smtps://me:secret@mail.example.com"),
        ];
        for settings in [&[][..], &shared] {
            assert_eq!(doubts(settings), [""; 0]);
        }
    }

    #[test]
    fn what_is_rarely_meant_is_told() {
        let secret = ("PARLANCE_JWT_SECRET", "0123456789abcdef0123456789abcdef");
        let mongodb = ("PARLANCE_MONGODB_URI", "mongodb://127.0.0.1/parlance");
        for (settings, told) in [
            (&[("PARLANCE_RATE_LIMITS", "off")][..], &["passwords"][..]),
            (&[("PARLANCE_RUN_JOBS", "off")], &["no mail is sent"]),
            (&[secret, mongodb], &["again", "data directory"]),
            (&[("PARLANCE_SMTP_URL", "smtp://me:secret@mail.example.com")], &["can be read"]),
            (&[("PARLANCE_SMTP_URL", "smtp://me:secret@mail.example.com?tls=required")], &[]),
            (&[("PARLANCE_SMTP_URL", "smtp://mail.example.com")], &[]),
        ] {
            let doubts = doubts(settings);
            assert_eq!(doubts.len(), told.len(), "{settings:?}: {doubts:?}");
            assert!(
                doubts.iter().zip(told).all(|(doubt, told)| doubt.contains(told)),
                "{doubts:?}"
            );
        }
    }

    #[test]
    fn a_misspelt_variable_is_told() {
        let names = [
            "PARLANCE_LISTN",
            "PARLANCE_LISTEN",
            "PARLANCE_CONFIG",
            "PARLANCE_SERVICE_HOST",
            "PATH",
            "parlance_listn",
        ];
        assert_eq!(unknown(names.map(str::to_owned).into_iter()), ["PARLANCE_LISTN"]);
    }
}
