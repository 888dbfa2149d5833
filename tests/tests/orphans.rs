//! The adversarial town: whatever looks like ours and is not lives on, whatever is proven ours and over goes.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use gtd_tests::doctoring::left_over;
use gtd_tests::{CHANGE, Process, QUICK, Setup, Town, programs, wait_for, wait_until};
use rustix::process::Signal;
use serde_json::{Value, json};

const YOUNG: &str = "[sweep]\nmin_age = \"1s\"";

/// Processes of a person, outside of our session; ended by identity.
struct People {
    dir: PathBuf,
    children: Vec<Child>,
    processes: Vec<(&'static str, Process)>,
}

impl Drop for People {
    fn drop(&mut self) {
        self.processes.iter().for_each(|(_, process)| process.kill());
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl People {
    fn new(town: &Town) -> Self {
        let dir = town.base().join("people");
        std::fs::create_dir_all(&dir).unwrap();
        for (name, program) in [("claude", "/bin/sleep"), ("code", "/bin/sh")] {
            std::fs::copy(program, dir.join(name)).unwrap();
            std::fs::set_permissions(dir.join(name), std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        Self { dir, children: Vec::new(), processes: Vec::new() }
    }

    /// Starts something in a session of its own and waits until the process called `comm` is there.
    fn start(
        &mut self,
        what: &'static str,
        comm: &str,
        cwd: &Path,
        env: &[(&str, &str)],
        words: &[&str],
    ) -> Process {
        let mut command: Command = programs::bare("setsid", &self.dir);
        command.args(words).current_dir(cwd).envs(env.iter().copied());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        self.children.push(child);
        let called = |process: &Process| {
            std::fs::read_to_string(format!("/proc/{}/comm", process.pid))
                .is_ok_and(|name| name.trim() == comm)
        };
        let process = wait_for(QUICK, what, || {
            let mut all = gtd_tests::procs::descendants(pid);
            all.extend(Process::of(pid));
            all.into_iter().find(called)
        });
        self.processes.push((what, process));
        process
    }

    fn seen(&mut self, what: &'static str, process: Process) {
        self.processes.push((what, process));
    }

    #[track_caller]
    fn all_live(&self, after: &str) {
        for (what, process) in &self.processes {
            assert!(process.alive(), "{what} did not survive {after}");
        }
    }

    /// No signal on record went to one of them.
    #[track_caller]
    fn never_signalled(&self, town: &Town) {
        let signals = town.call("agent.signals", json!({}));
        for signal in signals["items"].as_array().unwrap() {
            let of = |(_, process): &&(&str, Process)| {
                signal["pid"] == process.pid && signal["start"] == json!(process.start)
            };
            assert!(!self.processes.iter().any(|one| of(&one)), "{signal:#}");
        }
    }
}

/// Everything that could end something: rounds, a sweep, and a doctor who may do all.
fn sweep_all(town: &Town) {
    for _ in 0..2 {
        town.call("daemon.heartbeat", json!({}));
    }
    let _ = town.try_call("orphans.sweep", json!({}));
    let allow = json!(["safe", "disruptive", "destructive"]);
    town.call("doctor.run", json!({"fix": true, "allow": allow}));
}

fn item(town: &Town, process: Process) -> Value {
    let list = town.call("orphans.list", json!({}));
    let mut items = list["items"].as_array().unwrap().iter();
    items.find(|item| item["pid"] == process.pid).cloned().unwrap_or(Value::Null)
}

#[test]
fn none_of_the_innocent_receives_a_signal() {
    let town = Setup::new().rigs(&["my-rig", "a"]).no_refineries().toml(YOUNG).make();
    let neighbour = Setup::new().rigs(&["my-rig"]).no_refineries().toml(YOUNG).up();
    let mut people = People::new(&town);
    let claude = people.dir.join("claude").display().to_string();
    let base = town.base().to_owned();
    // Before there is any instance: a marker that will name one of them is copied by hand afterwards.
    town.start();
    town.wait_all_running();
    let id = town.call("daemon.hello", json!({"client": "t", "protocol": 1}))["town_id"]
        .as_str()
        .unwrap()
        .to_owned();
    let live = town.agent("a/witness")["instance"].as_str().unwrap().to_owned();
    let earlier = live.clone();
    let marks = [("GT_TOWN_ID", id.as_str()), ("GT_INSTANCE", live.as_str())];

    let plain = people.start("claude in a terminal", "claude", &base, &[], &[&claude, "1000"]);
    let code = people.dir.join("code").display().to_string();
    let line = format!("{claude} 1000; :");
    let ide = people.start("claude of an editor", "claude", &base, &[], &[&code, "-c", &line]);
    let other = base.join("t-old/repo");
    std::fs::create_dir_all(&other).unwrap();
    people.start("claude in another repository", "claude", &other, &[], &[&claude, "1001"]);
    let copied = people.start("a copied marker", "claude", &base, &marks, &[&claude, "1002"]);
    let prefix = [("GT_TOWN_ID", &id[..id.len() - 1]), ("GT_INSTANCE", live.as_str())];
    let prefixed =
        people.start("a marker of a town whose id is a prefix", "claude", &base, &prefix, &[&claude, "1003"]);
    // A crew's process whose parents are gone.
    let go = people.dir.join("go").display().to_string();
    let line = format!("{claude} 1004 & while [ ! -e '{go}' ]; do sleep 0.05; done");
    let left = people.start("a crew process without parents", "claude", &base, &marks, &["sh", "-c", &line]);
    let parent = left.parent();
    std::fs::write(&go, "").unwrap();
    assert!(wait_until(QUICK, || left.parent() != parent), "its parent ends when it was seen");

    // Their own tmux server, which carries our marker itself.
    let socket = base.join("people/own.sock");
    let mut tmux = programs::bare("tmux", &town.home());
    tmux.envs(marks).env("TERM", "xterm").arg("-S").arg(&socket).args([
        "new-session",
        "-d",
        &format!("{claude} 1005"),
    ]);
    assert!(tmux.status().unwrap().success());
    let own = gtd_tests::tmux::Tmux::new(socket, &town.home());
    let server = own.server();
    people.seen("their tmux server", server);
    let pane: i32 = own.run(&["list-panes", "-a", "-F", "#{pane_pid}"]).parse().unwrap();
    people.seen("claude in their tmux", Process::of(pane).unwrap());

    // On the town's own server: a crew session of a rig with a hyphen, one that is called like ours, and one that
    // has our marks set by hand.
    let ours = town.tmux();
    let mark = town.base().display().to_string();
    for (what, name, marked) in [
        ("a crew session", "gt-my-rig-crew-joe", false),
        ("gt-notours-x", "gt-notours-x", false),
        ("marks set by hand", "gt-old-witness", true),
    ] {
        let line = format!("exec {claude} 1006 # {mark}");
        let line = line.split(" #").next().unwrap();
        ours.run(&["new-session", "-d", "-s", name, line]);
        if marked {
            for (option, value) in
                [("@gt_town", id.as_str()), ("@gt_agent", "old/witness"), ("@gt_instance", &earlier)]
            {
                ours.run(&["set-option", "-t", name, option, value]);
            }
        }
        let pane = ours.run(&["list-panes", "-t", &format!("={name}"), "-F", "#{pane_pid}"]);
        people.seen(what, Process::of(pane.parse().unwrap()).unwrap());
    }
    for (agent, ..) in neighbour.running() {
        people.seen("an agent of another town", neighbour.process(&agent));
    }
    for (agent, ..) in town.running() {
        people.seen("an agent of ours that runs", town.process(&agent));
    }
    people.seen("the daemon", town.daemon().unwrap());
    people.seen("the other daemon", neighbour.daemon().unwrap());
    people.seen("our tmux server", ours.server());

    assert_eq!(item(&town, plain)["verdict"], "not_ours");
    assert_eq!(item(&town, plain)["cwd"], base.display().to_string());
    assert_eq!(item(&town, ide)["verdict"], "helper");
    assert_eq!(item(&town, copied)["verdict"], "unproved");
    assert_eq!(item(&town, prefixed)["verdict"], "other_town");
    assert!(item(&town, server).is_null() || item(&town, server)["verdict"] == "protected");
    let list = town.call("orphans.list", json!({}));
    assert!(list["items"].as_array().unwrap().iter().all(|item| item["owned"] == false), "{list:#}");
    let sessions = town.call("session.list", json!({}));
    let verdict = |name: &str| {
        let all = sessions["items"].as_array().unwrap().iter();
        all.filter(|item| item["session_name"] == name).map(|item| item["verdict"].clone()).next().unwrap()
    };
    assert_eq!(verdict("gt-my-rig-crew-joe"), "crew");
    assert_eq!(verdict("gt-notours-x"), "not_ours");
    assert_eq!(verdict("gt-my-rig-witness"), "agent");

    sweep_all(&town);
    people.all_live("rounds, a sweep and the doctor");
    // Whatever becomes of the registry meanwhile.
    let registry = std::fs::read_to_string(town.path("mayor/rigs.json")).unwrap();
    for text in [None, Some("{\"version\":1,\"rigs\":{}}"), Some("{"), Some("")] {
        match text {
            None => std::fs::remove_file(town.path("mayor/rigs.json")).unwrap(),
            Some(text) => town.replace("mayor/rigs.json", text),
        }
        let before: Vec<_> =
            people.processes.iter().filter(|(what, _)| !what.contains("that runs")).cloned().collect();
        sweep_all(&town);
        for (what, process) in before {
            assert!(process.alive(), "{what} did not survive a registry of {text:?}");
        }
    }
    town.replace("mayor/rigs.json", &registry);
    people.processes.retain(|(what, _)| !what.contains("that runs"));
    people.never_signalled(&town);
    people.never_signalled(&neighbour);
    for name in ["gt-my-rig-crew-joe", "gt-notours-x", "gt-old-witness"] {
        ours.run(&["kill-session", "-t", &format!("={name}")]);
    }
    people.processes.retain(|(what, _)| {
        !what.contains("daemon") && !what.contains("of another town") && !what.starts_with("our ")
    });
}

#[test]
fn the_guilty_go_by_the_next_round_however_they_have_hidden() {
    let steps =
        ["fork:plain", "fork:group", "fork:setsid", "fork:double", "fork:bare", "fork:daemon", "idle"];
    let (town, children, _) = left_over(Setup::new().toml(YOUNG), &steps);
    assert_eq!(children.len(), 6);
    let mut people = People::new(&town);
    let claude = people.dir.join("claude").display().to_string();
    people.start("a bystander", "claude", town.base(), &[], &[&claude, "1000"]);
    assert!(children.iter().all(|child| child.alive()));
    town.start();
    let gone = wait_until(CHANGE, || {
        town.call("daemon.heartbeat", json!({}));
        children.iter().all(|child| !child.alive())
    });
    assert!(gone, "{:#}", town.call("orphans.list", json!({})));
    let killed = town.wait_event(0, "sweep.killed", "a/witness", CHANGE);
    assert_eq!(killed["data"]["survivors"], json!([]), "{killed:#}");
    people.all_live("the sweep");
    people.never_signalled(&town);
    // Each signal is on record with its proof, and says who sent it.
    let signals = town.call("agent.signals", json!({"agent": "a/witness"}));
    for child in &children {
        let sent: Vec<&Value> =
            signals["items"].as_array().unwrap().iter().filter(|s| s["pid"] == child.pid).collect();
        assert!(!sent.is_empty(), "{child} {signals:#}");
        assert!(sent.iter().all(|signal| signal["evidence"]["proof"]["kind"].is_string()), "{sent:#?}");
        assert!(sent.iter().any(|signal| signal["by"].as_str().unwrap().contains("sweep")), "{sent:#?}");
    }
    let explained = town.call("agent.explain", json!({"agent": "a/witness"}));
    assert!(explained["decisions"].to_string().contains("left over"), "{:#}", explained["decisions"]);
    town.wait_state("a/witness", "running");
}

#[test]
fn a_fork_bomb_of_two_hundred_goes() {
    let bomb = json!({"provider": "script", "command": "/bin/sh", "args": ["-c",
        "trap '' TERM HUP; i=0; while [ $i -lt 200 ]; do sleep 5000 & i=$((i+1)); done; touch {J}/forked; wait; wait"]});
    let setup = Setup::new().toml(YOUNG).command("bomb", bomb).role("witness", "bomb");
    let town = setup.rigs(&["a"]).no_refineries().up();
    wait_for(CHANGE, "all forked", || town.journal_dir().join("forked").exists().then_some(()));
    town.call("daemon.heartbeat", json!({}));
    let agent = town.process("a/witness");
    let shim = Process::of(agent.parent().unwrap()).unwrap();
    let children: Vec<Process> = gtd_tests::procs::descendants(agent.pid);
    assert!(children.len() >= 200, "{}", children.len());
    town.kill_daemon();
    shim.kill();
    assert!(wait_until(QUICK, || !agent.alive()));
    let conn = rusqlite::Connection::open(town.path("daemon/gtd.db")).unwrap();
    conn.execute("UPDATE instances SET ended = 1 WHERE agent = 'a/witness'", []).unwrap();
    drop(conn);
    assert!(children.iter().filter(|child| child.alive()).count() >= 200);
    town.start();
    let gone = wait_until(CHANGE, || {
        town.call("daemon.heartbeat", json!({}));
        children.iter().all(|child| !child.alive())
    });
    assert!(gone, "{} live", children.iter().filter(|child| child.alive()).count());
}

#[test]
fn what_is_taken_up_again_is_ended_before_the_next_begins() {
    let town = Setup::new()
        .rigs(&["a"])
        .no_refineries()
        .toml(YOUNG)
        .script(&["fork:setsid", "fork:bare", "idle"])
        .up();
    town.call("daemon.heartbeat", json!({}));
    let before = town.agent("a/witness");
    let agent = town.process("a/witness");
    let shim = Process::of(agent.parent().unwrap()).unwrap();
    let children: Vec<Process> =
        gtd_tests::procs::descendants(shim.pid).into_iter().filter(|p| *p != agent).collect();
    town.kill_daemon();
    shim.kill();
    assert!(wait_until(QUICK, || !agent.alive()));
    town.start();
    town.wait_new_instance("a/witness", before["instance"].as_str().unwrap());
    assert!(children.iter().all(|child| !child.alive()), "what an earlier daemon saw is remembered");
    town.assert_never_two();
}

#[test]
fn where_only_reports_are_wanted_a_person_decides() {
    let setup = Setup::new().toml("[sweep]\nmin_age = \"1s\"\nmode = \"report\"");
    let (town, children, _) = left_over(setup, &["fork:group", "fork:setsid", "idle"]);
    town.start();
    let reported = town.wait_event(0, "sweep.reported", "", CHANGE);
    assert_eq!(reported["data"]["count"], 2, "{reported:#}");
    town.call("daemon.heartbeat", json!({}));
    assert!(children.iter().all(|child| child.alive()));
    let list = town.call("orphans.list", json!({}));
    let owned: Vec<&Value> =
        list["items"].as_array().unwrap().iter().filter(|item| item["owned"] == true).collect();
    assert_eq!(owned.len(), 2, "{list:#}");
    for item in &owned {
        assert_eq!((&item["verdict"], &item["agent"]), (&json!("orphan"), &json!("a/witness")));
        assert!(
            item["evidence"]["proof"]["kind"].is_string() && item["age_ms"].as_u64().is_some(),
            "{item:#}"
        );
    }
    let planned = town.gtctl(&["orphans", "sweep", "--dry-run"]).ok();
    assert!(planned.out.contains("would be ended"), "{planned:?}");
    // Beyond what is safe: not without a yes.
    let fixed = town.gtctl(&["doctor", "--fix", "orphan-processes", "--json"]).ok().json()["result"].clone();
    assert_eq!(
        (&fixed["applied"], &fixed["plan"][0]["class"]),
        (&json!([]), &json!("disruptive")),
        "{fixed:#}"
    );
    assert!(children.iter().all(|child| child.alive()));
    let fixed =
        town.gtctl(&["doctor", "--fix", "--yes", "orphan-processes", "--json"]).ok().json()["result"].clone();
    assert_eq!(fixed["applied"][0]["ok"], true, "{fixed:#}");
    assert_eq!(fixed["checks"][0]["status"], "ok", "the second look is the result: {fixed:#}");
    assert!(children.iter().all(|child| !child.alive()));
    let event = town.wait_event(0, "doctor.fixed", "", CHANGE);
    assert_eq!(event["data"]["check"], "orphan-processes");
}

#[test]
fn what_is_younger_than_the_least_age_is_left_to_itself() {
    let setup = Setup::new().toml("[sweep]\nmin_age = \"10h\"");
    let (town, children, _) = left_over(setup, &["fork:group", "idle"]);
    town.start();
    town.call("daemon.heartbeat", json!({}));
    town.call("daemon.heartbeat", json!({}));
    assert!(children.iter().all(|child| child.alive()));
    // A person who asks does not wait.
    let swept = town.call("orphans.sweep", json!({"kinds": ["process"]}));
    assert_eq!(swept["items"][0]["ok"], true, "{swept:#}");
    assert!(children.iter().all(|child| !child.alive()));
}

#[test]
fn while_tmux_cannot_be_asked_nothing_is_swept() {
    let setup = Setup::new().toml(&format!("{YOUNG}\n[tmux]\ncommand_timeout = \"300ms\""));
    let (town, children, _) = left_over(setup, &["fork:group", "idle"]);
    let server = town.tmux().server();
    server.signal(Signal::STOP);
    town.start();
    let report = town.call("daemon.heartbeat", json!({}));
    let steps = report["steps"].as_array().unwrap();
    let step = steps.iter().find(|step| step["name"] == "orphan_sweep").unwrap();
    assert_eq!(step["outcome"], "failed", "{step:#}");
    town.call_fails("orphans.list", json!({}));
    town.call_fails("orphans.sweep", json!({}));
    let looked =
        town.call("doctor.run", json!({"checks": ["orphan-processes", "orphan-sessions"], "fix": true}));
    for check in looked["checks"].as_array().unwrap() {
        assert_eq!(check["status"], "unknown", "{check:#}");
    }
    assert_eq!(town.gtctl(&["doctor", "orphan-processes"]).code, 5);
    assert!(children.iter().all(|child| child.alive()));
    server.signal(Signal::CONT);
    let gone = wait_until(CHANGE, || {
        let _ = town.try_call("daemon.heartbeat", json!({}));
        children.iter().all(|child| !child.alive())
    });
    assert!(gone);
}

#[test]
fn a_copy_of_a_town_sweeps_nothing_of_its_original() {
    let (town, children, _) = left_over(Setup::new().toml(YOUNG), &["fork:group", "fork:setsid", "idle"]);
    // The copy's ledger has all of it on record.
    let copy = Setup::new().rigs(&["a"]).no_refineries().toml(YOUNG).make();
    for file in ["gtd.db", "town-id"] {
        std::fs::create_dir_all(copy.path("daemon")).unwrap();
        for end in ["", "-wal"] {
            let name = format!("daemon/{file}{end}");
            if town.path(&name).exists() {
                std::fs::copy(town.path(&name), copy.path(&name)).unwrap();
            }
        }
    }
    copy.start();
    copy.call("town.start", json!({}));
    sweep_all(&copy);
    assert!(children.iter().all(|child| child.alive()), "they are another town's");
    let signals = copy.call("agent.signals", json!({}));
    assert!(signals["items"].as_array().unwrap().iter().all(|s| children.iter().all(|c| s["pid"] != c.pid)));
    town.start();
    assert!(wait_until(CHANGE, || {
        town.call("daemon.heartbeat", json!({}));
        children.iter().all(|child| !child.alive())
    }));
}

#[test]
fn a_wrapped_renamed_agent_is_known_by_its_record() {
    let wrapped = json!({"provider": "script", "command": "/bin/bash",
        "args": ["-c", "bash -c 'exec -a 2.0.14 sleep 5000' & wait"]});
    let town =
        Setup::new().rigs(&["a"]).no_refineries().toml(YOUNG).command("w", wrapped).role("witness", "w").up();
    let agent = town.process("a/witness");
    let child = wait_for(QUICK, "its child", || gtd_tests::procs::descendants(agent.pid).last().copied());
    sweep_all(&town);
    assert!(agent.alive() && child.alive());
    assert_eq!(town.process("a/witness"), agent);
}
