//! What the ledger calls a process may be another one by now: it is never touched, and what it stands for is
//! started again.

use std::process::{Child, Command, Stdio};

use gtd_tests::{CHANGE, Process, QUICK, Setup, Town, wait_for, wait_until};
use serde_json::{Value, json};

/// A process of this user's that has nothing to do with gtd.
struct Stranger(Child);

impl Stranger {
    fn new() -> Self {
        Self(Command::new("sleep").arg("600").stdin(Stdio::null()).spawn().unwrap())
    }

    fn process(&self) -> Process {
        Process::of(i32::try_from(self.0.id()).unwrap()).unwrap()
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Lets everything that the daemon will read of an agent's instance say what `change` makes of it: the launch in
/// the ledger, and the record of the shim.
fn rewrite(town: &Town, agent: &str, change: impl Fn(&mut Value)) {
    let conn = rusqlite::Connection::open(town.path("daemon/gtd.db")).unwrap();
    let (instance, launch): (String, String) = conn
        .query_row("SELECT instance, launch FROM instances WHERE agent = ?1 AND ended = 0", [agent], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .unwrap();
    let mut life: Value = serde_json::from_str(&launch).unwrap();
    let record = town.path(&format!("daemon/run/{instance}.record"));
    let mut told: Value = serde_json::from_str(&std::fs::read_to_string(&record).unwrap()).unwrap();
    change(&mut life);
    change(&mut told);
    conn.execute(
        "UPDATE instances SET launch = ?1, shim = ?2, process = ?3, boot = ?4 WHERE instance = ?5",
        rusqlite::params![
            life.to_string(),
            life["shim"].to_string(),
            life["process"].to_string(),
            life["shim"]["boot"].as_str(),
            instance
        ],
    )
    .unwrap();
    std::fs::write(record, told.to_string()).unwrap();
}

/// Ends the daemon, the agents and their tmux server, as a restart of the machine does, and leaves the records as
/// they were while everything ran.
fn pull_the_plug(town: &Town, agents: &[&str]) {
    let processes: Vec<Process> = agents.iter().map(|agent| town.process(agent)).collect();
    let records = |town: &Town| -> Vec<(std::path::PathBuf, Vec<u8>)> {
        let entries = std::fs::read_dir(town.path("daemon/run")).unwrap().flatten().map(|entry| entry.path());
        let records = entries.filter(|path| path.extension().is_some_and(|end| end == "record"));
        records.map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
    };
    let kept = records(town);
    town.kill_daemon();
    let server = town.path("daemon/run/tmux-0.sock");
    let mut end = Command::new("tmux");
    end.arg("-S").arg(&server).arg("kill-server").stderr(Stdio::null());
    assert!(end.status().unwrap().success());
    assert!(wait_until(QUICK, || processes.iter().all(|process| !process.alive())));
    // Shims write that their terminal is gone; a machine that loses power does not.
    wait_until(QUICK, || gtd_tests::procs::marked(&town.base().display().to_string()).is_empty());
    for (path, bytes) in kept {
        std::fs::write(path, bytes).unwrap();
    }
}

fn last_exit(town: &Town, agent: &str, instance: &Value) -> Value {
    wait_for(CHANGE, "its exit is on record", || {
        let exits = town.try_call("agent.exits", json!({"agent": agent})).ok()?;
        exits["items"].as_array()?.iter().find(|exit| exit["instance"] == *instance).cloned()
    })
}

#[track_caller]
fn nothing_was_signalled(town: &Town, stranger: &Stranger) {
    let sent = town.call("agent.signals", json!({}));
    let to_them = |sent: &&Value| sent["pid"] == stranger.process().pid;
    assert_eq!(sent["items"].as_array().unwrap().iter().find(to_them), None, "{sent:#}");
    assert!(stranger.process().alive());
}

#[test]
fn agents_of_the_previous_boot_ended_by_a_reboot_count_for_nothing_and_come_back() {
    let town = Setup::new().rigs(&["a"]).up();
    let stranger = Stranger::new();
    let before = town.agent("a/witness");
    pull_the_plug(&town, &["a/witness", "a/refinery"]);
    let boot = "00000000-0000-4000-8000-000000000000";
    for agent in ["a/witness", "a/refinery"] {
        // In the new boot somebody else has their numbers.
        rewrite(&town, agent, |value| {
            for process in ["shim", "process", "agent"] {
                if value[process].is_object() {
                    value[process]["pid"] = json!(stranger.process().pid);
                    value[process]["start"] = json!(stranger.process().start);
                    if value[process]["boot"].is_string() {
                        value[process]["boot"] = json!(boot);
                    }
                }
            }
            if value["boot_id"].is_string() {
                value["boot_id"] = json!(boot);
            }
        });
    }
    town.start();
    town.wait_all_running();
    let exit = last_exit(&town, "a/witness", &before["instance"]);
    assert_eq!(
        (&exit["cause"], &exit["counts"], &exit["requested"]),
        (&json!("reboot"), &json!(false), &json!(false)),
        "{exit:#}"
    );
    let agent = town.agent("a/witness");
    assert_eq!(agent["restarts"]["consecutive"], 0, "{agent:#}");
    let told = town
        .events(0)
        .into_iter()
        .find(|event| event["kind"] == "agent.exited" && event["instance"] == before["instance"]);
    assert_eq!(told.unwrap()["data"]["detected_by"], "boot id");
    nothing_was_signalled(&town, &stranger);
    town.assert_never_two();
}

#[test]
fn a_number_that_another_process_has_by_now_is_not_the_agent() {
    for start in [1_u64, u64::from(u32::MAX)] {
        let town = Setup::new().rigs(&["a"]).no_refineries().up();
        let stranger = Stranger::new();
        let before = town.agent("a/witness");
        pull_the_plug(&town, &["a/witness"]);
        // The same boot, the same number, another start: before or after the one on record.
        rewrite(&town, "a/witness", |value| {
            for process in ["shim", "process", "agent"] {
                if value[process].is_object() {
                    value[process]["pid"] = json!(stranger.process().pid);
                    value[process]["start"] = json!(start);
                }
            }
        });
        town.start();
        town.wait_new_instance("a/witness", before["instance"].as_str().unwrap());
        let exit = last_exit(&town, "a/witness", &before["instance"]);
        assert_ne!(exit["cause"], "reboot", "{exit:#}");
        nothing_was_signalled(&town, &stranger);
        town.call("witness.stop", json!({"rig": "a", "now": true}));
        nothing_was_signalled(&town, &stranger);
        town.assert_never_two();
    }
}

#[test]
fn an_exit_while_the_daemon_was_down_is_known_by_its_record() {
    let town = Setup::new().rigs(&["a"]).no_refineries().script(&["obey"]).up();
    let before = town.agent("a/witness");
    let process = town.process("a/witness");
    town.kill_daemon();
    std::fs::write(town.journal_dir().join("exit-a-witness"), "3").unwrap();
    assert!(wait_until(QUICK, || !process.alive()));
    town.start();
    let event = town.wait_event(0, "agent.exited", "a/witness", CHANGE);
    assert_eq!(event["instance"], before["instance"], "{event:#}");
    assert_eq!(
        (&event["data"]["detected_by"], &event["data"]["code"]),
        (&json!("record"), &json!(3)),
        "{event:#}"
    );
    assert!(event["data"]["detect_ms"].as_f64().is_some_and(|ms| ms >= 0.0), "{event:#}");
    // One that the daemon watches is known by the kernel.
    town.wait_new_instance("a/witness", before["instance"].as_str().unwrap());
    let since = town.seq();
    town.process("a/witness").kill();
    let event = town.wait_event(since, "agent.exited", "a/witness", CHANGE);
    assert_eq!(event["data"]["detected_by"], "pidfd", "{event:#}");
}
