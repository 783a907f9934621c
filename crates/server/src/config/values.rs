//! How settings are written: the same in a file, a variable and a flag, with errors that say what was expected.

use std::{fmt, net::SocketAddr, str::FromStr};

use parlance_domain::Email;
use serde::{Deserialize, Deserializer, de::Error};

/// A string that no log shows.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub(crate) struct Secret(String);

impl Secret {
    pub(crate) fn new(text: String) -> Self {
        Self(text)
    }

    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// `on` or `off`; in a file also `true` or `false`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Switch {
    On,
    Off,
}

impl Switch {
    pub(crate) fn is_on(self) -> bool {
        self == Self::On
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Loose {
    Flag(bool),
    Text(String),
    List(Vec<String>),
}

impl<'de> Deserialize<'de> for Switch {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        match Loose::deserialize(input) {
            Ok(Loose::Flag(true)) => Ok(Self::On),
            Ok(Loose::Flag(false)) => Ok(Self::Off),
            Ok(Loose::Text(text)) => match text.to_ascii_lowercase().as_str() {
                "on" | "true" => Ok(Self::On),
                "off" | "false" => Ok(Self::Off),
                _ => Err(D::Error::custom(format!("{text:?} is neither \"on\" nor \"off\""))),
            },
            _ => Err(D::Error::custom("expected \"on\" or \"off\"")),
        }
    }
}

pub(super) fn address<'de, D: Deserializer<'de>>(input: D) -> Result<SocketAddr, D::Error> {
    parsed(&String::deserialize(input)?, "an address and port such as 127.0.0.1:8080")
}

pub(super) fn optional_address<'de, D: Deserializer<'de>>(
    input: D,
) -> Result<Option<SocketAddr>, D::Error> {
    address(input).map(Some)
}

pub(super) fn base_url<'de, D: Deserializer<'de>>(input: D) -> Result<Option<String>, D::Error> {
    let url = String::deserialize(input)?;
    let url = url.trim_end_matches('/');
    if !is_web(url) || url.contains(['?', '#']) {
        return Err(D::Error::custom(format!(
            "{url:?} is not an http:// or https:// address to which paths can be added"
        )));
    }
    Ok(Some(url.to_owned()))
}

pub(super) fn origins<'de, D: Deserializer<'de>>(input: D) -> Result<Vec<String>, D::Error> {
    let origins = list(input)?;
    let is_origin = |text: &str| {
        is_web(text)
            && text.split_once("://").is_some_and(|(_, host)| !host.contains(['/', '?', '#']))
    };
    match origins.iter().find(|text| !is_origin(text)) {
        None => Ok(origins),
        Some(bad) => Err(D::Error::custom(format!(
            "{bad:?} is not an origin such as https://chat.example.com (no path, no trailing slash, no *)"
        ))),
    }
}

pub(super) fn emails<'de, D: Deserializer<'de>>(input: D) -> Result<Vec<Email>, D::Error> {
    let parse = |text: String| {
        Email::parse(&text)
            .map_err(|_| D::Error::custom(format!("{text:?} is not an e-mail address")))
    };
    list(input)?.into_iter().map(parse).collect()
}

/// A list, or a comma-separated string.
fn list<'de, D: Deserializer<'de>>(input: D) -> Result<Vec<String>, D::Error> {
    match Loose::deserialize(input) {
        Ok(Loose::List(list)) => Ok(list),
        Ok(Loose::Text(text)) => {
            let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
            Ok(items.map(str::to_owned).collect())
        }
        _ => Err(D::Error::custom("expected a list of strings, or one string with commas")),
    }
}

fn parsed<T: FromStr, E: Error>(text: &str, expected: &str) -> Result<T, E> {
    text.trim().parse().map_err(|_| E::custom(format!("{text:?} is not {expected}")))
}

fn is_web(url: &str) -> bool {
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    rest.is_some_and(|rest| {
        rest.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '[')
            && !rest.contains(|c: char| c.is_whitespace() || c == '*' || c == '@')
    })
}
