//! What can go wrong, as one type with one wording: `error: what`, details, `hint: the command that helps`.
//!
//! A failure is either the daemon's own error or one of ours. How it is printed is `output`'s business.

use std::fmt;
use std::time::Duration;

use gtd_proto::{Address, ErrorKind, RpcError};
use jsonrpsee::core::ClientError;
use serde_json::{Map, Value, json};

use crate::client::transport::TransportError;
use crate::exit::Code;
use crate::output::shell_word;

/// Kind of a connection that ended before the answer came.
const LOST: &str = "daemon_lost";

/// Kind of an answer that did not come in time.
const UNANSWERED: &str = "timeout";

/// A verb did not do what it was asked to.
#[derive(Debug)]
pub enum Failure {
    /// The daemon answered with an error.
    Rpc(Box<RpcError>),
    /// We found out ourselves.
    Local(Box<Local>),
    /// The reader of our output went away: nothing is to be said.
    BrokenPipe,
}

/// A failure that the client found out itself.
#[derive(Debug)]
pub struct Local {
    /// Exit code.
    pub code: Code,
    /// Stable name for scripts.
    pub kind: &'static str,
    /// What went wrong, with the object: lower case, no full stop.
    pub message: String,
    /// What helps.
    pub hint: Option<String>,
    /// Facts, such as `output` with the last lines of a program.
    pub data: Map<String, Value>,
}

impl Failure {
    fn local(code: Code, kind: &'static str, message: impl Into<String>) -> Self {
        let (message, hint, data) = (message.into(), None, Map::new());
        Self::Local(Box::new(Local { code, kind, message, hint, data }))
    }

    /// The command line cannot be used, or means nothing here.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::local(Code::Usage, "usage", message)
    }

    /// The directory is no town, or there is none around.
    pub fn no_town(message: impl Into<String>) -> Self {
        Self::local(Code::Usage, "no_town", message)
            .hint("name one with --town DIR, or make one with `gtctl init DIR`")
    }

    /// A configuration cannot be used.
    pub fn bad_config(message: impl Into<String>) -> Self {
        Self::local(Code::Usage, ErrorKind::ConfigInvalid.as_str(), message)
    }

    /// Nobody answers.
    pub fn unreachable(message: impl Into<String>) -> Self {
        Self::local(Code::Unreachable, "daemon_unreachable", message).hint("gtctl up")
    }

    /// Somebody listens and says nothing. Like [`Failure::unreachable`], but there is a daemon.
    pub fn silent(message: impl Into<String>) -> Self {
        Self::local(Code::Unreachable, "daemon_silent", message).hint("gtctl daemon restart --force")
    }

    /// The connection ended before the answer came.
    fn lost(why: &str) -> Self {
        Self::local(Code::Unreachable, LOST, format!("lost the daemon: {why}"))
    }

    /// No answer came within the time that a request is given.
    pub fn unanswered(limit: Duration) -> Self {
        let limit = humantime::format_duration(limit);
        Self::local(Code::Timeout, UNANSWERED, format!("the daemon did not answer within {limit}"))
    }

    /// What follows for a request that only looked: where the answer did not come, it may be made again.
    #[must_use]
    pub fn unread(self) -> Self {
        match &self {
            Self::Local(local) if local.kind == LOST => {
                self.hint("nothing was changed: try again; where nobody answers then, gtctl up")
            }
            Self::Local(local) if local.kind == UNANSWERED => self.hint("gtctl daemon status"),
            _ => self,
        }
    }

    /// What follows for a request to change something: where the answer did not come, it may have been taken. With
    /// the key that it carried it is done once, however often it is made.
    #[must_use]
    pub fn untold(self, key: Option<&str>) -> Self {
        match &self {
            Self::Local(local) if matches!(local.kind, LOST | UNANSWERED) => {
                let look = "see `gtctl status` and `gtctl events --since 5m`";
                let hint = match key {
                    Some(key) => format!("{look}, or repeat the command with --once {key}"),
                    None => format!("{look} before you repeat it"),
                };
                let failure = self.more("; it may have taken the request all the same").hint(hint);
                match key {
                    Some(key) => failure.with("idempotency_key", key),
                    None => failure,
                }
            }
            _ => self,
        }
    }

    /// Whether there is no daemon, as far as can be told: one that hangs is there.
    #[must_use]
    pub fn is_no_daemon(&self) -> bool {
        match self {
            Self::Local(local) => local.code == Code::Unreachable && local.kind != "daemon_silent",
            _ => self.code() == Code::Unreachable,
        }
    }

    /// Who answers is not whom we asked, or speaks otherwise.
    pub fn mismatch(message: impl Into<String>) -> Self {
        Self::local(Code::Mismatch, "mismatch", message)
    }

    /// This may not be done here, or by this caller.
    pub fn refused(message: impl Into<String>) -> Self {
        Self::local(Code::Refused, "refused", message)
    }

    /// Not confirmed in time.
    pub fn timeout(message: impl Into<String>) -> Self {
        Self::local(Code::Timeout, "timeout", message)
    }

    /// There is no such agent.
    pub fn no_such(message: impl Into<String>) -> Self {
        Self::local(Code::NoSuch, ErrorKind::AgentNotFound.as_str(), message)
    }

    /// Something is left that should be gone.
    pub fn partial(message: impl Into<String>) -> Self {
        Self::local(Code::Partial, "partial", message)
    }

    /// It was tried and failed.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::local(Code::Failed, "failed", message)
    }

    /// A person pressed Ctrl-C, and there was something to clean up first.
    pub fn interrupted() -> Self {
        Self::local(Code::Interrupted, "interrupted", "interrupted")
    }

    /// Says what helps.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        match &mut self {
            Self::Rpc(error) => error.hint = Some(hint.into()),
            Self::Local(error) => error.hint = Some(hint.into()),
            Self::BrokenPipe => {}
        }
        self
    }

    /// What helps, as far as that was said.
    #[must_use]
    pub fn hinted(&self) -> Option<&str> {
        match self {
            Self::Rpc(error) => error.hint.as_deref(),
            Self::Local(error) => error.hint.as_deref(),
            Self::BrokenPipe => None,
        }
    }

    /// Says of an id that could be one, and that the daemon does not know, that it is not there: as of work and of
    /// convoys, and not as of a word that can be no id. `kind` is the name for scripts.
    #[must_use]
    pub fn not_there(self, kind: &'static str) -> Self {
        match self {
            Self::Rpc(error)
                if error.kind == ErrorKind::InvalidParams
                    && error.data.get("path").and_then(Value::as_str) == Some("/id") =>
            {
                let RpcError { message, hint, data, .. } = *error;
                Self::Local(Box::new(Local { code: Code::Failed, kind, message, hint, data }))
            }
            other => other,
        }
    }

    /// Says what can be done about a person's workspace, where that is what the failure is about: it is listed and
    /// written to, never typed into, started or ended.
    #[must_use]
    pub fn of_crew(self) -> Self {
        let (message, about) = match &self {
            Self::Rpc(error) => {
                use ErrorKind::{AgentNotFound, NameInvalid, Protected};
                (&error.message, matches!(error.kind, AgentNotFound | Protected | NameInvalid))
            }
            Self::Local(error) => (&error.message, error.code == Code::NoSuch),
            Self::BrokenPipe => return self,
        };
        let named = |word: &str| word.trim_matches(|c: char| c.is_ascii_punctuation()).parse().ok();
        let crew = message.split(' ').filter_map(named).find(|named| matches!(named, Address::Crew(..)));
        match crew.filter(|_| about) {
            Some(crew) => self.hint(format!(
                "gtctl mail send {crew} SUBJECT writes to whoever works there; gtctl crew list shows who does"
            )),
            None => self,
        }
    }

    /// Goes on with the sentence.
    #[must_use]
    pub fn more(mut self, text: &str) -> Self {
        match &mut self {
            Self::Rpc(error) => error.message.push_str(text),
            Self::Local(error) => error.message.push_str(text),
            Self::BrokenPipe => {}
        }
        self
    }

    /// Makes the command of the hint mean the town that was named to us.
    #[must_use]
    pub fn in_town(self, dir: &str) -> Self {
        match self.hinted().filter(|hint| !hint.contains("--town") && !hint.contains("gtctl init")) {
            Some(hint) => {
                let hint = hint.replace("gtctl ", &format!("gtctl --town {} ", shell_word(dir)));
                self.hint(hint)
            }
            None => self,
        }
    }

    /// Adds a fact.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        match &mut self {
            Self::Rpc(error) => drop(error.data.insert(key.to_owned(), value.into())),
            Self::Local(error) => drop(error.data.insert(key.to_owned(), value.into())),
            Self::BrokenPipe => {}
        }
        self
    }

    /// How the program ends.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Rpc(error) => Code::of_rpc(error),
            Self::Local(local) => local.code,
            Self::BrokenPipe => Code::BrokenPipe,
        }
    }

    /// The error object of the JSON envelope. The `code` of an error of ours is the exit code; the daemon's
    /// are negative or above 1,000, so that the two are never mixed up.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let (code, kind, message, hint, data) = match self {
            Self::Rpc(e) => (e.code, e.kind.as_str(), e.message.as_str(), e.hint.as_deref(), &e.data),
            Self::Local(e) => {
                (i32::from(e.code.number()), e.kind, e.message.as_str(), e.hint.as_deref(), &e.data)
            }
            Self::BrokenPipe => return Value::Null,
        };
        let mut object = Map::new();
        object.insert("code".to_owned(), json!(code));
        object.insert("kind".to_owned(), json!(kind));
        object.insert("message".to_owned(), json!(message));
        if let Some(hint) = hint {
            object.insert("hint".to_owned(), json!(hint));
        }
        if !data.is_empty() {
            object.insert("data".to_owned(), Value::Object(data.clone()));
        }
        Value::Object(object)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rpc(error) => f.write_str(&error.message),
            Self::Local(error) => f.write_str(&error.message),
            Self::BrokenPipe => f.write_str("broken pipe"),
        }
    }
}

impl std::error::Error for Failure {}

impl From<RpcError> for Failure {
    fn from(error: RpcError) -> Self {
        Self::Rpc(Box::new(error))
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        match &error {
            ClientError::Call(object) => Self::Rpc(Box::new(RpcError::from(object))),
            ClientError::ParseError(why) => {
                Self::mismatch(format!("the daemon's answer cannot be read: {why}"))
                    .hint("use the gtctl and the gtd of one version; `gtctl daemon restart` starts the gtd beside this gtctl")
            }
            ClientError::RequestTimeout => Self::timeout("the daemon did not answer in time"),
            ClientError::Transport(_) | ClientError::RestartNeeded(_) => match refusal(&error) {
                Some(refused) => Self::Rpc(Box::new(refused.clone())),
                None => Self::lost(&innermost(&error)),
            },
            _ => Self::failed(format!("the request could not be made: {error}")),
        }
    }
}

/// The error that a daemon sent before it closed the connection on us, such as `too_busy`.
fn refusal(error: &ClientError) -> Option<&RpcError> {
    match error {
        ClientError::RestartNeeded(inner) => refusal(inner),
        ClientError::Transport(inner) => match inner.downcast_ref::<TransportError>() {
            Some(TransportError::Refused(error)) => Some(error),
            _ => None,
        },
        _ => None,
    }
}

fn innermost(error: &ClientError) -> String {
    match error {
        ClientError::RestartNeeded(inner) => innermost(inner),
        other => other.to_string(),
    }
}
