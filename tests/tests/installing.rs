//! Installing the daemon as a service of a real `systemd --user`, whatever the paths are, and taking it away.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use gtd_tests::doctoring::check;
use gtd_tests::manager::BARE;
use gtd_tests::run::run;
use gtd_tests::served::{Served, manager, one_rig, same_agents, tree, unit_of};
use gtd_tests::{Process, START, Setup, programs, skipped};
use serde_json::{Value, json};

/// Copies a program, in a process of its own: one that another test starts meanwhile would inherit our handle on the
/// file, and a file that is open for writing cannot be run.
#[track_caller]
fn copy(name: &str, to: &Path) {
    let copied = Command::new("cp").arg(programs::program(name)).arg(to).status().unwrap();
    assert!(copied.success());
}

#[test]
fn a_manager_with_a_bare_path_finds_what_was_on_the_path_of_who_installed() {
    // By name alone, and nowhere on a bare PATH.
    let town = one_rig()
        .command("local", json!({"provider": "script", "command": "only-here", "args": ["{J}", "idle"]}))
        .role("witness", "local")
        .make();
    let Some(manager) = manager("bare PATH", &town, "h") else { return };
    let town = manager.around(town);
    let bin = town.home().join(".local/b i n");
    fs::create_dir_all(&bin).unwrap();
    symlink(programs::program("scripted-agent"), bin.join("only-here")).unwrap();
    let install = |path: &str| {
        let mut command = town.command("gtctl");
        command.env("PATH", path).arg("--town").arg(town.root()).args(["daemon", "install"]);
        run(command, START).ok().out
    };
    // Who has it nowhere gets it nowhere, and is told.
    install(BARE);
    town.gtctl(&["daemon", "start"]).ok();
    town.wait_state("a/witness", "quarantined");
    let found = check(&town, "service-path");
    assert!(
        found["status"] == "error" && found["message"].to_string().contains("only-here is not"),
        "{found:#}"
    );
    assert_eq!(found["hint"], "gtctl daemon install");
    let changed = install(&format!("{}:{BARE}", bin.display()));
    assert!(changed.contains("replaced ") && changed.contains("gtd.conf"), "{changed}");
    let found = check(&town, "service-path");
    assert_eq!(
        (&found["status"], &found["hint"]),
        (&json!("warning"), &json!("gtctl daemon restart")),
        "{found:#}"
    );
    town.gtctl(&["daemon", "restart"]).ok();
    town.wait_all_running();
    assert_eq!(check(&town, "service-path")["status"], "ok");
    assert_eq!(
        install(&format!("{}:{BARE}", bin.display())),
        format!("the service {} is installed already\n", unit_of(&town))
    );
    let path = town.process("a/witness").environment().remove("PATH").unwrap();
    assert!(path.starts_with(bin.to_str().unwrap()), "{path}");
    // Agents find gtctl by its name.
    assert!(path.split(':').any(|dir| Path::new(dir).join("gtctl").is_file()), "{path}");
    drop(Served { manager, town });
}

#[test]
fn a_home_with_spaces_and_a_town_with_worse_are_served() {
    let town = one_rig().named("my \"town\" 100% ${HOME} Grüße").make();
    let Some(manager) = manager("spaces", &town, "h o m e") else { return };
    let town = manager.around(town);
    // Also gtd itself.
    let bin = town.base().join("o p t 50%");
    fs::create_dir(&bin).unwrap();
    for name in ["gtd", "gtd-shim", "gtctl"] {
        copy(name, &bin.join(name));
    }
    let mut command = town.command("gtctl");
    // `bare` would go to a program by its name in the directory of the tests.
    command = {
        let mut ours = Command::new(bin.join("gtctl"));
        ours.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        ours
    };
    command.arg("--town").arg(town.root()).args(["daemon", "install", "--now"]);
    run(command, START).ok();
    town.wait_all_running();
    let served = Served { manager, town };
    let (agents, before) = (served.town.running(), served.daemon());
    assert!(before.command_line().starts_with(bin.to_str().unwrap()), "{}", before.command_line());
    served.town.gtctl(&["daemon", "restart"]).ok();
    served.adopted(before, &agents);
    served.town.gtctl(&["daemon", "uninstall", "--yes"]).ok();
    assert_eq!(tree(&served.manager.units()), BTreeSet::new());
}

#[test]
fn two_towns_are_two_instances_of_one_unit() {
    let one = one_rig().named("a-b").make();
    let Some(manager) = manager("two towns", &one, "h") else { return };
    let one = manager.around(one);
    let other = manager.around(one_rig().named("a b").make());
    for town in [&one, &other] {
        let said = town.gtctl(&["daemon", "install", "--now", "--json"]).ok().json()["result"].clone();
        assert_eq!((&said["unit"], &said["already"]), (&json!(unit_of(town)), &json!(false)), "{said:#}");
        assert!(said["plan"].as_array().is_some_and(|plan| !plan.is_empty()), "{said:#}");
        let daemon = town.call("daemon.status", json!({}))["pid"].clone();
        assert_eq!((&said["pid"], &said["daemon"]["pid"]), (&daemon, &daemon), "{said:#}");
        town.wait_all_running();
    }
    let (unit, of_other) = (unit_of(&one), unit_of(&other));
    assert_ne!(unit, of_other);
    let common = manager.units().join("gtd@.service");
    let daemon = |unit: &str| manager.main_process(unit).unwrap();
    let (agents, before) = (other.running(), daemon(&of_other));
    one.gtctl(&["daemon", "restart"]).ok();
    one.gtctl(&["daemon", "stop"]).ok();
    one.gtctl(&["daemon", "uninstall", "--yes"]).ok();
    assert!(common.exists());
    assert_eq!(daemon(&of_other), before);
    same_agents(&other, &agents);
    other.gtctl(&["daemon", "restart"]).ok();
    same_agents(&other, &agents);
    other.gtctl(&["daemon", "uninstall", "--yes"]).ok();
    assert!(!common.exists());
    drop((Served { manager, town: one }, other));
}

#[test]
fn uninstall_leaves_nothing_and_touches_nothing_of_others() {
    let town = one_rig().make();
    let Some(manager) = manager("uninstall", &town, "h") else { return };
    let town = manager.around(town);
    let (units, unit) = (manager.units(), unit_of(&town));
    assert_eq!(town.gtctl(&["daemon", "uninstall", "--yes"]).ok().out.lines().count(), 1);
    // Without a yes nothing goes.
    town.gtctl(&["daemon", "install", "--listen", "--now"]).ok();
    town.wait_all_running();
    let agents = town.running();
    let installed = tree(&units);
    let refused = town.gtctl(&["daemon", "uninstall"]);
    assert_eq!(refused.code, 2, "{refused:?}");
    let planned = town.gtctl(&["daemon", "uninstall", "--dry-run"]).ok().out;
    assert!(
        planned.contains("stop") && planned.contains("gtd@.socket") && planned.contains("gtd.conf"),
        "{planned}"
    );
    assert_eq!(tree(&units), installed);
    assert_eq!(manager.property(&unit, "ActiveState"), "active");
    let said = town.gtctl(&["daemon", "uninstall", "--yes"]).ok();
    assert!(said.out.contains(&format!("the service {unit} is gone")), "{said:?}");
    assert_eq!(tree(&units), BTreeSet::new());
    let known = manager.systemctl(&["list-units", "--all", "--plain", "--no-legend", "gtd@*"]).ok().out;
    assert_eq!(known.trim(), "", "the manager has forgotten it");
    // Agents have not noticed, and a daemon without a service takes them over.
    town.gtctl(&["up"]).ok();
    same_agents(&town, &agents);
    assert_eq!(manager.property(&unit, "MainPID"), "0");
    // From there into the manager's hands.
    let said = town.gtctl(&["daemon", "install"]).ok();
    assert!(said.err.contains("next: gtctl daemon restart"), "{said:?}");
    let said = town.gtctl(&["daemon", "status"]).ok().out;
    assert!(said.contains("was started without it"), "{said}");
    let found = check(&town, "service");
    assert_eq!(
        (&found["status"], &found["hint"]),
        (&json!("warning"), &json!("gtctl daemon restart")),
        "{found:#}"
    );
    town.gtctl(&["daemon", "restart"]).ok();
    same_agents(&town, &agents);
    let served = Served { manager, town };
    let (town, before) = (&served.town, served.daemon());
    town.gtctl(&["daemon", "install", "--now"]).ok();
    assert_eq!(served.daemon(), before);
    // What a person has put there stays, and what is in our way is not overwritten.
    let theirs = units.join(format!("{unit}.d/override.conf"));
    fs::write(&theirs, "[Service]\nNice=1\n").unwrap();
    town.gtctl(&["daemon", "uninstall", "--yes"]).ok();
    assert!(theirs.exists());
    fs::remove_dir_all(theirs.parent().unwrap()).unwrap();
    let common = units.join("gtd@.service");
    fs::write(&common, "[Service]\nExecStart=/bin/true\n").unwrap();
    let refused = town.gtctl(&["daemon", "install"]);
    assert_eq!(refused.code, 77, "{refused:?}");
    assert_eq!(tree(&units), [common].into());
    town.gtctl(&["up"]).ok();
    town.gtctl(&["down", "--yes"]).ok();
}

#[test]
fn the_service_of_a_town_that_was_removed_can_be_taken_away() {
    let town = Setup::new().make();
    let Some(manager) = manager("removed", &town, "h") else { return };
    let town = manager.around(town);
    town.gtctl(&["daemon", "install", "--now"]).ok();
    let unit = unit_of(&town);
    manager.systemctl(&["stop", &unit]).ok();
    fs::remove_dir_all(town.root()).unwrap();
    let mut command = town.command("gtctl");
    command.arg("--town").arg(town.root()).args(["daemon", "uninstall", "--yes"]);
    run(command, START).ok();
    assert_eq!(tree(&manager.units()), BTreeSet::new());
    drop((manager, town));
}

#[test]
fn new_programs_under_a_running_daemon_and_a_restart_leave_every_agent_its_process() {
    let town = one_rig().make();
    let Some(manager) = manager("upgrade", &town, "h") else { return };
    let town = manager.around(town);
    let bin = town.base().join("bin");
    fs::create_dir(&bin).unwrap();
    let put = || {
        for name in ["gtd", "gtd-shim", "gtctl"] {
            // As installers do: a new file takes the name.
            copy(name, &bin.join("new"));
            fs::rename(bin.join("new"), bin.join(name)).unwrap();
        }
    };
    put();
    let gtctl = |args: &[&str]| {
        let mut command = Command::new(bin.join("gtctl"));
        let around = town.command("gtctl");
        command.envs(around.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.arg("--town").arg(town.root()).args(args);
        run(command, START)
    };
    gtctl(&["daemon", "install", "--now"]).ok();
    town.wait_all_running();
    let served_unit = unit_of(&town);
    let (agents, before) = (town.running(), manager.main_process(&served_unit).unwrap());
    put();
    let program = |process: Process| fs::read_link(format!("/proc/{}/exe", process.pid)).unwrap();
    assert!(program(before).to_string_lossy().ends_with("(deleted)"));
    // Between the two an agent dies, and the old daemon starts it with the new shim.
    let (_, instance, _) = agents.iter().find(|(agent, ..)| agent == "a/refinery").unwrap();
    town.process("a/refinery").kill();
    town.wait_new_instance("a/refinery", instance);
    let agents = town.running();
    gtctl(&["daemon", "restart"]).ok();
    let after = manager.main_process(&served_unit).unwrap();
    assert_ne!(after, before);
    assert_eq!(program(after), bin.join("gtd"));
    same_agents(&town, &agents);
    drop(Served { manager, town });
}

#[test]
fn a_bad_configuration_is_said_and_not_tried_again() {
    let town = one_rig().make();
    let Some(manager) = manager("bad configuration", &town, "h") else { return };
    let town = manager.around(town);
    town.replace("settings/gtd.toml", "[restart]\nbusrt = 0\n");
    town.gtctl(&["daemon", "install"]).ok();
    let said = town.gtctl(&["daemon", "start"]);
    assert_eq!(said.code, 2, "{said:?}");
    assert!(said.err.contains("the configuration of") && said.err.contains("gtctl config check"), "{said:?}");
    let unit = unit_of(&town);
    assert_eq!(manager.property(&unit, "ActiveState"), "failed");
    assert_eq!(manager.property(&unit, "NRestarts"), "0");
    let said = town.gtctl(&["status"]);
    assert!(said.err.contains("would not help"), "{said:?}");
    town.replace("settings/gtd.toml", "[restart]\nburst = 0\n");
    town.gtctl(&["up"]).ok();
    town.wait_all_running();
    drop(Served { manager, town });
}

#[test]
fn an_agent_cannot_end_its_daemon_by_way_of_the_manager() {
    let Some(served) = Served::up("agents", one_rig().script(&["idle"]), "") else { return };
    let (town, before) = (&served.town, served.daemon());
    for verb in ["stop", "restart", "uninstall", "install"] {
        let mut command = town.command("gtctl");
        command.env("GT_INSTANCE", "0190").arg("--town").arg(town.root()).args(["daemon", verb, "--yes"]);
        assert_eq!(run(command, START).code, 77, "{verb}");
    }
    assert_eq!(served.daemon(), before);
}

#[test]
fn where_there_is_no_manager_nothing_is_installed_and_the_daemon_starts_all_the_same() {
    let town = one_rig().make();
    if programs::system("systemctl").is_none() {
        skipped("no manager", "there is no systemctl");
        return;
    }
    let said = town.gtctl(&["daemon", "install"]);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.err.contains("service manager does not answer"), "{said:?}");
    assert!(!tree(&town.home()).iter().any(|path| path.to_string_lossy().contains("gtd@")));
    // Installed in better times.
    let plan: Value = town.gtctl(&["daemon", "install", "--dry-run", "--json"]).ok().json();
    for file in plan["result"]["files"].as_array().unwrap() {
        let path = Path::new(file["path"].as_str().unwrap());
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, file["text"].as_str().unwrap()).unwrap();
    }
    let said = town.gtctl(&["up"]).ok();
    assert!(said.err.contains("going on without it"), "{said:?}");
    town.wait_all_running();
    let said = town.gtctl(&["down", "--yes"]).ok();
    assert!(said.err.contains("going on without it"), "{said:?}");
}
