//! `kill -9` of the daemon at every step of a spawn, and a failure at every step: a whole worker or nothing at all.

use std::path::PathBuf;

use gtd::polecats::saga::Step;
use gtd_tests::{CHANGE, Setup, Town, skipped, wait_for, wait_until};
use serde_json::{Value, json};

/// The steps have points where a test can hold them, in builds with debug assertions only.
fn has_points(test: &str) -> bool {
    if !cfg!(debug_assertions) {
        skipped(test, "the daemon was built without points");
    }
    cfg!(debug_assertions)
}

struct Points(PathBuf);

impl Points {
    fn say(&self, point: &str, what: &str) {
        std::fs::write(self.0.join(point), what).unwrap();
    }

    /// Nothing is held any more.
    fn clear(&self) {
        for entry in std::fs::read_dir(&self.0).unwrap().flatten() {
            std::fs::remove_file(entry.path()).unwrap();
        }
    }

    #[track_caller]
    fn wait_reached(&self, point: &str) {
        let path = self.0.join(format!("{point}.reached"));
        assert!(wait_until(CHANGE, || path.exists()), "{point} is not reached");
    }

    fn is_reached(&self, point: &str) -> bool {
        self.0.join(format!("{point}.reached")).exists()
    }
}

fn town(toml: &str) -> (Town, Points) {
    let dir = tempfile::Builder::new().prefix("gt-points").tempdir().unwrap().keep();
    let town = Setup::new()
        .rigs(&["a"])
        .no_refineries()
        .toml(toml)
        .command("short", json!({"provider": "script", "command": "/bin/sh", "args": ["-c", "exit 3"]}))
        .command(
            "mess",
            json!({"provider": "script", "command": "/bin/sh", "args": ["-c", "echo x > mine; exit 3"]}),
        )
        .env("GTD_TEST_POINTS", &dir.display().to_string())
        .make();
    town.make_repo("a", 20);
    town.start();
    town.wait_all_running();
    (town, Points(dir))
}

impl Drop for Points {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn work(town: &Town, title: &str) -> String {
    town.call("work.create", json!({"title": title, "rig": "a"}))["id"].as_str().unwrap().to_owned()
}

fn rows(town: &Town) -> Vec<(String, String)> {
    let conn = rusqlite::Connection::open(town.path("daemon/gtd.db")).unwrap();
    let mut statement = conn.prepare("SELECT name, state FROM polecats ORDER BY name").unwrap();
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    rows.map(Result::unwrap).collect()
}

/// Nothing is under way any more.
#[track_caller]
fn settle(town: &Town) {
    let settled = wait_until(CHANGE, || rows(town).iter().all(|(_, state)| state != "spawning"));
    assert!(settled, "{:?}; {}", rows(town), town.traces("a").join("; "));
}

/// Exactly one whole worker with this work, or nothing at all; says which.
#[track_caller]
fn whole_or_nothing(town: &Town, id: &str, when: &str) -> Option<String> {
    settle(town);
    let traces = wait_for(CHANGE, "what there was of a worker is in step", || {
        let traces = town.traces("a");
        let agents = traces.iter().filter(|trace| trace.starts_with("agent ")).count();
        let dirs = traces.iter().filter(|trace| trace.starts_with("directory ")).count();
        (agents == dirs).then_some(traces)
    });
    let rows = rows(town);
    if rows.is_empty() {
        assert_eq!(traces, [""; 0], "{when}: leftovers");
        assert_eq!(town.call("work.show", json!({"id": id}))["status"], "open", "{when}");
        return None;
    }
    let [(name, state)] = rows.as_slice() else { panic!("{when}: two workers: {rows:?}") };
    assert_eq!(state, "ready", "{when}");
    let agent = format!("a/polecats/{name}");
    let shown = town.wait_state(&agent, "running");
    let branch = shown["branch"].as_str().unwrap();
    let mut expected = vec![
        format!("agent {}", json!(agent)),
        format!("directory {name}"),
        format!("hook {} {}", json!(agent), json!(id)),
        format!("ref refs/heads/{branch}"),
        format!("session gt-a-{name}"),
        traces.iter().find(|trace| trace.starts_with("worktree ")).cloned().unwrap_or_default(),
    ];
    expected.sort();
    assert_eq!(traces, expected, "{when}");
    let worktree = town.path(&format!("a/polecats/{name}/a"));
    assert_eq!(town.run_git(&worktree, &["fsck", "--no-dangling"]).code, 0, "{when}");
    let changed = town.run_git(&worktree, &["status", "--porcelain"]).ok().out;
    assert!(changed.lines().all(|line| line.contains(".scripted-agent")), "{when}: {changed}");
    Some(agent)
}

/// Removes a worker, so that the next round begins with nothing.
#[track_caller]
fn clear(town: &Town, agent: &str, id: &str) {
    town.call("polecat.stop", json!({"agent": agent, "force": true}));
    town.call("work.close", json!({"id": id}));
    town.call("polecat.remove", json!({"agent": agent, "force": true}));
    let bare = town.path("a/.repo.git");
    let refs = town.run_git(&bare, &["for-each-ref", "--format=%(refname)", "refs/gtd/archive"]).ok().out;
    for name in refs.lines() {
        town.run_git(&bare, &["update-ref", "-d", name]).ok();
    }
    assert_eq!(town.traces("a"), [""; 0], "{agent} is not forgotten");
}

const SIDES: [&str; 2] = ["before", "after"];

#[test]
fn kill_9_of_the_daemon_at_every_step_of_a_spawn_leaves_a_whole_worker_or_nothing() {
    let name = "kill_9_of_the_daemon_at_every_step_of_a_spawn_leaves_a_whole_worker_or_nothing";
    if !has_points(name) {
        return;
    }
    let (town, points) = town("[restart]\nburst = 0\n[mass_death]\nthreshold = 0");
    for step in Step::ALL {
        for side in SIDES {
            let point = format!("{}.{side}", step.as_str());
            // With the last step it is told, and nothing comes after it.
            if (step, side) == (Step::Announce, "after") {
                continue;
            }
            let id = work(&town, &point);
            points.say(&point, "hold");
            let key = format!("key {point}");
            let asked = json!({"rig": "a", "work": id, "idempotency_key": key});
            std::thread::scope(|scope| {
                let asking = scope.spawn(|| town.try_call("polecat.spawn", asked.clone()));
                points.wait_reached(&point);
                town.kill_daemon();
                assert!(asking.join().unwrap().is_err());
            });
            points.clear();
            town.start();
            let made = whole_or_nothing(&town, &id, &point);
            // Before it was written down nobody can know of it.
            assert_eq!(made.is_none(), point == "reserve.before", "{point}: {made:?}");
            // Whoever asks again gets the same one, and no other.
            let again = town.call("polecat.spawn", asked);
            let agent = again["agent"].as_str().unwrap();
            assert!(made.is_none_or(|made| made == agent), "{point}");
            assert_eq!(whole_or_nothing(&town, &id, &point).as_deref(), Some(agent));
            town.assert_never_two();
            clear(&town, agent, &id);
        }
    }
}

#[test]
fn a_failure_at_every_step_of_a_spawn_leaves_nothing() {
    if !has_points("a_failure_at_every_step_of_a_spawn_leaves_nothing") {
        return;
    }
    let (town, points) = town("");
    for step in Step::ALL {
        for side in SIDES {
            let point = format!("{}.{side}", step.as_str());
            if (step, side) == (Step::Announce, "after") {
                continue;
            }
            let id = work(&town, &point);
            points.say(&point, "fail");
            // One that does nothing: a scripted agent leaves a file behind.
            let asked = json!({"rig": "a", "work": id, "agent_preset": "sleeps"});
            town.replace("settings/config.json", &with_sleeper(&town));
            let error = town.call_fails("polecat.spawn", asked);
            assert!(error.message.contains(&point), "{error:?}");
            assert!(points.is_reached(&point));
            assert_eq!(whole_or_nothing(&town, &id, &point), None);
            town.call("work.close", json!({"id": id}));
            points.clear();
        }
    }
}

fn with_sleeper(town: &Town) -> String {
    let text = std::fs::read_to_string(town.path("settings/config.json")).unwrap();
    let mut settings: Value = serde_json::from_str(&text).unwrap();
    settings["agents"]["sleeps"] = json!({"provider": "script", "command": "/bin/sleep", "args": ["1000"]});
    settings.to_string()
}

#[test]
fn kill_9_of_the_daemon_while_a_spawn_is_taken_back_leaves_nothing() {
    if !has_points("kill_9_of_the_daemon_while_a_spawn_is_taken_back_leaves_nothing") {
        return;
    }
    let (town, points) = town("[restart]\nburst = 0\n[mass_death]\nthreshold = 0");
    for step in Step::UNDONE {
        for side in SIDES {
            let point = format!("{}.undo.{side}", step.as_str());
            let id = work(&town, &point);
            points.say(&point, "hold");
            // An agent that ends at once, and did nothing.
            let asked = json!({"rig": "a", "work": id, "agent_preset": "short", "wait_ms": 0});
            let accepted = town.call("polecat.spawn", asked);
            assert_eq!(accepted["accepted"], true, "{accepted:#}");
            points.wait_reached(&point);
            town.kill_daemon();
            points.clear();
            town.start();
            assert_eq!(whole_or_nothing(&town, &id, &point), None);
            town.call("work.close", json!({"id": id}));
        }
    }
}

#[test]
fn a_making_that_ends_its_daemon_again_and_again_comes_to_an_end_itself() {
    if !has_points("a_making_that_ends_its_daemon_again_and_again_comes_to_an_end_itself") {
        return;
    }
    let (town, points) = town("");
    let id = work(&town, "poison");
    points.say("hook.before", "hold");
    town.call("polecat.spawn", json!({"rig": "a", "work": id, "wait_ms": 0}));
    for _ in 0..gtd::polecats::saga::TAKEN_UP_AT_MOST {
        points.wait_reached("hook.before");
        town.kill_daemon();
        points.clear();
        points.say("hook.before", "hold");
        town.start();
    }
    points.wait_reached("hook.before");
    town.kill_daemon();
    points.clear();
    town.start();
    assert_eq!(whole_or_nothing(&town, &id, "poison"), None);
    let told = town.wait_event(0, "polecat.spawn_failed", "", CHANGE);
    assert!(told["data"]["error"]["message"].as_str().unwrap().contains("taken up"), "{told:#}");
}

#[test]
fn an_agent_that_did_something_before_it_ended_keeps_its_worktree() {
    let (town, _points) = town("");
    let id = work(&town, "mess");
    let error = town.call_fails("polecat.spawn", json!({"rig": "a", "work": id, "agent_preset": "mess"}));
    assert_eq!((error.code, error.kind.as_str()), (1006, "died_during_startup"), "{error:?}");
    let worktree = PathBuf::from(error.data["worktree"].as_str().unwrap());
    assert_eq!(std::fs::read_to_string(worktree.join("mine")).unwrap(), "x\n");
    assert!(error.data["hint"].as_str().unwrap().contains(worktree.to_str().unwrap()), "{error:?}");
    let [(name, state)] = rows(&town).try_into().unwrap();
    assert_eq!(state, "abandoned");
    let agent = format!("a/polecats/{name}");
    assert_eq!(town.call("work.show", json!({"id": id}))["status"], "open", "somebody else may do it");
    let shown = town.wait_state(&agent, "stopped");
    assert!(shown["reason"].as_str().unwrap().contains("worktree was kept"), "{shown:#}");
    // It is not brought back, and its name is not given to another.
    town.kill_daemon();
    town.start();
    town.call("daemon.heartbeat", json!({}));
    let shown = town.wait_state(&agent, "stopped");
    assert!(shown["reason"].as_str().unwrap().contains("worktree was kept"), "{shown:#}");
    let other = town.call("polecat.spawn", json!({"rig": "a", "work": id}));
    assert_ne!(other["agent"], agent.as_str());
    // Under its name only after what is in it was kept.
    let refused = town.call_fails("polecat.spawn", json!({"rig": "a", "name": name}));
    assert_eq!(
        (refused.code, refused.data["summary"].as_str()),
        (1008, Some("1 uncommitted change(s)")),
        "{refused:?}"
    );
    let seq = town.seq();
    town.call("polecat.spawn", json!({"rig": "a", "name": name, "force": true}));
    let spawned = town.wait_event(seq, "polecat.spawned", &agent, CHANGE);
    let archived = spawned["data"]["archived"].as_array().unwrap();
    let bare = town.path("a/.repo.git");
    let kept = archived.iter().any(|name| {
        let object = format!("{}:mine", name.as_str().unwrap());
        town.run_git(&bare, &["cat-file", "-p", &object]).out == "x\n"
    });
    assert!(kept, "{spawned:#}");
}

#[test]
fn a_caller_that_leaves_does_not_end_the_spawn_and_one_that_does_not_wait_follows_the_events() {
    let name = "a_caller_that_leaves_does_not_end_the_spawn_and_one_that_does_not_wait_follows_the_events";
    if !has_points(name) {
        return;
    }
    let (town, points) = town("");
    let id = work(&town, "left");
    let asked = json!({"rig": "a", "work": id, "idempotency_key": "left"});
    points.say("tree.before", "hold");
    let mut client = town.client();
    let line = json!({"jsonrpc": "2.0", "id": 1, "method": "polecat.spawn", "params": asked}).to_string();
    client.send_raw(format!("{line}\n").as_bytes()).unwrap();
    points.wait_reached("tree.before");
    drop(client);
    // The same request, while it is under way: it is joined, and waited for no longer than asked.
    let late = town.call_fails("polecat.spawn", with(&asked, json!({"wait_ms": 50})));
    assert_eq!((late.code, &late.data["reached"]), (1013, &json!("tree")), "{late:?}");
    let accepted = town.call("polecat.spawn", with(&asked, json!({"wait_ms": 0})));
    assert_eq!(
        (&accepted["accepted"], &accepted["agent"]),
        (&json!(true), &late.data["agent"]),
        "{accepted:#}"
    );
    // The work is on its way, and nobody else gets it, by force neither.
    for force in [false, true] {
        let busy = town.call_fails("polecat.spawn", json!({"rig": "a", "work": id, "force": force}));
        assert_eq!((busy.code, &busy.data["holder"]), (1011, &late.data["agent"]), "{busy:?}");
    }
    let name = late.data["agent"].as_str().unwrap().rsplit('/').next().unwrap().to_owned();
    let busy = town.call_fails("polecat.spawn", json!({"rig": "a", "name": name}));
    assert_eq!(busy.code, 1011, "{busy:?}");
    points.say("tree.before.go", "");
    let agent = whole_or_nothing(&town, &id, "left").unwrap();
    assert_eq!(json!(agent), late.data["agent"]);
    let again = town.call("polecat.spawn", asked);
    assert_eq!(again["agent"], json!(agent), "{again:#}");
    // Its name is taken by one that runs.
    let taken = town.call_fails("polecat.spawn", json!({"rig": "a", "name": name}));
    assert_eq!((taken.code, taken.kind.as_str()), (1003, "already_running"), "{taken:?}");
}

fn with(value: &Value, more: Value) -> Value {
    let mut value = value.clone();
    for (key, more) in more.as_object().unwrap() {
        value[key] = more.clone();
    }
    value
}

type Blow = fn(&Town, &str);

#[test]
fn what_happens_between_hook_and_launch_leaves_nothing_or_what_a_person_wanted() {
    if !has_points("what_happens_between_hook_and_launch_leaves_nothing_or_what_a_person_wanted") {
        return;
    }
    let (town, points) = town("");
    let blows: [(&str, Blow, i64); 3] = [
        // Its worktree goes.
        (
            "worktree",
            |town, name| std::fs::remove_dir_all(town.path(&format!("a/polecats/{name}"))).unwrap(),
            1006,
        ),
        // The rig is set aside.
        ("rig", |town, _| drop(town.call("rig.park", json!({"rig": "a"}))), 1005),
        // The town is stopped.
        ("town", |town, _| drop(town.call("town.stop", json!({}))), 1005),
    ];
    for (what, blow, code) in blows {
        let id = work(&town, what);
        points.say("start.before", "hold");
        let error = std::thread::scope(|scope| {
            let asking = scope.spawn(|| town.try_call("polecat.spawn", json!({"rig": "a", "work": id})));
            points.wait_reached("start.before");
            blow(&town, &rows(&town)[0].0);
            points.say("start.before.go", "");
            asking.join().unwrap().unwrap_err()
        });
        assert_eq!(error.code, code, "{what}: {error:?}");
        points.clear();
        town.call("rig.unpark", json!({"rig": "a"}));
        town.call("town.start", json!({}));
        assert_eq!(whole_or_nothing(&town, &id, what), None);
    }
}
