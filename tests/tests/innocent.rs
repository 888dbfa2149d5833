//! The adversarial town: whatever looks like ours and is not lives on.

use gtd_tests::people::{People, YOUNG, item, leave_over, marks, patch, sweep_all, town_id};
use gtd_tests::{CHANGE, Process, QUICK, Setup, programs, wait_for, wait_until};
use serde_json::json;

#[test]
fn none_of_the_innocent_receives_a_signal() {
    let town = Setup::new().rigs(&["my-rig", "a"]).no_refineries().toml(YOUNG).make();
    let neighbour = Setup::new().rigs(&["my-rig"]).no_refineries().toml(YOUNG).up();
    let mut people = People::new(&town);
    let claude = people.dir().join("claude").display().to_string();
    let base = town.base().to_owned();
    town.start();
    town.wait_all_running();
    let id = town_id(&town);
    let live = town.agent("a/witness")["instance"].as_str().unwrap().to_owned();
    let earlier = live.clone();
    let marks = [("GT_TOWN_ID", id.as_str()), ("GT_INSTANCE", live.as_str())];

    let plain = people.start("claude in a terminal", "claude", &base, &[], &[&claude, "1000"]);
    let code = people.dir().join("code").display().to_string();
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
            people.processes().iter().filter(|(what, _)| !what.contains("that runs")).cloned().collect();
        sweep_all(&town);
        for (what, process) in before {
            assert!(process.alive(), "{what} did not survive a registry of {text:?}");
        }
    }
    town.replace("mayor/rigs.json", &registry);
    people.forget(|(what, _)| !what.contains("that runs"));
    people.never_signalled(&town);
    people.never_signalled(&neighbour);
    for name in ["gt-my-rig-crew-joe", "gt-notours-x", "gt-old-witness"] {
        ours.run(&["kill-session", "-t", &format!("={name}")]);
    }
    people.forget(|(what, _)| {
        !what.contains("daemon") && !what.contains("of another town") && !what.starts_with("our ")
    });
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

#[test]
fn beside_the_guilty_whoever_is_like_them_lives() {
    let setup = Setup::new().rigs(&["a", "my-rig"]).no_refineries().toml(YOUNG);
    let town = setup.script(&["fork:group", "fork:setsid", "idle"]).make();
    town.write_registry(&[]);
    town.start();
    let id = town_id(&town);
    let mut people = People::new(&town);
    let base = town.base().to_owned();
    let claude = people.program("claude");
    // Older than any instance; what it carries is written into it when there is one.
    let blank = "00000000-0000-7000-8000-000000000000";
    let older =
        people.start("older than the instance", "claude", &base, &marks(&id, blank), &[&claude, "1000"]);
    town.write_registry(&["a", "my-rig"]);
    town.wait_agent("a/witness", CHANGE, "runs", |agent| agent["running"] == true);
    town.wait_agent("my-rig/witness", CHANGE, "runs", |agent| agent["running"] == true);
    let instance = town.agent("a/witness")["instance"].as_str().unwrap().to_owned();
    patch(older, blank, &instance);
    let mark = marks(&id, &instance);

    let copied = people.start("a copied marker", "claude", &base, &mark, &[&claude, "1001"]);
    let version = format!("exec -a 2.0.14 {claude} 1002");
    people.start("called by a version number", "claude", &base, &mark, &["bash", "-c", &version]);
    let line = format!("{claude} 1003; :");
    people.start("wrapped in a script", "claude", &base, &mark, &["bash", "-c", &line]);
    // By all that can be seen of it from outside it is the shim of that instance.
    let launch = town.path(&format!("daemon/run/{instance}.launch")).display().to_string();
    let shim = people.program("gtd-shim");
    let waits = "sleep 1000; :";
    people.start("called like our shim", "gtd-shim", town.root(), &mark, &[&shim, "-c", waits, &launch]);
    let node = people.program("node");
    people.start("another name", "node", &town.path("a"), &mark, &[&node, "1004"]);

    // A crew's session on our own server, whose pane has started something that has no parents any more.
    let tmux = town.tmux();
    let line = format!("(setsid {claude} 1005 &); exec {claude} 1006");
    let mut words = vec!["new-session", "-d", "-s", "gt-my-rig-crew-joe"];
    let pairs: Vec<String> = mark.iter().map(|(name, value)| format!("{name}={value}")).collect();
    pairs.iter().for_each(|pair| words.extend(["-e", pair]));
    words.extend(["sh", "-c", &line]);
    tmux.run(&words);
    let pane: i32 =
        tmux.run(&["list-panes", "-t", "=gt-my-rig-crew-joe", "-F", "#{pane_pid}"]).parse().unwrap();
    people.seen("a crew's session", Process::of(pane).unwrap());
    let orphaned = wait_for(QUICK, "a crew's process without parents", || {
        let mut all = gtd_tests::procs::marked(&base.display().to_string()).into_iter();
        let of =
            |p: &Process| p.command_line().trim_end().ends_with("claude 1005") && p.parent() != Some(pane);
        all.find(|p| of(p) && !p.command_line().contains("setsid"))
    });
    people.seen("a crew's process without parents", orphaned);

    let (children, _) = leave_over(&town, "a/witness");
    town.start();
    town.wait_agent("my-rig/witness", CHANGE, "runs", |agent| agent["running"] == true);
    people.seen("an agent that runs", town.process("my-rig/witness"));
    people.seen("our tmux server", tmux.server());
    people.seen("the daemon", town.daemon().unwrap());
    let said = |process: Process| item(&town, process)["reason"].as_str().unwrap_or_default().to_owned();
    assert!(said(older).contains("older than that instance"), "{}", said(older));
    assert!(said(copied).contains("only its marker"), "{}", said(copied));
    assert_eq!(item(&town, orphaned)["verdict"], "unproved");
    let gone = wait_until(CHANGE, || {
        sweep_all(&town);
        children.iter().all(|child| !child.alive())
    });
    assert!(gone, "{:#}", town.call("orphans.list", json!({})));
    people.all_live("rounds, sweeps and the doctor");
    people.never_signalled(&town);
    tmux.run(&["kill-session", "-t", "=gt-my-rig-crew-joe"]);
    let of_the_town = ["an agent that runs", "our tmux server", "the daemon", "a crew's session"];
    people.forget(|(what, _)| !of_the_town.contains(what));
}

#[test]
fn what_is_left_of_a_wrapped_and_renamed_agent_goes() {
    // Nothing of it is called like an agent, and the words of its children are a version number.
    let line =
        "trap '' TERM; bash -c 'exec -a 2.0.14 sleep 5000' & setsid bash -c 'exec -a node sleep 5001' & wait";
    let wrapped = json!({"provider": "script", "command": "/bin/bash", "args": ["-c", line]});
    let setup = Setup::new().rigs(&["a"]).no_refineries().toml(YOUNG);
    let town = setup.command("w", wrapped).role("witness", "w").up();
    let agent = town.process("a/witness");
    wait_for(QUICK, "its children", || (gtd_tests::procs::descendants(agent.pid).len() == 2).then_some(()));
    let (children, _) = leave_over(&town, "a/witness");
    town.start();
    let gone = wait_until(CHANGE, || {
        let _ = town.try_call("daemon.heartbeat", json!({}));
        children.iter().all(|child| !child.alive())
    });
    assert!(gone, "{:#}", town.call("orphans.list", json!({})));
}

#[test]
fn a_town_whose_path_begins_like_anothers_is_another_town() {
    let setup = || {
        Setup::new().rigs(&["a"]).no_refineries().toml(YOUNG).script(&["fork:group", "fork:setsid", "idle"])
    };
    let short = setup().named("a").make();
    let long = setup().at(&short.base().join("a-b")).make();
    for town in [&short, &long] {
        town.start();
        town.wait_all_running();
    }
    let (of_short, _) = leave_over(&short, "a/witness");
    let mut people = People::new(&short);
    let claude = people.program("claude");
    let (id, instance) = (town_id(&long), long.agent("a/witness")["instance"].as_str().unwrap().to_owned());
    let theirs = people.start(
        "a marker of theirs",
        "claude",
        short.base(),
        &marks(&id, &instance),
        &[&claude, "1000"],
    );
    let agent = long.process("a/witness");
    people.seen("their agent", agent);
    for child in gtd_tests::procs::descendants(agent.parent().unwrap()) {
        people.seen("their agent's child", child);
    }
    people.seen("their daemon", long.daemon().unwrap());
    people.seen("their tmux server", long.tmux().server());
    // What is left over of one is the other's to leave alone,
    sweep_all(&long);
    assert!(of_short.iter().all(|child| child.alive()));
    // and what runs in the other is no business of the one.
    short.start();
    let gone = wait_until(CHANGE, || {
        sweep_all(&short);
        of_short.iter().all(|child| !child.alive())
    });
    assert!(gone, "{:#}", short.call("orphans.list", json!({})));
    assert_eq!(item(&short, theirs)["verdict"], "other_town");
    people.all_live("what the other town did");
    people.never_signalled(&short);
    people.never_signalled(&long);
    people.forget(|(what, _)| what.contains("marker"));
}
