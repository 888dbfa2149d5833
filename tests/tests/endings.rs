//! How agents end, and who ended them: a person at the terminal, a closed pane, memory, an end nobody saw.

use std::path::{Path, PathBuf};
use std::time::Duration;

use gtd_tests::{CHANGE, Setup, Terminal, Town, skipped, wait_for, wait_until};
use serde_json::{Value, json};

/// A program that ends with the code that is typed.
fn typed() -> Value {
    json!({"provider": "script", "command": "/bin/sh", "args": ["-c", "echo ready; read code; exit $code"]})
}

fn town() -> Town {
    Setup::new().rigs(&["a"]).no_refineries().command("typed", typed()).role("witness", "typed").up()
}

fn session(town: &Town) -> String {
    town.agent("a/witness")["session"].as_str().expect("it runs in a session").to_owned()
}

fn last_exit(town: &Town) -> Value {
    town.call("agent.exits", json!({"agent": "a/witness", "limit": 1}))["items"][0].clone()
}

#[test]
fn what_a_person_ends_at_its_terminal_is_left_to_them() {
    if !Terminal::possible() {
        return skipped("what_a_person_ends", "there is no script(1)");
    }
    let town = town();
    let seq = town.seq();
    let mut terminal = Terminal::attach(&town.tmux(), &session(&town), &town.home());
    terminal.types("0\n");
    let held = town.wait_event(seq, "agent.held", "a/witness", CHANGE);
    assert!(held["data"]["until"].is_null(), "{held:#}");
    let agent = town.wait_state("a/witness", "held");
    assert!(agent["next_attempt"].is_null() && agent["reason"].is_string(), "{agent:#}");
    assert_eq!((&agent["running"], &agent["restarts"]["consecutive"]), (&json!(false), &json!(0)));
    let exit = last_exit(&town);
    assert_eq!(
        (&exit["cause"], &exit["counts"], &exit["code"]),
        (&json!("person"), &json!(false), &json!(0))
    );
    assert!(exit["evidence"].as_str().is_some_and(|why| why.contains("at its terminal")), "{exit:#}");
    // No heartbeat, no other daemon, and no stop and start of the town brings it back.
    town.call("daemon.heartbeat", json!({}));
    town.kill_daemon();
    town.start();
    assert_eq!(town.wait_state("a/witness", "held")["state"], "held");
    town.call("town.stop", json!({}));
    town.call("town.start", json!({}));
    town.wait_state("a/witness", "held");
    let shown = town.gtctl(&["explain", "a/witness"]).ok();
    assert!(
        shown.out.contains("was ended by a person") && shown.out.contains("gtctl witness start a"),
        "{shown:?}"
    );
    // Its person does.
    let started = town.call("witness.start", json!({"rig": "a"}));
    assert_eq!(started["state"], "running", "{started:#}");
}

#[test]
fn an_end_with_another_code_is_a_crash_whoever_was_there() {
    if !Terminal::possible() {
        return skipped("an_end_with_another_code", "there is no script(1)");
    }
    let town = town();
    let before = town.agent("a/witness")["instance"].as_str().unwrap().to_owned();
    let mut terminal = Terminal::attach(&town.tmux(), &session(&town), &town.home());
    terminal.types("3\n");
    town.wait_new_instance("a/witness", &before);
    let exit = last_exit(&town);
    assert_eq!((&exit["cause"], &exit["code"], &exit["counts"]), (&json!("crash"), &json!(3), &json!(true)));
}

#[test]
fn a_clean_end_without_anybody_there_is_nobodys() {
    let town = town();
    let before = town.agent("a/witness")["instance"].as_str().unwrap().to_owned();
    let pane = town.agent("a/witness")["pane"].as_str().unwrap().to_owned();
    // Typed by a program, with no terminal attached.
    town.tmux().run(&["send-keys", "-t", &pane, "0", "Enter"]);
    town.wait_new_instance("a/witness", &before);
    assert_eq!(last_exit(&town)["cause"], "clean");
}

#[test]
fn a_pane_that_is_closed_is_a_crash_by_key_as_by_script() {
    let town = town();
    for by_key in [true, false] {
        if by_key && !Terminal::possible() {
            skipped("a_pane_that_is_closed_by_key", "there is no script(1)");
            continue;
        }
        let agent = town.agent("a/witness");
        let before = agent["instance"].as_str().unwrap();
        if by_key {
            let mut terminal = Terminal::attach(&town.tmux(), &session(&town), &town.home());
            // The prefix, `kill-pane`, and yes; keys that come all at once are a paste to tmux.
            terminal.types("\u{2}");
            let heard = wait_until(CHANGE, || {
                town.tmux().run(&["list-clients", "-F", "#{client_prefix}"]).lines().any(|line| line == "1")
            });
            assert!(heard, "tmux heard no prefix");
            terminal.types("x");
            wait_until(CHANGE, || !terminal.may_type("y") || town.agent("a/witness")["instance"] != before);
            town.wait_new_instance("a/witness", before);
        } else {
            town.tmux().run(&["kill-pane", "-t", agent["pane"].as_str().unwrap()]);
            town.wait_new_instance("a/witness", before);
        }
        let exit = last_exit(&town);
        assert_eq!(
            (&exit["cause"], &exit["counts"]),
            (&json!("pane_closed"), &json!(true)),
            "{by_key} {exit:#}"
        );
    }
}

/// A cgroup with little memory, if this machine lets us make one; removed when dropped.
struct LittleMemory {
    dir: PathBuf,
}

impl LittleMemory {
    fn make(town: &Town) -> Option<Self> {
        let name = town.base().file_name()?.to_owned();
        let (old, new) = (Path::new("/sys/fs/cgroup/memory"), Path::new("/sys/fs/cgroup"));
        let controllers = std::fs::read_to_string(new.join("cgroup.subtree_control")).unwrap_or_default();
        let (dir, limits) = if controllers.split_whitespace().any(|name| name == "memory") {
            (new.join(name), [("memory.max", "24M"), ("memory.swap.max", "0")])
        } else if old.join("memory.limit_in_bytes").exists() {
            (old.join(name), [("memory.limit_in_bytes", "24M"), ("memory.memsw.limit_in_bytes", "24M")])
        } else {
            return None;
        };
        std::fs::create_dir(&dir).ok()?;
        let made = Self { dir };
        for (number, (file, value)) in limits.into_iter().enumerate() {
            // Swap cannot be limited everywhere.
            if std::fs::write(made.dir.join(file), value).is_err() && number == 0 {
                return None;
            }
        }
        Some(made)
    }
}

impl Drop for LittleMemory {
    fn drop(&mut self) {
        wait_until(CHANGE, || std::fs::remove_dir(&self.dir).is_ok());
    }
}

#[test]
fn an_end_for_want_of_memory_is_called_so() {
    let greedy = json!({"provider": "script", "command": "/bin/sh",
        "args": ["-c", "echo ready; while [ ! -e {J}/greedy ]; do sleep 0.05; done; echo $$ > $(cat {J}/greedy)/cgroup.procs && exec tail /dev/zero"]});
    let town =
        Setup::new().rigs(&["a"]).no_refineries().command("greedy", greedy).role("witness", "greedy").make();
    let Some(little) = LittleMemory::make(&town) else {
        return skipped("an_end_for_want_of_memory", "no cgroup with a limit of memory can be made here");
    };
    town.start();
    town.wait_all_running();
    let before = town.agent("a/witness")["instance"].as_str().unwrap().to_owned();
    let order = town.journal_dir().join("greedy");
    std::fs::write(order.with_extension("new"), little.dir.display().to_string()).unwrap();
    std::fs::rename(order.with_extension("new"), &order).unwrap();
    let exit = wait_for(Duration::from_secs(30), "an end for want of memory", || {
        let exit = last_exit(&town);
        (exit["instance"] == before.as_str()).then_some(exit)
    });
    std::fs::remove_file(&order).unwrap();
    assert_eq!(
        (&exit["signal"], &exit["cause"], &exit["counts"]),
        (&json!(9), &json!("oom"), &json!(true)),
        "{exit:#}"
    );
    assert!(exit["evidence"].as_str().is_some_and(|why| why.contains("memory")), "{exit:#}");
    // A KILL by hand is none, right after it.
    let agent = town.wait_agent("a/witness", Duration::from_secs(60), "running again", |agent| {
        agent["state"] == "running" && agent["instance"] != before.as_str()
    });
    town.process("a/witness").kill();
    town.wait_new_instance("a/witness", agent["instance"].as_str().unwrap());
    assert_eq!(last_exit(&town)["cause"], "crash");
}

/// The record of the running instance, made unreadable under a daemon that is down; what it was.
fn darken(town: &Town) -> (PathBuf, Vec<u8>) {
    let agent = town.agent("a/witness");
    let record = format!("{}.record", agent["instance"].as_str().unwrap());
    let run = Path::new(agent["server"].as_str().unwrap()).parent().unwrap().join(record);
    town.kill_daemon();
    let content = std::fs::read(&run).unwrap();
    std::fs::remove_file(&run).unwrap();
    std::fs::create_dir(&run).unwrap();
    (run, content)
}

/// Waits until the daemon has looked, and says what it cannot see.
fn wait_dark(town: &Town) -> Value {
    town.wait_agent("a/witness", CHANGE, "unknown for its record", |agent| {
        let why = agent["reason"].as_str().unwrap_or_default();
        agent["state"] == "unknown" && why.contains("record of its shim cannot be read")
    })
}

#[test]
fn an_agent_that_cannot_be_told_about_is_declared_dead_by_a_person_and_goes_on() {
    let town = Setup::new().rigs(&["a"]).no_refineries().up();
    let before = town.agent("a/witness")["instance"].as_str().unwrap().to_owned();
    let process = town.process("a/witness");
    let shim = process.parent().unwrap();
    let (record, _) = darken(&town);
    gtd_tests::Process::of(shim).unwrap().kill();
    process.kill();
    town.start();
    let agent = wait_dark(&town);
    assert_eq!(agent["instance"], before.as_str(), "{agent:#}");
    town.call("daemon.heartbeat", json!({}));
    assert_eq!(town.starts("a/witness").len(), 1, "nothing is concluded from what cannot be read");
    let probed = town.gtctl(&["explain", "a/witness", "--probe"]).ok();
    assert!(probed.out.contains("exit record") && probed.out.contains("cannot be read"), "{probed:?}");
    assert!(probed.out.contains("declare-dead"), "{probed:?}");
    // Only looked at, then declared.
    let plan =
        town.call("agent.declare_dead", json!({"agent": "a/witness", "evidence": "x", "dry_run": true}));
    assert!(plan["plan"][0]["why"].as_str().is_some_and(|why| why.contains("dead")), "{plan:#}");
    assert_eq!(town.agent("a/witness")["state"], "unknown");
    town.gtctl(&["declare-dead", "a/witness", "--evidence", "I have looked myself"]).ok();
    let agent = town.wait_new_instance("a/witness", &before);
    let exit = last_exit(&town);
    assert_eq!((&exit["instance"], &exit["cause"]), (&json!(before), &json!("unknown")), "{exit:#}");
    assert_eq!(exit["evidence"], "by person: I have looked myself");
    assert!(
        town.call("agent.signals", json!({"agent": "a/witness"}))["items"].as_array().unwrap().is_empty()
    );
    town.assert_never_two();
    // Of one that runs nobody needs to say anything.
    let refused = town.call_fails("agent.declare_dead", json!({"agent": "a/witness", "evidence": "x"}));
    assert_eq!(refused.code, 1011, "{refused:?}");
    assert_eq!(town.agent("a/witness")["instance"], agent["instance"]);
    let _ = std::fs::remove_dir(record);
}

#[test]
fn what_is_seen_alive_is_not_declared_dead() {
    let town = Setup::new().rigs(&["a"]).no_refineries().up();
    let before = town.agent("a/witness");
    let (record, content) = darken(&town);
    town.start();
    wait_dark(&town);
    let refused =
        town.call_fails("agent.declare_dead", json!({"agent": "a/witness", "evidence": "it must be"}));
    assert_eq!(refused.code, 1011, "{refused:?}");
    assert!(refused.message.contains("is alive"), "{refused:?}");
    assert!(refused.data["seen"].as_array().is_some_and(|seen| !seen.is_empty()), "{refused:?}");
    let empty = town.call_fails("agent.declare_dead", json!({"agent": "a/witness", "evidence": " "}));
    assert_eq!((empty.code, &empty.data["path"]), (-32602, &json!("/evidence")), "{empty:?}");
    // As soon as it can be told again, it goes on as the same.
    std::fs::remove_dir(&record).unwrap();
    std::fs::write(&record, content).unwrap();
    let agent = town.wait_state("a/witness", "running");
    assert_eq!((&agent["instance"], &agent["pid"]), (&before["instance"], &before["pid"]), "{agent:#}");
    town.assert_never_two();
}

#[test]
fn an_explanation_looks_again_and_tells_of_the_past() {
    let town = Setup::new().rigs(&["a"]).no_refineries().up();
    let started: gtd_proto::Timestamp =
        town.agent("a/witness")["started_at"].as_str().unwrap().parse().unwrap();
    let before = town.agent("a/witness")["instance"].as_str().unwrap().to_owned();
    let probed = town.call("agent.explain", json!({"agent": "a/witness", "probe": true}));
    let seen: Vec<&str> =
        probed["observations"].as_array().unwrap().iter().map(|o| o["what"].as_str().unwrap()).collect();
    for what in ["agent process", "shim process", "exit record", "pane"] {
        let seen = probed["observations"].as_array().unwrap().iter().find(|o| o["what"] == what);
        let seen = seen.unwrap_or_else(|| panic!("{what}: {probed:#}"));
        assert!(seen["age_ms"].as_u64().is_some_and(|age| age < 5_000), "{seen:#}");
        assert!(seen["source"].as_str().is_some_and(|source| source != "report"), "{seen:#}");
    }
    assert_eq!(seen.iter().filter(|what| **what == "agent process").count(), 1, "{seen:?}");
    town.process("a/witness").kill();
    town.wait_new_instance("a/witness", &before);
    let now = town.call("agent.explain", json!({"agent": "a/witness"}));
    assert!(
        now["decisions"].as_array().unwrap().iter().any(|d| d["event"].as_str().unwrap().contains("SIGKILL")),
        "{now:#}"
    );
    let past = town.call("agent.explain", json!({"agent": "a/witness", "at": started}));
    assert!(past["verdict"].as_str().is_some_and(|verdict| verdict.contains("decided to start")), "{past:#}");
    assert!(
        past["decisions"]
            .as_array()
            .unwrap()
            .iter()
            .all(|d| !d["event"].as_str().unwrap().contains("SIGKILL"))
    );
    assert!(past["observations"].as_array().unwrap().is_empty(), "what is seen now says nothing of then");
    let long_ago = town.call("agent.explain", json!({"agent": "a/witness", "at": "2020-01-01T00:00:00Z"}));
    assert!(long_ago["verdict"].as_str().unwrap().contains("no decision"), "{long_ago:#}");
}
