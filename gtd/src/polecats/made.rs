//! Whether a worktree that was planned is there, whole.

use super::add::NewTree;
use super::error::TreeError;
use super::look::{self, Place};
use super::trees::Trees;
use super::undo::{marked, ours};

impl Trees {
    /// Whether what [`Trees::add`] makes is there, to its last step. Only looks.
    ///
    /// # Errors
    /// When it cannot be looked at.
    pub async fn is_made(&self, new: &NewTree) -> Result<bool, TreeError> {
        let repo = self.repo(&new.rig).await?;
        let found = look::look(&repo, &new.name)?;
        match &found.place {
            Place::Tree(admin) => Ok(ours(admin, new)? && !marked(&found, new)?),
            Place::Absent | Place::Bare | Place::Broken(_) => Ok(false),
        }
    }
}
