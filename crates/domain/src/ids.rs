//! Identifiers: UUIDs on the wire, a type of their own each inside. New ones are made by the `Ambient` port alone.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A string that is no UUID in its usual hyphenated form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not a valid id")]
pub struct InvalidId;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
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
                // The crate also reads braces, URNs and bare hex; the contract has one form only.
                if text.len() != 36 {
                    return Err(InvalidId);
                }
                Uuid::try_parse(text).map(Self).map_err(|_| InvalidId)
            }
        }
    )*};
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
        }
    }
}
