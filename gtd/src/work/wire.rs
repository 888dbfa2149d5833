//! What an error of work is on the wire.

use gtd_proto::{ErrorKind, RpcError};

use super::{Unknown, Why, WorkError};

impl From<WorkError> for RpcError {
    fn from(error: WorkError) -> Self {
        let text = error.to_string();
        match error {
            WorkError::NotFound(_) => Self::new(ErrorKind::WorkNotFound, text).hint("gtctl work list"),
            WorkError::Over { status, .. } => {
                Self::new(ErrorKind::WorkNotFound, text).hint("gtctl work list").with("status", status)
            }
            WorkError::Held { holder, .. } => {
                let hint = format!("gtctl hook clear {holder}, or --force to take it from there");
                Self::new(ErrorKind::Busy, text).hint(hint).with("holder", holder)
            }
            WorkError::Occupied { agent, held } => Self::new(ErrorKind::Busy, text)
                .hint(format!("gtctl hook clear {agent}, or --force to put it back"))
                .with("holder", &agent)
                .with("held", held),
            WorkError::Invalid { path, .. } => Self::new(ErrorKind::InvalidParams, text).with("path", path),
            WorkError::Unsupported { store, .. } => {
                Self::new(ErrorKind::WorkStore, text).with("store", store).with("stderr", "")
            }
            WorkError::Unknown(unknown) => unknown.into(),
        }
    }
}

impl From<Unknown> for RpcError {
    fn from(unknown: Unknown) -> Self {
        let error = Self::new(ErrorKind::WorkStore, unknown.to_string())
            .with("store", &unknown.store)
            .with("stderr", &unknown.stderr);
        match &unknown.why {
            Why::Missing(program) => error.hint(format!(
                "put {program} on the PATH of the daemon, or set [work] store = \"builtin\" in settings/gtd.toml"
            )),
            Why::Late(_) | Why::Crowded => {
                error.hint("try again, or raise [work] timeout in settings/gtd.toml")
            }
            Why::Other(_) => error.hint("give the id whole"),
            _ => error,
        }
    }
}
