//! Waiting for an agent.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::params::Params;
use crate::{Address, Agent, InvalidName, State};

/// What to wait for: a state, or one of three words that are more than a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum WaitFor {
    /// It runs, and was ready for work.
    Ready,
    /// It runs, and says that it has nothing to do.
    Idle,
    /// Nothing of it is there: no process of an instance, and none under way.
    Gone,
    /// It is in this state.
    State(State),
}

impl WaitFor {
    /// Every word there is.
    pub fn words() -> impl Iterator<Item = &'static str> {
        ["ready", "idle", "gone"].into_iter().chain(State::ALL.iter().map(|state| state.as_str()))
    }

    /// The word used on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Idle => "idle",
            Self::Gone => "gone",
            Self::State(state) => state.as_str(),
        }
    }
}

impl fmt::Display for WaitFor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for WaitFor {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let state = || State::ALL.iter().find(|state| state.as_str() == text).copied().map(Self::State);
        match text {
            "ready" => Ok(Self::Ready),
            "idle" => Ok(Self::Idle),
            "gone" => Ok(Self::Gone),
            _ => state().ok_or_else(|| InvalidName {
                what: "thing to wait for",
                given: text.to_owned(),
                why: "is neither ready, idle, gone, nor a state such as running or stopped",
            }),
        }
    }
}

impl TryFrom<String> for WaitFor {
    type Error = InvalidName;
    fn try_from(text: String) -> Result<Self, InvalidName> {
        text.parse()
    }
}

impl From<WaitFor> for String {
    fn from(wanted: WaitFor) -> String {
        wanted.as_str().to_owned()
    }
}

impl JsonSchema for WaitFor {
    fn schema_name() -> Cow<'static, str> {
        "WaitFor".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let words: Vec<&str> = Self::words().collect();
        json_schema!({ "type": "string", "enum": words })
    }
}

/// `agent.wait`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AgentWait {
    /// Its address.
    pub agent: Address,
    /// What to wait for.
    #[serde(rename = "for")]
    pub wanted: WaitFor,
    /// How long, in milliseconds: unless given, until it is so or the connection ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

impl Params for AgentWait {
    const FIELDS: &'static [&'static str] = &["agent", "for", "timeout_ms"];
}

/// The end of a wait.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Waited {
    /// The agent as it is shown now, which may be later than what was waited for.
    pub agent: Agent,
    /// What was waited for, and came.
    pub reached: WaitFor,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_read_back_and_others_are_refused() {
        for word in WaitFor::words() {
            assert_eq!(word.parse::<WaitFor>().map(WaitFor::as_str), Ok(word));
        }
        let raw = serde_json::value::RawValue::from_string(r#"{"agent":"a/witness","for":"up"}"#.into());
        let method = crate::method::find("agent.wait");
        let error = method.map(|method| method.check(Some(&raw.unwrap())).unwrap_err()).unwrap();
        assert_eq!(error.data["path"], "/for", "{error}");
        assert!(error.message.contains("neither ready"), "{error}");
    }
}
