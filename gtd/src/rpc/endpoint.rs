//! Where the socket is, and making it.
//!
//! The choice of the path is pure. The effects are careful: a directory that others could write to is
//! refused, a file that is no socket is never removed, and a socket that was left behind is replaced only by
//! who holds the daemon's lock.

use std::io;
use std::marker::PhantomData;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use gtd_proto::TownId;
use rustix::process::{Uid, geteuid};

use super::listener::Listening;
use crate::host::named::Named;

/// Longest path of a socket in bytes: `sun_path` less its final zero.
#[cfg(target_os = "linux")]
const PATH_MAX: usize = 107;
/// Longest path of a socket in bytes: `sun_path` less its final zero.
#[cfg(not(target_os = "linux"))]
const PATH_MAX: usize = 103;

/// The socket's name in its directory.
const NAME: &str = "gtd.sock";

/// Proof that the caller holds the daemon's lock of its town: only then is a socket found on disk a leftover.
#[derive(Debug, Clone, Copy)]
pub struct HoldsLock<'a>(PhantomData<&'a ()>);

impl<'a> HoldsLock<'a> {
    /// Says that this value is the held lock; the proof lives no longer than it.
    #[must_use]
    pub fn by<L>(_lock: &'a L) -> Self {
        Self(PhantomData)
    }
}

/// A place for the socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The socket's path, short enough to be bound.
    pub path: PathBuf,
    /// Directories to be made, outermost first, that nobody else may enter or own.
    private: Vec<PathBuf>,
}

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// A directory for the socket could be used by others.
    #[error("the directory {path:?} for the socket {why}; remove it, or make it yours alone (chmod 700)")]
    Unsafe {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Something else is where the socket should be.
    #[error("{path:?} is there and is no socket; move it away")]
    NotASocket {
        /// The file.
        path: PathBuf,
    },
    /// Somebody answers at a path that our lock does not cover, such as the daemon of a copied town.
    #[error(
        "another process listens at {path:?}; if the town was copied, remove daemon/town-id from the copy"
    )]
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// The system refused.
    #[error("cannot {what} {path:?}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
}

impl Endpoint {
    /// The places for a town's socket, best first: in the town; when that path is too long, in the user's
    /// runtime directory; when there is none, in `/tmp`. Never empty, and every path can be bound.
    ///
    /// `runtime_dir` is `$XDG_RUNTIME_DIR`; one that is relative is ignored, as its specification demands.
    #[must_use]
    pub fn candidates(town: &Path, town_id: &TownId, runtime_dir: Option<&Path>, user: Uid) -> Vec<Self> {
        let fits = |path: &Path| path.as_os_str().len() <= PATH_MAX;
        let in_town = town.join("daemon").join(NAME);
        if fits(&in_town) {
            return vec![Self { path: in_town, private: Vec::new() }];
        }
        let below = |base: PathBuf| {
            let own = base.join(town_id.as_str());
            Self { path: own.join(NAME), private: vec![base, own] }
        };
        let runtime = runtime_dir.filter(|dir| dir.is_absolute()).map(|dir| below(dir.join("gtd")));
        let tmp = below(PathBuf::from(format!("/tmp/gtd-{}", user.as_raw())));
        runtime.into_iter().filter(|place| fits(&place.path)).chain([tmp]).collect()
    }

    /// Makes the socket at the first place that can be used.
    ///
    /// # Errors
    /// When none can: that of the last place.
    pub fn bind_first(candidates: &[Self], lock: HoldsLock<'_>) -> Result<Listening, EndpointError> {
        let mut last = None;
        for place in candidates {
            match place.bind(lock) {
                Ok(listening) => return Ok(listening),
                Err(error @ EndpointError::InUse { .. }) => return Err(error),
                Err(error) => {
                    tracing::warn!(path = %place.path.display(), %error, "the socket cannot be here");
                    last = Some(error);
                }
            }
        }
        Err(last.unwrap_or_else(|| EndpointError::Io {
            what: "find a place for the socket",
            path: PathBuf::new(),
            source: io::ErrorKind::NotFound.into(),
        }))
    }

    /// Makes the directories and the socket, mode 0600, in place of one that was left behind.
    ///
    /// # Errors
    /// [`EndpointError`]; nothing was removed then, except a socket nobody listens at.
    pub fn bind(&self, _lock: HoldsLock<'_>) -> Result<Listening, EndpointError> {
        let io = |what, path: &Path| {
            let path = path.to_owned();
            move |source| EndpointError::Io { what, path, source }
        };
        for directory in &self.private {
            make_private(directory)?;
        }
        if let Some(directory) = self.path.parent().filter(|_| self.private.is_empty()) {
            make_in_town(directory)?;
        }
        self.clear()?;
        let listener = UnixListener::bind(&self.path).map_err(io("bind the socket", &self.path))?;
        // For an instant others might connect, where the directory lets them: who they are is looked at
        // when they do.
        let mode = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(&self.path, mode).map_err(io("restrict the socket", &self.path))?;
        let file = Named::at(&self.path).map_err(io("look at the socket", &self.path))?;
        Ok(Listening { listener, file: Some(file) })
    }

    /// Removes a socket that was left behind.
    fn clear(&self) -> Result<(), EndpointError> {
        let path = || self.path.clone();
        let meta = match std::fs::symlink_metadata(&self.path) {
            Ok(meta) => meta,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(source) => return Err(EndpointError::Io { what: "look at", path: path(), source }),
        };
        if !meta.file_type().is_socket() {
            return Err(EndpointError::NotASocket { path: path() });
        }
        // In the town the lock lies beside the socket and speaks for it. Elsewhere the path is made of the
        // town's id, which a copied town shares with its original.
        if !self.private.is_empty() && UnixStream::connect(&self.path).is_ok() {
            return Err(EndpointError::InUse { path: path() });
        }
        match std::fs::remove_file(&self.path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(EndpointError::Io { what: "remove the old socket", path: path(), source })
            }
            _ => Ok(()),
        }
    }
}

/// The town's own directory: it holds the ledger too, so its owner's judgement of it is trusted, short of
/// letting everybody in.
fn make_in_town(directory: &Path) -> Result<(), EndpointError> {
    let meta = make(directory)?;
    if meta.mode() & 0o002 != 0 {
        let why = "can be written to by everybody";
        return Err(EndpointError::Unsafe { path: directory.to_owned(), why });
    }
    Ok(())
}

/// A directory in a place that others may write to: ours alone, or not used.
fn make_private(directory: &Path) -> Result<(), EndpointError> {
    let meta = make(directory)?;
    let refuse = |why| Err(EndpointError::Unsafe { path: directory.to_owned(), why });
    if meta.uid() != geteuid().as_raw() {
        return refuse("belongs to another user");
    }
    if meta.mode() & 0o022 != 0 {
        return refuse("can be written to by others");
    }
    Ok(())
}

/// Makes a directory, 0700, unless it is there. What is there is looked at without following a link.
fn make(directory: &Path) -> Result<std::fs::Metadata, EndpointError> {
    let io = |what| move |source| EndpointError::Io { what, path: directory.to_owned(), source };
    match std::fs::DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(io("make the directory")(error));
        }
        _ => {}
    }
    let meta = std::fs::symlink_metadata(directory).map_err(io("look at the directory"))?;
    if !meta.is_dir() {
        return Err(EndpointError::Unsafe { path: directory.to_owned(), why: "is no directory" });
    }
    Ok(meta)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    const ID: &str = "3f0c9f0e-8d3f-4f0e-9d59-2f8f6a1f1c11";

    fn paths(town: &str, runtime: Option<&str>) -> Vec<String> {
        let id = TownId::new(ID).unwrap();
        Endpoint::candidates(Path::new(town), &id, runtime.map(Path::new), Uid::from_raw(1000))
            .into_iter()
            .map(|place| place.path.to_str().unwrap().to_owned())
            .collect()
    }

    fn private(root: &Path) -> Endpoint {
        let own = root.join("own");
        Endpoint { path: own.join(NAME), private: vec![own] }
    }

    #[test]
    fn the_socket_is_in_the_town_where_its_path_fits() {
        let fits = format!("/{}", "t".repeat(PATH_MAX - "//daemon/gtd.sock".len()));
        assert_eq!(paths(&fits, Some("/run/user/1000")), [format!("{fits}/daemon/gtd.sock")]);
        let long = format!("{fits}t");
        let runtime = format!("/run/user/1000/gtd/{ID}/gtd.sock");
        let tmp = format!("/tmp/gtd-1000/{ID}/gtd.sock");
        assert_eq!(paths(&long, Some("/run/user/1000")), [&*runtime, &*tmp]);
        for unusable in [None, Some("run/user"), Some(""), Some(&*long)] {
            assert_eq!(paths(&long, unusable), [&*tmp], "{unusable:?}");
        }
    }

    #[test]
    fn a_socket_is_made_0600_in_a_directory_of_its_own_and_removed_only_while_ours() {
        let root = tempfile::tempdir().unwrap();
        let place = private(root.path());
        let lock = ();
        let listening = place.bind(HoldsLock::by(&lock)).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!(mode(&place.path), 0o600);
        assert_eq!(mode(place.path.parent().unwrap()), 0o700);
        assert_eq!(listening.path().as_deref(), Some(&*place.path));
        let file = listening.file.unwrap();
        std::fs::rename(&place.path, root.path().join("moved")).unwrap();
        assert!(!file.remove());
        std::fs::write(&place.path, "another's").unwrap();
        assert!(!file.remove());
        std::fs::rename(root.path().join("moved"), &place.path).unwrap();
        assert!(file.remove());
        assert!(!place.path.exists());
    }

    #[test]
    fn leftovers_are_replaced_and_nothing_else_is() {
        let root = tempfile::tempdir().unwrap();
        let lock = ();
        let place = private(root.path());
        drop(place.bind(HoldsLock::by(&lock)).unwrap());
        assert!(place.path.exists(), "a daemon that was killed leaves its socket");
        let second = place.bind(HoldsLock::by(&lock)).unwrap();
        let third = place.bind(HoldsLock::by(&lock));
        assert!(matches!(third, Err(EndpointError::InUse { .. })), "{third:?}");
        drop(second);
        std::fs::remove_file(&place.path).unwrap();
        std::fs::write(&place.path, "mine").unwrap();
        let fourth = place.bind(HoldsLock::by(&lock));
        assert!(matches!(fourth, Err(EndpointError::NotASocket { .. })), "{fourth:?}");
        assert_eq!(std::fs::read(&place.path).unwrap(), b"mine");

        // In the town the lock lies beside the socket: whoever answers there is no daemon of this town.
        let town = Endpoint { path: root.path().join("daemon").join(NAME), private: Vec::new() };
        let first = town.bind(HoldsLock::by(&lock)).unwrap();
        let second = town.bind(HoldsLock::by(&lock)).unwrap();
        assert!(!first.file.unwrap().remove(), "the first one's file is gone; the second's stays");
        assert!(second.file.unwrap().remove());
    }

    #[test]
    fn directories_that_others_can_use_are_refused() {
        let root = tempfile::tempdir().unwrap();
        let lock = ();
        let place = private(root.path());
        let own = place.path.parent().unwrap();
        let chmod = |mode| std::fs::set_permissions(own, std::fs::Permissions::from_mode(mode)).unwrap();
        std::fs::create_dir(own).unwrap();
        for mode in [0o777, 0o770, 0o702] {
            chmod(mode);
            let bound = place.bind(HoldsLock::by(&lock));
            assert!(matches!(bound, Err(EndpointError::Unsafe { .. })), "{mode:o} {bound:?}");
        }
        chmod(0o755);
        assert!(place.bind(HoldsLock::by(&lock)).is_ok());

        let elsewhere = root.path().join("elsewhere");
        std::fs::create_dir(&elsewhere).unwrap();
        let link = root.path().join("link");
        symlink(&elsewhere, &link).unwrap();
        let linked = Endpoint { path: link.join(NAME), private: vec![link] };
        assert!(matches!(linked.bind(HoldsLock::by(&lock)), Err(EndpointError::Unsafe { .. })));

        if geteuid().is_root() {
            let theirs = root.path().join("theirs");
            std::fs::create_dir(&theirs).unwrap();
            std::os::unix::fs::chown(&theirs, Some(65534), None).unwrap();
            let place = Endpoint { path: theirs.join(NAME), private: vec![theirs] };
            assert!(matches!(place.bind(HoldsLock::by(&lock)), Err(EndpointError::Unsafe { .. })));
        } else {
            eprintln!("skipped: a directory of another user can only be made by root");
        }
    }

    #[test]
    fn the_next_place_is_tried_when_one_cannot_be_used() {
        let root = tempfile::tempdir().unwrap();
        let lock = ();
        let missing = root.path().join("missing");
        let bad = Endpoint { path: missing.join("gtd").join(NAME), private: vec![missing.join("gtd")] };
        let good = private(root.path());
        let listening = Endpoint::bind_first(&[bad.clone(), good.clone()], HoldsLock::by(&lock)).unwrap();
        assert_eq!(listening.path(), Some(good.path));
        assert!(matches!(Endpoint::bind_first(&[bad], HoldsLock::by(&lock)), Err(EndpointError::Io { .. })));
        assert!(Endpoint::bind_first(&[], HoldsLock::by(&lock)).is_err());
    }
}
