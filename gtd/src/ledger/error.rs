//! What can go wrong with the store.

use std::time::Duration;

use rusqlite::ErrorCode;

/// A request that the ledger did not fulfil. Nothing of the request is in the ledger, unless said otherwise.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LedgerError {
    /// The store did not answer in time: the disk hangs, or is very slow.
    #[error("the ledger did not answer within {after:?}{}", if *.begun { "; the write may yet happen" } else { "; nothing was written" })]
    Timeout {
        /// The deadline that ran out.
        after: Duration,
        /// The write had begun, so that it is not known whether it will be there. When false it will never be.
        begun: bool,
    },
    /// No space. Each later request tries anew.
    #[error("the disk of the ledger is full")]
    DiskFull,
    /// The operating system refused or failed: read-only, no permission, an I/O error.
    #[error("the ledger cannot be used: {0}")]
    Io(String),
    /// Another program holds a lock on the file for longer than we wait.
    #[error("the ledger is locked by another program: {0}")]
    Busy(String),
    /// The file's content is damaged, or is not what this version wrote.
    #[error("the ledger is damaged: {0}")]
    Damaged(String),
    /// The file is of a later version; it was not touched.
    #[error("{0}")]
    Newer(String),
    /// A value cannot be stored, or a stored one cannot be read.
    #[error("{what} does not fit into the ledger: {why}")]
    Value {
        /// Which value.
        what: &'static str,
        /// Why not.
        why: String,
    },
    /// A mailbox takes no more before somebody reads what is in it.
    #[error("the mailbox of {whose} is full: {unread} unread")]
    BoxFull {
        /// Whose it is.
        whose: String,
        /// How many mails in it nobody has read.
        unread: u64,
    },
    /// The ledger was closed, or its thread has ended.
    #[error("the ledger is closed")]
    Closed,
}

impl LedgerError {
    /// Whether the file itself is at fault and must be set aside, as opposed to the disk, its rights or its locks.
    pub(super) fn is_damage(&self) -> bool {
        matches!(self, Self::Damaged(_) | Self::Value { .. })
    }

    pub(super) fn value(what: &'static str, why: impl ToString) -> Self {
        Self::Value { what, why: why.to_string() }
    }
}

impl From<rusqlite::Error> for LedgerError {
    fn from(error: rusqlite::Error) -> Self {
        let code = match &error {
            rusqlite::Error::SqlInputError { error, .. } => Some(error.code),
            other => other.sqlite_error_code(),
        };
        match code {
            Some(ErrorCode::DiskFull) => Self::DiskFull,
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Busy(error.to_string()),
            // A missing table or column is reported as an SQL error: the file is not what we wrote.
            Some(
                ErrorCode::DatabaseCorrupt
                | ErrorCode::NotADatabase
                | ErrorCode::SchemaChanged
                | ErrorCode::TypeMismatch
                | ErrorCode::ConstraintViolation
                | ErrorCode::Unknown,
            ) => Self::Damaged(error.to_string()),
            Some(_) => Self::Io(error.to_string()),
            None => Self::Damaged(error.to_string()),
        }
    }
}
