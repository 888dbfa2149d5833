//! Moving aside what git cannot keep: a worktree that is broken, or that has a repository of its own within it.
//!
//! Must never remove anything: what is here, only a person removes.

use std::fs;
use std::path::Path;

use gtd_proto::{AgentName, Timestamp};

use super::archive;
use super::error::{TreeError, io_error};
use super::look::{self, Admin, Look, Place};
use super::remove::{Removed, rename, unlist, unrecord};
use super::trees::{Repo, Trees};

/// Begins the names of directories of what could not be kept: also beside the workers', as deep as they were, so that
/// what leads out of them still does.
const ASIDE: &str = ".gtd-aside-";
impl Trees {
    /// Moves a worker's directory, with what git keeps of it, to where nobody but a person removes it.
    pub(super) async fn set_aside(
        &self,
        repo: &Repo,
        name: &AgentName,
        found: &Look,
        at: Timestamp,
        mut removed: Removed,
        (why, within): (String, &[String]),
    ) -> Result<Removed, TreeError> {
        let to = repo.home.join("polecats").join(format!("{ASIDE}{name}@{}", archive::stamp(at)));
        tracing::warn!(rig = %repo.rig, polecat = %name, to = %to.display(), %why, "moved aside");
        if found.place == Place::Absent {
            fs::create_dir(&to).map_err(io_error("cannot make", &to))?;
        } else {
            rename(&found.dir, &to)?;
        }
        self.step("moved aside")?;
        match &found.place {
            // It goes on as a worktree of the repository, at another place.
            Place::Tree(admin) => {
                let path = match admin.path.strip_prefix(&found.dir) {
                    Ok(below) => to.join(below),
                    Err(_) => to.clone(),
                };
                let file = admin.dir.join("gitdir");
                let text = format!("{}\n", path.join(".git").display());
                crate::host::files::write_atomic(&file, text.as_bytes(), 0o644)
                    .map_err(io_error("cannot write", &file))?;
                for admin in &found.stale {
                    unrecord(admin, Some(&to))?;
                }
                lead_back(repo, admin, &path, within).await;
            }
            _ => unlist(found, Some(&to))?,
        }
        removed.aside = Some(to);
        removed.why = Some(why);
        Ok(removed)
    }
}

/// Tells the submodules of a worktree that was moved where they are now. Their commits are safe without.
async fn lead_back(repo: &Repo, admin: &Admin, path: &Path, within: &[String]) {
    for name in within {
        let place = path.join(name);
        let kept = look::pointed_at(&place).ok().and_then(|kept| kept.canonicalize().ok());
        if let (Some(kept), Some(place)) = (kept, place.to_str())
            && kept.starts_with(&admin.dir)
        {
            let file = kept.join("config");
            let args = ["config", "--file", &file.to_string_lossy(), "core.worktree", place];
            let _ = repo.run(&args).await;
        }
    }
}
