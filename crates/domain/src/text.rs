//! Parsed strings. Each type is made by its `parse`, which checks and normalises, so that every value is valid.

use std::fmt;

/// Why a value was refused: a stable code for programs, and a sentence for people that reads well after the field's
/// name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Invalid {
    /// For programs: `too_short`, `too_long`, `invalid` or, of a role, `unknown`; the application has more.
    pub code: &'static str,
    /// For people; reads well after the field's name.
    pub message: String,
}

impl Invalid {
    fn new(message: impl Into<String>) -> Self {
        Self { code: "invalid", message: message.into() }
    }
}

macro_rules! texts {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash)]
        pub struct $name(String);

        impl $name {
            /// The valid string.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.0
            }
        }
    )*};
}

texts! {
    /// An e-mail address, lower-cased: two spellings that differ in case are one account.
    Email;
    /// What others see of a person: 1–80 scalar values, no control characters.
    DisplayName;
    /// A workspace's name: 1–80 scalar values, no control characters.
    WorkspaceName;
    /// A channel's name: 1–80 of `a–z`, `0–9`, `-`, `_`.
    ChannelName;
    /// What a channel is about: up to 250 scalar values, may be empty.
    Topic;
    /// A message's text: 1–4,000 scalar values after trimming, LF for CRLF, no other control characters but tab.
    MessageText;
    /// A reaction: 1–32 scalar values without white space or control characters.
    Emoji;
    /// The sender's own id of a send: 1–64 printable ASCII characters.
    ClientMsgId;
    /// What lets a person into a workspace: 1–64 scalar values as typed, upper-cased; ours have 16 letters and digits.
    JoinCode;
}

/// A password as typed: 10–256 scalar values. Never shown by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

impl Password {
    /// Takes a new password for an account.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        within(text, 10, 256)?;
        Ok(Self(text.to_owned()))
    }

    /// Takes what somebody typed to prove who they are: any string, since it is only compared.
    pub fn candidate(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The bytes to hash.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl Email {
    /// The longest, in bytes.
    pub const LONGEST: usize = 254;

    /// Accepts the common form `local@domain`, at most [`Email::LONGEST`] bytes, the domain with at least one dot or
    /// `localhost`.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let text = text.trim();
        if text.len() > Self::LONGEST {
            return Err(too_long(Self::LONGEST));
        }
        let wrong = || Invalid::new("is not an e-mail address");
        let (local, domain) = text.rsplit_once('@').ok_or_else(wrong)?;
        let local_ok = !local.is_empty()
            && local.len() <= 64
            && !local.starts_with('.')
            && !local.ends_with('.')
            && !local.contains("..")
            && local
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~.".contains(c));
        let label_ok = |label: &str| {
            !label.is_empty()
                && label.len() <= 63
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
        };
        let domain_ok =
            domain.split('.').all(label_ok) && (domain.contains('.') || domain == "localhost");
        if local_ok && domain_ok { Ok(Self(text.to_ascii_lowercase())) } else { Err(wrong()) }
    }
}

impl DisplayName {
    /// Trims, then checks.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        line(text, 1, 80).map(Self)
    }
}

impl WorkspaceName {
    /// Trims, then checks.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        line(text, 1, 80).map(Self)
    }
}

impl Topic {
    /// The topic of a channel that has none.
    pub const fn none() -> Self {
        Self(String::new())
    }

    /// Trims, then checks.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        line(text, 0, 250).map(Self)
    }
}

impl ChannelName {
    /// Takes the name as it is: nothing is trimmed or lower-cased.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        within(text, 1, 80)?;
        if text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_')) {
            Ok(Self(text.to_owned()))
        } else {
            Err(Invalid::new("may hold a–z, 0–9, '-' and '_' only"))
        }
    }

    /// The channel every workspace starts with.
    pub fn general() -> Self {
        Self("general".to_owned())
    }
}

impl MessageText {
    /// The most scalar values a text may have.
    pub const MAX: usize = 4_000;

    /// Turns CRLF into LF, trims, then checks.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let text = text.replace("\r\n", "\n");
        let text = text.trim();
        within(text, 1, Self::MAX)?;
        if text.chars().any(|c| c.is_control() && c != '\n' && c != '\t') {
            return Err(Invalid::new("may hold no control characters but newline and tab"));
        }
        Ok(Self(text.to_owned()))
    }
}

impl Emoji {
    /// Takes any short string without white space: an emoji sequence or a `:name:`.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        within(text, 1, 32)?;
        if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(Invalid::new("may hold no white space or control characters"));
        }
        Ok(Self(text.to_owned()))
    }
}

impl ClientMsgId {
    /// Takes the id as it is.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        within(text, 1, 64)?;
        if text.bytes().all(|b| matches!(b, b' '..=b'~')) {
            Ok(Self(text.to_owned()))
        } else {
            Err(Invalid::new("may hold printable ASCII only"))
        }
    }
}

impl JoinCode {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHJKLMNPQRSTUVWXYZ23456789";
    /// Characters in a new code, each of 5 bits.
    const LEN: usize = 16;

    /// Takes a code as somebody typed it; whether it opens anything is up to the store.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let text = text.trim();
        within(text, 1, 64)?;
        Ok(Self(text.to_ascii_uppercase()))
    }

    /// Spells 80 of these random bits as 16 letters and digits that are hard to confuse.
    pub fn from_random(random: [u8; 32]) -> Self {
        Self(
            random
                .iter()
                .take(Self::LEN)
                .map(|b| char::from(Self::ALPHABET[usize::from(b % 32)]))
                .collect(),
        )
    }
}

/// A single line: trimmed, within its bounds, without control characters.
fn line(text: &str, min: usize, max: usize) -> Result<String, Invalid> {
    let text = text.trim();
    within(text, min, max)?;
    if text.chars().any(char::is_control) {
        return Err(Invalid::new("may hold no control characters"));
    }
    Ok(text.to_owned())
}

/// Counts Unicode scalar values, as the contract does.
fn within(text: &str, min: usize, max: usize) -> Result<(), Invalid> {
    // A scalar value takes at least one byte, so most strings need no count.
    if text.len() > max && text.chars().nth(max).is_some() {
        return Err(too_long(max));
    }
    if min > 0 && text.chars().nth(min - 1).is_none() {
        let message = if min == 1 {
            "must not be empty".to_owned()
        } else {
            format!("must have at least {min} characters")
        };
        return Err(Invalid { code: "too_short", message });
    }
    Ok(())
}

fn too_long(max: usize) -> Invalid {
    Invalid { code: "too_long", message: format!("must have at most {max} characters") }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn emails() {
        for (good, kept) in [
            ("Ada@Example.ORG", "ada@example.org"),
            (" a.b+c@x-y.io ", "a.b+c@x-y.io"),
            ("root@localhost", "root@localhost"),
        ] {
            assert_eq!(Email::parse(good).map(String::from).as_deref(), Ok(kept), "{good}");
        }
        for bad in [
            "",
            "ada",
            "@x.org",
            "ada@",
            "a b@x.org",
            "ada@x",
            "ada@-x.org",
            "a..b@x.org",
            "ada@x..org",
            "ada\n@x.org",
            "a@b@",
        ] {
            assert!(Email::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn message_text_at_its_bounds() {
        assert!(MessageText::parse(&"ü".repeat(4_000)).is_ok());
        assert!(MessageText::parse(&format!("  {}\n", "ü".repeat(4_000))).is_ok());
        assert_eq!(MessageText::parse(&"ü".repeat(4_001)).map_err(|e| e.code), Err("too_long"));
        assert_eq!(MessageText::parse(" \n\t ").map_err(|e| e.code), Err("too_short"));
        assert_eq!(MessageText::parse("a\u{7}b").map_err(|e| e.code), Err("invalid"));
        assert_eq!(MessageText::parse("a\rb").map_err(|e| e.code), Err("invalid"));
        assert_eq!(MessageText::parse(" a\r\nb\tc ").map(String::from).as_deref(), Ok("a\nb\tc"));
    }

    #[test]
    fn channel_names() {
        assert!(ChannelName::parse("release_2-0").is_ok());
        for bad in ["", "General", "a b", "é", "a.b"] {
            assert!(ChannelName::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn lengths_at_their_bounds() {
        type Parse = fn(&str) -> Option<Invalid>;
        let all: [(&str, Parse, usize, usize); 8] = [
            ("password", |text| Password::parse(text).err(), 10, 256),
            ("display name", |text| DisplayName::parse(text).err(), 1, 80),
            ("workspace name", |text| WorkspaceName::parse(text).err(), 1, 80),
            ("channel name", |text| ChannelName::parse(text).err(), 1, 80),
            ("topic", |text| Topic::parse(text).err(), 0, 250),
            ("emoji", |text| Emoji::parse(text).err(), 1, 32),
            ("client_msg_id", |text| ClientMsgId::parse(text).err(), 1, 64),
            ("join code", |text| JoinCode::parse(text).err(), 1, 64),
        ];
        for (what, parse, min, max) in all {
            let code = |length: usize| parse(&"a".repeat(length)).map(|invalid| invalid.code);
            assert_eq!((code(min), code(max)), (None, None), "{what}");
            assert_eq!(code(max + 1), Some("too_long"), "{what}");
            let shorter = min.checked_sub(1).and_then(code);
            assert_eq!(shorter, (min > 0).then_some("too_short"), "{what}");
        }
        let address = |length: usize| {
            let domain = ["a"; 3].map(|label| label.repeat(63)).join(".");
            let local = "a".repeat(length - 1 - domain.len());
            Email::parse(&format!("{local}@{domain}")).err().map(|invalid| invalid.code)
        };
        assert_eq!((address(254), address(255)), (None, Some("too_long")));
        let local = |length: usize| Email::parse(&format!("{}@x.org", "a".repeat(length)));
        assert!(local(64).is_ok() && local(65).is_err());
    }

    #[test]
    fn names_and_emoji_are_single_lines() {
        for bad in ["a\tb", "a\nb", "a\u{7f}b", "a\u{85}b"] {
            assert!(DisplayName::parse(bad).is_err(), "{bad:?}");
            assert!(WorkspaceName::parse(bad).is_err(), "{bad:?}");
            assert!(Topic::parse(bad).is_err(), "{bad:?}");
            assert!(Emoji::parse(bad).is_err(), "{bad:?}");
        }
        for bad in ["a b", "\u{a0}", "\u{3000}a"] {
            assert!(Emoji::parse(bad).is_err(), "{bad:?}");
        }
        assert!(Emoji::parse("👩‍👩‍👧‍👦").is_ok() && Emoji::parse(":wave:").is_ok());
    }

    #[test]
    fn client_msg_ids() {
        assert!(ClientMsgId::parse("~ ok!").is_ok());
        for bad in ["a\n", "é"] {
            assert!(ClientMsgId::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_password_never_shows_itself() {
        let password = Password::parse("correct horse").expect("valid");
        assert_eq!(format!("{password:?}"), "Password(…)");
    }

    #[test]
    fn join_codes_use_their_whole_alphabet() {
        let code =
            JoinCode::from_random(std::array::from_fn(|i| u8::try_from(i * 17 % 256).unwrap_or(0)));
        assert_eq!(code.as_str().len(), 16);
        assert_eq!(JoinCode::parse(&code.as_str().to_lowercase()), Ok(code));
    }

    proptest! {
        #[test]
        fn parsing_a_text_twice_changes_nothing(text in any::<String>()) {
            if let Ok(once) = MessageText::parse(&text) {
                prop_assert_eq!(MessageText::parse(once.as_str()), Ok(once));
            }
        }
    }
}
