//! Errors on the wire: a number for JSON-RPC, a stable name for scripts, a sentence for people.

use jsonrpsee::types::{ErrorObject, ErrorObjectOwned};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

macro_rules! kinds {
    ($($(#[$meta:meta])* $variant:ident = $name:literal, $code:literal;)*) => {
        /// The stable names of errors. Several kinds may share a code.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
        pub enum ErrorKind {
            $($(#[$meta])* #[serde(rename = $name)] $variant,)*
            /// A kind that this version does not know.
            #[serde(other, rename = "unknown")]
            Unknown,
        }

        impl ErrorKind {
            /// All kinds that this version knows.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The JSON-RPC code.
            #[must_use]
            pub fn code(self) -> i32 {
                match self {
                    $(Self::$variant => $code,)*
                    Self::Unknown => -32603,
                }
            }

            /// The name in `data.kind`.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                    Self::Unknown => "unknown",
                }
            }
        }
    };
}

kinds! {
    /// The text is not JSON.
    ParseError = "parse_error", -32700;
    /// The JSON is not a request.
    InvalidRequest = "invalid_request", -32600;
    /// There is no such method.
    MethodNotFound = "method_not_found", -32601;
    /// A parameter is missing, unknown or of the wrong type; `data.path` says which.
    InvalidParams = "invalid_params", -32602;
    /// The daemon failed in a way that it should not.
    Internal = "internal", -32603;
    /// No such rig is registered. `data.known`
    RigNotFound = "rig_not_found", 1001;
    /// No such agent.
    AgentNotFound = "agent_not_found", 1002;
    /// A spawn whose name is taken by a running worker.
    AlreadyRunning = "already_running", 1003;
    /// The agent has no session to look at or to type into.
    NotRunning = "not_running", 1004;
    /// The rig's agents may not be started. `data.reason`
    RigNotOperational = "rig_not_operational", 1005;
    /// The agent ended before it was ready. `data.exit` or `data.exec_error`, `data.output`
    DiedDuringStartup = "died_during_startup", 1006;
    /// No such work item.
    WorkNotFound = "work_not_found", 1007;
    /// Work would be lost. `data.summary`
    UncommittedWork = "uncommitted_work", 1008;
    /// tmux is missing, too old, or does not answer.
    TmuxUnavailable = "tmux_unavailable", 1009;
    /// The target belongs to a person, or is not ours.
    Protected = "protected", 1010;
    /// A conflicting operation is under way.
    Busy = "busy", 1011;
    /// The peer is another user.
    Unauthorized = "unauthorized", 1012;
    /// The effect was not confirmed in time. `data.reached`
    Timeout = "timeout", 1013;
    /// A configuration file cannot be used. `data{file,key?,line,column}`
    ConfigInvalid = "config_invalid", 1014;
    /// A name cannot be used.
    NameInvalid = "name_invalid", 1015;
    /// A name is in use.
    NameTaken = "name_taken", 1015;
    /// The work store failed. `data.store`, `data.stderr`
    WorkStore = "work_store", 1016;
    /// A git command failed. `data.command`, `data.stderr`
    Git = "git", 1017;
    /// The daemon is going down.
    ShuttingDown = "shutting_down", 1018;
    /// Too many connections, or too much at once.
    TooBusy = "too_busy", 1018;
    /// The request is longer than 1 MiB.
    RequestTooLarge = "request_too_large", 1018;
    /// Memory, disk or a provider forbid a start now. `data.resource`, `data.limit`, `data.value`
    Throttled = "throttled", 1019;
    /// The caller may not do this. `data.class`
    Forbidden = "forbidden", 1020;
}

/// An error as it crosses the socket.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, thiserror::Error)]
#[error("{message}")]
pub struct RpcError {
    /// JSON-RPC code.
    pub code: i32,
    /// Stable name.
    pub kind: ErrorKind,
    /// What went wrong, with the object: lower case, no full stop.
    pub message: String,
    /// The command, or the change, that helps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Facts of this kind of error, without `kind` and `hint`.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub data: Map<String, Value>,
}

impl RpcError {
    /// An error of a kind, with its sentence.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { code: kind.code(), kind, message: message.into(), hint: None, data: Map::new() }
    }

    /// Adds what helps.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds a fact. A value that cannot be written as JSON becomes null.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Serialize) -> Self {
        self.data.insert(key.to_owned(), serde_json::to_value(value).unwrap_or(Value::Null));
        self
    }

    /// A failure that should not be possible.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, message)
    }
}

impl From<RpcError> for ErrorObjectOwned {
    fn from(error: RpcError) -> Self {
        let mut data = error.data;
        data.insert("kind".to_owned(), Value::from(error.kind.as_str()));
        if let Some(hint) = error.hint {
            data.insert("hint".to_owned(), Value::from(hint));
        }
        ErrorObject::owned(error.code, error.message, Some(Value::Object(data)))
    }
}

impl From<&ErrorObject<'_>> for RpcError {
    /// Reads an error back. Without `data.kind` the first kind with the same code is meant.
    fn from(error: &ErrorObject<'_>) -> Self {
        let mut data = error
            .data()
            .and_then(|raw| serde_json::from_str::<Value>(raw.get()).ok())
            .and_then(|value| match value {
                Value::Object(map) => Some(map),
                _ => None,
            })
            .unwrap_or_default();
        let kind = data
            .remove("kind")
            .and_then(|value| serde_json::from_value(value).ok())
            .or_else(|| ErrorKind::ALL.iter().copied().find(|kind| kind.code() == error.code()))
            .unwrap_or(ErrorKind::Unknown);
        let hint = data.remove("hint").and_then(|value| value.as_str().map(str::to_owned));
        Self { code: error.code(), kind, message: error.message().to_owned(), hint, data }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_survives_the_wire() {
        let error =
            RpcError::new(ErrorKind::RigNotFound, "no rig \"x\"").hint("gtctl rig list").with("known", ["a"]);
        let wire: ErrorObjectOwned = error.clone().into();
        assert_eq!(RpcError::from(&wire), error);
    }

    #[test]
    fn an_error_of_another_program_gets_the_kind_of_its_code() {
        let wire = ErrorObject::owned(-32601, "Method not found", None::<()>);
        assert_eq!(RpcError::from(&wire).kind, ErrorKind::MethodNotFound);
    }
}
