//! Programs and accounts that agents need.

use std::path::{Path, PathBuf};

use gtd_proto::{Address, Agent};

use super::super::found::many;
use super::super::{Found, Hint, World};
use crate::agents::accounts;
use crate::config::{BootMode, DeaconMode, Mode};

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
        let missing = missing.join(" and ");
        Found::error(format!(
            "{missing} cannot be found in PATH: install it, or start the daemon from where it is found"
        ))
        .hint(Hint::DaemonRestart)
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
    // One that is switched off, and does not run either, needs nothing.
    let needed =
        |agent: &&Agent| world.means_agent(&agent.agent) && (agent.running || !off(world, &agent.agent));
    let meant: Vec<_> = live.agents.iter().filter(needed).map(|agent| &agent.agent).collect();
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
        .hint(Hint::Again("agent-binaries"))
}

/// The configuration wants none of its kind.
fn off(world: &World, agent: &Address) -> bool {
    world.config.as_ref().is_ok_and(|config| match agent {
        Address::Deacon => config.deacon.mode == DeaconMode::Off,
        Address::Boot => config.boot.mode != BootMode::Agent,
        Address::Witness(_) => config.witness.mode == Mode::Off,
        Address::Refinery(_) => config.refinery.mode == Mode::Off,
        Address::Mayor | Address::Polecat(..) | Address::Crew(..) => false,
    })
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
        return Found::error(error.to_string()).details(missing).hint(Hint::Again("accounts"));
    }
    match missing.first() {
        Some(first) => Found::warning(first.clone())
            .details(missing.iter().skip(1).cloned())
            .hint(Hint::Again("accounts")),
        None => Found::ok(many(read.all().count(), "account is registered", "accounts are registered")),
    }
}
