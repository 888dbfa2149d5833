//! The files of a service: what should be in them, what is there, and the steps between.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::failure::Failure;

/// What every file that we write says of itself; one that does not is somebody else's.
const OURS: &str = "gtctl daemon install";

/// A file as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Where.
    pub path: PathBuf,
    /// All of it.
    pub text: String,
    /// What it is for.
    pub why: &'static str,
}

/// What is to be done about a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It is not there.
    Make,
    /// It says something else, which an earlier version of ours wrote.
    Replace,
    /// It is as it should be.
    Keep,
}

impl File {
    /// Compares with what is there.
    ///
    /// # Errors
    /// When there is a file that we have not written, or that cannot be read.
    pub fn change(&self) -> Result<Change, Failure> {
        let path = self.path.display();
        match std::fs::read_to_string(&self.path) {
            Ok(text) if text == self.text => Ok(Change::Keep),
            Ok(text) if text.contains(OURS) => Ok(Change::Replace),
            Ok(_) => Err(Failure::refused(format!("{path} is there and was not written by gtctl"))
                .hint(format!("move it away: mv {path} {path}.mine"))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Change::Make),
            Err(error) => Err(Failure::failed(format!("cannot read {path}: {error}"))),
        }
    }

    /// Writes it in one step.
    ///
    /// # Errors
    /// When the directory or the file cannot be made.
    pub fn write(&self) -> Result<(), Failure> {
        let write = || -> io::Result<()> {
            let dir = self.path.parent().ok_or(io::ErrorKind::InvalidInput)?;
            std::fs::create_dir_all(dir)?;
            let mut fresh = tempfile::NamedTempFile::new_in(dir)?;
            io::Write::write_all(&mut fresh, self.text.as_bytes())?;
            fresh.as_file().set_permissions(std::fs::Permissions::from_mode(0o644))?;
            fresh.persist(&self.path).map_err(|error| error.error)?;
            Ok(())
        };
        write().map_err(|error| Failure::failed(format!("cannot write {}: {error}", self.path.display())))
    }
}

/// Whether a file is there and was written by us. What cannot be read counts as not ours.
#[must_use]
pub fn is_ours(path: &Path) -> bool {
    std::fs::read_to_string(path).is_ok_and(|text| text.contains(OURS))
}

/// Removes a file; that it is not there is fine. Its directory goes too when it is `.d` and empty.
///
/// # Errors
/// When it cannot be removed.
pub fn remove(path: &Path) -> Result<(), Failure> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(Failure::failed(format!("cannot remove {}: {error}", path.display())));
        }
        _ => {}
    }
    if let Some(dir) = path.parent().filter(|dir| dir.extension().is_some_and(|end| end == "d")) {
        // What the user put there stays, and then so does the directory.
        let _ = std::fs::remove_dir(dir);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_is_replaced_and_somebody_elses_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.d/gtd.conf");
        let file = |more: &str| File { path: path.clone(), text: format!("# {OURS}\n{more}"), why: "" };
        assert_eq!(file("a").change().unwrap(), Change::Make);
        file("a").write().unwrap();
        assert_eq!(file("a").change().unwrap(), Change::Keep);
        assert_eq!(file("b").change().unwrap(), Change::Replace);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
        std::fs::write(&path, "mine").unwrap();
        assert!(file("a").change().is_err() && !is_ours(&path));
        // Only our own file is looked for by its name, and its directory stays while something is in it.
        let theirs = path.with_file_name("override.conf");
        std::fs::write(&theirs, "mine").unwrap();
        remove(&path).unwrap();
        assert!(theirs.exists());
        std::fs::remove_file(&theirs).unwrap();
        remove(&path).unwrap();
        assert!(!path.parent().unwrap().exists() && dir.path().exists());
    }
}
