//! Programs and accounts that agents need.

use std::path::{Path, PathBuf};

use super::super::found::many;
use super::super::{Found, Hint, World};
use crate::agents::accounts;

/// Programs that a town cannot do without.
pub(super) const NEEDED: [&str; 2] = ["tmux", "git"];

pub(super) fn path(world: &World) -> Found {
    let Some(path) = &world.path else {
        return Found::error("there is no PATH: no program can be found by its name")
            .hint(Hint::DaemonRestart);
    };
    let dirs: Vec<PathBuf> = std::env::split_paths(path).collect();
    let missing: Vec<&str> =
        NEEDED.into_iter().filter(|name| !dirs.iter().any(|dir| is_program(&dir.join(name)))).collect();
    let odd: Vec<String> = dirs
        .iter()
        .filter(|dir| !dir.is_absolute())
        .map(|dir| {
            format!(
                "{:?} is no absolute path: what it means depends on where an agent stands",
                dir.display().to_string()
            )
        })
        .collect();
    let found = if !missing.is_empty() {
        Found::error(format!("{} cannot be found in PATH", missing.join(" and "))).hint(Hint::DaemonRestart)
    } else if let Some(first) = odd.first() {
        Found::warning(first.clone()).hint(Hint::DaemonRestart)
    } else {
        Found::ok(format!("{} and all that is needed is there", many(dirs.len(), "directory", "directories")))
    };
    found.details(odd).with("path", path.clone())
}

pub(super) fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

pub(super) fn agents(world: &World) -> Found {
    let Some(live) = &world.live else { return Found::skipped("no daemon runs") };
    let meant: Vec<_> =
        live.agents.iter().map(|agent| &agent.agent).filter(|agent| world.means_agent(agent)).collect();
    let broken: Vec<String> = meant
        .iter()
        .filter_map(|agent| {
            let failure = live.prepare.look(agent).err()?;
            let hint = failure.hint.as_deref().map(|hint| format!("; {hint}")).unwrap_or_default();
            Some(format!("{agent}: {}{hint}", failure.message))
        })
        .collect();
    if broken.is_empty() {
        return Found::ok(format!("{} could be launched", many(meant.len(), "agent", "agents")));
    }
    Found::error(format!("{} cannot be launched", many(broken.len(), "agent", "agents")))
        .details(broken)
        .hint(Hint::Status)
}

pub(super) fn accounts(world: &World) -> Found {
    let file = world.layout.accounts_json();
    let read = match accounts::read(&file, world.home.as_deref()) {
        Ok(read) => read,
        Err(error) => return Found::error(error.to_string()).hint(Hint::Again("accounts")),
    };
    let missing: Vec<String> = read
        .all()
        .filter(|account| !account.config_dir.is_dir())
        .map(|account| format!("account {}: there is no {}", account.handle, account.config_dir.display()))
        .collect();
    if let Err(error) = read.choose(None, None) {
        return Found::error(error.to_string()).details(missing).hint(Hint::Status);
    }
    match missing.first() {
        Some(first) => {
            Found::warning(first.clone()).details(missing.iter().skip(1).cloned()).hint(Hint::Status)
        }
        None => Found::ok(many(read.all().count(), "account is registered", "accounts are registered")),
    }
}
