//! Files in the run directory.

use std::collections::BTreeSet;

use gtd_proto::InstanceId;
use gtd_proto::doctor::FixClass;
use serde_json::{Map, json};

use super::super::apply::{Use, in_use};
use super::super::found::many;
use super::super::{Found, Hint, Remedy, Step, World};

/// Files younger than this may be of a start that is under way.
const YOUNG: std::time::Duration = std::time::Duration::from_secs(60);

pub(super) fn files(world: &World) -> Found {
    let Some(live) = &world.live else { return Found::skipped("no daemon runs") };
    let seen = match &live.orphans {
        Ok(seen) => seen,
        Err(blind) => return Found::unknown(blind.to_string()).hint(Hint::DaemonStatus),
    };
    let open: BTreeSet<&str> =
        seen.on_record.iter().filter(|one| one.live).map(|one| one.instance.as_str()).collect();
    let current: BTreeSet<String> = live
        .agents
        .iter()
        .filter(|agent| agent.state != gtd_proto::State::Stopped)
        .filter_map(|agent| agent.instance.as_ref().map(ToString::to_string))
        .collect();
    let entries = match std::fs::read_dir(&live.run_dir) {
        Ok(entries) => entries,
        Err(error) => return Found::unknown(format!("{} cannot be read: {error}", live.run_dir.display())),
    };
    let (mut stale, mut doubtful) = (Vec::new(), Vec::new());
    for path in entries.flatten().map(|entry| entry.path()) {
        let ours = path.extension().is_some_and(|end| end == "launch" || end == "record");
        let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let old = std::fs::metadata(&path)
            .and_then(|meta| meta.modified())
            .is_ok_and(|at| at.elapsed().is_ok_and(|age| age >= YOUNG));
        if !ours
            || !old
            || stem.parse::<InstanceId>().is_err()
            || open.contains(stem)
            || current.contains(stem)
        {
            continue;
        }
        match in_use(&path) {
            Use::Over => stale.push((stem.to_owned(), path.clone())),
            Use::Live => {}
            Use::Doubtful(why) => doubtful.push(format!("{} stays: {why}", path.display())),
        }
    }
    stale.sort();
    doubtful.sort();
    if stale.is_empty() && !doubtful.is_empty() {
        // No hint: whether one of them is still needed is for a person to say.
        let found = many(doubtful.len(), "file is in doubt", "files are in doubt");
        return Found::warning(format!("{found}, and left to you")).details(doubtful);
    }
    if stale.is_empty() {
        return Found::ok(format!("nothing is left in {}", live.run_dir.display()));
    }
    let steps: Vec<Step> = stale
        .iter()
        .map(|(instance, path)| {
            let mut evidence = Map::new();
            evidence.insert("instance".to_owned(), json!(instance));
            evidence
                .insert("why".to_owned(), json!("its instance is not under way, and no shim of it lives"));
            Step {
                remedy: Remedy::RemoveFile { path: path.clone(), instance: instance.clone() },
                target: path.display().to_string(),
                evidence,
            }
        })
        .collect();
    Found::warning(format!(
        "{} of instances that are over",
        many(stale.len(), "file is left", "files are left")
    ))
    .details(stale.iter().map(|(_, path)| path.display().to_string()).chain(doubtful))
    .hint(Hint::Fix("stale-files"))
    .fix(FixClass::Safe, steps)
}
