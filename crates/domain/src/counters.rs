//! Counters: they tell whether somebody has seen everything there is, each of its own type, so that none is mistaken
//! for another. They start at 0, for nothing yet, and grow by one.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize,
        )]
        #[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl $name {
            /// Before the first.
            pub const ZERO: Self = Self(0);

            /// The one that follows it.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0.saturating_add(1))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl From<u64> for $name {
            fn from(n: u64) -> Self {
                Self(n)
            }
        }

        impl From<$name> for u64 {
            fn from(counter: $name) -> Self {
                counter.0
            }
        }
    )*};
}

counters! {
    /// A message's position in its conversation: from 1, without gaps, never reused. 0 stands for none.
    Seq;
    /// A conversation's count of durable changes: of its messages, its name and its topic.
    Rev;
    /// A conversation's count of changes of who may read it.
    AccessRev;
    /// The store's count of ended sessions.
    SessionRev;
}
