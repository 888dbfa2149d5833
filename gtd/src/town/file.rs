//! Reading other programs' files and replacing our own.
//!
//! Owns the difference between *missing*, *unreadable* and *there*, and what is kept when a file goes bad.
//! Must never read an error as an empty file, and never leave half a file behind.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Longest file of a town that is read whole. A registry of a thousand rigs has some 300 KB.
const READ_MAX: u64 = 64 << 20;

/// What a file says, as far as it is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Known<T> {
    /// It was read.
    Good(T),
    /// It cannot be read now; this is what it said last.
    Kept {
        /// The last good value.
        value: T,
        /// Why it cannot be read now.
        error: String,
    },
    /// It was never read: neither empty nor absent.
    Unknown {
        /// Why.
        error: String,
    },
}

impl<T> Known<T> {
    /// The present or the last good value.
    pub fn value(&self) -> Option<&T> {
        match self {
            Self::Good(value) | Self::Kept { value, .. } => Some(value),
            Self::Unknown { .. } => None,
        }
    }

    /// Why the file cannot be read now.
    pub fn error(&self) -> Option<&str> {
        match self {
            Self::Good(_) => None,
            Self::Kept { error, .. } | Self::Unknown { error } => Some(error),
        }
    }
}

impl<T: Clone> Known<T> {
    /// A fresh reading, with what was known before for the case that it failed.
    pub fn settle(read: Result<T, String>, previous: Option<&Self>) -> Self {
        match (read, previous.and_then(Known::value)) {
            (Ok(value), _) => Self::Good(value),
            (Err(error), Some(value)) => Self::Kept { value: value.clone(), error },
            (Err(error), None) => Self::Unknown { error },
        }
    }
}

/// Reads a file whole: none when there is none.
///
/// # Errors
/// What the system said, or that the file is longer than 64 MiB. Not for a missing file.
pub fn read(path: &Path) -> Result<Option<Vec<u8>>, String> {
    let open = fs::OpenOptions::new().read(true).custom_flags(nonblock()).open(path);
    let file = match open {
        Ok(file) => file,
        Err(error) if absent(&error) => return Ok(None),
        Err(error) => return Err(format!("cannot be opened: {error}")),
    };
    // A pipe or a device in place of a file would be waited for, or never end.
    match file.metadata() {
        Ok(meta) if meta.is_file() => {}
        Ok(_) => return Err("is not a regular file".to_owned()),
        Err(error) => return Err(format!("cannot be looked at: {error}")),
    }
    let mut bytes = Vec::new();
    file.take(READ_MAX + 1).read_to_end(&mut bytes).map_err(|error| format!("cannot be read: {error}"))?;
    if bytes.len() as u64 > READ_MAX {
        return Err(format!("is longer than {} MiB", READ_MAX >> 20));
    }
    Ok(Some(bytes))
}

/// `O_NONBLOCK`, so that opening a pipe returns.
fn nonblock() -> i32 {
    i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or(0)
}

/// Whether an error means that there is no such file: also when a directory of its path is something else.
pub(super) fn absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Reads a JSON object: none when there is no file.
///
/// # Errors
/// As [`read`], or what is wrong with the JSON, with its place. An empty file is an error: it is what a
/// writer leaves for a moment.
pub fn read_object(path: &Path) -> Result<Option<serde_json::Map<String, Value>>, String> {
    let Some(bytes) = read(path)? else { return Ok(None) };
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    if text.iter().all(u8::is_ascii_whitespace) {
        return Err("is empty".to_owned());
    }
    match serde_json::from_slice::<Value>(text) {
        Ok(Value::Object(map)) => Ok(Some(map)),
        Ok(_) => Err("is not a JSON object".to_owned()),
        Err(error) => Err(format!("is not JSON: {error}")),
    }
}

/// Replaces a file: whoever reads it finds the old or the new content, also after a crash. A symbolic link
/// is followed; the mode of an existing file is kept, a new one gets `mode`.
///
/// # Errors
/// What the system said; the old file is then still there.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let target = match fs::canonicalize(path) {
        Ok(target) => target,
        Err(error) if error.kind() == io::ErrorKind::NotFound => path.to_owned(),
        Err(error) => return Err(error),
    };
    let mode = fs::metadata(&target).map_or(mode, |meta| meta.mode() & 0o777);
    let dir = target.parent().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    let temporary = temporary(&target);
    let written = (|| {
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, &target)?;
        fs::File::open(dir)?.sync_all()
    })();
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// A name beside the target that nobody else uses, and that readers of the directory pass over.
fn temporary(target: &Path) -> PathBuf {
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    target.with_file_name(format!(".{name}.{}.tmp", uuid::Uuid::new_v4().simple()))
}

/// JSON as the files of a town are written: indented by two, with a newline at the end.
pub(super) fn pretty(value: &Value) -> Vec<u8> {
    format!("{value:#}\n").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_unreadable_and_there_are_three_things() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("x.json");
        assert_eq!(read_object(&file), Ok(None));
        assert_eq!(read_object(&file.join("below")), Ok(None));
        fs::write(&file, "").unwrap();
        assert_eq!(read_object(&file), Err("is empty".to_owned()));
        fs::write(&file, "{\"a\":").unwrap();
        assert!(read_object(&file).unwrap_err().contains("not JSON"));
        fs::write(&file, "[]").unwrap();
        assert!(read_object(&file).is_err());
        fs::write(&file, "\u{feff}{\"a\":1}").unwrap();
        assert_eq!(read_object(&file).unwrap().unwrap().len(), 1);
        assert!(read(dir.path()).is_err(), "a directory is not a file");
    }

    #[test]
    fn a_pipe_in_place_of_a_file_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
        assert!(made.success());
        assert_eq!(read(&pipe), Err("is not a regular file".to_owned()));
    }

    #[test]
    fn a_replaced_file_keeps_its_mode_and_its_link() {
        let dir = tempfile::tempdir().unwrap();
        let (real, link) = (dir.path().join("real"), dir.path().join("link"));
        replace(&real, b"one", 0o600).unwrap();
        assert_eq!(fs::metadata(&real).unwrap().mode() & 0o777, 0o600);
        std::os::unix::fs::symlink(&real, &link).unwrap();
        replace(&link, b"two", 0o644).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read(&real).unwrap(), b"two");
        assert_eq!(fs::metadata(&real).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "nothing else is left");
    }

    #[test]
    fn a_failed_replacement_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("taken")).unwrap();
        assert!(replace(&dir.path().join("taken"), b"x", 0o600).is_err());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
