//! Settings: flags over environment over file over defaults. `parlance.default.toml` documents each of them.

mod doubts;
mod values;

#[cfg(test)]
mod tests;

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use clap::Args;
use figment::{
    Figment, Metadata, Profile, Provider,
    providers::{Data, Format as _, Toml},
    value::{Dict, Map, Value},
};
use parlance_domain::Email;
use serde::{Deserialize, Serialize};

pub(crate) use self::{
    doubts::unknown,
    values::{Secret, Switch},
};

/// The reference of all settings, as `parlance config` prints it.
pub(crate) const DEFAULT_FILE: &str = include_str!("../parlance.default.toml");

/// The prefix of a setting's environment variable; the setting's name in capitals follows.
pub(crate) const PREFIX: &str = "PARLANCE_";
/// The settings that the environment may give.
const NAMES: [&str; 15] = [
    "listen",
    "data_dir",
    "mongodb_uri",
    "redis_url",
    "smtp_url",
    "jwt_secret",
    "server_admins",
    "rate_limits",
    "mail_from",
    "public_url",
    "allowed_origins",
    "trust_forwarded_for",
    "metrics_listen",
    "auto_migrate",
    "run_jobs",
];

/// A shorter secret can be guessed.
const SECRET_MIN: usize = 16;
/// HS256 gains nothing from a longer one.
const SECRET_GOOD: usize = 32;

/// All settings, read and checked.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Settings {
    #[serde(deserialize_with = "values::address")]
    pub(crate) listen: SocketAddr,
    pub(crate) data_dir: PathBuf,
    pub(crate) mongodb_uri: Option<Secret>,
    pub(crate) redis_url: Option<Secret>,
    pub(crate) smtp_url: Option<Secret>,
    pub(crate) jwt_secret: Option<Secret>,
    #[serde(deserialize_with = "values::emails")]
    pub(crate) server_admins: Vec<Email>,
    pub(crate) rate_limits: Switch,
    pub(crate) mail_from: String,
    #[serde(deserialize_with = "values::base_url")]
    pub(crate) public_url: Option<String>,
    #[serde(deserialize_with = "values::origins")]
    pub(crate) allowed_origins: Vec<String>,
    pub(crate) trust_forwarded_for: Switch,
    #[serde(deserialize_with = "values::optional_address")]
    pub(crate) metrics_listen: Option<SocketAddr>,
    pub(crate) auto_migrate: Switch,
    pub(crate) run_jobs: Switch,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            data_dir: "./data".into(),
            mongodb_uri: None,
            redis_url: None,
            smtp_url: None,
            jwt_secret: None,
            server_admins: Vec::new(),
            rate_limits: Switch::On,
            mail_from: "Parlance <parlance@localhost>".into(),
            public_url: None,
            allowed_origins: Vec::new(),
            trust_forwarded_for: Switch::Off,
            metrics_listen: None,
            auto_migrate: Switch::On,
            run_jobs: Switch::On,
        }
    }
}

/// The settings with a command-line flag. Secrets have none: other users of the machine can read the command line.
#[derive(Debug, Default, Args, Serialize)]
pub(crate) struct Flags {
    /// A TOML file with settings [env: `PARLANCE_CONFIG`]
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    pub(crate) config: Option<PathBuf>,
    /// Where to listen; port 0 picks a free one [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Where the store and the mail outbox live [default: ./data]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// Email addresses of accounts that may use /admin, separated by commas
    #[arg(long, value_name = "LIST")]
    server_admins: Option<String>,
    /// `off` lifts the limits, for load tests [default: on]
    #[arg(long, value_name = "on|off")]
    rate_limits: Option<String>,
    /// The sender of mails
    #[arg(long, value_name = "MAILBOX")]
    mail_from: Option<String>,
    /// The base URL of links in mails [default: the address it listens on]
    #[arg(long, value_name = "URL")]
    public_url: Option<String>,
    /// Origins of other sites whose pages may call the API, separated by commas
    #[arg(long, value_name = "LIST")]
    allowed_origins: Option<String>,
    /// `on` behind a proxy that appends to X-Forwarded-For [default: off]
    #[arg(long, value_name = "on|off")]
    trust_forwarded_for: Option<String>,
    /// A separate address for /metrics [default: same as --listen]
    #[arg(long, value_name = "ADDRESS")]
    metrics_listen: Option<String>,
    /// `off` to migrate the MongoDB store by hand [default: on]
    #[arg(long, value_name = "on|off")]
    auto_migrate: Option<String>,
    /// `off` to leave jobs to other processes [default: on]
    #[arg(long, value_name = "on|off")]
    run_jobs: Option<String>,
}

impl Settings {
    /// Reads all sources; `env` looks up an environment variable.
    pub(crate) fn load(
        flags: &Flags,
        env: impl Fn(&str) -> Option<String>,
    ) -> anyhow::Result<Self> {
        // Compose files and the like can only empty a variable, not unset it.
        let env = |name: &str| env(name).filter(|value| !value.is_empty());
        let mut figment = Figment::new();

        let file = flags.config.clone().or_else(|| env("PARLANCE_CONFIG").map(PathBuf::from));
        if let Some(file) = &file {
            check_readable(file)?;
            figment = figment.merge(SettingsFile(Toml::file_exact(file)));
        }
        for name in NAMES {
            let variable = format!("{PREFIX}{}", name.to_uppercase());
            if let Some(value) = env(&variable) {
                figment = figment.merge(Source::new(variable, name, value));
            }
        }
        for (name, value) in flags.given()? {
            figment =
                figment.merge(Source::new(format!("--{}", name.replace('_', "-")), &name, value));
        }

        let settings: Self = figment.extract().context("the settings are not valid")?;
        settings.check()?;
        Ok(settings)
    }

    fn check(&self) -> anyhow::Result<()> {
        if self.data_dir.as_os_str().is_empty() {
            bail!("--data-dir is empty");
        }
        if let Some(secret) = &self.jwt_secret {
            check_secret(secret, "PARLANCE_JWT_SECRET")?;
        } else if self.mongodb_uri.is_some() {
            bail!(
                "PARLANCE_MONGODB_URI is set, and PARLANCE_JWT_SECRET is not: nodes that share a store must share \
                 the secret that signs tokens; give all of them the same 32 random bytes or more"
            );
        }
        Ok(())
    }

    /// Requires what a process that only runs jobs must share with its servers.
    pub(crate) fn check_worker(&self) -> anyhow::Result<()> {
        for (set, name) in
            [(&self.mongodb_uri, "PARLANCE_MONGODB_URI"), (&self.redis_url, "PARLANCE_REDIS_URL")]
        {
            if set.is_none() {
                bail!(
                    "{name} is not set: a worker needs the store and the queue that its servers share; a server without them \
                     runs its jobs itself"
                );
            }
        }
        Ok(())
    }
}

/// Refuses a secret that can be guessed, and warns of one that is shorter than it could be.
pub(crate) fn check_secret(secret: &Secret, source: &str) -> anyhow::Result<()> {
    let bytes = secret.expose().len();
    if bytes < SECRET_MIN {
        bail!("{source} has {bytes} bytes; a secret must have at least {SECRET_MIN}");
    }
    if bytes < SECRET_GOOD {
        tracing::warn!(bytes, source, "the JWT secret is short; 32 random bytes are better");
    }
    Ok(())
}

/// A file that somebody named must exist; the library would ignore a missing one.
fn check_readable(file: &Path) -> anyhow::Result<()> {
    std::fs::read_to_string(file)
        .map(drop)
        .with_context(|| format!("cannot read the configuration file {}", file.display()))
}

impl Flags {
    fn given(&self) -> anyhow::Result<Vec<(String, String)>> {
        let values = Value::serialize(self).context("flags")?;
        let given = values.into_dict().unwrap_or_default().into_iter();
        Ok(given.filter_map(|(name, value)| Some((name, value.into_string()?))).collect())
    }
}

/// Its errors name a key as the file does, and not `default.listen`.
struct SettingsFile(Data<Toml>);

impl Provider for SettingsFile {
    fn metadata(&self) -> Metadata {
        self.0.metadata().interpolater(|_, keys| keys.join("."))
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        self.0.data()
    }
}

/// One value from one place, kept as a string (a secret of digits is no number), so that an error names the place.
struct Source {
    place: String,
    values: Dict,
}

impl Source {
    fn new(place: String, name: &str, value: String) -> Self {
        Self { place, values: Dict::from([(name.to_owned(), Value::from(value))]) }
    }
}

impl Provider for Source {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.place.clone()).interpolater(|_, keys| keys.join("."))
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Profile::Default.collect(self.values.clone()))
    }
}
