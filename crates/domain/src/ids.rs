//! Identifiers: UUIDs on the wire, each of its own type inside. Only the `Ambient` port makes new ones.

use std::{fmt, marker::PhantomData, str::FromStr};

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{Error, Visitor},
};
use uuid::Uuid;

/// A string that is not a UUID in its usual hyphenated form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not a valid id")]
pub struct InvalidId;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
        #[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.as_hyphenated().fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                // The crate also reads braces, URNs and bare hex; the contract has only one form.
                if text.len() != 36 {
                    return Err(InvalidId);
                }
                Uuid::try_parse(text).map(Self).map_err(|_| InvalidId)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                from.deserialize_str(Text(PhantomData))
            }
        }
    )*};
}

/// Reads an id from any deserializer's string.
struct Text<T>(PhantomData<T>);

impl<T: FromStr<Err = InvalidId>> Visitor<'_> for Text<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an id")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }
}

ids! {
    /// A person with an account.
    UserId;
    /// A team.
    WorkspaceId;
    /// A channel or a DM. A channel's id is its conversation's id.
    ConversationId;
    /// A message.
    MessageId;
    /// A signed-in device: the family of refresh tokens that one sign-in began.
    SessionId;
    /// A job, from the outbox to its end.
    JobId;
    /// A running process.
    NodeId;
    /// One HTTP request, in logs and error replies.
    RequestId;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_form_only() {
        let id = "0190f3a0-7c3e-7b5a-9d2f-0123456789ab";
        assert_eq!(id.parse::<UserId>().map(|id| id.to_string()).as_deref(), Ok(id));
        for bad in [
            "",
            "7",
            "0190f3a07c3e7b5a9d2f0123456789ab",
            "{0190f3a0-7c3e-7b5a-9d2f-0123456789ab}",
            "0190f3a0-7c3e-7b5a-9d2f-0123456789ag",
        ] {
            assert_eq!(bad.parse::<UserId>(), Err(InvalidId), "{bad}");
            let read = serde_json::from_value::<UserId>(bad.into());
            assert!(read.is_err_and(|error| error.to_string().contains("not a valid id")), "{bad}");
        }
        let read = serde_json::from_value::<UserId>(id.into());
        assert_eq!(read.ok().map(|id| id.to_string()).as_deref(), Some(id));
    }
}
