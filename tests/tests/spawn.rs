//! Making workers: what comes of a spawn, and that nothing comes of one that fails.

use gtd_tests::{CHANGE, Setup, Town, wait_for};
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
    assert_eq!(town.git(&worktree, &["branch", "--show-current"]).ok().out.trim(), branch);
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
