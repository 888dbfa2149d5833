//! The checks, by subject. Each only looks; what it needs was gathered before.

mod agents;
mod daemon;
mod disk;
mod neighbours;
mod orphans;
mod programs;
mod runtime;
mod service;
mod sessions;
mod tmux;
mod town;
mod worktrees;

use super::Check;

pub use service::Service;

const fn check(
    name: &'static str,
    category: &'static str,
    summary: &'static str,
    run: fn(&super::World) -> super::Found,
) -> Check {
    Check { name, category, summary, needs_daemon: false, fixable: false, run }
}

const fn asks(check: Check) -> Check {
    Check { needs_daemon: true, ..check }
}

const fn mends(check: Check) -> Check {
    Check { needs_daemon: true, fixable: true, ..check }
}

/// All checks, in the order in which they are shown.
pub(super) const ALL: &[Check] = &[
    check("daemon", "daemon", "The daemon runs and says that all it relies on works", daemon::daemon),
    check("socket", "daemon", "The socket is where it is announced, and ours alone", daemon::socket),
    asks(check("ledger", "daemon", "The ledger is on disk, whole, copied and bounded", daemon::ledger)),
    check("clock", "daemon", "Nothing was written in the future", daemon::clock),
    check("disk", "daemon", "The disk of the town has room", disk::disk),
    check("logs", "daemon", "Logs and event files are bounded", disk::logs),
    check("config", "town", "settings/gtd.toml can be used", town::config),
    check("registry", "town", "mayor/rigs.json can be read", town::registry),
    check("rig-directories", "town", "Registered rigs are there, with what they need", town::rig_directories),
    check("names", "town", "Names and prefixes can be told apart", town::names),
    check("settings", "town", "Settings, switches and state files can be read", town::settings),
    check("accounts", "town", "Accounts can be read, and their directories are there", programs::accounts),
    check("path", "programs", "The search path has what is needed", programs::path),
    check(
        "service",
        "programs",
        "The service manager runs the daemon, and has not given it up",
        service::state,
    ),
    check("service-path", "programs", "The PATH of the unit has what is needed", service::path),
    asks(check(
        "agent-binaries",
        "programs",
        "Each agent's program and directory are there",
        programs::agents,
    )),
    asks(check("tmux", "tmux", "tmux is new enough and its server answers", tmux::tmux)),
    asks(check("tmux-cgroup", "tmux", "The tmux server outlives the daemon's unit", tmux::cgroup)),
    check("linger", "tmux", "What runs in a user's session outlives the login", tmux::linger),
    check("worktrees", "work", "Workers' directories are worktrees of their rig", worktrees::worktrees),
    asks(check("stale-hooks", "work", "Whoever has work on a hook is there", worktrees::hooks)),
    asks(check(
        "agent-environment",
        "agents",
        "Running agents carry their own instance's marks",
        agents::environment,
    )),
    mends(check("orphan-sessions", "cleanup", "Sessions that no agent will use", sessions::orphans)),
    mends(check("zombie-sessions", "cleanup", "Sessions whose agent is dead", sessions::zombies)),
    mends(check("orphan-processes", "cleanup", "Processes of instances that are over", orphans::processes)),
    mends(check("stale-files", "cleanup", "Launch files and records that nobody needs", runtime::files)),
    check("other-towns", "neighbours", "Other daemons of this user", neighbours::towns),
    check("incumbent", "neighbours", "No other supervisor works on this town", neighbours::incumbent),
];
