//! Whether a file's name still means the file that we made: by device and inode, never by what is in it.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A file of ours, and the name that others know it by.
#[derive(Clone, Debug)]
pub struct Named {
    path: PathBuf,
    device: u64,
    inode: u64,
}

/// What a look at the name finds.
#[derive(Debug)]
pub enum Sight {
    /// Our file.
    InPlace,
    /// Nothing.
    Gone,
    /// Another file.
    Replaced,
    /// That cannot be told. Nothing follows from it.
    Unknown(io::Error),
}

impl Named {
    /// The file that has this name now.
    ///
    /// # Errors
    /// When it cannot be looked at.
    pub fn at(path: &Path) -> io::Result<Self> {
        Ok(Self::by(&fs::metadata(path)?, path))
    }

    /// An open file under its name.
    #[must_use]
    pub fn by(file: &fs::Metadata, path: &Path) -> Self {
        Self { path: path.to_owned(), device: file.dev(), inode: file.ino() }
    }

    /// Its name.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Looks at the name. It reads the disk.
    #[must_use]
    pub fn look(&self) -> Sight {
        match fs::metadata(&self.path) {
            Ok(found) if (found.dev(), found.ino()) == (self.device, self.inode) => Sight::InPlace,
            Ok(_) => Sight::Replaced,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Sight::Gone,
            Err(error) => Sight::Unknown(error),
        }
    }

    /// Takes the name away, if it still is our file's. True when it was.
    pub fn remove(&self) -> bool {
        // Not through a link that somebody has put there.
        let own = fs::symlink_metadata(&self.path)
            .is_ok_and(|found| (found.dev(), found.ino()) == (self.device, self.inode));
        own && fs::remove_file(&self.path).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_told_from_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        fs::write(&path, "").unwrap();
        let named = Named::at(&path).unwrap();
        assert!(matches!(named.look(), Sight::InPlace));
        // Moved, with a link in its place: whoever follows that finds it.
        let moved = dir.path().join("y");
        fs::rename(&path, &moved).unwrap();
        assert!(matches!(named.look(), Sight::Gone));
        std::os::unix::fs::symlink(&moved, &path).unwrap();
        assert!(matches!(named.look(), Sight::InPlace));
        assert!(!named.remove(), "the link is not ours");
        fs::remove_file(&path).unwrap();
        fs::write(&path, "").unwrap();
        assert!(matches!(named.look(), Sight::Replaced));
        assert!(!named.remove() && path.exists());
        fs::remove_file(&path).unwrap();
        fs::rename(&moved, &path).unwrap();
        assert!(named.remove() && !path.exists());
        // What is no directory cannot be looked through.
        let below = Named { path: dir.path().join("f/x"), ..named };
        fs::write(dir.path().join("f"), "").unwrap();
        assert!(matches!(below.look(), Sight::Unknown(_)));
    }
}
