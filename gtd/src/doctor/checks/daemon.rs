//! The daemon itself: that it runs, its socket, its ledger, its clock.

use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;
use std::time::{Duration, SystemTime};

use gtd_proto::daemon::Endpoint;

use super::super::{Found, Hint, World};

/// Files dated so much ahead are from another clock.
const AHEAD: Duration = Duration::from_secs(120);
/// A ledger beyond this is larger than its bounds let it grow; they are a quarter of a gigabyte by default.
const LEDGER_BYTES: u64 = 768 << 20;

pub(super) fn daemon(world: &World) -> Found {
    let Some(live) = &world.live else {
        return Found::error("no daemon answers").hint(Hint::Up);
    };
    if live.reasons.is_empty() {
        let held = if live.held { "; the town is down on purpose" } else { "" };
        return Found::ok(format!("it runs since {:.0}{held}", live.started_at));
    }
    Found::warning("something that the daemon relies on does not work")
        .details(live.reasons.iter().cloned())
        .hint(Hint::DaemonStatus)
}

pub(super) fn socket(world: &World) -> Found {
    let file = world.layout.endpoint_json();
    let endpoint: Endpoint = match std::fs::read(&file) {
        Ok(text) => match serde_json::from_slice(&text) {
            Ok(endpoint) => endpoint,
            Err(error) => {
                return Found::error(format!("{} is damaged: {error}", file.display()))
                    .hint(Hint::DaemonRestart);
            }
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return match world.live {
                Some(_) => Found::error(format!("there is no {}", file.display())).hint(Hint::DaemonRestart),
                None => Found::ok("none is announced"),
            };
        }
        Err(error) => return Found::unknown(format!("{} cannot be read: {error}", file.display())),
    };
    let path = Path::new(&endpoint.socket);
    if world.live.is_none() {
        return Found::warning(format!("{} is announced, and nobody answers there", path.display()))
            .hint(Hint::Up);
    }
    let found = match std::fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) => return Found::error(format!("{}: {error}", path.display())).hint(Hint::DaemonRestart),
    };
    let own = rustix::process::getuid().as_raw();
    let mut wrong = Vec::new();
    if !found.file_type().is_socket() {
        wrong.push(format!("{} is no socket", path.display()));
    }
    if found.mode() & 0o077 != 0 {
        wrong.push(format!("others may use {}: its mode is {:o}", path.display(), found.mode() & 0o777));
    }
    if found.uid() != own {
        wrong.push(format!("{} belongs to user {}", path.display(), found.uid()));
    }
    if u32::try_from(endpoint.pid) != Ok(std::process::id()) {
        wrong.push(format!(
            "{} names process {}, which is not the one that answers",
            file.display(),
            endpoint.pid
        ));
    }
    if world.town_id.as_ref().is_some_and(|id| *id != endpoint.town_id) {
        wrong.push(format!("{} names another town", file.display()));
    }
    match wrong.first() {
        None => Found::ok(format!("{} is ours alone", path.display())),
        Some(first) => {
            Found::error(first.clone()).details(wrong.iter().skip(1).cloned()).hint(Hint::DaemonRestart)
        }
    }
}

pub(super) fn ledger(world: &World) -> Found {
    let Some(live) = &world.live else { return Found::skipped("no daemon runs") };
    let info = &live.ledger;
    let set_aside = set_aside(&world.layout.daemon_dir());
    let found = match (&live.ledger_trouble, &live.snapshot_trouble) {
        (Some(why), _) => Found::error(why.clone()).hint(Hint::DaemonStatus),
        (None, Some(why)) => {
            Found::warning(format!("its copy is not written: {why}")).hint(Hint::DaemonStatus)
        }
        (None, None) if info.bytes > LEDGER_BYTES => {
            Found::warning(format!("it has grown to {} MiB", info.bytes >> 20)).hint(Hint::ConfigShow)
        }
        (None, None) if !set_aside.is_empty() => {
            Found::warning("a damaged ledger was set aside and is kept").hint(Hint::DaemonStatus)
        }
        (None, None) => Found::ok(format!("{} KiB, and its copy is written", info.bytes >> 10)),
    };
    found
        .details(set_aside)
        .with("bytes", info.bytes)
        .with("in_memory", info.in_memory)
        .with("dropped", info.dropped)
}

fn set_aside(dir: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let mut found: Vec<String> = entries
        .flatten()
        .filter(|entry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            name.starts_with("gtd.db.") && !name.ends_with("-wal") && !name.ends_with("-shm")
        })
        .map(|entry| entry.path().display().to_string())
        .collect();
    found.sort();
    found
}

pub(super) fn clock(world: &World) -> Found {
    let dir = world.layout.daemon_dir();
    let now = SystemTime::now();
    let ahead: Vec<String> = ["gtd.db", "gtd.db-wal", "endpoint.json", "state.json", "gtd.log"]
        .iter()
        .filter_map(|name| {
            let path = dir.join(name);
            let written = std::fs::metadata(&path).ok()?.modified().ok()?;
            let by = written.duration_since(now).ok().filter(|by| *by > AHEAD)?;
            Some(format!(
                "{} was written {} from now",
                path.display(),
                humantime::format_duration(Duration::from_secs(by.as_secs()))
            ))
        })
        .collect();
    if ahead.is_empty() {
        return Found::ok(format!("it is {:.0}", world.now));
    }
    Found::warning("the clock was set back: files of the daemon are from the future")
        .details(ahead)
        .hint(Hint::DaemonStatus)
}
