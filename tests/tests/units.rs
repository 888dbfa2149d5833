//! The daemon as a service of a real `systemd --user`: ready, watched over, given up, stopped and replaced. Agents
//! outlive every one of these.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use gtd_tests::doctoring::check;
use gtd_tests::run::run;
use gtd_tests::served::{Served, manager, one_rig, same_agents, tmux_server, tree, unit_around};
use gtd_tests::{CHANGE, Process, QUICK, START, Setup, chaos_delay, programs, skipped, wait_for, wait_until};
use rustix::process::Signal;
use serde_json::{Value, json};

/// What systemd thinks of a directory of units, and of those in it by name.
fn verify(dir: &Path, units: &[&str]) -> gtd_tests::Output {
    let mut command = programs::bare("systemd-analyze", dir);
    command.env("XDG_RUNTIME_DIR", dir).args(["--user", "--man=no", "verify"]);
    command.args(units.iter().map(|unit| dir.join(unit)));
    run(command, START)
}

#[test]
fn units_as_they_are_installed_are_sound_and_an_unsound_one_would_be_noticed() {
    if programs::system("systemd-analyze").is_none() {
        skipped("units", "there is no systemd-analyze");
        return;
    }
    for name in ["t", "my \"town\" 100% $HOME\\", "-.dash", "Grüße"] {
        let town = Setup::new().named(name).make();
        let said: Value = town.gtctl(&["daemon", "install", "--listen", "--dry-run", "--json"]).ok().json();
        assert!(tree(&town.home()).is_empty(), "a plan writes nothing");
        let unit = said["result"]["unit"].as_str().unwrap();
        let dir = town.base().join("units");
        for file in said["result"]["files"].as_array().unwrap() {
            let path = Path::new(file["path"].as_str().unwrap());
            let below = path.strip_prefix(town.home().join(".config/systemd/user")).unwrap();
            fs::create_dir_all(dir.join(below).parent().unwrap()).unwrap();
            fs::write(dir.join(below), file["text"].as_str().unwrap()).unwrap();
        }
        // An instance of a template that is named by its path is read as a file.
        let socket = unit.replace(".service", ".socket");
        fs::copy(dir.join("gtd@.service"), dir.join(unit)).unwrap();
        fs::copy(dir.join("gtd@.socket"), dir.join(&socket)).unwrap();
        let said = verify(&dir, &[unit, &socket]);
        assert_eq!((said.code, said.out.as_str(), said.err.as_str()), (0, "", ""), "{name}");
        let text = fs::read_to_string(dir.join("gtd@.service")).unwrap();
        for (right, wrong) in
            [("WatchdogSec=", "WatchDogSec="), ("StartLimitBurst=5", "StartLimitBurst=many")]
        {
            assert!(text.contains(right));
            fs::write(dir.join(unit), text.replace(right, wrong)).unwrap();
            assert_ne!(verify(&dir, &[unit]).err, "", "{wrong}");
        }
    }
}

#[test]
fn ready_means_that_the_town_answers_and_the_status_says_how_it_goes() {
    let Some(served) = Served::up("ready", one_rig(), "") else { return };
    let (manager, town, unit) = (&served.manager, &served.town, served.unit());
    for _ in 0..3 {
        manager.systemctl(&["stop", &unit]).ok();
        assert!(UnixStream::connect(town.path("daemon/gtd.sock")).is_err());
        manager.systemctl(&["start", &unit]).ok();
        // Not a moment later.
        town.call("daemon.hello", json!({"client": "t", "protocol": 1}));
        assert_eq!(manager.property(&unit, "ActiveState"), "active");
    }
    town.wait_all_running();
    wait_for(QUICK, "how it goes", || {
        manager.property(&unit, "StatusText").contains("2 running").then_some(())
    });
    assert_eq!(
        served.daemon().pid,
        i32::try_from(town.call("daemon.status", json!({}))["pid"].as_i64().unwrap()).unwrap()
    );
    let said = town.gtctl(&["daemon", "status"]).ok().out;
    assert!(said.contains(&format!("Service: {unit}\n")), "{said}");
    for name in ["service", "service-path", "tmux-cgroup"] {
        assert_eq!(check(town, name)["status"], "ok", "{:#}", check(town, name));
    }
    // A reload keeps it ready.
    manager.systemctl(&["reload", &unit]).ok();
    manager.wait_property(&unit, "ActiveState", "active");
    assert_eq!(town.call("daemon.status", json!({}))["degraded"], false);
}

#[test]
fn a_daemon_that_stops_turning_is_replaced_by_the_watchdog_and_no_agent_is_touched() {
    let fast = "[Service]\nWatchdogSec=2s\nTimeoutStopSec=2s\nRestartSec=100ms\n";
    let Some(served) = Served::up("watchdog", one_rig(), fast) else { return };
    let (agents, before) = (served.town.running(), served.daemon());
    before.signal(Signal::STOP);
    let after = served.adopted(before, &agents);
    assert!(!before.alive());
    assert_eq!(served.manager.property(&served.unit(), "NRestarts"), "1");
    // One that turns is left alone for much longer than that.
    chaos_delay(Duration::from_secs(5));
    assert!(after.alive());
    assert_eq!(served.manager.property(&served.unit(), "NRestarts"), "1");
}

#[test]
fn a_start_limit_that_was_reached_is_said_and_one_command_clears_it() {
    let fast = "[Unit]\nStartLimitBurst=3\n[Service]\nRestartSec=50ms\n";
    let Some(served) = Served::up("start limit", one_rig(), fast) else { return };
    let (manager, town, unit) = (&served.manager, &served.town, served.unit());
    let agents = town.running();
    for verb in ["start", "restart"] {
        let mut killed = BTreeSet::new();
        wait_for(START, "the manager gives up", || {
            if let Some(daemon) = manager.main_process(&unit)
                && killed.insert(daemon)
            {
                daemon.kill();
            }
            (manager.property(&unit, "ActiveState") == "failed").then_some(())
        });
        assert!(killed.len() >= 3, "{killed:?}");
        let said = town.gtctl(&["status"]);
        assert_eq!(said.code, 69, "{said:?}");
        assert!(said.err.contains(&unit) && said.err.contains("start limit"), "{}", said.err);
        assert!(said.err.contains("hint: gtctl daemon start"), "{}", said.err);
        let said: Value = town.gtctl(&["daemon", "status", "--json"]).json();
        assert_eq!(said["error"]["data"]["service"]["gave_up"], true, "{said:#}");
        let said = town.gtctl(&["doctor", "service"]);
        assert!(
            said.code == 1
                && said.out.contains("start limit")
                && said.out.contains("hint: gtctl daemon start"),
            "{said:?}"
        );
        // systemctl alone refuses now.
        assert_ne!(manager.systemctl(&["start", &unit]).code, 0);
        town.gtctl(&["daemon", verb]).ok();
        same_agents(town, &agents);
        assert_eq!(manager.property(&unit, "ActiveState"), "active");
        assert_eq!(check(town, "service")["status"], "ok");
    }
}

#[test]
fn stop_start_and_restart_go_through_the_manager_and_agents_stay() {
    let Some(served) = Served::up("stop", one_rig(), "") else { return };
    let (manager, town, unit) = (&served.manager, &served.town, served.unit());
    let (agents, first) = (town.running(), served.daemon());
    let said = town.gtctl(&["daemon", "stop"]).ok();
    assert_eq!(said.out, format!("daemon stopped, pid {}; agents go on\n", first.pid));
    assert!(!first.alive());
    assert_eq!(manager.property(&unit, "ActiveState"), "inactive");
    assert_eq!(town.gtctl(&["daemon", "stop"]).ok().out, "no daemon is running\n");
    town.gtctl(&["daemon", "start"]).ok();
    same_agents(town, &agents);
    let second = served.daemon();
    let said = town.gtctl(&["daemon", "restart"]).ok();
    assert!(said.err.contains(&format!("daemon stopped, pid {}", second.pid)), "{said:?}");
    let third = served.adopted(second, &agents);
    // One that hangs is killed by force, and the manager starts the next.
    std::thread::scope(|scope| {
        // The manager continues what it ends.
        scope.spawn(|| {
            wait_until(START, || {
                third.signal(Signal::STOP);
                !third.alive()
            })
        });
        let said = town.gtctl(&["daemon", "restart", "--timeout", "100ms"]);
        assert_eq!(said.code, 6, "{said:?}");
        town.gtctl(&["daemon", "restart", "--timeout", "100ms", "--force", "--yes"]).ok();
    });
    let fourth = served.adopted(third, &agents);
    // By the manager's own commands.
    manager.systemctl(&["restart", &unit]).ok();
    let fifth = served.adopted(fourth, &agents);
    // More often than its start limit allows by itself.
    for _ in 0..6 {
        town.gtctl(&["daemon", "restart"]).ok();
    }
    served.adopted(fifth, &agents);
    // Up finds it up; down ends all and the manager does not bring it back; up again uses the manager.
    town.gtctl(&["up"]).ok();
    town.gtctl(&["down", "--yes"]).ok();
    assert_eq!(manager.property(&unit, "ActiveState"), "inactive");
    assert_eq!(manager.property(&unit, "Result"), "success");
    town.gtctl(&["up"]).ok();
    assert_eq!(manager.property(&unit, "ActiveState"), "active");
    town.wait_all_running();
}

#[test]
fn whatever_the_manager_ends_of_the_unit_agents_live_and_the_next_daemon_has_them() {
    let Some(served) = Served::up("ends", one_rig(), "") else { return };
    let (manager, town, unit) = (&served.manager, &served.town, served.unit());
    let agents = town.running();
    let scope = unit_around(tmux_server(town));
    assert!(scope.starts_with("gtd-tmux-") && scope.ends_with(".scope"), "{scope}");
    assert_eq!(unit_around(served.daemon()), unit);
    for (_, _, pid) in &agents {
        assert_eq!(unit_around(Process::of(i32::try_from(*pid).unwrap()).unwrap()), scope);
    }
    assert_eq!(town.call("daemon.status", json!({}))["reasons"], json!([]));
    // Every process of the unit, by TERM and by KILL, and the unit stopped as units without KillMode= are.
    for signal in ["TERM", "KILL"] {
        let before = served.daemon();
        manager.systemctl(&["kill", "--kill-who=all", &format!("--signal={signal}"), &unit]).ok();
        wait_for(CHANGE, "it is gone", || (!before.alive()).then_some(()));
        manager.systemctl(&["restart", &unit]).ok();
        served.adopted(before, &agents);
    }
    manager.settings("[Service]\nKillMode=control-group\n");
    let before = served.daemon();
    manager.systemctl(&["restart", &unit]).ok();
    served.adopted(before, &agents);
    // The next tmux server is in a scope of its own again.
    tmux_server(town).kill();
    for (agent, instance, _) in &agents {
        town.wait_new_instance(agent, instance);
    }
    let next = unit_around(tmux_server(town));
    assert!(next.starts_with("gtd-tmux-") && next != scope, "{next}");
}

#[test]
fn without_systemd_run_the_tmux_server_is_in_the_unit_and_the_status_says_so() {
    let town = one_rig().make();
    let Some(manager) = manager("fallback", &town, "h") else { return };
    let town = manager.around(town);
    let bin = town.base().join("few");
    fs::create_dir(&bin).unwrap();
    let programs = ["tmux", "git", "sh", "sleep", "systemctl"];
    for name in programs {
        symlink(programs::system(name).unwrap(), bin.join(name)).unwrap();
    }
    let mut command = town.command("gtctl");
    command.env("PATH", &bin).arg("--town").arg(town.root()).args(["daemon", "install", "--now"]);
    run(command, START).ok();
    town.wait_all_running();
    let served = Served { manager, town };
    let (manager, town, unit) = (&served.manager, &served.town, served.unit());
    assert_eq!(unit_around(tmux_server(town)), unit);
    let said = || town.call("daemon.status", json!({}))["reasons"][0].as_str().map(str::to_owned);
    let reason = wait_for(QUICK, "a reason", said);
    let found = check(town, "tmux-cgroup");
    assert!(found["status"] == "warning" && found["message"].to_string().contains(&unit), "{found:#}");
    assert!(reason.contains(&unit) && reason.ends_with("there is no program systemd-run"), "{reason}");
    // The unit spares what is in it beside the daemon; and what was said is said by the next one too.
    let (agents, before) = (town.running(), served.daemon());
    manager.systemctl(&["restart", &unit]).ok();
    served.adopted(before, &agents);
    assert!(wait_for(QUICK, "a reason", said).contains(&unit));
}
