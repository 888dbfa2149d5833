//! Which `bd` there is: the two generations take different options.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::work::Why;

/// The oldest version whose output is known.
const OLDEST: Version = Version(0, 43, 0);
/// From here on there is no SQLite file and no daemon of its own, and their options are errors.
const DOLT: Version = Version(0, 50, 0);

/// A version of the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32, pub u32, pub u32);

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

/// A generation of the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Generation {
    /// 0.4x: SQLite and JSONL, a daemon of its own, agents with slots.
    Sqlite,
    /// From 0.50, above all 1.x: Dolt, no agents.
    Dolt,
}

impl Version {
    /// Out of `bd version 0.47.1 (dev)`, wherever in a text that stands.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (_, rest) = text.split_once("bd version ")?;
        let word = rest.split_whitespace().next()?.trim_start_matches('v');
        let mut parts = word.split(['.', '-', '+']).map(|part| part.parse().ok());
        Some(Self(parts.next()??, parts.next()??, parts.next().flatten().unwrap_or(0)))
    }

    /// Its generation.
    ///
    /// # Errors
    /// [`Why::Version`] when it is too old to be known.
    pub fn generation(self) -> Result<Generation, Why> {
        match self {
            version if version < OLDEST => {
                Err(Why::Version(format!("bd {version} is older than {OLDEST}, the oldest that is known")))
            }
            version if version < DOLT => Ok(Generation::Sqlite),
            _ => Ok(Generation::Dolt),
        }
    }
}

/// What tells a program's file from another one in the same place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp {
    path: PathBuf,
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

impl Stamp {
    /// Of a file.
    ///
    /// # Errors
    /// When it cannot be looked at.
    pub fn of(path: &Path) -> Result<Self, Why> {
        let found = std::fs::metadata(path)
            .map_err(|error| Why::Broken(format!("{} cannot be looked at: {error}", path.display())))?;
        Ok(Self {
            path: path.to_owned(),
            inode: found.ino(),
            size: found.size(),
            changed: (found.mtime(), found.mtime_nsec()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_and_their_generations() {
        let generation = |text: &str| Version::parse(text).map(Version::generation);
        assert_eq!(Version::parse("bd version 0.47.1 (dev)\n"), Some(Version(0, 47, 1)));
        assert_eq!(Version::parse("Warning: x\nbd version v1.0.5-rc1 (abc)"), Some(Version(1, 0, 5)));
        assert_eq!(generation("bd version 0.49.9"), Some(Ok(Generation::Sqlite)));
        assert_eq!(generation("bd version 1.0.0"), Some(Ok(Generation::Dolt)));
        assert!(matches!(generation("bd version 0.20.1"), Some(Err(Why::Version(_)))));
        for odd in ["", "bd version", "bd version x.y", "version 1.0.0", "bd version 1"] {
            assert_eq!(Version::parse(odd), None, "{odd}");
        }
    }
}
