//! The identity of a town, in `daemon/town-id`.
//!
//! A town's processes carry it, so two directories must never share one: it is bound to the device and
//! inode of the root, and a copied or moved town gets a new one. Must be called with `daemon/daemon.lock`
//! held: two callers at once would each make an id.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;

use gtd_proto::TownId;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::file;
use super::layout::Layout;

/// What the file says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    id: TownId,
    dev: u64,
    ino: u64,
    /// The id that the directory's ledger still speaks of: until that is dealt with, each start has to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    copied_from: Option<TownId>,
}

/// How a town came by its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// It had it.
    Kept,
    /// It had none.
    Made,
    /// The directory was copied or moved: its file names another one's id.
    CopiedFrom(TownId),
    /// The file was unreadable as text; it was put aside as `town-id.bad`.
    Repaired,
}

/// The identity of a town.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Its id.
    pub id: TownId,
    /// Where the id comes from.
    pub origin: Origin,
}

impl Identity {
    /// The id that the directory's files and processes carry from an earlier life elsewhere.
    #[must_use]
    pub fn copied_from(&self) -> Option<&TownId> {
        match &self.origin {
            Origin::CopiedFrom(id) => Some(id),
            _ => None,
        }
    }
}

/// An id that can neither be read nor made.
#[derive(Debug, thiserror::Error)]
#[error("town id {}: {what}", path.display())]
pub struct TownIdError {
    /// The file.
    pub path: std::path::PathBuf,
    /// What went wrong.
    pub what: String,
}

/// Reads the id of a town, and makes one where there is none or where it is another directory's.
///
/// # Errors
/// When the file cannot be read (not when its content is broken), or a new one not be written.
pub fn ensure(layout: &Layout) -> Result<Identity, TownIdError> {
    let path = layout.town_id();
    let fail = |what: String| TownIdError { path: path.clone(), what };
    let root = fs::metadata(layout.root()).map_err(|error| fail(format!("root: {error}")))?;
    let origin = match file::read(&path).map_err(&fail)? {
        None => Origin::Made,
        Some(bytes) => match serde_json::from_slice::<Record>(&bytes) {
            Ok(record) if record.dev == root.dev() && record.ino == root.ino() => {
                let origin = record.copied_from.map_or(Origin::Kept, Origin::CopiedFrom);
                return Ok(Identity { id: record.id, origin });
            }
            // Copied twice without having run in between: the ledger speaks of the first.
            Ok(record) => Origin::CopiedFrom(record.copied_from.unwrap_or(record.id)),
            Err(_) => {
                fs::rename(&path, path.with_file_name("town-id.bad"))
                    .map_err(|error| fail(format!("cannot be put aside: {error}")))?;
                Origin::Repaired
            }
        },
    };
    let copied_from = match &origin {
        Origin::CopiedFrom(id) => Some(id.clone()),
        _ => None,
    };
    let record = Record { id: TownId::generate(), dev: root.dev(), ino: root.ino(), copied_from };
    write(layout, &record).map_err(|error| fail(format!("cannot be written: {error}")))?;
    Ok(Identity { id: record.id, origin })
}

/// To be called when the ledger of a copied town no longer has the other one's agents as running: a daemon that
/// ends before that leaves the next one to find the town copied again.
///
/// # Errors
/// When the file cannot be written; then the next start finds it copied again, which costs an `up`.
pub fn settle(layout: &Layout, identity: &Identity) -> Result<(), TownIdError> {
    if identity.copied_from().is_none() {
        return Ok(());
    }
    let path = layout.town_id();
    let fail = |what: String| TownIdError { path: path.clone(), what };
    let root = fs::metadata(layout.root()).map_err(|error| fail(format!("root: {error}")))?;
    let record = Record { id: identity.id.clone(), dev: root.dev(), ino: root.ino(), copied_from: None };
    write(layout, &record).map_err(|error| fail(format!("cannot be written: {error}")))
}

/// Reads the id without making one: none when there is none, or when it is another directory's.
///
/// # Errors
/// When the file cannot be read.
pub fn read(layout: &Layout) -> Result<Option<TownId>, TownIdError> {
    let path = layout.town_id();
    let fail = |what: String| TownIdError { path: path.clone(), what };
    let root = fs::metadata(layout.root()).map_err(|error| fail(format!("root: {error}")))?;
    let Some(bytes) = file::read(&path).map_err(&fail)? else { return Ok(None) };
    let record: Record = serde_json::from_slice(&bytes).map_err(|error| fail(error.to_string()))?;
    Ok((record.dev == root.dev() && record.ino == root.ino()).then_some(record.id))
}

fn write(layout: &Layout, record: &Record) -> io::Result<()> {
    if let Err(error) = super::init::make_private(&layout.daemon_dir())
        && error.kind() != io::ErrorKind::AlreadyExists
    {
        return Err(error);
    }
    let value: Value = serde_json::to_value(record)?;
    file::replace(&layout.town_id(), &file::pretty(&value), 0o600)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn town() -> (tempfile::TempDir, Layout) {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::at(dir.path()).unwrap();
        (dir, layout)
    }

    #[test]
    fn the_id_is_made_once() {
        let (_dir, layout) = town();
        assert_eq!(read(&layout).unwrap(), None);
        let first = ensure(&layout).unwrap();
        assert_eq!(first.origin, Origin::Made);
        let again = ensure(&layout).unwrap();
        assert_eq!((again.id.clone(), again.origin), (first.id, Origin::Kept));
        assert_eq!(read(&layout).unwrap(), Some(again.id));
    }

    #[test]
    fn a_copied_town_gets_its_own_id() {
        let (_dir, one) = town();
        let (_other, two) = town();
        let id = ensure(&one).unwrap().id;
        fs::create_dir_all(two.daemon_dir()).unwrap();
        fs::copy(one.town_id(), two.town_id()).unwrap();
        assert_eq!(read(&two).unwrap(), None);
        let copy = ensure(&two).unwrap();
        assert_eq!(copy.copied_from(), Some(&id));
        assert_ne!(copy.id, id);
        // Until that is dealt with it stays so, under the same new id; and it stays so for a copy of the copy.
        assert_eq!(ensure(&two).unwrap(), copy);
        let (_third, three) = town();
        fs::create_dir_all(three.daemon_dir()).unwrap();
        fs::copy(two.town_id(), three.town_id()).unwrap();
        assert_eq!(ensure(&three).unwrap().copied_from(), Some(&id));
        settle(&two, &copy).unwrap();
        assert_eq!(ensure(&two).unwrap(), Identity { id: copy.id, origin: Origin::Kept });
        settle(&one, &ensure(&one).unwrap()).unwrap();
        assert_eq!(ensure(&one).unwrap().id, id);
    }

    #[test]
    fn a_broken_file_is_put_aside_and_an_unreadable_one_is_an_error() {
        let (_dir, layout) = town();
        fs::create_dir_all(layout.daemon_dir()).unwrap();
        fs::write(layout.town_id(), "{").unwrap();
        assert_eq!(ensure(&layout).unwrap().origin, Origin::Repaired);
        assert_eq!(fs::read(layout.daemon_dir().join("town-id.bad")).unwrap(), b"{");
        fs::remove_file(layout.town_id()).unwrap();
        fs::create_dir(layout.town_id()).unwrap();
        assert!(ensure(&layout).is_err());
    }
}
