//! What the town's files say. What is found here was found by the readers of the files; it is only sorted.

use gtd_proto::town::Severity;

use super::super::found::many;
use super::super::{Found, Hint, World};
use crate::town::{Finding, Known};

pub(super) fn config(world: &World) -> Found {
    match &world.config {
        Ok(_) => Found::ok("it can be used"),
        Err(why) => Found::error(why.clone()).hint(Hint::ConfigCheck),
    }
}

pub(super) fn registry(world: &World) -> Found {
    let found = match &world.town.registry {
        Known::Good(registry) => {
            Found::ok(many(registry.rigs.len(), "rig is registered", "rigs are registered"))
        }
        // It cannot be read: whether there are rigs is not known, and nothing is taken for absent.
        Known::Kept { .. } | Known::Unknown { .. } => {
            let why = world.town.registry.error().unwrap_or_default();
            let why = format!("which rigs there are is not known: mayor/rigs.json {why}");
            Found::error(format!("{why}; mend it by hand, it is taken up at once"))
                .hint(Hint::Again("registry"))
        }
    };
    let about = |key: &str| key == "town" || (key.starts_with("registry") && key != "registry");
    sorted(world, "registry", found, about)
}

pub(super) fn rig_directories(world: &World) -> Found {
    let known = world.town.rigs_known();
    let count = world.town.rigs.keys().filter(|rig| world.means(rig)).count();
    let found = if known {
        Found::ok(many(count, "rig is there", "rigs are there"))
    } else {
        Found::unknown("which rigs there are is not known")
    };
    let missing =
        world.town.rigs.iter().filter(|(rig, facts)| world.means(rig) && facts.present == Ok(true)).flat_map(
            |(rig, facts)| {
                let missing =
                    ["witness", "refinery"].into_iter().filter(|dir| !facts.path.join(dir).is_dir());
                missing.map(move |dir| format!("rig {rig} has no {dir}/")).collect::<Vec<_>>()
            },
        );
    let missing: Vec<String> = missing.collect();
    let found = match missing.first() {
        Some(first) if known => {
            let said = format!("{first}: make the directory");
            Found::warning(said).details(missing.iter().skip(1).cloned()).hint(Hint::Again("rig-directories"))
        }
        _ => found,
    };
    sorted(world, "rig-directories", found, |key| key.ends_with(":directory"))
}

pub(super) fn names(world: &World) -> Found {
    if !world.town.rigs_known() {
        return Found::unknown("which rigs there are is not known");
    }
    let named_dirs =
        |key: &str| key.starts_with("rig:") && (key.contains(":polecats:") || key.contains(":crew:"));
    let found = Found::ok("all can be told apart");
    let mut found = sorted(world, "names", found, |key| key.starts_with("prefix:") || named_dirs(key));
    let doubled: Vec<String> = world
        .town
        .rigs
        .iter()
        .filter(|(rig, _)| world.means(rig))
        .flat_map(|(rig, facts)| {
            let crew = facts.crew_names();
            let both = facts.polecat_names().iter().filter(|name| crew.contains(name));
            both.map(move |name| format!("rig {rig} has both a worker and a person called {name}"))
                .collect::<Vec<_>>()
        })
        .collect();
    if let Some(first) = doubled.first()
        && found.status == gtd_proto::doctor::CheckStatus::Ok
    {
        found = Found::warning(format!("{first}: let one of them go"))
            .hint(Hint::Again("names"))
            .details(found.details);
    }
    found.details(doubled)
}

pub(super) fn settings(world: &World) -> Found {
    let about = |key: &str| {
        key.starts_with("settings")
            || key.starts_with("patrols")
            || key.contains(":settings")
            || key.contains(":state")
            || key.ends_with(":config")
            || (key.starts_with("rig:") && (key.ends_with(":polecats") || key.ends_with(":crew")))
    };
    sorted(world, "settings", Found::ok("all can be read"), about)
}

/// The findings of some keys on top of what is said without them. What has to be done by hand is in the details, and
/// the hint is to look again after it.
fn sorted(world: &World, check: &'static str, otherwise: Found, about: impl Fn(&str) -> bool) -> Found {
    let of_rig = |finding: &&Finding| {
        let rig = finding.key.strip_prefix("rig:").and_then(|rest| rest.split(':').next());
        world.rig.as_ref().is_none_or(|only| rig.is_none_or(|rig| rig == only.as_str()))
    };
    let found: Vec<&Finding> =
        world.town.findings.iter().filter(|finding| about(&finding.key)).filter(of_rig).collect();
    let Some(worst) = found.iter().find(|finding| finding.severity == Severity::Error).or(found.first())
    else {
        return otherwise;
    };
    let line = |finding: &Finding| match &finding.hint {
        Some(hint) => format!("{}: {hint}", finding.message),
        None => finding.message.clone(),
    };
    let said = match worst.severity {
        Severity::Error => Found::error(worst.message.clone()),
        _ => Found::warning(worst.message.clone()),
    };
    // What was wrong before stays the graver of the two.
    let said = if otherwise.status == gtd_proto::doctor::CheckStatus::Error { otherwise } else { said };
    said.details(found.into_iter().map(line)).hint(Hint::Again(check))
}
