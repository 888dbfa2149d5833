//! What changes between the decision and the signal, or under the feet of a sweep.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use gtd_tests::people::{People, YOUNG, leave_over, left_over, sweep_all, town_id};
use gtd_tests::{CHANGE, Process, QUICK, Setup, Town, programs, skipped, wait_for, wait_until};
use rustix::process::Signal;
use serde_json::json;

/// A directory whose files say where the daemon is to hold.
struct Points(PathBuf);

impl Drop for Points {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Points {
    fn new() -> Self {
        let name = format!("gtd-points-{}-{:?}", std::process::id(), std::thread::current().id());
        let dir = std::env::temp_dir().join(name.replace(['(', ')'], "-"));
        std::fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    fn hold(&self) {
        std::fs::write(self.0.join("signal"), "hold").unwrap();
    }

    /// Whom the daemon is about to signal. Rounds are asked for until one finds what is old enough.
    fn reached(&self, town: &Town) -> (i32, u64) {
        let file = self.0.join("signal.reached");
        let said = wait_for(CHANGE, "a signal is decided on", || {
            std::fs::read_to_string(&file).ok().or_else(|| {
                let _ = town.try_call("daemon.heartbeat", json!({}));
                None
            })
        });
        let (pid, start) = said.split_once(' ').unwrap();
        (pid.parse().unwrap(), start.parse().unwrap())
    }

    fn go(&self) {
        std::fs::write(self.0.join("signal.go"), "").unwrap();
    }

    fn setup(&self) -> Setup {
        Setup::new().toml(YOUNG).env("GTD_TEST_POINTS", &self.0.display().to_string())
    }
}

/// Somebody who is given a number that was another's; `None` where numbers cannot be chosen.
fn heir(town: &Town, number: i32) -> Option<Child> {
    for _ in 0..2_000 {
        // Others start processes meanwhile.
        std::fs::write("/proc/sys/kernel/ns_last_pid", (number - 1).to_string()).ok()?;
        let mut sleeper: Command = programs::bare("setsid", &town.home());
        sleeper.args(["sleep", "5000"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = sleeper.spawn().unwrap();
        if i32::try_from(child.id()).unwrap() == number {
            // Before that it is in our session, which is the daemon's, and spared for that alone.
            wait_for(QUICK, "a session of its own", || {
                gtd_tests::people::is_called(Process::of(number)?, "sleep").then_some(())
            });
            return Some(child);
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    panic!("number {number} was not to be had");
}

#[test]
fn a_number_that_is_given_away_between_decision_and_signal_is_its_heirs() {
    let points = Points::new();
    let (town, children, _) = left_over(points.setup(), &["fork:setsid", "idle"]);
    points.hold();
    town.start();
    let (pid, start) = points.reached(&town);
    let victim = *children.iter().find(|child| child.pid == pid).unwrap();
    assert_eq!(victim.start, start);
    victim.kill();
    wait_for(QUICK, "its number is free", || Process::of(pid).is_none().then_some(()));
    let Some(mut heir) = heir(&town, pid) else {
        points.go();
        return skipped("a number that is given away", "ns_last_pid cannot be written here");
    };
    points.go();
    let swept = town.wait_event(0, "sweep.killed", "a/witness", CHANGE);
    sweep_all(&town);
    assert_eq!(heir.try_wait().unwrap(), None, "the heir lives: {swept:#}");
    let signals = town.call("agent.signals", json!({}));
    assert!(signals["items"].as_array().unwrap().iter().all(|sent| sent["pid"] != pid), "{signals:#}");
    heir.kill().unwrap();
    heir.wait().unwrap();
}

#[test]
fn a_tmux_that_stops_answering_after_the_decision_shelters_as_before() {
    let points = Points::new();
    let setup = points.setup().toml("[tmux]\ncommand_timeout = \"300ms\"");
    let (town, children, _) = left_over(setup, &["fork:group", "idle"]);
    // A person's own window on our server.
    let tmux = town.tmux();
    let pane =
        tmux.run(&["new-window", "-d", "-P", "-F", "#{pane_pid}", "-t", "gt-a-witness:", "exec sleep 5000"]);
    let theirs = Process::of(pane.parse().unwrap()).unwrap();
    let server = tmux.server();
    points.hold();
    town.start();
    points.reached(&town);
    server.signal(Signal::STOP);
    points.go();
    assert!(
        wait_until(CHANGE, || children.iter().all(|child| !child.alive())),
        "it was decided, and is proven"
    );
    let _ = town.try_call("orphans.sweep", json!({}));
    server.signal(Signal::CONT);
    sweep_all(&town);
    assert!(theirs.alive() && server.alive());
    let signals = town.call("agent.signals", json!({}));
    assert!(signals["items"].as_array().unwrap().iter().all(|sent| sent["pid"] != theirs.pid), "{signals:#}");
    theirs.kill();
}

#[test]
fn whatever_becomes_of_the_registry_during_a_sweep_agents_that_run_are_not_left_over() {
    let town = Setup::new()
        .rigs(&["a", "b", "c"])
        .no_refineries()
        .toml(YOUNG)
        .script(&["fork:group", "fork:setsid", "idle"])
        .up();
    let registry = town.path("mayor/rigs.json");
    let good = std::fs::read_to_string(&registry).unwrap();
    let (children, _) = leave_over(&town, "c/witness");
    // For the sweep there is one that is proven: it is at work while the registry cannot be told.
    let mut people = People::new(&town);
    let claude = people.program("claude");
    people.start("claude", "claude", &town.path("a"), &[], &[&claude, "1000"]);
    std::fs::remove_file(&registry).unwrap();
    std::fs::create_dir(&registry).unwrap();
    town.start_unwatched();
    town.wait_answers();
    // With the last good set, or with none, whoever lives is watched.
    for rig in ["a", "b"] {
        let pid = Process::of(agent_pid(&town, rig)).unwrap();
        people.seen("an agent that runs", pid);
        for child in gtd_tests::procs::descendants(pid.parent().unwrap()) {
            people.seen("its child", child);
        }
    }
    let ways: [(&str, &dyn Fn()); 6] = [
        ("a directory in its place", &|| {}),
        ("no file", &|| std::fs::remove_dir(&registry).unwrap()),
        ("an empty file", &|| std::fs::write(&registry, "").unwrap()),
        ("a torn file", &|| std::fs::write(&registry, &good[..good.len() / 2]).unwrap()),
        ("a file without rigs", &|| town.replace("mayor/rigs.json", r#"{"version":1,"rigs":{}}"#)),
        ("a file that may not be read", &|| {
            town.replace("mayor/rigs.json", &good);
            std::fs::set_permissions(&registry, std::fs::Permissions::from_mode(0o000)).unwrap();
        }),
    ];
    for (what, way) in ways {
        way();
        sweep_all(&town);
        people.all_live(what);
    }
    let gone = wait_until(CHANGE, || {
        let _ = town.try_call("daemon.heartbeat", json!({}));
        children.iter().all(|child| !child.alive())
    });
    assert!(gone, "what is proven goes by its record, whatever the registry says");
    std::fs::set_permissions(&registry, std::fs::Permissions::from_mode(0o644)).unwrap();
    people.never_signalled(&town);
    people.forget(|(what, _)| *what == "claude");
}

/// The process of a rig's witness by the ledger, which needs no registry.
fn agent_pid(town: &Town, rig: &str) -> i32 {
    let conn = rusqlite::Connection::open(town.path("daemon/gtd.db")).unwrap();
    let sql = "SELECT process FROM instances WHERE agent = ?1 ORDER BY id DESC LIMIT 1";
    let text: String = conn.query_row(sql, [format!("{rig}/witness")], |row| row.get(0)).unwrap();
    let key: serde_json::Value = serde_json::from_str(&text).unwrap();
    i32::try_from(key["pid"].as_i64().unwrap()).unwrap()
}

#[test]
fn what_the_daemon_stands_on_is_not_swept_whatever_is_on_record_of_it() {
    let (town, children, _) = left_over(Setup::new().toml(YOUNG), &["fork:group", "idle"]);
    let id = {
        let file = std::fs::read_to_string(town.path("daemon/town-id")).unwrap();
        serde_json::from_str::<serde_json::Value>(&file).unwrap()["id"].as_str().unwrap().to_owned()
    };
    let conn = rusqlite::Connection::open(town.path("daemon/gtd.db")).unwrap();
    let (instance, boot): (String, String) = conn
        .query_row("SELECT instance, boot FROM instances WHERE agent = 'a/witness'", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .unwrap();
    // The daemon is started below a shell that carries that instance's marker, in a session of its own; and by the
    // ledger that shell was the instance's agent.
    let gtd = town.command("gtd");
    let mut shell: Command = programs::bare("setsid", &town.home());
    shell.envs(gtd.get_envs().filter_map(|(name, value)| Some((name, value?))));
    shell.envs([("GT_TOWN_ID", &id), ("GT_INSTANCE", &instance)]);
    let line = "trap '' HUP; while [ ! -e \"$2.go\" ]; do sleep 0.01; done; setsid \"$0\" --town \"$1\"; :";
    let go = town.base().join("above");
    shell.args(["sh", "-c", line]).arg(gtd.get_program()).arg(town.root()).arg(&go);
    shell.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = shell.spawn().unwrap();
    let above = Process::of(i32::try_from(child.id()).unwrap()).unwrap();
    wait_for(QUICK, "the shell", || gtd_tests::people::is_called(above, "sh").then_some(()));
    let key = json!({"boot": boot, "pid": above.pid, "start": above.start}).to_string();
    let changed = conn.execute("UPDATE instances SET process = ?1 WHERE instance = ?2", [&key, &instance]);
    assert_eq!(changed.unwrap(), 1);
    drop(conn);
    std::fs::write(go.with_extension("go"), "").unwrap();
    town.wait_answers();
    let below = wait_for(QUICK, "the daemon", || {
        let hello = town.try_call("daemon.hello", json!({"client": "t", "protocol": 1})).ok()?;
        Process::of(i32::try_from(hello["pid"].as_i64()?).ok()?)
    });
    assert!(gtd_tests::procs::descendants(above.pid).contains(&below), "the daemon stands on it");
    assert_eq!(town_id(&town), id);
    let list = town.call("orphans.list", json!({}));
    let said = list["items"].as_array().unwrap().iter().find(|item| item["pid"] == above.pid);
    assert_eq!(said.map(|item| item["verdict"].clone()), Some(json!("protected")), "{list:#}");
    let gone = wait_until(CHANGE, || {
        sweep_all(&town);
        children.iter().all(|child| !child.alive())
    });
    assert!(gone, "{:#}", town.call("orphans.list", json!({})));
    assert!(above.alive() && below.alive());
    let signals = town.call("agent.signals", json!({}));
    let to = |pid: i32| signals["items"].as_array().unwrap().iter().any(|sent| sent["pid"] == pid);
    assert!(!to(above.pid) && !to(below.pid), "{signals:#}");
    town.call("daemon.shutdown", json!({"stop_agents": true}));
    assert!(wait_until(CHANGE, || !below.alive()));
    above.kill();
    child.wait().unwrap();
}
