//! What is left of the demo's town: looked at from outside, without its daemon.

use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use gtd_proto::town::Census;

use super::stage::Stage;
use crate::daemon::identity::Identity;
use crate::daemon::lock::{self, Lock};

/// Looks for processes with the town's mark or that were seen at work, tmux servers that answer, and the lock.
#[must_use]
pub fn look(stage: &Stage) -> Census {
    let mut census = Census::default();
    let mut found: Vec<Identity> = stage.seen.iter().copied().filter(|seen| seen.is_alive()).collect();
    found.extend(marked(stage));
    found.sort_by_key(|process| process.pid);
    found.dedup();
    census.processes.extend(found.iter().map(|process| {
        let name = std::fs::read_to_string(format!("/proc/{}/comm", process.pid)).unwrap_or_default();
        format!("{}:{} {}", process.pid, process.start, name.trim())
    }));
    // A daemon of ours that did not end is our child still.
    census.processes.extend(stage.children.iter().map(|child| format!("{} gtd", child.id())));
    let mut sockets = stage.sockets.clone();
    sockets.extend(sockets_in(stage));
    sockets.sort();
    sockets.dedup();
    let answering = sockets.iter().filter(|path| UnixStream::connect(path).is_ok());
    census.sessions.extend(answering.map(|path| path.display().to_string()));
    if !matches!(lock::look(&stage.root), Lock::Free) {
        census.files.push(stage.root.join("daemon/daemon.lock").display().to_string());
    }
    census
}

/// Processes that carry the id of the town. Those of other users cannot be read, and are not ours.
fn marked(stage: &Stage) -> Vec<Identity> {
    let Some(town) = &stage.town_id else { return Vec::new() };
    let me = std::process::id();
    std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| pid.unsigned_abs() != me)
        .filter_map(|pid| Identity::of(pid).ok())
        .filter(|process| process.variable("GT_TOWN_ID").is_ok_and(|id| id.as_deref() == Some(town.as_str())))
        .collect()
}

fn sockets_in(stage: &Stage) -> Vec<PathBuf> {
    std::fs::read_dir(stage.root.join("daemon/run"))
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|ext| ext == "sock"))
        .collect()
}
