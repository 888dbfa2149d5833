//! Reports that agents made while the daemon did not answer: files in a directory of ours, taken in in their order.
//!
//! One file is one report, complete or not there (temporary file, rename). Each is removed once it is in the ledger,
//! so that a daemon that dies in between takes it in again, where it counts as heard already. What is no report is
//! set aside. Must never wait for a file, follow a link out of the directory, or let the directory grow.

use std::fs;
use std::io::Read;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use gtd_proto::params::AgentReport;
use gtd_proto::{ErrorKind, RpcError};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::handle::Handle;
use super::reports::Source;

/// Its name in the daemon's run directory. `gtctl` knows it too.
pub const DIR: &str = "reports";
/// Where in it what is no report is put.
const ASIDE: &str = "junk";
/// What is kept there; more is removed.
const ASIDE_MAX: usize = 100;
/// A larger file is no report: a remark has at most 4 KB.
const READ_MAX: u64 = 16 * 1024;
/// Reports taken in at a time, so that what they hold in memory is bounded.
const BATCH: usize = 256;
/// Batches of one look; the next look goes on.
const BATCHES: usize = 40;
/// After that an unfinished file is nobody's any more.
const UNFINISHED: Duration = Duration::from_secs(60);
/// Between two looks without an event, and where events are known not to come.
const LOOK: Duration = Duration::from_secs(30);
const BLIND_LOOK: Duration = Duration::from_secs(2);
/// Files that come together are taken in together.
const GATHER: Duration = Duration::from_millis(5);

/// Takes reports in until the daemon goes down.
pub async fn follow(handle: Handle, dir: PathBuf, stop: CancellationToken) {
    let (wake, mut woken) = mpsc::channel(1);
    let mut eyes: Option<(RecommendedWatcher, Inode)> = None;
    let lost = Arc::new(AtomicBool::new(false));
    let mut complained = false;
    loop {
        match prepare(&dir) {
            Ok(inode) => {
                complained = false;
                // Where somebody took it away, the watch is on a directory that is gone; the number of that may have been
                // given to the new one.
                let gone = lost.swap(false, Ordering::AcqRel);
                if gone || eyes.as_ref().is_none_or(|(_, seen)| *seen != inode) {
                    eyes = watch(&dir, wake.clone(), Arc::clone(&lost)).map(|watcher| (watcher, inode));
                }
            }
            Err(error) if !complained => {
                complained = true;
                tracing::warn!(dir = %dir.display(), %error, "reports that are left there cannot be taken in");
            }
            Err(_) => {}
        }
        take_in(&handle, &dir).await;
        let wait = if eyes.is_some() { LOOK } else { BLIND_LOOK };
        tokio::select! {
            () = stop.cancelled() => return,
            _ = woken.recv() => tokio::time::sleep(GATHER).await,
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// Device and number of a directory.
type Inode = (u64, u64);

/// Makes the directory, for us alone, where it is not there; says which one it is.
fn prepare(dir: &Path) -> std::io::Result<Inode> {
    match fs::DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let found = fs::symlink_metadata(dir)?;
    if !found.is_dir() || found.uid() != rustix::process::getuid().as_raw() || found.mode() & 0o022 != 0 {
        return Err(std::io::Error::other("it is not a directory of ours that only we may write to"));
    }
    Ok((found.dev(), found.ino()))
}

fn watch(dir: &Path, wake: mpsc::Sender<()>, lost: Arc<AtomicBool>) -> Option<RecommendedWatcher> {
    let whole = dir.to_owned();
    let heard = move |event: notify::Result<notify::Event>| {
        // What we remove ourselves wakes nobody; that the whole directory was removed does.
        let new = match event {
            Ok(event) => {
                let gone = matches!(event.kind, EventKind::Remove(_)) && event.paths.contains(&whole);
                if gone {
                    lost.store(true, Ordering::Release);
                }
                gone || matches!(event.kind, EventKind::Create(_) | EventKind::Modify(_) | EventKind::Any)
            }
            Err(_) => true,
        };
        if new {
            let _ = wake.try_send(());
        }
    };
    let mut watcher = notify::recommended_watcher(heard).ok()?;
    watcher.watch(dir, RecursiveMode::NonRecursive).ok()?;
    Some(watcher)
}

async fn take_in(handle: &Handle, dir: &Path) {
    for _ in 0..BATCHES {
        let place = dir.to_owned();
        let Ok(found) = tokio::task::spawn_blocking(move || list(&place)).await else { return };
        if found.is_empty() {
            return;
        }
        for (path, report) in found {
            match handle.report(report, Source::Spool).await {
                Ok(_) => remove(&path),
                Err(error) if is_nobodys(&error) => remove(&path),
                Err(error) if error.kind == ErrorKind::InvalidParams => set_aside(dir, &path, &error.message),
                // The daemon goes down, or cannot take it in now.
                Err(error) => {
                    tracing::debug!(%error, "a report stays in the spool");
                    return;
                }
            }
        }
    }
}

fn is_nobodys(error: &RpcError) -> bool {
    matches!(error.kind, ErrorKind::AgentNotFound | ErrorKind::RigNotFound)
}

/// The next reports, in their order. What is none is set aside.
fn list(dir: &Path) -> Vec<(PathBuf, AgentReport)> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let mut names: Vec<String> = Vec::new();
    for entry in entries.filter_map(Result::ok) {
        let path = entry.path();
        match entry.file_name().into_string() {
            Ok(name) if name == ASIDE => {}
            Ok(name) if name.starts_with('.') => {
                if is_old(&path) {
                    remove(&path);
                }
            }
            // What the client says of its own troubles.
            Ok(name) if name.ends_with(".log") => {}
            Ok(name) if name.ends_with(".json") => names.push(name),
            _ => set_aside(dir, &path, "its name is none of a report"),
        }
    }
    // The name begins with the time.
    names.sort_unstable();
    let mut found = Vec::new();
    for name in names {
        if found.len() >= BATCH {
            break;
        }
        let path = dir.join(name);
        match read(&path) {
            Ok(Some(report)) => found.push((path, report)),
            Ok(None) => {}
            Err(why) => set_aside(dir, &path, &why),
        }
    }
    found
}

/// Reads one; none when it is gone.
fn read(path: &Path) -> Result<Option<AgentReport>, String> {
    // Neither a link is followed nor a pipe waited for.
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let flags = i32::try_from(flags.bits()).unwrap_or_default();
    let file = match fs::OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    let meta = file.metadata().map_err(|error| error.to_string())?;
    if !meta.is_file() || meta.len() > READ_MAX {
        return Err("it is no small file".to_owned());
    }
    let mut text = Vec::new();
    file.take(READ_MAX).read_to_end(&mut text).map_err(|error| error.to_string())?;
    let report: AgentReport = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
    if report.at.is_none() {
        return Err("it does not say when it was made".to_owned());
    }
    Ok(Some(report))
}

fn is_old(path: &Path) -> bool {
    let changed = fs::symlink_metadata(path).and_then(|meta| meta.modified());
    changed.is_ok_and(|at| SystemTime::now().duration_since(at).is_ok_and(|age| age > UNFINISHED))
}

fn remove(path: &Path) {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!(path = %path.display(), %error, "a report stays in the spool");
        }
        _ => {}
    }
}

/// Puts something out of the way; where there is enough of it already, a file goes.
fn set_aside(dir: &Path, path: &Path, why: &str) {
    let aside = dir.join(ASIDE);
    let _ = fs::DirBuilder::new().mode(0o700).create(&aside);
    let kept = fs::read_dir(&aside).map_or(0, |entries| entries.take(ASIDE_MAX).count());
    let Some(name) = path.file_name() else { return };
    tracing::debug!(path = %path.display(), why, "something in the spool is no report");
    if kept < ASIDE_MAX && fs::rename(path, aside.join(name)).is_ok() {
        return;
    }
    // A directory stays where it is: nobody reads it.
    let _ = fs::remove_file(path);
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn spool() -> (tempfile::TempDir, PathBuf) {
        let base = tempfile::tempdir().unwrap();
        let dir = base.path().join(DIR);
        assert_eq!(prepare(&dir).unwrap(), prepare(&dir).unwrap());
        (base, dir)
    }

    fn report(dir: &Path, name: &str, second: u32) {
        let text = format!(
            r#"{{"instance":"01958b3e-7a3c-7b1e-8b1a-0123456789ab","state":"idle","at":"2026-01-01T00:00:{second:02}Z"}}"#
        );
        fs::write(dir.join(name), text).unwrap();
    }

    #[test]
    fn reports_come_in_the_order_of_their_names() {
        let (_base, dir) = spool();
        for (name, second) in [("00000000000000000030-9.json", 30), ("00000000000000000004-12.json", 4)] {
            report(&dir, name, second);
        }
        let seconds: Vec<String> =
            list(&dir).iter().map(|(_, report)| report.at.unwrap().to_string()).collect();
        assert_eq!(seconds, ["2026-01-01T00:00:04Z", "2026-01-01T00:00:30Z"]);
    }

    #[test]
    fn whatever_is_no_report_is_out_of_the_way_after_one_look_and_bounded() {
        let (_base, dir) = spool();
        report(&dir, "00000000000000000001-1.json", 1);
        for n in 0..1_000 {
            let text: &[u8] = match n % 5 {
                0 => b"",
                1 => b"{",
                2 => b"\xff\xfe\x00",
                3 => br#"{"instance":"x","state":"idle"}"#,
                _ => br#"{"instance":"01958b3e-7a3c-7b1e-8b1a-0123456789ab","state":"idle","more":1}"#,
            };
            let end = if n % 7 == 0 { "" } else { ".json" };
            fs::write(dir.join(format!("{n}{end}")), text).unwrap();
        }
        fs::write(dir.join("big.json"), vec![b' '; 1 << 20]).unwrap();
        fs::create_dir(dir.join("a-directory.json")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", dir.join("a-link.json")).unwrap();
        nix::unistd::mkfifo(&dir.join("a-pipe.json"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        fs::write(dir.join("errors.log"), "x").unwrap();
        fs::write(dir.join(".unfinished"), "{").unwrap();
        let found = list(&dir);
        assert_eq!(found.len(), 1);
        let mut left: Vec<String> = fs::read_dir(&dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name != "a-directory.json")
            .collect();
        left.sort();
        assert_eq!(left, [".unfinished", "00000000000000000001-1.json", "errors.log", ASIDE]);
        assert!(fs::read_dir(dir.join(ASIDE)).unwrap().count() <= ASIDE_MAX);
        assert!(Path::new("/etc/passwd").exists());
    }

    #[test]
    fn a_directory_that_others_may_write_to_is_refused() {
        let (_base, dir) = spool();
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(prepare(&dir).is_err());
        fs::remove_dir(&dir).unwrap();
        std::os::unix::fs::symlink("/tmp", &dir).unwrap();
        assert!(prepare(&dir).is_err());
    }
}
