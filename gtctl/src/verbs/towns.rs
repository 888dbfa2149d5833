//! `gtctl towns`: every town of this user that has a daemon, and the one around. Asks no daemon: the lock that each
//! holds says which town it is.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use gtd_proto::daemon::Endpoint;
use serde::Serialize;
use serde_json::{Value, json};

use crate::context::Context;
use crate::exit::Code;
use crate::failure::Failure;
use crate::output::note;
use crate::output::paint::Tone;
use crate::output::table::{Cell, Table};
use crate::output::time;
use crate::town;

/// What a gtd holds open while it works, below the root of its town.
const LOCK: &str = "daemon/daemon.lock";

/// A town.
#[derive(Debug, Serialize)]
struct Town {
    name: String,
    root: String,
    town_id: Option<String>,
    pid: Option<i32>,
    version: Option<String>,
    started_at: Option<gtd_proto::Timestamp>,
    socket: Option<String>,
    running: bool,
    here: bool,
}

/// Runs the verb.
///
/// # Errors
/// When the processes cannot be listed.
pub fn run(cx: &mut Context) -> Result<Code, Failure> {
    let around = town::find(&cx.around).ok();
    let mut roots: BTreeMap<PathBuf, Option<i32>> = daemons(Path::new("/proc"))
        .map_err(|error| Failure::failed(format!("the processes cannot be listed: {error}")))?
        .into_iter()
        .map(|(root, pid)| (root, Some(pid)))
        .collect();
    if let Some(around) = &around {
        roots.entry(around.clone()).or_insert(None);
    }
    let towns: Vec<Town> =
        roots.into_iter().map(|(root, pid)| describe(&root, pid, around.as_deref() == Some(&root))).collect();
    let screen = &mut cx.screen;
    if screen.json {
        screen.envelope("towns", &json!({ "items": towns }))?;
        return Ok(Code::Done);
    }
    if towns.is_empty() {
        note("no daemon of yours runs, and this is no town");
        return Ok(Code::Done);
    }
    let mut table = Table::new(&["TOWN", "DAEMON", "SINCE", "VERSION", "HERE", "ROOT"]);
    for town in &towns {
        let daemon = match town.pid {
            Some(pid) => Cell::new(pid.to_string(), Tone::Good),
            None => Cell::new("none", Tone::Dim),
        };
        table.row(vec![
            town.name.clone().into(),
            daemon,
            town.started_at.map(time::ago).unwrap_or_default().into(),
            town.version.clone().unwrap_or_default().into(),
            if town.here { "here" } else { "" }.into(),
            town.root.clone().into(),
        ]);
    }
    let lines = table.render(screen.paint, screen.width);
    screen.lines(lines)?;
    Ok(Code::Done)
}

/// Daemons of this user: the root of each one's town, and its process.
fn daemons(proc: &Path) -> std::io::Result<Vec<(PathBuf, i32)>> {
    let own = rustix::process::getuid().as_raw();
    let mut found = Vec::new();
    for entry in fs::read_dir(proc)?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        let dir = entry.path();
        let ours = fs::metadata(&dir).is_ok_and(|meta| meta.uid() == own);
        // A process calls itself what it likes; the lock that it holds is what counts.
        if !ours || fs::read_to_string(dir.join("comm")).map(|comm| comm.trim() != "gtd").unwrap_or(true) {
            continue;
        }
        let Ok(files) = fs::read_dir(dir.join("fd")) else { continue };
        let root = files.flatten().find_map(|file| {
            let target = fs::read_link(file.path()).ok()?;
            target.ends_with(LOCK).then(|| target.ancestors().nth(2).map(Path::to_owned)).flatten()
        });
        found.extend(root.map(|root| (root, pid)));
    }
    Ok(found)
}

fn describe(root: &Path, pid: Option<i32>, here: bool) -> Town {
    let read = |path: &str| fs::read(root.join(path)).ok();
    // That of a daemon that is gone says nothing of this one.
    let endpoint: Option<Endpoint> = read("daemon/endpoint.json")
        .and_then(|text| serde_json::from_slice(&text).ok())
        .filter(|endpoint: &Endpoint| Some(endpoint.pid) == pid);
    let town: Value =
        read("mayor/town.json").and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
    let name = town.get("name").and_then(Value::as_str).map(str::to_owned);
    Town {
        name: name.unwrap_or_else(|| root.file_name().unwrap_or_default().to_string_lossy().into_owned()),
        root: root.display().to_string(),
        town_id: endpoint.as_ref().map(|endpoint| endpoint.town_id.to_string()),
        version: endpoint.as_ref().map(|endpoint| endpoint.version.clone()),
        started_at: endpoint.as_ref().map(|endpoint| endpoint.started_at),
        socket: endpoint.map(|endpoint| endpoint.socket),
        running: pid.is_some(),
        pid,
        here,
    }
}
