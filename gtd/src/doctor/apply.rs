//! Carrying out a plan, item by item; each looks again at the instant of acting.

use std::collections::BTreeSet;
use std::time::Duration;

use gtd_proto::InstanceId;

use super::found::{Remedy, Step};
use crate::process::record::{RecordLook, read_record};
use crate::process::{Observation, observe};
use crate::supervisor::Handle;
use crate::supervisor::orphans::in_words;

/// Does one thing; what came of it, and whether it did what it was to do.
pub async fn apply(handle: &Handle, step: &Step, by: &str) -> (String, bool) {
    match &step.remedy {
        Remedy::Sweep { instance } => sweep(handle, instance, by).await,
        Remedy::ClosePane { server, pane, instance } => {
            let launch = handle.runtime().shared().run_dir.join(format!("{instance}.launch"));
            let driver = handle.runtime().driver();
            match driver.started_with(server, pane).await {
                Ok(Some((true, command)))
                    if command.contains("gtd-shim") && command.contains(&*launch.to_string_lossy()) => {}
                Ok(None) => return ("it is gone already".to_owned(), true),
                Ok(Some((true, _))) => {
                    return ("left: it was not started with our shim on a launch of ours".to_owned(), false);
                }
                Ok(Some((false, _))) => return ("left: something runs in it now".to_owned(), false),
                Err(error) => return (format!("left: it cannot be looked at: {error}"), false),
            }
            if is_open(handle, instance).await != Some(false) {
                return ("left: its instance is under way, or that cannot be told".to_owned(), false);
            }
            if let Err(error) = driver.close_dead_pane(server, pane).await {
                return (format!("it stays: {error}"), false);
            }
            match driver.started_with(server, pane).await {
                Ok(None) => ("closed".to_owned(), true),
                Ok(Some(_)) => ("left: something runs in it now".to_owned(), false),
                Err(error) => (format!("whether it is closed cannot be told: {error}"), false),
            }
        }
        Remedy::RemoveFile { path, instance } => remove(handle, path, instance).await,
    }
}

async fn sweep(handle: &Handle, instance: &str, by: &str) -> (String, bool) {
    // Judged anew: what was found may be somebody else's by now.
    let seen = match handle.look_for_orphans().await {
        Ok(seen) => seen,
        Err(blind) => return (format!("left: {blind}"), false),
    };
    let only = BTreeSet::from([instance.to_owned()]);
    let by = format!("{by}: doctor");
    let swept = handle.sweep_orphans(&seen, Some(&only), Duration::ZERO, &by).await;
    match swept.first() {
        Some(swept) => (in_words(swept), swept.report.is_gone()),
        None => ("nothing of it was left".to_owned(), true),
    }
}

async fn remove(handle: &Handle, path: &std::path::Path, instance: &str) -> (String, bool) {
    match is_open(handle, instance).await {
        Some(false) => {}
        Some(true) => return ("left: its instance is under way".to_owned(), false),
        None => return ("left: whether its instance is over cannot be told".to_owned(), false),
    }
    match in_use(path) {
        Use::Over => {}
        Use::Live => return ("left: its shim lives".to_owned(), false),
        Use::Doubtful(why) => return (format!("left: {why}"), false),
    }
    match std::fs::remove_file(path) {
        Ok(()) => ("removed".to_owned(), true),
        Err(error) if error.kind() == io_absent() => ("it is gone already".to_owned(), true),
        Err(error) => (format!("it stays: {error}"), false),
    }
}

const fn io_absent() -> std::io::ErrorKind {
    std::io::ErrorKind::NotFound
}

/// Whose a file of the run directory is, by the record beside it.
pub(super) enum Use {
    /// Nobody's: there is no record, or its shim is proven gone.
    Over,
    /// A shim's that lives.
    Live,
    /// That cannot be told, and why. It stays.
    Doubtful(String),
}

/// Looks at the record of the instance that a file belongs to.
pub(super) fn in_use(path: &std::path::Path) -> Use {
    match read_record(&path.with_extension("record")) {
        RecordLook::Missing => Use::Over,
        RecordLook::Found(record) => match observe(&record.shim_id()) {
            Observation::Dead(_) | Observation::Absent => Use::Over,
            Observation::Alive(_) => Use::Live,
            Observation::Unknown(why) => Use::Doubtful(why),
        },
        RecordLook::Torn(why) => Use::Doubtful(format!("its record is damaged: {why}")),
        RecordLook::Unreadable(why) => Use::Doubtful(format!("its record cannot be read: {why}")),
        RecordLook::OtherVersion(v) => Use::Doubtful(format!("its record is of version {v}")),
    }
}

/// Whether the supervisor still has an instance.
async fn is_open(handle: &Handle, instance: &str) -> Option<bool> {
    let instance: InstanceId = instance.parse().ok()?;
    let boot = crate::process::BootId::current().ok()?;
    let rows = handle.ledger().instances_of(boot.as_str(), 4_096).await.ok()?;
    let open = rows.iter().any(|row| row.instance == instance && !row.ended);
    let shown = handle.view().read(|shown| {
        let mut agents = shown.agents.values();
        agents.any(|agent| {
            agent.instance.as_ref() == Some(&instance) && agent.state != gtd_proto::State::Stopped
        })
    });
    // One that is at rest between two starts is still its agent's present one.
    Some(open || shown)
}
