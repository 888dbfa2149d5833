//! The names tmux gives to its objects.
//!
//! Owns the three id types. An id means something only together with the server that gave it: after a
//! server's death the numbers begin again.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A text that is not the id it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a tmux {kind} id, which looks like `{sigil}7`")]
pub struct BadId {
    /// What was given.
    pub text: String,
    /// `session`, `window` or `pane`.
    pub kind: &'static str,
    /// The first character of such ids.
    pub sigil: char,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $sigil:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(u32);

        impl FromStr for $name {
            type Err = BadId;

            fn from_str(text: &str) -> Result<Self, BadId> {
                text.strip_prefix($sigil)
                    // Only digits: `u32` alone would take a `+` too.
                    .filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()))
                    .and_then(|digits| digits.parse().ok())
                    .map(Self)
                    .ok_or_else(|| BadId { text: text.to_owned(), kind: $kind, sigil: $sigil })
            }
        }

        impl TryFrom<String> for $name {
            type Error = BadId;

            fn try_from(text: String) -> Result<Self, BadId> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.to_string()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}{}", $sigil, self.0)
            }
        }
    };
}

id!(
    /// A session, `$3`. In JSON a string.
    SessionId, "session", '$'
);
id!(
    /// A window, `@5`. In JSON a string.
    WindowId, "window", '@'
);
id!(
    /// A pane, `%7`. In JSON a string. It stays the same when the pane is respawned.
    PaneId, "pane", '%'
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_strings_with_their_sigil() {
        let pane: PaneId = "%7".parse().unwrap();
        assert_eq!(serde_json::to_string(&pane).unwrap(), "\"%7\"");
        assert_eq!(serde_json::from_str::<SessionId>("\"$12\"").unwrap().to_string(), "$12");
        for bad in ["", "%", "7", "$7", "%-1", "%+1", "%7 ", "%99999999999", "%7x"] {
            assert!(bad.parse::<PaneId>().is_err(), "{bad:?}");
        }
        assert!("@5".parse::<WindowId>().is_ok());
    }
}
