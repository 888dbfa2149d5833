//! Making workers: what comes of a spawn, and that nothing comes of one that fails.

use gtd_tests::bd::StandIn;
use gtd_tests::disk::SmallDisk;
use gtd_tests::{CHANGE, Setup, Town, skipped, wait_for};
use serde_json::{Value, json};

fn town(setup: Setup) -> Town {
    let town = setup.rigs(&["a"]).no_refineries().make();
    town.make_repo("a", 5);
    town.start();
    town.wait_all_running();
    town
}

fn work(town: &Town, title: &str) -> String {
    town.call("work.create", json!({"title": title, "rig": "a"}))["id"].as_str().unwrap().to_owned()
}

#[test]
fn a_spawn_makes_a_worker_with_a_name_a_worktree_work_and_an_agent() {
    let town = town(Setup::new());
    let seq = town.seq();
    let id = work(&town, "Fix the parser");
    let plan = town.call("polecat.spawn", json!({"rig": "a", "work": id, "dry_run": true}));
    assert_eq!(plan["dry_run"], true, "{plan:#}");
    let actions: Vec<&str> =
        plan["plan"].as_array().unwrap().iter().map(|step| step["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["add a worktree", "hook", "start"], "{plan:#}");
    assert_eq!(town.traces("a"), [""; 0], "a plan makes nothing");

    let made = town.call("polecat.spawn", json!({"rig": "a", "work": id}));
    assert_eq!(made["agent"], plan["agent"], "{made:#}");
    let (agent, name) = (made["agent"].as_str().unwrap(), made["name"].as_str().unwrap());
    let worktree = town.path(&format!("a/polecats/{name}/a"));
    assert_eq!(
        (&made["state"], &made["running"], &made["hook"]),
        (&json!("running"), &json!(true), &json!(id)),
        "{made:#}"
    );
    assert_eq!(made["worktree"], json!(worktree), "{made:#}");
    assert!(worktree.join("d0/f0.txt").is_file());
    let branch = made["branch"].as_str().unwrap();
    assert!(branch.starts_with(&format!("polecat/{name}/{id}@")), "{branch}");
    assert_eq!(town.run_git(&worktree, &["branch", "--show-current"]).ok().out.trim(), branch);
    // It was on the hook before the agent began.
    let events = town.events(seq);
    let at = |kind: &str| {
        events.iter().position(|event| event["kind"] == kind && event["agent"] == agent).unwrap()
    };
    assert!(at("work.hooked") < at("agent.starting"), "{events:#?}");
    assert!(at("agent.ready") < at("polecat.spawned"));
    let steps: Vec<&Value> = events
        .iter()
        .filter(|event| event["kind"] == "polecat.spawning")
        .map(|event| &event["data"]["step"])
        .collect();
    assert_eq!(json!(steps), json!(["reserve", "tree", "hook", "start", "announce"]));
    let line = wait_for(CHANGE, "the line for older tools", || {
        let text = std::fs::read_to_string(town.path(".events.jsonl")).ok()?;
        text.lines()
            .find(|line| line.contains("\"spawn\""))
            .map(|line| serde_json::from_str::<Value>(line).unwrap())
    });
    assert_eq!(line["payload"], json!({"rig": "a", "polecat": name}));
    // It is a worker like any other: a crash brings it back to the same work in the same place.
    let before = made["instance"].as_str().unwrap();
    town.process(agent).kill();
    let again = town.wait_new_instance(agent, before);
    assert_eq!(
        (&again["worktree"], &again["hook"], &again["branch"]),
        (&made["worktree"], &json!(id), &made["branch"])
    );
    // The next one is called otherwise, and needs no work.
    let other = town.call("polecat.spawn", json!({"rig": "a"}));
    assert_ne!(other["name"], made["name"]);
    town.assert_never_two();
}

/// Nothing was made, and nothing is on its way.
#[track_caller]
fn nothing(town: &Town, why: &str) {
    assert_eq!(town.traces("a"), [""; 0], "{why}");
    let conn = rusqlite::Connection::open(town.path("daemon/gtd.db")).unwrap();
    let rows: i64 = conn.query_row("SELECT count(*) FROM polecats", [], |row| row.get(0)).unwrap();
    assert_eq!(rows, 0, "{why}");
}

#[test]
fn what_is_wrong_with_a_request_is_found_out_before_anything_is_made() {
    let town = town(
        Setup::new()
            .command("gone", json!({"provider": "script", "command": "/no/such/program"}))
            .command("odd", json!({"provider": "none", "command": "/bin/true"})),
    );
    town.replace(
        "mayor/accounts.json",
        &json!({"version": 1, "accounts": {"one": {"config_dir": "/tmp"}}, "default": "one"}).to_string(),
    );
    let closed = work(&town, "closed");
    town.call("work.close", json!({"id": closed}));
    let held = work(&town, "held");
    town.call("hook.set", json!({"agent": "a/witness", "work": held}));
    for (asked, code, word) in [
        (json!({"rig": "b"}), 1001, "no rig"),
        (json!({"rig": "a", "work": "a-999"}), 1007, "no work item"),
        (json!({"rig": "a", "work": closed}), 1007, "is closed"),
        (json!({"rig": "a", "work": held}), 1011, "a/witness has"),
        (json!({"rig": "a", "name": "witness"}), 1015, "role"),
        (json!({"rig": "a", "name": "refinery"}), 1015, "role"),
        (json!({"rig": "a", "name": "crew-joe"}), 1015, "crew"),
        (json!({"rig": "a", "name": "a b"}), 1015, "a b"),
        (json!({"rig": "a", "name": "../x"}), 1015, "../x"),
        (json!({"rig": "a", "agent_preset": "nobody"}), 1015, "nobody"),
        (json!({"rig": "a", "agent_preset": "odd"}), 1015, "none"),
        (json!({"rig": "a", "agent_preset": "gone"}), 1006, "/no/such/program"),
        (json!({"rig": "a", "account": "two"}), 1015, "two"),
        (json!({"rig": "a", "env": {"GT_ROLE": "mayor"}}), 1015, "GT_ROLE"),
        (json!({"rig": "a", "nonsense": 1}), -32602, "nonsense"),
    ] {
        for dry_run in [true, false] {
            let mut asked = asked.clone();
            asked["dry_run"] = json!(dry_run);
            let error = town.call_fails("polecat.spawn", asked.clone());
            assert_eq!(error.code, code, "{asked}: {error:?}");
            assert!(error.message.contains(word), "{asked}: {error:?}");
        }
        let before: Vec<String> =
            town.traces("a").into_iter().filter(|trace| !trace.contains("a/witness")).collect();
        assert_eq!(before, [""; 0], "{asked}");
    }
    let error = town.call_fails("polecat.spawn", json!({"rig": "a", "work": held}));
    assert_eq!(error.data["holder"], "a/witness");
    let near = town.gtctl(&["polecat", "spawn", "aa"]);
    assert!(near.code == 4 && near.err.contains("rig"), "{near:?}");
    town.call("rig.park", json!({"rig": "a"}));
    let parked = town.call_fails("polecat.spawn", json!({"rig": "a"}));
    assert_eq!((parked.code, &parked.data["reason"]), (1005, &json!("parked")), "{parked:?}");
    town.call("rig.unpark", json!({"rig": "a"}));
    std::fs::write(town.path("mayor/accounts.json"), "{").unwrap();
    let bad = town.call_fails("polecat.spawn", json!({"rig": "a"}));
    assert!(bad.message.contains("accounts.json"), "{bad:?}");
    std::fs::remove_file(town.path("mayor/accounts.json")).unwrap();
    // By force the work goes to the new one.
    let made = town.call("polecat.spawn", json!({"rig": "a", "work": held, "force": true}));
    assert_eq!(made["hook"], json!(held), "{made:#}");
}

#[test]
fn work_that_was_taken_by_force_goes_back_when_no_worker_comes_of_it() {
    let town = town(Setup::new().command("short", json!({"provider": "script", "command": "/bin/false"})));
    let held = work(&town, "held");
    town.call("hook.set", json!({"agent": "a/witness", "work": held}));
    let error = town.call_fails(
        "polecat.spawn",
        json!({"rig": "a", "work": held, "force": true, "agent_preset": "short"}),
    );
    assert_eq!(error.code, 1006, "{error:?}");
    assert_eq!(town.traces("a"), [format!("hook \"a/witness\" \"{held}\"")]);
}

#[test]
fn twenty_spawns_at_once_share_nothing() {
    let town = town(Setup::new().toml("[mass_death]\nthreshold = 0"));
    let made: Vec<Value> = std::thread::scope(|scope| {
        let all: Vec<_> =
            (0..20).map(|_| scope.spawn(|| town.call("polecat.spawn", json!({"rig": "a"})))).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    let distinct = |key: &str| {
        made.iter().map(|one| one[key].as_str().unwrap()).collect::<std::collections::BTreeSet<_>>().len()
    };
    assert_eq!(
        (distinct("agent"), distinct("worktree"), distinct("branch"), distinct("instance")),
        (20, 20, 20, 20)
    );
    let traces = town.traces("a");
    for (what, many) in [
        ("agent ", 20),
        ("directory ", 20),
        ("worktree ", 20),
        ("ref refs/heads/", 20),
        ("session ", 20),
        ("hook ", 0),
    ] {
        assert_eq!(
            traces.iter().filter(|trace| trace.starts_with(what)).count(),
            many,
            "{what}: {traces:#?}"
        );
    }
    assert_eq!(traces.len(), 100, "{traces:#?}");
    town.assert_never_two();
}

#[test]
fn of_two_spawns_for_the_same_work_one_wins() {
    let town = town(Setup::new());
    for round in 0..3 {
        let id = work(&town, &format!("round {round}"));
        let answers: Vec<_> = std::thread::scope(|scope| {
            let ask = || town.try_call("polecat.spawn", json!({"rig": "a", "work": id}));
            let all: Vec<_> = (0..4).map(|_| scope.spawn(ask)).collect();
            all.into_iter().map(|one| one.join().unwrap()).collect()
        });
        let won: Vec<&Value> = answers.iter().filter_map(|answer| answer.as_ref().ok()).collect();
        let [won] = won.as_slice() else { panic!("{answers:#?}") };
        for lost in answers.iter().filter_map(|answer| answer.as_ref().err()) {
            assert_eq!((lost.code, &lost.data["holder"]), (1011, &won["agent"]), "{lost:?}");
        }
    }
    assert_eq!(town.traces("a").iter().filter(|trace| trace.starts_with("agent ")).count(), 3);
}

#[test]
fn a_spawn_beyond_a_limit_is_refused_with_the_figure_and_a_restart_waits() {
    let town = town(
        Setup::new().toml("[polecat]\nmax_per_rig = 2\n[restart]\nburst = 0\n[mass_death]\nthreshold = 0"),
    );
    let answers: Vec<_> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..5)
            .map(|n| {
                let id = work(&town, &format!("work {n}"));
                let town = &town;
                scope.spawn(move || town.try_call("polecat.spawn", json!({"rig": "a", "work": id})))
            })
            .collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 2, "{answers:#?}");
    for refused in answers.iter().filter_map(|answer| answer.as_ref().err()) {
        assert_eq!(refused.code, 1019, "{refused:?}");
        assert_eq!(
            json!([refused.data["resource"], refused.data["limit"], refused.data["value"]]),
            json!(["polecats", 2, 2])
        );
    }
    assert_eq!(town.traces("a").iter().filter(|trace| trace.starts_with("directory ")).count(), 2);
    // Fewer from now on: those who run go on, who dies waits until there is room.
    town.replace("settings/gtd.toml", "[polecat]\nmax_per_rig = 1\n[refinery]\nmode = \"off\"\n[restart]\nburst = 0\n[mass_death]\nthreshold = 0\n");
    town.call("daemon.reload", json!({}));
    let workers: Vec<String> =
        answers.iter().flatten().map(|one| one["agent"].as_str().unwrap().to_owned()).collect();
    town.process(&workers[0]).kill();
    let waits = town.wait_state(&workers[0], "throttled");
    assert!(waits["reason"].as_str().unwrap().contains("1 of at most 1 polecats"), "{waits:#}");
    town.call("polecat.stop", json!({"agent": workers[1]}));
    town.wait_agent(&workers[0], gtd_tests::START * 2, "is back", |agent| agent["running"] == true);
    // The town's own limits, before anything is made.
    for (limits, resource) in [
        ("[start]\nmax_agents = 1", "agents"),
        ("[start]\nmin_free_disk = \"900TiB\"", "disk"),
        ("[start]\nmin_free_memory = \"900TiB\"", "memory"),
    ] {
        town.replace("settings/gtd.toml", &format!("{limits}\n[refinery]\nmode = \"off\"\n"));
        town.call("daemon.reload", json!({}));
        let refused = town.call_fails("polecat.spawn", json!({"rig": "a"}));
        assert_eq!((refused.code, &refused.data["resource"]), (1019, &json!(resource)), "{refused:?}");
        assert!(refused.data["limit"].is_u64() && refused.data["value"].is_u64(), "{refused:?}");
    }
    assert_eq!(town.traces("a").iter().filter(|trace| trace.starts_with("directory ")).count(), 2);
}

#[test]
fn an_agent_that_ends_at_once_leaves_nothing_and_says_how_it_ended() {
    let town = town(
        Setup::new()
            .command(
                "short",
                json!({"provider": "script", "command": "/bin/sh", "args": ["-c", "echo so long; exit 3"]}),
            )
            .command(
                "killed",
                json!({"provider": "script", "command": "/bin/sh", "args": ["-c", "kill -9 $$"]}),
            ),
    );
    for (preset, exit) in [("short", json!({"code": 3})), ("killed", json!({"signal": 9}))] {
        let id = work(&town, preset);
        let error = town.call_fails("polecat.spawn", json!({"rig": "a", "work": id, "agent_preset": preset}));
        assert_eq!((error.code, &error.data["exit"]), (1006, &exit), "{error:?}");
        assert_eq!(error.data["step"], "start");
        nothing(&town, preset);
        assert_eq!(town.call("work.show", json!({"id": id}))["status"], "open");
        let told = town.wait_event(0, "polecat.spawn_failed", "", CHANGE);
        assert_eq!(
            (&told["data"]["kept"], &told["data"]["error"]["code"]),
            (&Value::Null, &json!(1006)),
            "{told:#}"
        );
    }
}

#[test]
fn a_disk_that_is_full_while_the_worktree_is_made_leaves_nothing() {
    let name = "a_disk_that_is_full_while_the_worktree_is_made_leaves_nothing";
    let town = Setup::new().rigs(&["a"]).no_refineries().make();
    town.make_repo("a", 600);
    let disk = match SmallDisk::mount(&town.path("a/polecats"), 1) {
        Ok(disk) => disk,
        Err(why) => return skipped(name, &why),
    };
    town.start();
    town.wait_all_running();
    let id = work(&town, "large");
    let error = town.call_fails("polecat.spawn", json!({"rig": "a", "work": id}));
    assert_eq!((error.code, error.kind.as_str()), (1017, "git"), "{error:?}");
    assert!(error.data["stderr"].as_str().unwrap().contains("unable to write"), "{error:?}");
    assert_eq!(error.data["hint"], "df -h", "{error:?}");
    nothing(&town, "a full disk");
    assert_eq!(town.call("work.show", json!({"id": id}))["status"], "open");
    town.call("town.stop", json!({}));
    town.stop_daemon();
    drop(disk);
}

#[test]
fn a_store_that_fails_is_no_reason_to_make_half_a_worker() {
    let base = tempfile::tempdir().unwrap();
    let bd = StandIn::new(base.path(), "1.0.5");
    let town = Setup::new()
        .rigs(&["a"])
        .no_refineries()
        .toml("[work]\ntimeout = \"500ms\"")
        .env("PATH", &bd.path())
        .make();
    town.make_repo("a", 5);
    std::fs::create_dir_all(town.path("a/.beads")).unwrap();
    town.start();
    town.wait_all_running();
    for mode in ["hang", "junk", "flood"] {
        bd.does("1.0.5", json!({"mode": mode}));
        let error = town.call_fails("polecat.spawn", json!({"rig": "a", "work": "a-1"}));
        assert_eq!((error.code, error.kind.as_str()), (1016, "work_store"), "{mode}: {error:?}");
        let traces: Vec<String> = town.traces("a");
        assert_eq!(traces, [""; 0], "{mode}");
    }
    // Without work nobody asks the store; by force it is told that the work is not on the hook.
    let seq = town.seq();
    let made = town.call("polecat.spawn", json!({"rig": "a", "work": "a-1", "force": true}));
    assert_eq!(made["running"], true, "{made:#}");
    let told = town.wait_event(seq, "polecat.spawned", made["agent"].as_str().unwrap(), CHANGE);
    assert!(told["data"]["unhooked"].is_string(), "{told:#}");
    town.call("polecat.spawn", json!({"rig": "a"}));
}

#[test]
fn sling_tells_a_rig_a_polecat_and_everything_else_apart() {
    let town = town(Setup::new());
    let id = work(&town, "Fix the parser");
    for (target, code) in [
        ("mayor", 2),
        ("witness", 2),
        ("crew", 2),
        ("wit", 2),
        ("/a", 2),
        ("./a", 2),
        ("a/", 2),
        ("a/witness", 2),
        ("b", 4),
        ("a/polecats/nobody", 4),
    ] {
        let refused = town.gtctl(&["sling", &id, target]);
        assert_eq!(refused.code, code, "{target}: {refused:?}");
        assert!(refused.err.contains("hint:"), "{target}: {refused:?}");
    }
    let unknown = town.gtctl(&["sling", "a-999", "a"]);
    assert!(unknown.code == 1 && unknown.err.contains("no work item"), "{unknown:?}");
    nothing(&town, "refused");
    let plan = town.gtctl(&["sling", &id, "a", "--dry-run"]).ok();
    assert!(plan.out.contains("add a worktree") && plan.out.contains(&id), "{plan:?}");

    let slung = town.gtctl(&["sling", &id, "a", "--name", "nux", "--env", "COLOUR=blue"]).ok();
    assert!(slung.out.contains("spawned a/polecats/nux: running"), "{slung:?}");
    assert!(slung.out.contains(&id) && slung.out.contains("polecats/nux/a"), "{slung:?}");
    for step in ["a/polecats/nux", "worktree on polecat/nux/", "hook: ", "its agent starts"] {
        assert!(slung.err.contains(step), "{step}: {slung:?}");
    }
    // A title, and the polecat that is there.
    let taken = town.gtctl(&["sling", "Tidy up all of it", "a", "--name", "nux"]);
    assert_eq!(taken.code, 1, "{taken:?}");
    let items =
        |status: &str| town.call("work.list", json!({"status": status}))["items"].as_array().unwrap().len();
    assert_eq!(items("open"), 0, "what is refused leaves no work behind that nobody asked for by itself");
    town.call("work.close", json!({"id": id}));
    town.call("polecat.stop", json!({"agent": "a/polecats/nux"}));
    let again = town.gtctl(&["sling", "Tidy up all of it", "a/nux", "--json"]).ok().json();
    assert_eq!(
        (&again["kind"], &again["result"]["agent"]),
        (&json!("sling"), &json!("a/polecats/nux")),
        "{again:#}"
    );
    assert_eq!(again["result"]["running"], true);
    let hook = town.call("hook.show", json!({"agent": "a/polecats/nux"}));
    assert_eq!(hook["work"]["title"], "Tidy up all of it", "{hook:#}");
    let new = town.gtctl(&["sling", "--new", "Refactor", "a", "--json"]).ok().json();
    assert_eq!(
        new["result"]["hook"],
        town.call("work.list", json!({"status": "hooked"}))["items"][1]["id"],
        "{new:#}"
    );
}

#[test]
fn a_worker_cannot_sling() {
    let out = "{J}/slung";
    let gtctl = gtd_tests::programs::program("gtctl");
    let script = format!(
        "{} --town {{T}} sling --new Mine a > {out} 2>&1; echo code $? >> {out}; sleep 1000",
        gtctl.display()
    );
    let town = town(
        Setup::new()
            .command("greedy", json!({"provider": "script", "command": "/bin/sh", "args": ["-c", script]})),
    );
    town.call("polecat.spawn", json!({"rig": "a", "agent_preset": "greedy"}));
    let said = wait_for(CHANGE, "it tried", || {
        let said = std::fs::read_to_string(town.journal_dir().join("slung")).ok()?;
        said.contains("code ").then_some(said)
    });
    assert!(said.contains("code 77"), "{said}");
    assert_eq!(town.traces("a").iter().filter(|trace| trace.starts_with("agent ")).count(), 1);
    assert_eq!(town.call("work.list", json!({}))["items"], json!([]));
}

#[test]
fn workers_in_the_making_outlive_a_lost_ledger() {
    let town = town(Setup::new());
    let id = work(&town, "kept");
    let made = town.call("polecat.spawn", json!({"rig": "a", "work": id}));
    let agent = made["agent"].as_str().unwrap();
    town.stop_daemon();
    for suffix in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(town.path(&format!("daemon/gtd.db{suffix}")));
    }
    town.start();
    town.wait_agent(agent, CHANGE, "known", |shown| {
        shown["running"] == true && shown["branch"] == made["branch"]
    });
    let conn = rusqlite::Connection::open(town.path("daemon/gtd.db")).unwrap();
    let state: String = conn.query_row("SELECT state FROM polecats", [], |row| row.get(0)).unwrap();
    assert_eq!(state, "ready");
    let next = town.call("polecat.spawn", json!({"rig": "a"}));
    assert_ne!(next["name"], made["name"]);
}
