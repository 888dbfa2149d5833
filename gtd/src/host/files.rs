//! Small files that other tools read: the pid file, the state file and the endpoint. Written whole or not at
//! all, and removed at an orderly end only while they are ours. Information for others; never evidence.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use gtd_proto::Timestamp;
use gtd_proto::daemon::Endpoint;
use serde::{Serialize, Serializer};

/// `daemon.pid`: the decimal pid, without a newline, as the incumbent writes it.
pub const PID: &str = "daemon.pid";
/// `state.json`: see [`State`].
pub const STATE: &str = "state.json";
/// `endpoint.json`: see [`Endpoint`].
pub const ENDPOINT: &str = "endpoint.json";

/// Bytes read of a small file of anybody's; a larger one is none of ours.
const READ_MAX: u64 = 64 * 1024;

/// Replaces a file: whoever reads it, also after a crash, finds the old content or the new, never a part.
/// `mode` is that of the new file, less the umask.
///
/// # Errors
/// What the system says, with the path; the old file is then untouched, and nothing is left beside it.
pub fn write_atomic(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    // The pid keeps processes apart, the number the threads of one.
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let in_context =
        |why: io::Error| io::Error::new(why.kind(), format!("cannot write {}: {why}", path.display()));
    let name = path.file_name().ok_or_else(|| in_context(io::ErrorKind::InvalidInput.into()))?;
    let mut temp = std::ffi::OsString::from(".");
    temp.push(name);
    temp.push(format!(".{}.{number}.tmp", std::process::id()));
    let temp = path.with_file_name(temp);
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temp)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&temp, path)?;
        sync_dir(path)
    })();
    if written.is_err() {
        let _ = fs::remove_file(&temp);
    }
    written.map_err(in_context)
}

fn sync_dir(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => File::open(dir)?.sync_all(),
        _ => Ok(()),
    }
}

/// `state.json`, for tools that read it. The count goes on over restarts of the daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct State {
    /// False after an orderly end only.
    pub running: bool,
    /// The daemon's process.
    pub pid: i32,
    /// When it began.
    pub started_at: Timestamp,
    /// When the last round ended.
    #[serde(serialize_with = "or_year_one")]
    pub last_heartbeat: Option<Timestamp>,
    /// How many rounds there were.
    pub heartbeat_count: u64,
}

/// Before the first round the readers of this file expect the zero of Go's clock.
fn or_year_one<S: Serializer>(at: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
    match at {
        Some(at) => at.serialize(serializer),
        None => "0001-01-01T00:00:00Z".serialize(serializer),
    }
}

/// The files of one running daemon. Removes nothing by itself when dropped: only an orderly end may say that
/// the daemon does not run.
#[derive(Debug)]
pub struct DaemonFiles {
    dir: PathBuf,
    pid: i32,
}

impl DaemonFiles {
    /// The files in a town's `daemon` directory, of the process `pid`, which holds the town's lock.
    #[must_use]
    pub fn new(dir: &Path, pid: i32) -> Self {
        Self { dir: dir.to_owned(), pid }
    }

    /// Writes `daemon.pid`.
    ///
    /// # Errors
    /// What the system says.
    pub fn write_pid(&self) -> io::Result<()> {
        write_atomic(&self.dir.join(PID), self.pid.to_string().as_bytes(), 0o644)
    }

    /// Writes `state.json`.
    ///
    /// # Errors
    /// What the system says.
    pub fn write_state(&self, state: &State) -> io::Result<()> {
        write_atomic(&self.dir.join(STATE), serde_json::to_string_pretty(state)?.as_bytes(), 0o644)
    }

    /// Writes `endpoint.json`, once the socket listens.
    ///
    /// # Errors
    /// What the system says.
    pub fn write_endpoint(&self, endpoint: &Endpoint) -> io::Result<()> {
        write_atomic(&self.dir.join(ENDPOINT), serde_json::to_string_pretty(endpoint)?.as_bytes(), 0o644)
    }

    /// At an orderly end: removes the pid file and the endpoint where they are ours, and says in `state.json`
    /// that the daemon does not run. Does what it can; the first error is returned.
    ///
    /// # Errors
    /// What the system says.
    pub fn leave(&self, state: &State) -> io::Result<()> {
        let state = self.write_state(&State { running: false, ..state.clone() });
        let endpoint = match read_endpoint(&self.dir) {
            Some(endpoint) if endpoint.pid == self.pid => remove(&self.dir.join(ENDPOINT)),
            _ => Ok(()),
        };
        let pid = match read_pid(&self.dir) {
            Some(pid) if pid == self.pid => remove(&self.dir.join(PID)),
            _ => Ok(()),
        };
        state.and(endpoint).and(pid)
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(why) if why.kind() != io::ErrorKind::NotFound => Err(why),
        _ => Ok(()),
    }
}

/// The number in `daemon.pid`, when there is one. Hearsay.
#[must_use]
pub fn read_pid(dir: &Path) -> Option<i32> {
    read_small(&dir.join(PID))?.trim().parse().ok().filter(|pid| *pid > 0)
}

/// The content of `endpoint.json`, when it can be read. Hearsay.
#[must_use]
pub fn read_endpoint(dir: &Path) -> Option<Endpoint> {
    serde_json::from_str(&read_small(&dir.join(ENDPOINT))?).ok()
}

fn read_small(path: &Path) -> Option<String> {
    // Asked before opening: a pipe of this name would wait for ever.
    if !fs::metadata(path).is_ok_and(|found| found.is_file() && found.len() <= READ_MAX) {
        return None;
    }
    fs::read_to_string(path).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn state() -> State {
        let started_at = "2026-01-20T09:35:04.665345256Z".parse().unwrap();
        State { running: true, pid: 23_044, started_at, last_heartbeat: None, heartbeat_count: 0 }
    }

    fn endpoint(pid: i32) -> Endpoint {
        Endpoint {
            socket: "/t/daemon/gtd.sock".into(),
            pid,
            version: "0.1.0".into(),
            protocol: 1,
            town_id: gtd_proto::TownId::generate(),
            started_at: "2026-01-20T09:35:04Z".parse().unwrap(),
        }
    }

    #[test]
    fn writing_replaces_keeps_the_mode_and_leaves_nothing_beside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        write_atomic(&path, b"one", 0o600).unwrap();
        write_atomic(&path, b"two", 0o600).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(names(dir.path()), ["f"]);

        fs::create_dir(dir.path().join("d")).unwrap();
        let error = write_atomic(&dir.path().join("d"), b"x", 0o600).unwrap_err().to_string();
        assert!(error.contains("/d"), "{error}");
        assert_eq!(names(dir.path()), ["d", "f"]);
        assert!(write_atomic(&dir.path().join("no/f"), b"x", 0o600).is_err());
    }

    #[test]
    fn readers_never_see_a_part() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        write_atomic(&path, &[b'0'; 20_000], 0o644).unwrap();
        std::thread::scope(|scope| {
            for digit in [b'1', b'2'] {
                let path = &path;
                scope.spawn(move || {
                    (0..50).for_each(|_| write_atomic(path, &[digit; 20_000], 0o644).unwrap())
                });
            }
            for _ in 0..500 {
                let content = fs::read(&path).unwrap();
                assert!(content.len() == 20_000 && content.iter().all(|byte| *byte == content[0]));
            }
        });
    }

    #[test]
    fn the_files_have_the_incumbents_shapes() {
        let dir = tempfile::tempdir().unwrap();
        let files = DaemonFiles::new(dir.path(), 23_044);
        files.write_pid().unwrap();
        files.write_state(&state()).unwrap();
        assert_eq!(fs::read_to_string(dir.path().join(PID)).unwrap(), "23044");
        assert_eq!(
            fs::read_to_string(dir.path().join(STATE)).unwrap(),
            "{\n  \"running\": true,\n  \"pid\": 23044,\n  \"started_at\": \"2026-01-20T09:35:04.665345256Z\",\n  \
             \"last_heartbeat\": \"0001-01-01T00:00:00Z\",\n  \"heartbeat_count\": 0\n}"
        );
        let later = "2026-01-20T09:38:53Z".parse().unwrap();
        files.write_state(&State { last_heartbeat: Some(later), ..state() }).unwrap();
        assert!(fs::read_to_string(dir.path().join(STATE)).unwrap().contains("09:38:53Z"));
    }

    #[test]
    fn leaving_removes_what_is_ours_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let files = DaemonFiles::new(dir.path(), 23_044);
        files.write_pid().unwrap();
        files.write_endpoint(&endpoint(23_044)).unwrap();
        assert_eq!(read_endpoint(dir.path()).unwrap().pid, 23_044);
        files.leave(&state()).unwrap();
        assert_eq!(names(dir.path()), [STATE]);
        assert!(fs::read_to_string(dir.path().join(STATE)).unwrap().contains("\"running\": false"));

        let other = DaemonFiles::new(dir.path(), 5);
        other.write_pid().unwrap();
        other.write_endpoint(&endpoint(5)).unwrap();
        files.leave(&state()).unwrap();
        assert_eq!(names(dir.path()), [PID, ENDPOINT, STATE]);
    }

    #[test]
    fn nonsense_reads_as_nothing() {
        let dir = tempfile::tempdir().unwrap();
        for nonsense in ["", "abc", "-5", "0", "99999999999999"] {
            fs::write(dir.path().join(PID), nonsense).unwrap();
            assert_eq!(read_pid(dir.path()), None, "{nonsense:?}");
        }
        fs::write(dir.path().join(PID), "12\n").unwrap();
        assert_eq!(read_pid(dir.path()), Some(12));
        fs::write(dir.path().join(ENDPOINT), "{").unwrap();
        assert_eq!(read_endpoint(dir.path()), None);
        fs::remove_file(dir.path().join(PID)).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, dir.path().join(PID), rustix::fs::Mode::RUSR).unwrap();
        assert_eq!(read_pid(dir.path()), None, "a pipe does not hang us");
    }
}
