use clap::Parser;

use super::*;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    flags: Flags,
}

/// Loads with flags, variables and a file's text.
pub(super) fn load(
    flags: &[&str],
    env: &[(&str, &str)],
    file: Option<&str>,
) -> anyhow::Result<Settings> {
    let mut flags = Cli::try_parse_from([&["parlance"], flags].concat())?.flags;
    let dir = tempfile::tempdir()?;
    if let Some(text) = file {
        let path = dir.path().join("parlance.toml");
        std::fs::write(&path, text)?;
        flags.config = Some(path);
    }
    let env = |name: &str| {
        let found = env.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| (*value).to_owned())
    };
    Settings::load(&flags, env)
}

fn refusal(flags: &[&str], env: &[(&str, &str)], file: Option<&str>) -> String {
    match load(flags, env, file) {
        Ok(settings) => panic!("accepted: {settings:?}"),
        Err(error) => format!("{error:#}"),
    }
}

#[test]
fn nothing_set_is_the_default_file_is_the_defaults() {
    assert_eq!(load(&[], &[], None).unwrap(), Settings::default());
    assert_eq!(load(&[], &[], Some(DEFAULT_FILE)).unwrap(), Settings::default());
}

#[test]
fn the_default_file_names_every_setting_and_its_comments_are_toml() {
    let line = |line: &str| {
        let bare = line.strip_prefix("# ").unwrap_or(line);
        let (name, _) = bare.split_once(" = ")?;
        NAMES.contains(&name).then(|| (name.to_owned(), format!("{bare}\n")))
    };
    let (mut names, lines): (Vec<_>, Vec<_>) = DEFAULT_FILE.lines().filter_map(line).unzip();
    let all: Result<Settings, _> = Figment::from(Toml::string(&lines.concat())).extract();
    assert!(all.unwrap().public_url.is_some());
    names.sort_unstable();
    let mut known = NAMES.to_vec();
    known.sort_unstable();
    assert_eq!(names, known);
}

#[test]
fn flags_beat_the_environment_beats_the_file_beats_the_defaults() {
    let file = "listen = \"127.0.0.1:1\"\ndata_dir = \"file\"\nmail_from = \"file@localhost\"\n";
    let env = [("PARLANCE_LISTEN", "127.0.0.1:2"), ("PARLANCE_DATA_DIR", "env")];
    let settings = load(&["--listen", "127.0.0.1:3"], &env, Some(file)).unwrap();
    assert_eq!(settings.listen.port(), 3);
    assert_eq!(settings.data_dir, Path::new("env"));
    assert_eq!(settings.mail_from, "file@localhost");
    assert_eq!(settings.run_jobs, Switch::On);
}

#[test]
fn an_empty_variable_is_an_unset_one() {
    let env = [("PARLANCE_LISTEN", ""), ("PARLANCE_REDIS_URL", ""), ("PARLANCE_CONFIG", "")];
    assert_eq!(load(&[], &env, None).unwrap(), Settings::default());
}

#[test]
fn lists_and_switches_can_be_written_in_each_place() {
    let file = "server_admins = [\"ada@example.com\"]\nauto_migrate = false\n";
    let env = [
        ("PARLANCE_ALLOWED_ORIGINS", "https://a.example, http://localhost:3000"),
        ("PARLANCE_RUN_JOBS", "off"),
        ("PARLANCE_TRUST_FORWARDED_FOR", "on"),
        ("PARLANCE_PUBLIC_URL", "https://chat.example.com/"),
    ];
    let settings = load(&["--rate-limits", "off"], &env, Some(file)).unwrap();
    assert_eq!(settings.server_admins, [Email::parse("ada@example.com").unwrap()]);
    assert_eq!(settings.allowed_origins, ["https://a.example", "http://localhost:3000"]);
    assert_eq!(settings.public_url.as_deref(), Some("https://chat.example.com"));
    let switches = [settings.auto_migrate, settings.run_jobs, settings.rate_limits];
    assert_eq!(switches, [Switch::Off; 3]);
    assert_eq!(settings.trust_forwarded_for, Switch::On);
}

#[test]
fn bad_values_say_what_where_and_why() {
    for (flags, env, file, expected) in [
        (&["--listen", "localhost"][..], None, None, &["--listen", "127.0.0.1:8080"][..]),
        (&[], Some(("PARLANCE_LISTEN", "8080")), None, &["PARLANCE_LISTEN", "\"8080\""]),
        (&[], Some(("PARLANCE_RUN_JOBS", "maybe")), None, &["PARLANCE_RUN_JOBS", "\"on\""]),
        (
            &[],
            Some(("PARLANCE_SERVER_ADMINS", "ada")),
            None,
            &["PARLANCE_SERVER_ADMINS", "\"ada\""],
        ),
        (&[], Some(("PARLANCE_ALLOWED_ORIGINS", "*")), None, &["\"*\"", "origin"]),
        (&["--data-dir", ""], None, None, &["--data-dir", "empty"]),
        (&["--public-url", "chat.example.com"], None, None, &["--public-url", "https://"]),
        (&[], None, Some("listn = \"127.0.0.1:1\""), &["listn", "unknown field", "parlance.toml"]),
        (&[], None, Some("listen = 8080"), &["listen", "parlance.toml"]),
        (&[], None, Some("listen ="), &["parlance.toml"]),
        (&["--config", "/nowhere/parlance.toml"], None, None, &["/nowhere/parlance.toml"]),
    ] {
        let message = refusal(flags, &env.into_iter().collect::<Vec<_>>(), file);
        for part in expected {
            assert!(message.contains(part), "{part} is missing in: {message}");
        }
        // The library's name for it.
        assert!(!message.contains("default."), "{message}");
    }
}

#[test]
fn nodes_that_share_a_store_share_a_secret() {
    let uri = ("PARLANCE_MONGODB_URI", "mongodb://user:hunter2@host/team");
    let message = refusal(&[], &[uri], None);
    assert!(message.contains("PARLANCE_JWT_SECRET") && !message.contains("hunter2"), "{message}");
    let settings = load(&[], &[uri, ("PARLANCE_JWT_SECRET", &"s".repeat(32))], None).unwrap();
    assert!(!format!("{settings:?}").contains("hunter2"));
    assert!(settings.check_worker().unwrap_err().to_string().contains("PARLANCE_REDIS_URL"));
}

#[test]
fn a_secret_is_kept_as_it_is_written_and_must_be_long() {
    let digits = load(&[], &[("PARLANCE_JWT_SECRET", "0012345678901234")], None).unwrap();
    assert_eq!(digits.jwt_secret.as_ref().map(Secret::expose), Some("0012345678901234"));
    assert!(!format!("{digits:?}").contains("001234"));

    let message = refusal(&[], &[("PARLANCE_JWT_SECRET", "hunter2")], None);
    assert!(message.contains("at least 16") && !message.contains("hunter2"), "{message}");
}
