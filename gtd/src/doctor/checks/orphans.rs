//! Processes that were left behind.

use std::collections::BTreeMap;

use gtd_proto::doctor::FixClass;
use serde_json::{Map, json};

use super::super::found::many;
use super::super::{Found, Hint, Remedy, Step, World};
use crate::config::SweepMode;
use crate::process::{Judged, Verdict};

pub(super) fn processes(world: &World) -> Found {
    let Some(live) = &world.live else { return Found::skipped("no daemon runs") };
    let seen = match &live.orphans {
        Ok(seen) => seen,
        Err(blind) => return Found::unknown(blind.to_string()).hint(Hint::DaemonStatus),
    };
    let found = &seen.found;
    let of_rig = |item: &&Judged| {
        let agent: Option<gtd_proto::Address> = item.agent.as_deref().and_then(|agent| agent.parse().ok());
        world.rig.is_none() || agent.is_some_and(|agent| world.means_agent(&agent))
    };
    let ours: Vec<&Judged> = found.of(Verdict::Orphan).filter(of_rig).collect();
    let unproved: Vec<&Judged> = found.of(Verdict::Unproved).filter(of_rig).collect();
    let not_ours = found.of(Verdict::NotOurs).filter(|_| world.rig.is_none());
    let looked = format!(
        "{} looked at, {} of agents that run",
        many(found.looked, "process", "processes"),
        found.live
    );
    let said = match (ours.len(), unproved.len()) {
        (0, 0) => Found::ok(looked),
        (0, many_unproved) => Found::warning(format!(
            "{}, and nothing proves {}; they are left alone",
            many(many_unproved, "process looks like ours", "processes look like ours"),
            if many_unproved == 1 { "it" } else { "them" }
        ))
        .hint(Hint::OrphansList),
        (left, _) => {
            Found::warning(format!("{} left over", many(left, "process of ours is", "processes of ours are")))
                .hint(Hint::Fix("orphan-processes"))
        }
    };
    let details = ours.iter().chain(&unproved).map(|item| line(item)).chain(not_ours.map(line));
    let details: Vec<String> = details.collect();
    let mut by_instance: BTreeMap<&str, Vec<&Judged>> = BTreeMap::new();
    for item in &ours {
        if let Some(instance) = &item.instance {
            by_instance.entry(instance).or_default().push(item);
        }
    }
    // The heartbeat ends these by itself, unless the configuration says that nothing is to be.
    let reports = world.config.as_ref().is_ok_and(|config| config.sweep.mode == SweepMode::Report);
    let class = if reports { FixClass::Disruptive } else { FixClass::Safe };
    let steps = by_instance.into_iter().map(|(instance, items)| step(instance, &items));
    said.details(details)
        .fix(class, steps)
        .with("looked", found.looked)
        .with("live", found.live)
        .with("helpers", found.of(Verdict::Helper).count())
        .with("protected", found.of(Verdict::Protected).count())
}

fn step(instance: &str, items: &[&Judged]) -> Step {
    let agent = items.first().and_then(|item| item.agent.clone()).unwrap_or_default();
    let processes: Vec<_> = items
        .iter()
        .map(|item| {
            json!({
                "pid": item.id.pid.get(), "start": item.id.start.get(), "comm": item.comm, "proof": item.proof,
                "age_ms": u64::try_from(item.age.as_millis()).unwrap_or(u64::MAX),
            })
        })
        .collect();
    let mut evidence = Map::new();
    evidence.insert("agent".to_owned(), json!(agent));
    evidence.insert("instance".to_owned(), json!(instance));
    evidence.insert("processes".to_owned(), json!(processes));
    Step {
        remedy: Remedy::Sweep { instance: instance.to_owned() },
        target: format!("{} of {agent} {instance}", many(items.len(), "process", "processes")),
        evidence,
    }
}

fn line(item: &Judged) -> String {
    let cwd = item.cwd.as_ref().map(|cwd| format!(" in {}", cwd.display())).unwrap_or_default();
    let parent = item.parent.map_or(1, |parent| parent.get());
    let age = humantime::format_duration(std::time::Duration::from_secs(item.age.as_secs()));
    format!(
        "{}: {} {}{cwd}, parent {parent}, since {age}: {}",
        item.verdict.as_str().replace('_', " "),
        item.id.pid,
        item.comm,
        item.reason
    )
}
