//! Work and hooks through the daemon: the built-in store, and `bd` where there is a `.beads`.

use std::path::Path;
use std::time::{Duration, Instant};

use gtd_tests::bd::StandIn;
use gtd_tests::{CHANGE, Setup, Town, wait_for, wait_until};
use serde_json::{Value, json};

fn made(town: &Town, title: &str) -> String {
    let made = town.call("work.create", json!({"title": title, "rig": "a"}));
    made["id"].as_str().unwrap().to_owned()
}

fn kinds(town: &Town, since: u64) -> Vec<Value> {
    let events = town.events(since);
    let work = events.iter().filter(|event| event["kind"].as_str().unwrap().starts_with("work."));
    work.map(|event| json!([event["kind"], event["agent"], event["data"]["work"]])).collect()
}

#[test]
fn the_built_in_store_from_creation_to_closing() {
    let town = Setup::new().rigs(&["a", "b"]).no_refineries().up();
    let seq = town.seq();
    let first = made(&town, "Fix the parser");
    assert!(first.starts_with("a-"), "{first}");
    let own = town.call("work.create", json!({"title": "Tidy up", "priority": 0}));
    assert_eq!((&own["store"], &own["status"]), (&json!("builtin"), &json!("open")), "{own:#}");
    assert!(own["id"].as_str().unwrap().starts_with("hq-"), "{own:#}");
    let list = town.call("work.list", json!({}));
    let titles: Vec<&str> =
        list["items"].as_array().unwrap().iter().map(|item| item["title"].as_str().unwrap()).collect();
    assert_eq!(titles, ["Tidy up", "Fix the parser"], "the most urgent first");
    assert_eq!(town.call("work.list", json!({"rig": "a"}))["items"].as_array().unwrap().len(), 1);

    let before = town.call("hook.show", json!({"agent": "a/witness"}));
    assert_eq!(before["work"], Value::Null, "{before:#}");
    let set = town.call("hook.set", json!({"agent": "a/witness", "work": first}));
    assert_eq!((&set["work"]["id"], &set["work"]["status"]), (&json!(first), &json!("hooked")), "{set:#}");
    // Whoever hears the answer sees it everywhere.
    assert_eq!(town.agent("a/witness")["hook"], json!(first));
    let explained = town.call("agent.explain", json!({"agent": "a/witness"}));
    let seen =
        explained["observations"].as_array().unwrap().iter().find(|seen| seen["what"] == "hook").unwrap();
    assert_eq!(
        (&seen["value"], &seen["source"]),
        (&json!(format!("{first}: Fix the parser")), &json!("ledger"))
    );
    assert!(seen["age_ms"].is_u64(), "{seen:#}");
    let again = town.call("hook.set", json!({"agent": "a/witness", "work": first}));
    assert_eq!(again["already"], true, "{again:#}");

    // A crash of the agent takes nothing off its hook, nor does one of the daemon.
    town.kill_daemon();
    town.start();
    wait_for(CHANGE, "the hook is shown again", || {
        (town.agent("a/witness")["hook"] == json!(first)).then_some(())
    });

    let closed = town.call("work.close", json!({"id": first, "reason": "done"}));
    assert_eq!((&closed["status"], closed["closed_at"].is_string()), (&json!("closed"), true), "{closed:#}");
    assert_eq!(town.agent("a/witness")["hook"], Value::Null);
    assert_eq!(town.call("work.close", json!({"id": first}))["already"], true);
    let told = [
        json!(["work.hooked", "a/witness", first]),
        json!(["work.unhooked", "a/witness", first]),
        json!(["work.closed", "a/witness", first]),
    ];
    assert_eq!(kinds(&town, seq), told);
    let error = town.try_call("hook.set", json!({"agent": "a/witness", "work": first})).unwrap_err();
    assert_eq!((error.code, error.kind.as_str()), (1007, "work_not_found"), "{error:?}");
    let error = town.try_call("work.show", json!({"id": "a-nope"})).unwrap_err();
    assert_eq!((error.code, error.kind.as_str()), (1007, "work_not_found"), "{error:?}");
    // With no other agent than those that there are.
    let open = own["id"].clone();
    for (agent, code) in [("nope/witness", 1001), ("a/polecats/nope", 1002), ("a/crew/nope", 1002)] {
        let error = town.try_call("hook.set", json!({"agent": agent, "work": open})).unwrap_err();
        assert_eq!(error.code, code, "{agent}: {error:?}");
    }
    town.call("hook.set", json!({"agent": "mayor", "work": open}));
}

#[test]
fn one_item_is_on_one_hook_and_a_hook_has_one_item() {
    let town = Setup::new().rigs(&["a", "b"]).no_refineries().up();
    let (first, second) = (made(&town, "first"), made(&town, "second"));
    town.call("hook.set", json!({"agent": "a/witness", "work": first}));
    let taken = town.try_call("hook.set", json!({"agent": "b/witness", "work": first})).unwrap_err();
    assert_eq!((taken.code, &taken.data["holder"]), (1011, &json!("a/witness")), "{taken:?}");
    let full = town.try_call("hook.set", json!({"agent": "a/witness", "work": second})).unwrap_err();
    assert_eq!((full.code, &full.data["held"]), (1011, &json!(first)), "{full:?}");
    let plan =
        town.call("hook.set", json!({"agent": "b/witness", "work": first, "force": true, "dry_run": true}));
    let actions: Vec<&Value> = plan["plan"].as_array().unwrap().iter().map(|step| &step["action"]).collect();
    assert_eq!(actions, ["unhook", "hook"], "{plan:#}");
    assert_eq!(town.agent("a/witness")["hook"], json!(first), "only a plan");
    let seq = town.seq();
    let forced = town.call("hook.set", json!({"agent": "b/witness", "work": first, "force": true}));
    assert_eq!(forced["taken_from"], "a/witness", "{forced:#}");
    assert_eq!(
        (&town.agent("a/witness")["hook"], &town.agent("b/witness")["hook"]),
        (&Value::Null, &json!(first))
    );
    let replaced = town.call("hook.set", json!({"agent": "b/witness", "work": second, "force": true}));
    assert_eq!(replaced["replaced"], json!(first), "{replaced:#}");
    assert_eq!(town.call("work.show", json!({"id": first}))["status"], "open");
    let told = [
        json!(["work.unhooked", "a/witness", first]),
        json!(["work.hooked", "b/witness", first]),
        json!(["work.unhooked", "b/witness", first]),
        json!(["work.hooked", "b/witness", second]),
    ];
    assert_eq!(kinds(&town, seq), told);
    let cleared = town.call("hook.clear", json!({"agent": "b/witness"}));
    assert_eq!((&cleared["work"], &cleared["replaced"]), (&Value::Null, &json!(second)), "{cleared:#}");
    assert_eq!(town.call("hook.clear", json!({"agent": "b/witness"}))["already"], true);
}

#[test]
fn of_two_who_want_the_same_work_one_gets_it() {
    let town = Setup::new().rigs(&["a", "b", "c", "d"]).no_refineries().up();
    for round in 0..5 {
        let work = made(&town, &format!("round {round}"));
        let wins: Vec<bool> = std::thread::scope(|scope| {
            let asked: Vec<_> = ["a", "b", "c", "d"]
                .map(|rig| {
                    let (town, work) = (&town, &work);
                    scope.spawn(move || {
                        let params = json!({"agent": format!("{rig}/witness"), "work": work});
                        town.try_call("hook.set", params)
                            .map_err(|error| assert_eq!(error.code, 1011, "{error:?}"))
                            .is_ok()
                    })
                })
                .into_iter()
                .collect();
            asked.into_iter().map(|one| one.join().unwrap()).collect()
        });
        assert_eq!(wins.iter().filter(|won| **won).count(), 1, "{wins:?}");
        town.call("work.close", json!({"id": work}));
    }
}

#[test]
fn a_repeated_request_is_done_once_and_a_bad_one_not_at_all() {
    let town = Setup::new().rigs(&["a"]).no_refineries().up();
    let params = json!({"title": "once", "idempotency_key": "k1"});
    let first = town.call("work.create", params.clone());
    assert_eq!(town.call("work.create", params)["id"], first["id"]);
    assert_eq!(town.call("work.list", json!({}))["items"].as_array().unwrap().len(), 1);
    let accepted = town.call("work.create", json!({"title": "later", "wait_ms": 0}));
    assert_eq!((&accepted["accepted"], &accepted["id"]), (&json!(true), &Value::Null), "{accepted:#}");
    wait_for(CHANGE, "it is made", || {
        (town.call("work.list", json!({}))["items"].as_array().unwrap().len() == 2).then_some(())
    });
    let plan = town.call("work.create", json!({"title": "never", "dry_run": true}));
    assert_eq!(plan["plan"][0]["action"], "create", "{plan:#}");
    for (params, path) in [
        (json!({"title": " "}), "/title"),
        (json!({"title": "two\nlines"}), "/title"),
        (json!({"title": "x".repeat(501)}), "/title"),
        (json!({"title": "x", "priority": 9}), "/priority"),
        (json!({"title": "x", "description": "x".repeat(70_000)}), "/description"),
    ] {
        let error = town.try_call("work.create", params).unwrap_err();
        assert_eq!((error.code, &error.data["path"]), (-32602, &json!(path)), "{error:?}");
    }
    let error = town.try_call("work.list", json!({"status": "bogus"})).unwrap_err();
    assert_eq!((error.code, &error.data["path"]), (-32602, &json!("/status")), "{error:?}");
    assert_eq!(town.try_call("work.create", json!({"title": "x", "rig": "nope"})).unwrap_err().code, 1001);
    assert_eq!(town.try_call("work.show", json!({"id": "--help"})).unwrap_err().code, -32602);
    assert_eq!(town.call("work.list", json!({}))["items"].as_array().unwrap().len(), 2);
}

#[test]
fn the_words_of_gtctl_for_work() {
    let town = Setup::new().rigs(&["a"]).no_refineries().up();
    let created = town.gtctl(&["work", "create", "Fix the parser", "--rig", "a", "-p", "1"]).ok();
    let id = created.out.split_whitespace().nth(1).unwrap().trim_end_matches(':').to_owned();
    town.gtctl(&["hook", "set", "a/witness", &id]).ok();
    assert!(
        town.gtctl(&["hook", "show", "a/witness"])
            .ok()
            .out
            .contains(&format!("a/witness has {id}: Fix the parser"))
    );
    assert!(town.gtctl(&["work", "list"]).ok().out.contains("hooked"));
    assert!(town.gtctl(&["status", "a/witness"]).ok().out.contains(&format!("Hook: {id}")));
    assert!(town.gtctl(&["explain", "a/witness"]).ok().out.contains("hook"));
    assert!(town.gtctl(&["events"]).ok().out.contains("work.hooked"));
    town.gtctl(&["work", "close", &id]).ok();
    assert!(town.gtctl(&["hook", "show", "a/witness"]).ok().out.contains("is empty"));
    let gone = town.gtctl(&["work", "show", "a-nope"]);
    assert!(gone.err.contains("error: there is no work item a-nope"), "{gone:?}");
}

// bd.

/// A town whose rig `proj` has a `.beads`, with a stand-in for `bd` in front of the daemon's `PATH`.
fn with_bd(version: &str, toml: &str) -> (Town, StandIn, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let stand_in = StandIn::new(dir.path(), version);
    let town =
        Setup::new().rigs(&["proj", "plain"]).no_refineries().env("PATH", &stand_in.path()).toml(toml).make();
    beads(&town, "proj", "pj-", "proj");
    std::fs::create_dir_all(town.path("proj/polecats/obsidian/proj")).unwrap();
    town.replace(
        "mayor/rigs.json",
        &json!({"version": 1, "rigs": {
            "proj": {"git_url": "", "added_at": "2026-01-01T00:00:00Z", "beads": {"repo": "", "prefix": "pj"}},
            "plain": {"git_url": "", "added_at": "2026-01-01T00:00:00Z", "beads": {"repo": "", "prefix": "pl"}},
        }})
        .to_string(),
    );
    (town, stand_in, dir)
}

fn beads(town: &Town, rig: &str, prefix: &str, path: &str) {
    std::fs::create_dir_all(town.path(rig).join(".beads")).unwrap();
    let routes = format!("# routes\n{}\n", json!({"prefix": prefix, "path": path}));
    std::fs::create_dir_all(town.path(".beads")).unwrap();
    std::fs::write(town.path(".beads/routes.jsonl"), routes).unwrap();
}

#[test]
fn the_store_is_chosen_by_the_rig_and_found_by_the_prefix() {
    for version in ["1.0.0", "1.0.5"] {
        let (town, stand_in, _dir) = with_bd(version, "");
        town.start();
        let shown = town.call("work.show", json!({"id": "pj-8od"}));
        assert_eq!((&shown["id"], &shown["store"]), (&json!("pj-8od"), &json!("bd")), "{shown:#}");
        for call in stand_in.calls().iter().filter(|call| call["args"][0] == "show") {
            assert_eq!(
                Path::new(call["cwd"].as_str().unwrap()),
                town.path("proj"),
                "1.x does not route by itself"
            );
        }
        let plain = town.call("work.create", json!({"title": "x", "rig": "plain"}));
        assert_eq!(plain["store"], "builtin", "{plain:#}");
        let error = town.try_call("work.show", json!({"id": "pj-nope"})).unwrap_err();
        assert_eq!((error.code, error.kind.as_str()), (1007, "work_not_found"), "{error:?}");
    }
}

#[test]
fn hooks_of_bd_are_shown_with_one_query_and_outlive_its_silence() {
    let (town, stand_in, _dir) = with_bd("1.0.5", "[work]\ntimeout = \"500ms\"");
    town.start();
    let hook = || {
        let rig = town.call("rig.status", json!({"rig": "proj"}));
        rig["polecats"].as_array().unwrap().iter().find(|agent| agent["name"] == "obsidian").unwrap()["hook"]
            .clone()
    };
    wait_for(CHANGE, "the hook of obsidian", || (hook() == json!("pj-8od")).then_some(()));
    let hooked = town.wait_event(0, "work.hooked", "proj/polecats/obsidian", CHANGE);
    assert_eq!(
        (&hooked["data"]["work"], &hooked["data"]["by"]),
        (&json!("pj-8od"), &json!("store")),
        "{hooked:#}"
    );
    let in_rig = |calls: Vec<Value>| {
        calls.into_iter().filter(|call| call["cwd"].as_str().unwrap().ends_with("/proj")).count()
    };
    assert_eq!(in_rig(stand_in.calls()), 1, "one query for all agents: {:#?}", stand_in.calls());
    // Now it hangs: what is known stays, with a reason beside it. The first round has asked all it has to: a call that
    // hangs is ended by its daemon only, and this one will be killed.
    town.call("daemon.heartbeat", json!({}));
    stand_in.does("1.0.5", json!({"mode": "hang"}));
    let began = Instant::now();
    let error = town.try_call("hook.show", json!({"agent": "proj/polecats/obsidian"})).unwrap_err();
    assert_eq!((error.code, error.kind.as_str()), (1016, "work_store"), "{error:?}");
    assert!(error.data["store"].as_str().unwrap().contains("bd in"), "{error:?}");
    assert!(began.elapsed() < Duration::from_secs(8));
    assert_eq!(hook(), json!("pj-8od"));
    // Everything else goes on meanwhile.
    let began = Instant::now();
    town.call("town.status", json!({}));
    town.call("hook.show", json!({"agent": "plain/witness"}));
    assert!(began.elapsed() < Duration::from_millis(400), "{:?}", began.elapsed());
    // Also over a restart of the daemon.
    town.kill_daemon();
    town.start();
    wait_for(CHANGE, "the last known hook", || (hook() == json!("pj-8od")).then_some(()));
    assert!(town.events(0).iter().all(|event| event["kind"] != "work.unhooked"));
    stand_in.does("1.0.5", json!({}));
    wait_for(CHANGE, "an answer again", || {
        town.try_call("hook.show", json!({"agent": "proj/polecats/obsidian"})).ok()
    });
}

#[test]
fn a_bd_that_fails_in_any_way_is_1016_and_never_an_empty_hook() {
    let (town, stand_in, _dir) = with_bd("1.0.5", "[work]\ntimeout = \"2s\"");
    town.start();
    for mode in ["fail", "junk", "silent", "crash", "flood"] {
        stand_in.does("1.0.5", json!({"mode": mode}));
        let error = town.try_call("hook.show", json!({"agent": "proj/witness"})).unwrap_err();
        assert_eq!((error.code, error.data["stderr"].is_string()), (1016, true), "{mode}: {error:?}");
        let error = town.try_call("work.show", json!({"id": "pj-nope"})).unwrap_err();
        assert_eq!(error.code, 1016, "{mode}: {error:?}");
        let error =
            town.try_call("hook.set", json!({"agent": "proj/witness", "work": "pj-4of"})).unwrap_err();
        assert_eq!(error.code, 1016, "{mode}: {error:?}");
    }
    let shown = town.gtctl(&["work", "show", "pj-8od"]);
    assert!(shown.err.contains("cannot show pj-8od"), "{shown:?}");
}

#[test]
fn without_the_program_the_store_of_a_beads_is_unknown() {
    let (town, stand_in, _dir) = with_bd("1.0.5", "");
    std::fs::remove_file(stand_in.path().split(':').next().map(|dir| Path::new(dir).join("bd")).unwrap())
        .unwrap();
    town.start();
    let error = town.try_call("hook.show", json!({"agent": "proj/witness"})).unwrap_err();
    assert_eq!(error.code, 1016, "{error:?}");
    assert!(error.message.contains("there is no program bd"), "{error:?}");
    assert_eq!(town.call("hook.show", json!({"agent": "plain/witness"}))["work"], Value::Null);
}

#[test]
fn the_setting_overrides_what_the_directories_say() {
    let (town, stand_in, _dir) = with_bd("1.0.5", "[work]\nstore = \"builtin\"");
    town.start();
    let created = town.call("work.create", json!({"title": "x", "rig": "proj"}));
    assert_eq!(created["store"], "builtin", "{created:#}");
    assert!(stand_in.calls().is_empty());
    let (town, _stand_in, _dir) = with_bd("1.0.5", "[work]\nstore = \"bd\"\ntimeout = \"2s\"");
    town.start();
    let error = town.try_call("work.create", json!({"title": "x", "rig": "plain"})).unwrap_err();
    assert_eq!((error.code, error.kind.as_str()), (1016, "work_store"), "{error:?}");
}

#[test]
fn a_change_goes_on_when_its_client_does_not_wait() {
    let (town, stand_in, _dir) = with_bd("1.0.5", "");
    town.start();
    wait_for(CHANGE, "the first look", || (!stand_in.calls().is_empty()).then_some(()));
    stand_in.does("1.0.5", json!({"mode": "slow:800"}));
    let mut params = json!({"title": "A new bug", "rig": "proj", "wait_ms": 100, "idempotency_key": "k"});
    let error = town.try_call("work.create", params.clone()).unwrap_err();
    assert_eq!((error.code, &error.data["reached"]), (1013, &json!("accepted")), "{error:?}");
    let created = wait_until(CHANGE, || {
        stand_in.calls().iter().any(|call| call["args"].to_string().contains("\"create\""))
    });
    assert!(created);
    // Asked again with the same key it is waited for, and not done a second time.
    params.as_object_mut().unwrap().remove("wait_ms");
    let again = town.call("work.create", params.clone());
    assert!(again["id"].is_string(), "{again:#}");
    assert_eq!(town.call("work.create", params)["id"], again["id"]);
    let creates =
        stand_in.calls().iter().filter(|call| call["args"].to_string().contains("\"create\"")).count();
    assert_eq!(creates, 1);
}
