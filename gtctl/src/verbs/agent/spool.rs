//! Where a report is left that the daemon did not take: a directory of the daemon's, one small file for each.
//!
//! A file is there whole or not at all. Must never let the directory grow without bound, nor leave anything outside of
//! a directory that is ours.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use gtd_proto::params::AgentReport;

use crate::who::Who;

/// Its name in the daemon's run directory.
const DIR: &str = "reports";
/// Reports that may wait there: a daemon that has been away for long needs the last of each agent at most.
const COUNT: usize = 1_000;
/// What may be written of troubles, in bytes; then it begins anew, and what was before is kept once.
const LOG_MAX: u64 = 64 * 1024;

/// Leaves a report to be found.
///
/// # Errors
/// When there is no place for it.
pub fn leave(who: &Who, report: &AgentReport) -> io::Result<()> {
    let dir = place(who)?;
    if fs::read_dir(&dir)?.take(COUNT + 1).count() > COUNT {
        return Err(io::Error::other(format!("{} holds {COUNT} reports already", dir.display())));
    }
    let since = SystemTime::now().duration_since(UNIX_EPOCH).map_err(io::Error::other)?;
    // The daemon takes them in by name: in the order of time.
    let name = format!("{:020}-{}", since.as_nanos(), std::process::id());
    let temp = dir.join(format!(".{name}"));
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temp)?;
        file.write_all(&serde_json::to_vec(report)?)?;
        fs::rename(&temp, dir.join(format!("{name}.json")))
    })();
    if written.is_err() {
        let _ = fs::remove_file(&temp);
    }
    written
}

/// Writes down what went wrong, for people. What cannot be written is lost.
pub fn log(who: &Who, what: &str) {
    let Ok(dir) = place(who) else { return };
    let path = dir.join("errors.log");
    if fs::symlink_metadata(&path).is_ok_and(|meta| meta.len() > LOG_MAX) {
        let _ = fs::rename(&path, dir.join("older.log"));
    }
    let flags = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or_default();
    let file: io::Result<File> =
        OpenOptions::new().append(true).create(true).mode(0o600).custom_flags(flags).open(path);
    if let Ok(mut file) = file {
        let line: String = what.chars().filter(|c| !c.is_control()).take(500).collect();
        let _ = writeln!(file, "{} instance {}: {line}", gtd_proto::Timestamp::now(), who.instance);
    }
}

/// The directory: made where the daemon's run directory is there, and ours alone.
fn place(who: &Who) -> io::Result<PathBuf> {
    let named = who.spool.clone().into_iter();
    let all = named.chain(derived(&who.socket));
    let found = all.filter(|dir| dir.parent().is_some_and(is_ours)).find(|dir| make(dir).is_ok());
    found.ok_or_else(|| io::Error::other("there is no run directory of a daemon to leave it in"))
}

/// Where it is by the socket's path: `run` beside it, or the socket's own directory where that is the run directory.
fn derived(socket: &Path) -> impl Iterator<Item = PathBuf> {
    let near = socket.parent().map(Path::to_owned);
    let beside = near.clone().map(|dir| dir.join("run").join(DIR));
    let with = near.filter(|dir| !dir.ends_with("daemon")).map(|dir| dir.join(DIR));
    beside.into_iter().chain(with)
}

fn is_ours(dir: &Path) -> bool {
    let uid = rustix::process::getuid().as_raw();
    fs::symlink_metadata(dir).is_ok_and(|meta| meta.is_dir() && meta.uid() == uid && meta.mode() & 0o022 == 0)
}

fn make(dir: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ if is_ours(dir) => Ok(()),
        _ => Err(io::Error::other("it is not ours")),
    }
}

#[cfg(test)]
mod tests {
    use gtd_proto::params::ReportState;
    use gtd_proto::{InstanceId, Timestamp};

    use super::*;

    fn report(who: &Who) -> AgentReport {
        AgentReport {
            agent: None,
            instance: who.instance.clone(),
            state: ReportState::Idle,
            next_due: None,
            conversation: None,
            detail: None,
            at: Some(Timestamp::now()),
        }
    }

    fn who(socket: &Path, spool: Option<&Path>) -> Who {
        Who {
            agent: None,
            instance: InstanceId::generate(),
            socket: socket.to_owned(),
            spool: spool.map(Path::to_owned),
        }
    }

    fn town() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let daemon = dir.path().join("daemon");
        DirBuilder::new().mode(0o700).create(&daemon).unwrap();
        (dir, daemon)
    }

    #[test]
    fn it_is_left_where_the_environment_says_or_where_the_socket_is() {
        let (_town, daemon) = town();
        let who = who(&daemon.join("gtd.sock"), None);
        assert!(leave(&who, &report(&who)).is_err(), "no run directory");
        assert!(!daemon.join(DIR).exists());
        let run = daemon.join("run");
        DirBuilder::new().mode(0o700).create(&run).unwrap();
        leave(&who, &report(&who)).unwrap();
        let left: Vec<_> = fs::read_dir(run.join(DIR)).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(left.len(), 1);
        assert_eq!(fs::metadata(&left[0]).unwrap().mode() & 0o777, 0o600);
        let read: AgentReport = serde_json::from_slice(&fs::read(&left[0]).unwrap()).unwrap();
        assert_eq!(read.instance, who.instance);
        let named = Who { spool: Some(run.join("elsewhere")), ..who };
        leave(&named, &report(&named)).unwrap();
        assert_eq!(fs::read_dir(run.join("elsewhere")).unwrap().count(), 1);
    }

    #[test]
    fn a_directory_of_others_is_not_used_and_a_full_one_is_left_alone() {
        let (_town, daemon) = town();
        let run = daemon.join("run");
        DirBuilder::new().mode(0o700).create(&run).unwrap();
        let who = who(&daemon.join("gtd.sock"), None);
        std::os::unix::fs::symlink("/tmp", run.join(DIR)).unwrap();
        assert!(leave(&who, &report(&who)).is_err());
        fs::remove_file(run.join(DIR)).unwrap();
        for _ in 0..COUNT {
            leave(&who, &report(&who)).unwrap();
        }
        assert!(
            leave(&who, &report(&who)).is_err() || fs::read_dir(run.join(DIR)).unwrap().count() <= COUNT + 1
        );
        assert!(leave(&who, &report(&who)).is_err());
    }

    #[test]
    fn the_log_is_bounded() {
        let (_town, daemon) = town();
        DirBuilder::new().mode(0o700).create(daemon.join("run")).unwrap();
        let who = who(&daemon.join("gtd.sock"), None);
        for _ in 0..600 {
            log(&who, &"x".repeat(10_000));
        }
        let dir = daemon.join("run").join(DIR);
        let bytes: u64 =
            fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
        assert!(bytes < 3 * LOG_MAX, "{bytes}");
    }
}
