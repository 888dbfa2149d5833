//! Where a daemon listens: `--socket`, the `endpoint.json` of `--town`, `GT_SOCKET`, the `endpoint.json` of
//! the town around us, in this order.
//!
//! Reads files and the environment; never connects, never writes.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use gtd_proto::TownId;
use gtd_proto::daemon::Endpoint;
use serde::Deserialize;

use crate::failure::Failure;
use crate::town::{self, Surroundings};

/// A socket to connect to, and the town that must be found behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Path of the socket.
    pub socket: PathBuf,
    /// Root of the town that was named, by flag or by being in it. None when only a socket was named.
    pub town: Option<PathBuf>,
}

impl Target {
    /// Where the daemon of a town listens, or would listen.
    #[must_use]
    pub fn of_town(root: &Path) -> Self {
        let socket = endpoint(root).map_or_else(|| default_socket(root), |end| PathBuf::from(end.socket));
        Self { socket, town: Some(root.to_owned()) }
    }
}

/// Finds the socket.
///
/// # Errors
/// When a named directory is no town, or nothing is named and there is no town around.
pub fn look_up(socket: Option<&Path>, around: &Surroundings) -> Result<Target, Failure> {
    let named = around.flag.as_deref().map(|dir| town::root_of(dir, "--town")).transpose()?;
    if let Some(socket) = socket {
        return Ok(Target { socket: socket.to_owned(), town: named });
    }
    if let Some(root) = named {
        return Ok(Target::of_town(&root));
    }
    if let Some(socket) = around.var("GT_SOCKET") {
        return Ok(Target { socket: PathBuf::from(socket), town: None });
    }
    Ok(Target::of_town(&town::find(around)?))
}

/// `daemon/endpoint.json` of a town: none when there is none or it cannot be read, since a daemon that listens
/// writes it anew; none in a copy of a town, where it speaks of the original's daemon.
#[must_use]
pub fn endpoint(root: &Path) -> Option<Endpoint> {
    if identity(root).is_some_and(|id| !id.is_of(root)) {
        return None;
    }
    serde_json::from_slice(&fs::read(root.join("daemon/endpoint.json")).ok()?).ok()
}

/// The id in `daemon/town-id`; none before the town's first daemon, and none in a copy of a town.
#[must_use]
pub fn town_id(root: &Path) -> Option<TownId> {
    identity(root).filter(|id| id.is_of(root)).map(|id| id.id)
}

/// `daemon/town-id`: the id, and the directory that it was made for.
#[derive(Deserialize)]
struct Identity {
    id: TownId,
    dev: Option<u64>,
    ino: Option<u64>,
}

impl Identity {
    /// Whether a directory is the one that the id was made for, as far as is known.
    fn is_of(&self, root: &Path) -> bool {
        let Ok(meta) = fs::metadata(root) else { return true };
        self.dev.is_none_or(|dev| dev == meta.dev()) && self.ino.is_none_or(|ino| ino == meta.ino())
    }
}

fn identity(root: &Path) -> Option<Identity> {
    serde_json::from_slice(&fs::read(root.join("daemon/town-id")).ok()?).ok()
}

/// Longest path of a socket on this platform, without the final NUL.
const SUN_PATH: usize = if cfg!(target_os = "linux") { 107 } else { 103 };

/// Where a daemon listens that has not said so: in the town, or in the runtime directory when that is too long.
#[must_use]
pub fn default_socket(root: &Path) -> PathBuf {
    let near = root.join("daemon/gtd.sock");
    if near.as_os_str().len() <= SUN_PATH {
        return near;
    }
    let Some(id) = town_id(root) else { return near };
    let base = match std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty()) {
        Some(dir) => PathBuf::from(dir).join("gtd"),
        None => PathBuf::from(format!("/tmp/gtd-{}", rustix::process::getuid().as_raw())),
    };
    base.join(id.as_str()).join("gtd.sock")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn town(dir: &Path, name: &str, socket: Option<&str>) -> PathBuf {
        let root = dir.join(name);
        fs::create_dir_all(root.join("mayor")).unwrap();
        fs::create_dir_all(root.join("daemon")).unwrap();
        fs::write(root.join("mayor/town.json"), r#"{"type":"town","version":2,"name":"x"}"#).unwrap();
        if let Some(socket) = socket {
            let end = serde_json::json!({"socket":socket,"pid":1,"version":"0","protocol":1,
                "town_id":"9d8bd2ef-3f3b-4d3c-9d0e-0a4d0a7c4d5e","started_at":"2026-01-01T00:00:00Z"});
            fs::write(root.join("daemon/endpoint.json"), end.to_string()).unwrap();
        }
        root
    }

    fn around(flag: Option<&Path>, vars: &[(&str, &str)], cwd: &Path) -> Surroundings {
        Surroundings {
            flag: flag.map(Path::to_owned),
            vars: vars.iter().map(|(k, v)| ((*k).to_owned(), (*v).into())).collect::<BTreeMap<_, _>>(),
            cwd: cwd.to_owned(),
        }
    }

    #[test]
    fn the_order_of_the_look_up() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (town(dir.path(), "a", Some("/s/a")), town(dir.path(), "b", Some("/s/b")));
        let find = |socket: Option<&str>, flag: Option<&Path>, vars: &[(&str, &str)], cwd: &Path| {
            let target = look_up(socket.map(Path::new), &around(flag, vars, cwd)).unwrap();
            (target.socket.display().to_string(), target.town)
        };
        let env = [("GT_SOCKET", "/s/env"), ("GT_TOWN_ROOT", b.to_str().unwrap())];
        assert_eq!(find(Some("/s/flag"), Some(&a), &env, &b), ("/s/flag".into(), Some(a.clone())));
        assert_eq!(find(Some("/s/flag"), None, &env, &b), ("/s/flag".into(), None));
        assert_eq!(find(None, Some(&a), &env, &b), ("/s/a".into(), Some(a.clone())));
        assert_eq!(find(None, None, &env, &a), ("/s/env".into(), None));
        assert_eq!(find(None, None, &env[1..], &a), ("/s/b".into(), Some(b.clone())));
        assert_eq!(find(None, None, &[], &a.join("daemon")), ("/s/a".into(), Some(a.clone())));
        let quiet = town(dir.path(), "quiet", None);
        let expected = quiet.join("daemon/gtd.sock").display().to_string();
        assert_eq!(find(None, Some(&quiet), &[], &a), (expected, Some(quiet)));
    }

    #[test]
    fn a_torn_endpoint_file_is_as_none() {
        let dir = tempfile::tempdir().unwrap();
        let root = town(dir.path(), "a", None);
        fs::write(root.join("daemon/endpoint.json"), "{\"socket\":").unwrap();
        assert_eq!(Target::of_town(&root).socket, root.join("daemon/gtd.sock"));
    }

    #[test]
    fn a_copy_of_a_town_does_not_speak_to_the_originals_daemon() {
        let dir = tempfile::tempdir().unwrap();
        let root = town(dir.path(), "copy", Some("/s/original"));
        let meta = fs::metadata(&root).unwrap();
        let id = TownId::generate();
        let write = |ino: u64| {
            let text = format!(r#"{{"id":"{id}","dev":{},"ino":{ino}}}"#, meta.dev());
            fs::write(root.join("daemon/town-id"), text).unwrap();
        };
        write(meta.ino());
        assert_eq!(Target::of_town(&root).socket, Path::new("/s/original"));
        assert_eq!(town_id(&root), Some(id.clone()));
        write(meta.ino() + 1);
        assert_eq!(Target::of_town(&root).socket, root.join("daemon/gtd.sock"));
        assert_eq!(town_id(&root), None);
    }

    #[test]
    fn a_path_that_no_socket_can_have_gives_way_to_the_runtime_directory() {
        let dir = tempfile::tempdir().unwrap();
        let root = town(dir.path(), &"long".repeat(40), None);
        let id = TownId::generate();
        fs::write(root.join("daemon/town-id"), format!(r#"{{"id":"{id}"}}"#)).unwrap();
        let socket = default_socket(&root);
        assert!(socket.ends_with(format!("{id}/gtd.sock")), "{}", socket.display());
        assert!(socket.as_os_str().len() <= SUN_PATH);
    }
}
