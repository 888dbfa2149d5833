//! Typed names and ids. An address is stored as fields; it is never derived from the name of a session.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// The number of an event in the ledger's stream: it grows by one with each, and is never used again.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(transparent)]
pub struct Seq(pub u64);

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A name or an address that cannot be used, with the reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {given:?} {why}")]
pub struct InvalidName {
    /// What was expected: `rig name`, `agent address`, …
    pub what: &'static str,
    /// The text given.
    pub given: String,
    /// The rule that it breaks.
    pub why: &'static str,
}

/// Longest name of a rig or an agent, in bytes: two of them and a role still fit a tmux session's name.
const NAME_MAX: usize = 64;

/// Words that mean a role or a place in a town, and so can name neither a rig nor a worker.
pub const RESERVED: &[&str] = &[
    "boot", "config", "crew", "daemon", "dea", "deacon", "dogs", "logs", "may", "mayor", "plugins",
    "polecat", "polecats", "ref", "refinery", "rig", "rigs", "roles", "settings", "town", "wit", "witness",
];

/// Longest id of a work item, in bytes: a prefix of 20 and any number, with room for the parts of a divided one.
const WORK_MAX: usize = 128;

fn check_work(what: &'static str, text: &str) -> Result<(), InvalidName> {
    let fail = |why| Err(InvalidName { what, given: text.to_owned(), why });
    if text.is_empty() {
        return fail("is empty");
    }
    if text.len() > WORK_MAX {
        return fail("is longer than 128 bytes");
    }
    if !text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')) {
        return fail("has a character other than letters, digits, '-', '_' and '.'");
    }
    // It is handed to other programs as an argument, and must not look like an option.
    if !text.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return fail("does not start with a letter or a digit");
    }
    Ok(())
}

fn check_name(what: &'static str, text: &str) -> Result<(), InvalidName> {
    let fail = |why| Err(InvalidName { what, given: text.to_owned(), why });
    if text.is_empty() {
        return fail("is empty");
    }
    if text.len() > NAME_MAX {
        return fail("is longer than 64 bytes");
    }
    if !text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')) {
        return fail("has a character other than letters, digits, '-', '_' and '.'");
    }
    if !text.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return fail("does not start with a letter or a digit");
    }
    Ok(())
}

macro_rules! text_id {
    ($(#[$meta:meta])* $name:ident, $what:literal, $check:expr) => {
        $(#[$meta])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Checks the text and makes the id.
            ///
            /// # Errors
            /// When the text breaks the rule of this kind of name; the error says which.
            pub fn new(text: impl Into<String>) -> Result<Self, InvalidName> {
                let text = text.into();
                let check: fn(&'static str, &str) -> Result<(), InvalidName> = $check;
                check($what, &text)?;
                Ok(Self(text))
            }

            /// The text of the id.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;
            fn try_from(text: String) -> Result<Self, InvalidName> {
                Self::new(text)
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;
            fn from_str(text: &str) -> Result<Self, InvalidName> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string" })
            }
        }
    };
}

text_id! {
    /// The name of a rig: letters, digits, `-`, `_` and `.`, at most 64 bytes. Hyphens are ordinary letters:
    /// nothing is ever cut at them.
    RigName, "rig name", check_name
}

text_id! {
    /// The name of a polecat or a crew member within its rig.
    AgentName, "agent name", check_name
}

text_id! {
    /// One start of one agent. Whatever an agent, a timer or a record says about itself carries this id, and
    /// what carries an older one is ignored.
    InstanceId, "instance id", |what, text| {
        match uuid::Uuid::parse_str(text) {
            Ok(_) => Ok(()),
            Err(_) => Err(InvalidName { what, given: text.to_owned(), why: "is not a UUID" }),
        }
    }
}

text_id! {
    /// The identity of a town: made once, kept in `daemon/town-id`, new when the directory was copied.
    TownId, "town id", |what, text| {
        match uuid::Uuid::parse_str(text) {
            Ok(_) => Ok(()),
            Err(_) => Err(InvalidName { what, given: text.to_owned(), why: "is not a UUID" }),
        }
    }
}

text_id! {
    /// The id of a work item, as its store gave it: letters, digits, `-`, `_` and `.`, at most 128 bytes. The
    /// letters up to some hyphen name the store; which hyphen only the table of prefixes knows.
    WorkId, "work id", check_work
}

/// A key that no other request has, for `idempotency_key`.
#[must_use]
pub fn fresh_key() -> String {
    uuid::Uuid::now_v7().to_string()
}

text_id! {
    /// The id of a text that was given to be typed for an agent.
    NudgeId, "nudge id", |what, text| {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if (3..=40).contains(&text.len()) && text.starts_with("n-") && text.bytes().all(plain) {
            Ok(())
        } else {
            Err(InvalidName { what, given: text.to_owned(), why: "does not look like `n-1f3a…`" })
        }
    }
}

impl NudgeId {
    /// A new random id.
    #[must_use]
    pub fn generate() -> Self {
        let random = uuid::Uuid::new_v4().simple().to_string();
        Self(format!("n-{}", random.get(..12).unwrap_or(&random)))
    }
}

impl RigName {
    /// Whether a *new* rig may carry this name: role words and the town's own directories may not be one.
    /// Rigs that a registry already has are not asked.
    #[must_use]
    pub fn is_reserved(&self) -> bool {
        RESERVED.contains(&self.0.to_ascii_lowercase().as_str())
    }
}

impl InstanceId {
    /// A new id, unique and sorting by the time it was made.
    #[must_use]
    pub fn generate() -> Self {
        Self(uuid::Uuid::now_v7().to_string())
    }
}

impl TownId {
    /// A new random id.
    #[must_use]
    pub fn generate() -> Self {
        Self(uuid::Uuid::new_v4().to_string())
    }
}

/// What an agent is for. In order of priority: who is brought back first.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema, Default,
)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Coordinates the town for its owner.
    Mayor,
    /// Patrols the town.
    Deacon,
    /// Looks after the deacon.
    Boot,
    /// Watches a rig's workers.
    Witness,
    /// Merges a rig's work.
    Refinery,
    /// Works.
    Polecat,
    /// A person's own workspace: listed and protected, never started, stopped or swept by policy.
    Crew,
    /// A role that this version does not know.
    #[default]
    #[serde(other)]
    Unknown,
}

impl Role {
    /// The word used on the wire and in environments.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mayor => "mayor",
            Self::Deacon => "deacon",
            Self::Boot => "boot",
            Self::Witness => "witness",
            Self::Refinery => "refinery",
            Self::Polecat => "polecat",
            Self::Crew => "crew",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Where an agent stands in a town. On the wire a string: `mayor`, `deacon`, `boot`, `<rig>/witness`,
/// `<rig>/refinery`, `<rig>/polecats/<name>`, `<rig>/crew/<name>`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Address {
    /// The mayor of the town.
    Mayor,
    /// The deacon of the town.
    Deacon,
    /// The deacon's helper.
    Boot,
    /// A rig's witness.
    Witness(RigName),
    /// A rig's refinery.
    Refinery(RigName),
    /// A worker.
    Polecat(RigName, AgentName),
    /// A person's workspace.
    Crew(RigName, AgentName),
}

impl Address {
    /// The role.
    #[must_use]
    pub fn role(&self) -> Role {
        match self {
            Self::Mayor => Role::Mayor,
            Self::Deacon => Role::Deacon,
            Self::Boot => Role::Boot,
            Self::Witness(_) => Role::Witness,
            Self::Refinery(_) => Role::Refinery,
            Self::Polecat(..) => Role::Polecat,
            Self::Crew(..) => Role::Crew,
        }
    }

    /// The rig, where the agent belongs to one.
    #[must_use]
    pub fn rig(&self) -> Option<&RigName> {
        match self {
            Self::Mayor | Self::Deacon | Self::Boot => None,
            Self::Witness(rig) | Self::Refinery(rig) | Self::Polecat(rig, _) | Self::Crew(rig, _) => {
                Some(rig)
            }
        }
    }

    /// The name within the rig, where the role has names.
    #[must_use]
    pub fn name(&self) -> Option<&AgentName> {
        match self {
            Self::Polecat(_, name) | Self::Crew(_, name) => Some(name),
            _ => None,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::Mayor => "mayor".to_owned(),
            Self::Deacon => "deacon".to_owned(),
            Self::Boot => "boot".to_owned(),
            Self::Witness(rig) => format!("{rig}/witness"),
            Self::Refinery(rig) => format!("{rig}/refinery"),
            Self::Polecat(rig, name) => format!("{rig}/polecats/{name}"),
            Self::Crew(rig, name) => format!("{rig}/crew/{name}"),
        };
        f.pad(&text)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Address {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let parts: Vec<&str> = text.split('/').collect();
        match parts.as_slice() {
            ["mayor"] => Ok(Self::Mayor),
            ["deacon"] => Ok(Self::Deacon),
            ["boot"] => Ok(Self::Boot),
            [rig, "witness"] => Ok(Self::Witness(RigName::new(*rig)?)),
            [rig, "refinery"] => Ok(Self::Refinery(RigName::new(*rig)?)),
            [rig, "polecats", name] => Ok(Self::Polecat(RigName::new(*rig)?, AgentName::new(*name)?)),
            [rig, "crew", name] => Ok(Self::Crew(RigName::new(*rig)?, AgentName::new(*name)?)),
            _ => Err(InvalidName {
                what: "agent address",
                given: text.to_owned(),
                why: "is none of mayor, deacon, boot, RIG/witness, RIG/refinery, RIG/polecats/NAME, RIG/crew/NAME",
            }),
        }
    }
}

impl TryFrom<String> for Address {
    type Error = InvalidName;
    fn try_from(text: String) -> Result<Self, InvalidName> {
        text.parse()
    }
}

impl From<Address> for String {
    fn from(address: Address) -> String {
        address.to_string()
    }
}

impl JsonSchema for Address {
    fn schema_name() -> Cow<'static, str> {
        "Address".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "mayor, deacon, boot, RIG/witness, RIG/refinery, RIG/polecats/NAME or RIG/crew/NAME",
            "examples": ["alpha/witness"],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn addresses_read_back_as_they_were_written() {
        for text in
            ["mayor", "deacon", "boot", "a-b/witness", "a/refinery", "a/polecats/b-witness", "a/crew/max"]
        {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_address_is_refused_with_the_forms_there_are() {
        for text in
            ["", "a", "a/b", "a/b/c", "/witness", "a//witness", "a/polecats/", "a/polecats/x/y", "../witness"]
        {
            let error = text.parse::<Address>().unwrap_err().to_string();
            assert!(error.contains("address") || error.contains("name"), "{error}");
        }
    }

    #[test]
    fn rig_names_keep_to_the_rule() {
        for good in ["a", "a-b", "a-witness", "9lives", "x.y_z"] {
            assert!(RigName::new(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", ".a", "a b", "a/b", "é", &"x".repeat(65)] {
            assert!(RigName::new(bad).is_err(), "{bad}");
        }
        assert!(RigName::new("Witness").unwrap().is_reserved());
    }

    proptest! {
        #[test]
        fn any_two_addresses_that_print_alike_are_one(a in "[a-z][a-z-]{0,8}", b in "[a-z][a-z-]{0,8}") {
            let worker = Address::Polecat(RigName::new(&a).unwrap(), AgentName::new(&b).unwrap());
            prop_assert_eq!(worker.to_string().parse::<Address>().unwrap(), worker);
        }
    }
}
