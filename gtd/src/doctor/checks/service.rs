//! The unit that a service manager runs the daemon by, where one is installed.

use std::collections::BTreeSet;
use std::path::PathBuf;

use gtd_proto::{RigName, Role};

use super::super::{Found, Hint, World};
use super::programs::{NEEDED, is_program};
use crate::agents::resolve::{Sources, resolve};
use crate::host::installed::{Installed, Told};

/// Exit codes after which the unit is not started again, since that would not help (`RestartPreventExitStatus=`).
const POINTLESS: [i32; 3] = [1, 2, 78];

/// A town's unit and what its manager says of it.
#[derive(Debug, Clone)]
pub struct Service {
    /// As its files are.
    pub installed: Installed,
    /// What the manager says, or why it does not.
    pub told: Result<Told, String>,
}

/// The unit, or what to say without one.
fn of(world: &World) -> Result<&Service, Found> {
    match &world.service {
        Ok(Some(service)) => Ok(service),
        Ok(None) => Err(Found::skipped("no service of systemd is installed for this town")),
        Err(why) => Err(Found::unknown(format!("the user's units cannot be read: {why}"))),
    }
}

pub(super) fn state(world: &World) -> Found {
    let Service { installed, told } = match of(world) {
        Ok(service) => service,
        Err(found) => return found,
    };
    let own = world.live.as_ref().map(|_| i32::try_from(std::process::id()).unwrap_or_default());
    match told {
        Ok(told) => judge(installed, told, own)
            .with("active", told.active.clone())
            .with("result", told.result.clone())
            .with("restarts", told.restarts),
        Err(why) => Found::unknown(format!("the manager of {} does not answer: {why}", installed.unit)),
    }
}

/// What becomes of the daemon when it ends, or the session does.
fn judge(installed: &Installed, told: &Told, own: Option<i32>) -> Found {
    let unit = &installed.unit;
    let how = how_it_ended(told);
    match (told.active.as_str(), own) {
        ("failed", _) if told.result == "exit-code" && POINTLESS.contains(&told.status) => {
            Found::error(format!("{unit} is not started again, because that would not help: {how}"))
                .hint(Hint::ConfigCheck)
        }
        ("failed", _) => Found::error(format!(
            "{unit} has reached its start limit after {} and is not started again: the last time {how}",
            super::super::found::many(
                usize::try_from(told.restarts).unwrap_or_default(),
                "restart",
                "restarts"
            )
        ))
        .hint(Hint::DaemonStart),
        (_, None) if told.sub == "auto-restart" => {
            Found::warning(format!("{unit} is about to be started again: the last time {how}"))
                .hint(Hint::Logs)
        }
        (_, None) => Found::ok(format!("{unit} is {}", word(told))),
        (_, Some(own)) if told.pid != Some(own) => Found::warning(format!(
            "{unit} is installed, and this daemon was started without it: nobody restarts it"
        ))
        .hint(Hint::DaemonRestart),
        (_, Some(_)) if !installed.enabled => {
            Found::warning(format!("{unit} is not started with your session")).hint(Hint::DaemonInstall)
        }
        (_, Some(_)) => Found::ok(format!("{unit} runs this daemon, and restarts it")),
    }
}

fn word(told: &Told) -> &str {
    if told.active.is_empty() { "in a state that its manager does not name" } else { &told.active }
}

fn how_it_ended(told: &Told) -> String {
    match told.result.as_str() {
        "watchdog" => "the watchdog ended it, because it had stopped turning".to_owned(),
        "exit-code" => format!("it ended with exit code {}", told.status),
        "signal" | "core-dump" => format!("signal {} ended it", told.status),
        other => format!("its result was {other:?}"),
    }
}

pub(super) fn path(world: &World) -> Found {
    let Installed { unit, path, .. } = match of(world) {
        Ok(service) => &service.installed,
        Err(found) => return found,
    };
    let Some(path) = path else {
        return Found::warning(format!("{unit} names no PATH: what agents need may not be found"))
            .hint(Hint::DaemonInstall);
    };
    let dirs: Vec<PathBuf> = std::env::split_paths(path).collect();
    let missing: Vec<String> = programs(world)
        .into_iter()
        .filter(|name| !dirs.iter().any(|dir| is_program(&dir.join(name))))
        .collect();
    let run_by_it = world.service.as_ref().is_ok_and(|service| {
        let told = service.as_ref().and_then(|service| service.told.as_ref().ok());
        told.and_then(|told| told.pid) == i32::try_from(std::process::id()).ok()
    });
    let found = if let Some(first) = missing.first() {
        let more = missing.len() - 1;
        let more = if more > 0 { format!(", nor {more} more") } else { String::new() };
        Found::error(format!("{first} is not on the PATH of {unit}{more}; to take over yours, type the hint"))
            .hint(Hint::DaemonInstall)
    } else if run_by_it && world.path.as_ref() != Some(path) {
        Found::warning(format!("the daemon runs with another PATH than {unit} has by now"))
            .hint(Hint::DaemonRestart)
    } else {
        Found::ok(format!("what the town needs is on the PATH of {unit}"))
    };
    found.details(missing.into_iter().skip(1)).with("path", path.clone())
}

/// Programs that are looked for by name: what a town cannot do without, and its agents' own.
fn programs(world: &World) -> BTreeSet<String> {
    let mut names: BTreeSet<String> = NEEDED.into_iter().map(str::to_owned).collect();
    let wanted: Vec<(Option<&RigName>, Role)> = match &world.live {
        Some(live) => live.agents.iter().map(|agent| (agent.agent.rig(), agent.role)).collect(),
        None => {
            let rigs = world.town.rigs.keys();
            rigs.flat_map(|rig| [(Some(rig), Role::Witness), (Some(rig), Role::Refinery)]).collect()
        }
    };
    for (rig, role) in wanted {
        // Crew's is their own affair, and what cannot be told is another check's.
        if role == Role::Crew {
            continue;
        }
        let Ok(sources) = Sources::of(&world.town, rig) else { continue };
        let Ok(choice) = resolve(&sources, role, None) else { continue };
        let command = choice.entry.command.or_else(|| choice.preset.command.map(str::to_owned));
        names.extend(command.filter(|command| !command.contains('/')));
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use gtd_proto::doctor::CheckStatus as S;

    #[test]
    fn every_state_of_a_unit_has_its_words() {
        let unit = |enabled| Installed { unit: "gtd@t.service".into(), path: None, enabled };
        let told = |active: &str, sub: &str, result: &str, status, pid| Told {
            active: active.into(),
            sub: sub.into(),
            result: result.into(),
            status,
            restarts: 4,
            pid,
        };
        let cases = [
            (told("active", "running", "success", 0, Some(7)), Some(7), true, S::Ok, "runs this daemon"),
            (
                told("active", "running", "success", 0, Some(7)),
                Some(7),
                false,
                S::Warning,
                "not started with",
            ),
            (told("inactive", "dead", "success", 0, None), Some(7), true, S::Warning, "without it"),
            (told("inactive", "dead", "success", 0, None), None, true, S::Ok, "inactive"),
            (
                told("failed", "failed", "signal", 9, None),
                None,
                true,
                S::Error,
                "start limit after 4 restarts",
            ),
            (told("failed", "failed", "signal", 9, None), Some(7), true, S::Error, "signal 9"),
            (told("failed", "failed", "exit-code", 78, None), None, true, S::Error, "would not help"),
            (told("failed", "failed", "watchdog", 6, None), None, true, S::Error, "watchdog"),
            (told("activating", "auto-restart", "signal", 9, None), None, true, S::Warning, "about to be"),
        ];
        for (told, own, enabled, status, words) in cases {
            let found = judge(&unit(enabled), &told, own);
            assert_eq!(found.status, status, "{told:?}");
            assert!(found.message.contains(words), "{found:?}");
            assert_eq!(found.hint.is_some(), status != S::Ok, "{found:?}");
        }
    }
}
