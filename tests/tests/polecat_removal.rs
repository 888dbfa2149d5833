//! Letting go of workers: nothing that is only theirs is ever lost, and what is begun is ended.

use std::path::{Path, PathBuf};

use gtd_tests::disk::SmallDisk;
use gtd_tests::{CHANGE, Setup, Town, skipped, wait_for, wait_until};
use serde_json::{Value, json};

fn town(setup: Setup) -> Town {
    let town = setup.rigs(&["a"]).no_refineries().make();
    town.make_repo("a", 5);
    // What the scripted agent leaves where it works is nobody's work.
    let exclude = town.path("a/.repo.git/info/exclude");
    std::fs::create_dir_all(exclude.parent().unwrap()).unwrap();
    std::fs::write(exclude, ".scripted-agent-*\n").unwrap();
    town.start();
    town.wait_all_running();
    town
}

/// A worker with work on its hook, that has done something: a commit, a change, a new file.
fn busy(town: &Town, name: &str) -> (String, PathBuf, String) {
    let work = town.call("work.create", json!({"title": "Fix the parser", "rig": "a"}));
    let work = work["id"].as_str().unwrap().to_owned();
    let made = town.call("polecat.spawn", json!({"rig": "a", "work": work, "name": name}));
    let worktree = PathBuf::from(made["worktree"].as_str().unwrap());
    std::fs::write(worktree.join("d0/f0.txt"), "committed\n").unwrap();
    town.run_git(&worktree, &["commit", "-qam", "mine"]).ok();
    std::fs::write(worktree.join("d0/f0.txt"), "changed\n").unwrap();
    std::fs::write(worktree.join("new"), "new\n").unwrap();
    (made["agent"].as_str().unwrap().to_owned(), worktree, work)
}

/// What is kept of a worker, by the ends of the refs.
fn kept(town: &Town, name: &str, file: &str) -> Vec<(String, String)> {
    let bare = town.path("a/.repo.git");
    let format = "--format=%(refname) %(objectname)";
    let refs = town.run_git(&bare, &["for-each-ref", format, &format!("refs/gtd/archive/{name}")]).ok().out;
    let of = |line: &str| {
        let (name, commit) = line.split_once(' ').unwrap();
        let text = town.run_git(&bare, &["show", &format!("{commit}:{file}")]);
        (name.rsplit('/').next().unwrap().to_owned(), text.out.trim().to_owned())
    };
    refs.lines().map(of).collect()
}

#[track_caller]
fn all_kept(town: &Town, name: &str) {
    let texts = kept(town, name, "d0/f0.txt");
    for (end, text) in [("tip", "committed"), ("uncommitted", "changed")] {
        assert!(texts.iter().any(|(other, found)| other == end && found == text), "{end} in {texts:?}");
    }
    assert!(kept(town, name, "new").iter().any(|(end, text)| end == "uncommitted" && text == "new"));
}

/// Nothing but what is kept is left of a worker.
#[track_caller]
fn gone(town: &Town, agent: &str, work: &str) {
    let name = agent.rsplit('/').next().unwrap();
    let left: Vec<String> =
        town.traces("a").into_iter().filter(|trace| !trace.starts_with("ref refs/gtd/")).collect();
    assert_eq!(left, [""; 0]);
    all_kept(town, name);
    assert_eq!(town.call("work.show", json!({"id": work}))["status"], "open");
    assert_eq!(town.call_fails("polecat.remove", json!({"agent": agent, "force": true})).code, 1002);
}

#[test]
fn a_worker_is_removed_only_when_nothing_would_be_lost_and_by_force_all_is_kept() {
    let town = town(Setup::new());
    let (agent, worktree, work) = busy(&town, "bullet");
    town.call("polecat.spawn", json!({"rig": "a", "name": "bullet-farmer"}));
    let process = town.process(&agent);
    let refused = town.call_fails("polecat.remove", json!({"agent": agent}));
    assert_eq!((refused.code, &refused.data["state"]), (1011, &json!("running")), "{refused:?}");
    town.call("polecat.stop", json!({"agent": agent, "now": true}));
    assert!(!process.alive());
    let refused = town.call_fails("polecat.remove", json!({"agent": agent}));
    assert_eq!(town.run_git(&worktree, &["status", "--porcelain"]).ok().out, " M d0/f0.txt\n?? new\n");
    let told = "2 uncommitted change(s), 1 unpushed commit(s)";
    assert_eq!((refused.code, &refused.data["summary"]), (1008, &json!(told)), "{refused:?}");
    assert_eq!(town.call_fails("polecat.remove", json!({"agent": agent, "dry_run": true})).code, 1008);
    let plan = town.call("polecat.remove", json!({"agent": agent, "force": true, "dry_run": true}));
    let actions: Vec<&str> =
        plan["plan"].as_array().unwrap().iter().map(|step| step["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["archive", "archive", "remove", "delete branch", "unhook", "forget"], "{plan:#}");
    assert!(worktree.join("new").is_file(), "a plan removes nothing");
    assert_eq!(town.call("hook.show", json!({"agent": agent}))["work"]["id"], json!(work));

    let seq = town.seq();
    let removed = town.call("polecat.remove", json!({"agent": agent, "force": true, "reason": "a new plan"}));
    assert_eq!(removed["work"], json!(work), "{removed:#}");
    let archived = removed["archived"].as_array().unwrap();
    assert_eq!(archived.len(), 2, "{removed:#}");
    assert!(archived[0]["ref"].as_str().unwrap().starts_with("refs/gtd/archive/bullet/"));
    let event = town.wait_event(seq, "polecat.removed", &agent, CHANGE);
    assert_eq!(
        (&event["data"]["archived"], &event["data"]["reason"]),
        (&removed["archived"], &json!("a new plan"))
    );
    assert!(town.try_agent(&agent).is_none());
    // Its neighbour goes on, and goes without force: nothing was done there.
    let other = "a/polecats/bullet-farmer";
    assert_eq!(town.agent(other)["running"], true);
    town.call("polecat.stop", json!({"agent": other, "now": true}));
    town.call("polecat.remove", json!({"agent": other}));
    gone(&town, &agent, &work);
    // The name is free.
    let again = town.call("polecat.spawn", json!({"rig": "a", "work": work, "name": "bullet"}));
    assert_eq!((&again["agent"], &again["hook"]), (&json!(agent), &json!(work)));
    for reserved in ["witness", "crew-x", "refinery"] {
        assert_eq!(
            town.call_fails("polecat.spawn", json!({"rig": "a", "name": reserved})).code,
            1015,
            "{reserved}"
        );
    }
    town.assert_never_two();
}

#[test]
fn by_force_one_that_runs_is_stopped_first() {
    let town = town(Setup::new());
    let (agent, _, work) = busy(&town, "nux");
    let process = town.process(&agent);
    let out =
        town.gtctl(&["rpc", "polecat.remove", &json!({"agent": agent, "force": true}).to_string()]).ok();
    assert_eq!(out.json()["agent"], json!(agent));
    assert!(!process.alive());
    gone(&town, &agent, &work);
    let removed: Vec<Value> =
        town.events(0).into_iter().filter(|event| event["kind"] == "polecat.removed").collect();
    assert_eq!(removed.len(), 1);
}

/// Wherever the daemon is killed in a removal, the next one ends it, once.
#[test]
fn a_removal_outlives_the_daemon_wherever_it_is_killed() {
    for point in ["remove.claimed", "remove.stopped", "remove.tree", "remove.unhooked"] {
        let points = tempfile::tempdir().unwrap();
        let town = town(Setup::new().env("GTD_TEST_POINTS", &points.path().display().to_string()));
        let (agent, _, work) = busy(&town, "nux");
        std::fs::write(points.path().join(point), "hold").unwrap();
        town.call(
            "polecat.remove",
            json!({"agent": agent, "force": true, "wait_ms": 0, "reason": "kill me"}),
        );
        let reached = points.path().join(format!("{point}.reached"));
        wait_for(CHANGE, point, || reached.exists().then_some(()));
        let busy = town.call_fails("polecat.remove", json!({"agent": agent, "force": true}));
        assert_eq!(busy.code, 1011, "{point}: {busy:?}");
        town.kill_daemon();
        town.start();
        wait_for(CHANGE, point, || {
            town.events(0)
                .into_iter()
                .find(|event| event["kind"] == "polecat.removed" && event["agent"] == *agent)
        });
        wait_until(CHANGE, || town.try_agent(&agent).is_none());
        gone(&town, &agent, &work);
        let told: Vec<Value> =
            town.events(0).into_iter().filter(|event| event["kind"] == "polecat.removed").collect();
        assert_eq!(told.len(), 1, "{point}: {told:#?}");
        assert_eq!(told[0]["data"]["reason"], "kill me");
        town.assert_never_two();
    }
}

/// What fails before anything is gone leaves the worker as it was.
#[test]
fn a_removal_that_fails_keeps_the_worker() {
    let points = tempfile::tempdir().unwrap();
    let town = town(Setup::new().env("GTD_TEST_POINTS", &points.path().display().to_string()));
    let (agent, worktree, work) = busy(&town, "nux");
    std::fs::write(points.path().join("remove.stopped"), "fail").unwrap();
    assert_eq!(town.call_fails("polecat.remove", json!({"agent": agent, "force": true})).code, -32603);
    let shown = town.wait_agent(&agent, CHANGE, "is known", |agent| agent["state"] == "stopped");
    assert_eq!((&shown["worktree"], &shown["hook"]), (&json!(worktree), &json!(work)), "{shown:#}");
    assert!(worktree.join("new").is_file());
    let started = town.call("polecat.start", json!({"agent": agent}));
    assert_eq!(started["running"], true, "{started:#}");
    // After the worktree has gone, the removal is what is gone on with.
    std::fs::write(points.path().join("remove.tree"), "fail").unwrap();
    town.call_fails("polecat.remove", json!({"agent": agent, "force": true}));
    town.call("polecat.remove", json!({"agent": agent}));
    gone(&town, &agent, &work);
}

/// From the moment that a removal has begun nothing is started in what is being kept and removed, whoever asks.
#[test]
fn nobody_starts_a_worker_that_is_being_removed() {
    let points = tempfile::tempdir().unwrap();
    let town = town(Setup::new().env("GTD_TEST_POINTS", &points.path().display().to_string()));
    let (agent, worktree, work) = busy(&town, "nux");
    town.call("polecat.stop", json!({"agent": agent, "now": true}));
    let seq = town.seq();
    town.call("nudge.send", json!({"agent": agent, "message": "for this one", "wait_ms": 0}));
    std::fs::write(points.path().join("remove.stopped"), "hold").unwrap();
    town.call("polecat.remove", json!({"agent": agent, "force": true, "wait_ms": 0}));
    let reached = points.path().join("remove.stopped.reached");
    wait_for(CHANGE, "the removal", || reached.exists().then_some(()));
    // Its directory is there still, and is seen with the next look at the town.
    town.call("polecat.spawn", json!({"rig": "a", "name": "ace"}));
    town.wait_agent(&agent, CHANGE, "is seen again", |agent| agent["state"] == "stopped");
    for (method, params) in [
        ("polecat.start", json!({"agent": agent})),
        ("polecat.start", json!({"agent": agent, "work": work})),
        ("polecat.restart", json!({"agent": agent})),
        ("hook.set", json!({"agent": agent, "work": work})),
        ("nudge.send", json!({"agent": agent, "message": "hello", "wait_ms": 0})),
        ("rig.remove", json!({"rig": "a", "force": true})),
    ] {
        let refused = town.call_fails(method, params);
        assert_eq!(refused.code, 1011, "{method}: {refused:?}");
    }
    assert!(worktree.join("new").is_file());
    std::fs::write(points.path().join("remove.stopped.go"), "").unwrap();
    wait_until(CHANGE, || town.try_agent(&agent).is_none());
    town.call("polecat.stop", json!({"agent": "a/polecats/ace", "now": true}));
    town.call("polecat.remove", json!({"agent": "a/polecats/ace"}));
    gone(&town, &agent, &work);
    // What was to be typed for it is not typed for who gets its name.
    let dead = town.wait_event(seq, "nudge.dead", &agent, CHANGE);
    assert_eq!(dead["data"]["why"], format!("{agent} was removed"), "{dead:#}");
    // The bar goes with it.
    let again = town.call("polecat.spawn", json!({"rig": "a", "work": work, "name": "nux"}));
    assert_eq!(again["running"], true);
    town.call("polecat.restart", json!({"agent": agent}));
    town.assert_never_two();
}

/// Nor in what is being made: its start is the last thing that is done, with what was asked for.
#[test]
fn nobody_starts_a_worker_that_is_being_made() {
    let points = tempfile::tempdir().unwrap();
    let town = town(Setup::new().env("GTD_TEST_POINTS", &points.path().display().to_string()));
    let agent = "a/polecats/nux";
    let before = town.traces("a");
    for end in ["fail", ""] {
        for file in std::fs::read_dir(points.path()).unwrap() {
            std::fs::remove_file(file.unwrap().path()).unwrap();
        }
        std::fs::write(points.path().join("tree.after"), "hold").unwrap();
        if !end.is_empty() {
            std::fs::write(points.path().join("hook.before"), end).unwrap();
        }
        let seq = town.seq();
        town.call("polecat.spawn", json!({"rig": "a", "name": "nux", "wait_ms": 0}));
        let reached = points.path().join("tree.after.reached");
        wait_for(CHANGE, "the spawn", || reached.exists().then_some(()));
        town.wait_agent(agent, CHANGE, "is seen", |agent| agent["state"] == "stopped");
        let refused = town.call_fails("polecat.start", json!({"agent": agent}));
        assert_eq!(refused.code, 1011, "{refused:?}");
        let refused = town.call_fails("rig.remove", json!({"rig": "a", "force": true}));
        assert_eq!(refused.code, 1011, "{refused:?}");
        std::fs::write(points.path().join("tree.after.go"), "").unwrap();
        if end.is_empty() {
            town.wait_event(seq, "polecat.spawned", agent, CHANGE);
            town.call("polecat.stop", json!({"agent": agent, "now": true}));
            town.call("polecat.remove", json!({"agent": agent}));
        } else {
            town.wait_event(seq, "polecat.spawn_failed", agent, CHANGE);
            assert!(wait_until(CHANGE, || town.traces("a") == before), "{:?}", town.traces("a"));
        }
    }
}

#[test]
fn a_worktree_that_is_missing_or_broken_is_told_and_kept() {
    let town = town(Setup::new());
    let (agent, worktree, work) = busy(&town, "nux");
    town.call("polecat.stop", json!({"agent": agent, "now": true}));
    let git_file = worktree.join(".git");
    let good = std::fs::read_to_string(&git_file).unwrap();
    std::fs::write(&git_file, "junk").unwrap();
    let refused = town.call_fails("polecat.remove", json!({"agent": agent}));
    assert_eq!((refused.code, &refused.data["unknown"]), (1008, &json!(true)), "{refused:?}");
    std::fs::write(&git_file, &good).unwrap();
    let head = town.path("a/.repo.git/HEAD");
    let main = std::fs::read_to_string(&head).unwrap();
    std::fs::write(&head, "junk").unwrap();
    for force in [false, true] {
        let refused = town.call_fails("polecat.remove", json!({"agent": agent, "force": force}));
        assert!([1008, 1017].contains(&refused.code), "{refused:?}");
        assert!(worktree.join("new").is_file());
    }
    std::fs::write(&head, main).unwrap();
    let away = town.base().join("away");
    std::fs::rename(&worktree, &away).unwrap();
    let refused = town.call_fails("polecat.remove", json!({"agent": agent}));
    assert!(refused.data["summary"].as_str().unwrap().ends_with("its directory is missing"), "{refused:?}");
    std::fs::rename(&away, &worktree).unwrap();
    town.call("polecat.remove", json!({"agent": agent, "force": true}));
    gone(&town, &agent, &work);
}

/// A disk that fills up while the worktree is written: nothing is left, and there is room again.
#[test]
fn a_spawn_on_a_full_disk_leaves_nothing() {
    let name = "a_spawn_on_a_full_disk_leaves_nothing";
    let town = town(Setup::new());
    let origin = town.origin("a");
    std::fs::write(origin.join("large"), vec![b'x'; 3 << 20]).unwrap();
    town.run_git(&origin, &["add", "."]).ok();
    town.run_git(&origin, &["commit", "-qm", "large"]).ok();
    let polecats = town.path("a/polecats");
    let disk = match SmallDisk::mount(&polecats, 1) {
        Ok(disk) => disk,
        Err(why) => return skipped(name, &why),
    };
    let before = town.traces("a");
    let refused = town.call_fails("polecat.spawn", json!({"rig": "a"}));
    assert_eq!((refused.code, refused.kind.as_str()), (1017, "git"), "{refused:?}");
    assert_eq!(refused.data["hint"], "df -h", "{refused:?}");
    assert!(wait_until(CHANGE, || town.traces("a") == before), "{:?}", town.traces("a"));
    drop(disk);
    assert!(is_empty(&polecats));
    let made = town.call("polecat.spawn", json!({"rig": "a"}));
    assert_eq!(made["running"], true);
}

fn is_empty(dir: &Path) -> bool {
    std::fs::read_dir(dir).unwrap().next().is_none()
}
