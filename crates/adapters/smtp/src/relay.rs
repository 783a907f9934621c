//! The mail server, as a URL names it. The URLs are those of lettre's `from_url`, which cannot be used itself: it makes
//! a pool of connections, not a single one.

use std::time::Duration;

use lettre::transport::smtp::{
    Error, SMTP_PORT, SUBMISSION_PORT, SUBMISSIONS_PORT,
    authentication::{Credentials, DEFAULT_MECHANISMS},
    client::{AsyncSmtpConnection, TlsParameters},
    extension::ClientId,
};
use parlance_application::ports::MailError;
use percent_encoding::percent_decode_str;
use url::{Host, Url};

pub(crate) struct Relay {
    host: String,
    port: u16,
    encryption: Encryption,
    credentials: Option<Credentials>,
    hello: ClientId,
}

enum Encryption {
    None,
    /// TLS from the first byte.
    Wrapper(TlsParameters),
    /// `STARTTLS`, or no mail is sent.
    Required(TlsParameters),
    /// `STARTTLS` if the server offers it.
    Opportunistic(TlsParameters),
}

impl Relay {
    pub(crate) fn parse(url: &str) -> Result<Self, MailError> {
        Self::read(url)
            .map_err(|why| MailError::Permanent(format!("{} is not usable: {why}", redacted(url))))
    }

    fn read(url: &str) -> Result<Self, String> {
        let url = Url::parse(url).map_err(|error| error.to_string())?;
        let host = match url.host() {
            Some(Host::Domain(name)) if !name.is_empty() => name.to_owned(),
            Some(Host::Ipv4(address)) => address.to_string(),
            Some(Host::Ipv6(address)) => address.to_string(),
            _ => return Err("it names no host".into()),
        };

        let mut tls = None;
        for (name, value) in url.query_pairs() {
            // A misspelt parameter must not end in a connection without encryption.
            if name != "tls" || tls.replace(value).is_some() {
                return Err(format!("its parameter {name:?} is unknown or there twice"));
            }
        }
        let parameters = || TlsParameters::new(host.clone()).map_err(|error| error.to_string());
        let (encryption, port) = match (url.scheme(), tls.as_deref()) {
            ("smtp", None) => (Encryption::None, SMTP_PORT),
            ("smtp", Some("required")) => (Encryption::Required(parameters()?), SUBMISSION_PORT),
            ("smtp", Some("opportunistic")) => {
                (Encryption::Opportunistic(parameters()?), SUBMISSION_PORT)
            }
            ("smtps", None | Some("required")) => {
                (Encryption::Wrapper(parameters()?), SUBMISSIONS_PORT)
            }
            ("smtp" | "smtps", Some(_)) => {
                return Err("tls is \"required\" or, for smtp, \"opportunistic\"".into());
            }
            _ => return Err("it must begin with smtp:// or smtps://".into()),
        };

        let credentials = match (url.username(), url.password()) {
            ("", None) => None,
            (_, None) => return Err("it has a user and no password".into()),
            (user, Some(password)) => Some(Credentials::new(decoded(user)?, decoded(password)?)),
        };
        let hello = match url.path().trim_matches('/') {
            "" => ClientId::default(),
            name => ClientId::Domain(name.to_owned()),
        };
        Ok(Self { port: url.port().unwrap_or(port), host, encryption, credentials, hello })
    }

    /// Connects, encrypts, signs in. `patience` applies to each address of the host.
    pub(crate) async fn connect(&self, patience: Duration) -> Result<AsyncSmtpConnection, Error> {
        let wrapper = match &self.encryption {
            Encryption::Wrapper(parameters) => Some(parameters.clone()),
            _ => None,
        };
        let server = (self.host.as_str(), self.port);
        let mut connection =
            AsyncSmtpConnection::connect_tokio1(server, Some(patience), &self.hello, wrapper, None)
                .await?;
        match &self.encryption {
            Encryption::Required(parameters) => {
                connection.starttls(parameters.clone(), &self.hello).await?;
            }
            Encryption::Opportunistic(parameters) if connection.can_starttls() => {
                connection.starttls(parameters.clone(), &self.hello).await?;
            }
            _ => {}
        }
        if let Some(credentials) = &self.credentials {
            connection.auth(DEFAULT_MECHANISMS, credentials).await?;
        }
        Ok(connection)
    }
}

fn decoded(part: &str) -> Result<String, String> {
    let text = percent_decode_str(part).decode_utf8();
    text.map(Into::into).map_err(|_| "its user or password is not UTF-8".into())
}

/// A URL, malformed or not, stripped of any password: of all between the scheme and the last `@`; without an `@`, and
/// unless it is a proper URL, of all after the first colon.
fn redacted(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let rest = match rest.rsplit_once('@') {
        Some((_, server)) => format!("…@{server}"),
        None if Url::parse(url).is_ok_and(|url| url.has_host()) => rest.to_owned(),
        None => match rest.split_once(':') {
            Some((host, _)) => format!("{host}:…"),
            None => rest.to_owned(),
        },
    };
    if scheme.is_empty() { rest } else { format!("{scheme}://{rest}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_where_and_how() {
        for (url, host, port, encryption) in [
            ("smtp://mail.example.org", "mail.example.org", 25, "none"),
            ("smtp://127.0.0.1:2525/", "127.0.0.1", 2525, "none"),
            ("smtp://[::1]:2525", "::1", 2525, "none"),
            ("smtp://mail.example.org?tls=required", "mail.example.org", 587, "required"),
            (
                "smtp://mail.example.org/?tls=opportunistic",
                "mail.example.org",
                587,
                "opportunistic",
            ),
            ("smtps://mail.example.org", "mail.example.org", 465, "wrapper"),
            ("smtps://mail.example.org:4650?tls=required", "mail.example.org", 4650, "wrapper"),
        ] {
            let relay = Relay::parse(url).unwrap_or_else(|error| panic!("{url}: {error}"));
            let found = match relay.encryption {
                Encryption::None => "none",
                Encryption::Wrapper(_) => "wrapper",
                Encryption::Required(_) => "required",
                Encryption::Opportunistic(_) => "opportunistic",
            };
            assert_eq!((relay.host.as_str(), relay.port, found), (host, port, encryption), "{url}");
            assert_eq!(relay.credentials, None);
        }
    }

    #[test]
    fn credentials_are_decoded_and_the_path_is_the_name_to_greet_with() {
        let relay =
            Relay::parse("smtp://ada%40example.org:p%2Fw%C3%BC@mail/app.example.org").unwrap();
        let expected = Credentials::new("ada@example.org".into(), "p/wü".into());
        assert_eq!(relay.credentials, Some(expected));
        assert_eq!(relay.hello, ClientId::Domain("app.example.org".into()));
    }

    #[test]
    fn a_bad_url_is_named_without_its_password() {
        for (url, shown) in [
            ("mail.example.org", "mail.example.org is not usable: "),
            ("smtp://", "smtp:// is not usable: it names no host"),
            ("http://u:hunter2@mail", "http://…@mail is not usable: it must begin"),
            ("smtp://u:hunter2@mail:port", "smtp://…@mail:port is not usable: invalid port"),
            ("smtp://u:hunter2/@mail", "smtp://…@mail is not usable: "),
            ("smtp://u:p@hunter2@mail?tls=no", "smtp://…@mail?tls=no is not usable: tls is"),
            ("smtp://u:hunter2", "smtp://u:… is not usable: invalid port"),
            ("u:hunter2@mail", "…@mail is not usable: "),
            ("u:hunter2", "u:… is not usable: "),
            ("smtp://hunter2@mail", "smtp://…@mail is not usable: it has a user and no password"),
            ("smtp://u:%ff@mail", "smtp://…@mail is not usable: its user or password is not UTF-8"),
            ("smtp://mail:25?TLS=required", "smtp://mail:25?TLS=required is not usable: its param"),
            ("smtps://mail?tls=opportunistic", "smtps://mail?tls=opportunistic is not usable: tls"),
        ] {
            match Relay::parse(url) {
                Err(MailError::Permanent(error)) => {
                    assert!(error.starts_with(shown), "{url}: {error}");
                    assert!(!error.contains("hunter2"), "{error}");
                }
                other => panic!("{url}: {:?}", other.map(drop)),
            }
        }
    }
}
