//! tmux, and what its server depends on.

use super::super::{Found, Hint, World};
use crate::process::ProcessId;
use crate::process::{Observation, facts};
use crate::tmux::ServerState;

/// Where systemd notes whose processes outlive their login.
const LINGER: &str = "/var/lib/systemd/linger";

pub(super) fn tmux(world: &World) -> Found {
    let Some(live) = &world.live else { return Found::skipped("no daemon runs") };
    let version = live.tmux_version.clone().unwrap_or_else(|| "of a version that is not known".to_owned());
    let found = match &live.tmux {
        ServerState::Up(server) => match &live.tmux_complaint {
            Some(why) => Found::warning(why.clone()).hint(Hint::DaemonStatus),
            None => Found::ok(format!("tmux {version}, server {}", server.process.pid)),
        },
        ServerState::Down if live.agents.iter().any(|agent| agent.running) => {
            Found::error("agents run, and no tmux server is known").hint(Hint::Status)
        }
        ServerState::Down => {
            Found::ok(format!("tmux {version}, no server: it is started with the first agent"))
        }
        ServerState::Unresponsive { .. } => {
            Found::error("its server lives and does not answer").hint(Hint::Logs)
        }
        ServerState::Unavailable { .. } => Found::error("tmux cannot be used").hint(Hint::Logs),
    };
    let found = match &live.tmux {
        ServerState::Up(_) | ServerState::Down => found,
        other => found.details([format!("{other:?}")]),
    };
    found.with("private", live.tmux_private)
}

pub(super) fn cgroup(world: &World) -> Found {
    let Some(live) = &world.live else { return Found::skipped("no daemon runs") };
    let ServerState::Up(server) = &live.tmux else { return Found::skipped("there is no tmux server") };
    let own = match ProcessId::own() {
        Ok(own) => own,
        Err(error) => return Found::unknown(format!("our own process cannot be read: {error}")),
    };
    judge_cgroups(facts::cgroup(&own), facts::cgroup(&server.process))
}

/// Stopping a unit may end all that is in its cgroup, the tmux server with every agent included.
fn judge_cgroups(own: Observation<String>, server: Observation<String>) -> Found {
    let (own, server) = match (own, server) {
        (Observation::Alive(own), Observation::Alive(server)) => (own, server),
        (Observation::Absent, _) | (_, Observation::Absent) => {
            return Found::skipped("there are no cgroups here");
        }
        (own, server) => return Found::unknown(format!("cgroups cannot be read: {own:?}, {server:?}")),
    };
    let unit = own.rsplit('/').next().filter(|name| name.ends_with(".service"));
    let found = match unit {
        None => Found::ok("the daemon is in no unit of a service manager"),
        Some(unit) if server == own || server.starts_with(&format!("{own}/")) => Found::warning(format!(
            "the tmux server is in the cgroup of {unit}: limits of the unit are limits of all agents, and a stop that \
             ends the cgroup ends them"
        ))
        .hint(Hint::DaemonStatus),
        Some(unit) => Found::ok(format!("the tmux server is outside of {unit}")),
    };
    found.with("daemon", own).with("server", server)
}

pub(super) fn linger(_: &World) -> Found {
    let own = match ProcessId::own().map(|own| facts::cgroup(&own)) {
        Ok(Observation::Alive(own)) => own,
        Ok(_) => return Found::skipped("there are no cgroups here"),
        Err(error) => return Found::unknown(format!("our own process cannot be read: {error}")),
    };
    let user = std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).unwrap_or_default();
    let lingers = std::path::Path::new(LINGER).join(&user).exists();
    judge_linger(&own, &user, lingers)
}

fn judge_linger(cgroup: &str, user: &str, lingers: bool) -> Found {
    let of_user = cgroup.split('/').any(|part| part.starts_with("user@") || part.starts_with("session-"));
    if !of_user {
        return Found::skipped("this does not run in a login of a user");
    }
    if user.is_empty() {
        return Found::unknown("whose login this is, is not known: there is no USER");
    }
    if lingers {
        return Found::ok(format!("processes of {user} outlive the login"));
    }
    Found::warning(format!(
        "when {user} logs out everywhere, the service manager may end the daemon and all agents; to prevent that: \
         loginctl enable-linger {user}"
    ))
    .hint(Hint::Again("linger"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use gtd_proto::doctor::CheckStatus as S;

    #[test]
    fn a_server_inside_the_units_cgroup_is_told() {
        let alive = |path: &str| Observation::Alive(path.to_owned());
        let unit = "/user.slice/user@1.service/app.slice/gtd.service";
        let cases = [
            (alive(unit), alive(unit), S::Warning),
            (alive(unit), alive(&format!("{unit}/sub")), S::Warning),
            (alive(unit), alive("/user.slice/user@1.service/app.slice/gtd.service-x.scope"), S::Ok),
            (alive(unit), alive("/user.slice/tmux.scope"), S::Ok),
            (alive("/user.slice/session-1.scope"), alive("/user.slice/session-1.scope"), S::Ok),
            (Observation::Absent, alive(unit), S::Skipped),
            (alive(unit), Observation::Unknown("no".into()), S::Unknown),
        ];
        for (own, server, expected) in cases {
            assert_eq!(judge_cgroups(own.clone(), server.clone()).status, expected, "{own:?} {server:?}");
        }
    }

    #[test]
    fn a_login_that_ends_takes_along_what_does_not_linger() {
        let unit = "/user.slice/user-1.slice/user@1.service/app.slice/gtd.service";
        assert_eq!(judge_linger(unit, "u", false).status, S::Warning);
        assert_eq!(judge_linger(unit, "u", true).status, S::Ok);
        assert_eq!(judge_linger(unit, "", true).status, S::Unknown);
        assert_eq!(judge_linger("/system.slice/x.service", "u", false).status, S::Skipped);
    }
}
