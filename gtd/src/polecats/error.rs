//! What can go wrong with a worker's worktree, and what that is on the wire.

use std::io;
use std::path::{Path, PathBuf};

use gtd_proto::{AgentName, ErrorKind, RigName, RpcError};

use crate::town::git::GitError;

/// Something was not done to a worktree. Nothing was destroyed.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// There is no repository to make worktrees of.
    #[error("rig {rig} has no repository: neither .repo.git nor mayor/rig is there")]
    NoRepository {
        /// The rig.
        rig: RigName,
    },
    /// There is no branch to begin on.
    #[error("the repository of rig {rig} has no branch {branch:?}")]
    NoBase {
        /// The rig.
        rig: RigName,
        /// The branch that workers begin on.
        branch: String,
    },
    /// Something is in the place of the worktree, or git has one recorded there.
    #[error("{} is there already", .0.display())]
    Exists(PathBuf),
    /// There is nothing of the worker.
    #[error("rig {rig} has no worktree of a polecat {name}")]
    Absent {
        /// The rig.
        rig: RigName,
        /// The worker.
        name: AgentName,
    },
    /// The branch is there.
    #[error("the branch {0} is there already")]
    BranchExists(String),
    /// Work would be lost.
    #[error("polecat {name} of rig {rig} has work that would be lost: {summary}")]
    Work {
        /// The rig.
        rig: RigName,
        /// The worker.
        name: AgentName,
        /// `2 uncommitted change(s), 1 unpushed commit(s)`, and what else stands against it.
        summary: String,
    },
    /// What is there cannot be judged: it counts as work.
    #[error("it is not known whether polecat {name} of rig {rig} has work that would be lost: {why}")]
    Unknown {
        /// The rig.
        rig: RigName,
        /// The worker.
        name: AgentName,
        /// What is wrong with it.
        why: String,
    },
    /// A link in the place of a directory: what is behind it is not ours.
    #[error("{} is a symbolic link, and is left alone", .0.display())]
    Link(PathBuf),
    /// What should be a directory is something else.
    #[error("{} is no directory", .0.display())]
    NoDirectory(PathBuf),
    /// Others are at the repository for too long.
    #[error("the repository of rig {0} is in use by another operation")]
    Busy(RigName),
    /// git failed.
    #[error("{}: {}", git.command, git.said())]
    Git {
        /// The command and what it said.
        #[from]
        git: GitError,
    },
    /// The system refused.
    #[error("{what} {}: {source}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Ended at a step, for a test.
    #[cfg(test)]
    #[error("ended at {0}")]
    Ended(&'static str),
}

/// Puts a system's error into its context.
pub(super) fn io_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> TreeError {
    let path = path.to_owned();
    move |source| TreeError::Io { what, path, source }
}

impl TreeError {
    /// The kind of error that it is on the wire.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NoRepository { .. } | Self::NoBase { .. } | Self::Git { .. } => ErrorKind::Git,
            Self::Exists(_) | Self::BranchExists(_) => ErrorKind::NameTaken,
            Self::Absent { .. } => ErrorKind::AgentNotFound,
            Self::Work { .. } | Self::Unknown { .. } => ErrorKind::UncommittedWork,
            Self::Link(_) | Self::NoDirectory(_) => ErrorKind::Protected,
            Self::Busy(_) => ErrorKind::Busy,
            Self::Io { .. } => ErrorKind::Internal,
            #[cfg(test)]
            Self::Ended(_) => ErrorKind::Internal,
        }
    }

    /// What helps.
    fn hint(&self) -> Option<String> {
        // Of a file that it checks out git does not say why.
        let full = |text: &str| text.contains("No space left") || text.contains("unable to write file");
        match self {
            Self::NoRepository { rig } => Some(format!("gtctl rig status {rig}")),
            Self::NoBase { rig, .. } => Some(format!("set default_branch in {rig}/config.json")),
            Self::Exists(_) => Some("choose another name, or remove that polecat first".to_owned()),
            Self::Work { rig, name, .. } => Some(format!(
                "push and merge it, or: gtctl polecat remove {rig}/polecats/{name} --force (it is archived first)"
            )),
            Self::Unknown { rig, name, .. } => Some(format!(
                "look at it, or: gtctl polecat remove {rig}/polecats/{name} --force (what cannot be archived is moved aside)"
            )),
            Self::Link(_) | Self::NoDirectory(_) => Some("remove it by hand if it is not needed".to_owned()),
            Self::Git { git } if git.why.starts_with("cannot be started") => {
                Some("install git, or put it on the PATH of gtd".to_owned())
            }
            Self::Git { git } if full(&git.stderr) => Some("df -h".to_owned()),
            Self::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                Some("df -h".to_owned())
            }
            _ => None,
        }
    }
}

impl From<TreeError> for RpcError {
    fn from(error: TreeError) -> Self {
        let mut refusal = Self::new(error.kind(), error.to_string());
        refusal.hint = error.hint();
        match error {
            TreeError::Work { summary, .. } => refusal.with("summary", summary),
            TreeError::Unknown { why, .. } => refusal.with("summary", why).with("unknown", true),
            TreeError::Git { git } => refusal.with("command", git.command).with("stderr", git.stderr),
            _ => refusal,
        }
    }
}
