//! What makes starts wait: a limit of a provider, the machine, and an agent that gets nowhere; and what large
//! prompts and environments do.

use std::time::Duration;

use gtd_tests::{CHANGE, Setup, wait_for};
use serde_json::{Value, json};

fn instance(agent: &Value) -> String {
    agent["instance"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn a_limit_of_the_provider_holds_the_whole_account_until_it_ends() {
    let limited = &[
        "unless:{J}/well",
        "print:You've hit your usage limit. Try again in 8 seconds.",
        "after:300",
        "unless:{J}/well",
        "exit:1",
        "obey",
    ];
    let town = Setup::new()
        .rigs(&["a", "b"])
        .no_refineries()
        .toml("[mass_death]\nthreshold = 0")
        .script(limited)
        .make();
    town.start();
    let throttled = town.wait_event(0, "agent.throttled", "", CHANGE);
    assert!(
        throttled["data"]["account"].is_string() && throttled["data"]["until"].is_string(),
        "{throttled:#}"
    );
    for agent in ["a/witness", "b/witness"] {
        let shown = town.wait_state(agent, "throttled");
        assert!(
            shown["next_attempt"].is_string() && shown["reason"].as_str().unwrap().contains("limit"),
            "{shown:#}"
        );
        assert_eq!(shown["restarts"]["consecutive"], 0, "{shown:#}");
        let exit = town.call("agent.exits", json!({"agent": agent, "limit": 1}))["items"][0].clone();
        assert_eq!((&exit["cause"], &exit["counts"]), (&json!("provider_limit"), &json!(false)), "{exit:#}");
        assert!(exit["evidence"].as_str().unwrap().contains("You've hit your usage limit"), "{exit:#}");
    }
    // It outlives the daemon, and says what ends it.
    town.kill_daemon();
    town.start();
    let shown = town.gtctl(&["explain", "a/witness"]).ok();
    assert!(shown.out.contains("limit") && shown.out.contains("gtctl reset a/witness"), "{shown:?}");
    std::fs::write(town.journal_dir().join("well"), "").unwrap();
    for agent in ["a/witness", "b/witness"] {
        town.wait_agent(agent, Duration::from_secs(30), "running", |agent| agent["state"] == "running");
        assert_eq!(town.starts(agent).len(), 2, "one try, when it was over");
    }
    let at: Vec<u128> = ["a/witness", "b/witness"].iter().map(|agent| town.starts(agent)[1].at_ns).collect();
    assert!(at[0].abs_diff(at[1]) > 2_500_000_000, "one after the other: {at:?}");
    let released = town.events(0).into_iter().filter(|event| event["kind"] == "agent.released").count();
    assert_eq!(released, 2);
}

#[test]
fn a_person_may_insist_on_a_start_and_a_reset_lifts_the_limit() {
    let limited = &[
        "print:You've hit your weekly limit · resets in 3 days",
        "after:300",
        "unless:{J}/well",
        "exit:1",
        "idle",
    ];
    let town = Setup::new()
        .rigs(&["a", "b", "c"])
        .no_refineries()
        .toml("[mass_death]\nthreshold = 0")
        .script(limited)
        .make();
    town.start();
    for agent in ["a/witness", "b/witness", "c/witness"] {
        town.wait_state(agent, "throttled");
    }
    std::fs::write(town.journal_dir().join("well"), "").unwrap();
    let started = town.call("witness.start", json!({"rig": "a"}));
    assert_eq!(started["state"], "running", "{started:#}");
    assert_eq!(town.agent("b/witness")["state"], "throttled", "that was about one agent");
    let seq = town.seq();
    town.gtctl(&["reset", "b/witness"]).ok();
    town.wait_state("b/witness", "running");
    town.wait_state("c/witness", "running");
    let events = town.events(seq);
    assert!(events.iter().any(|e| e["kind"] == "agent.released" && e["agent"] == "c/witness"), "{events:#?}");
}

#[test]
fn a_town_that_has_enough_agents_starts_no_more() {
    let town = Setup::new().rigs(&["a", "b"]).no_refineries().toml("[start]\nmax_agents = 1").make();
    town.start();
    let throttled = town.wait_event(0, "agent.throttled", "", CHANGE);
    let data = &throttled["data"];
    assert_eq!((&data["resource"], &data["limit"], &data["value"]), (&json!("agents"), &json!(1), &json!(1)));
    let late = throttled["agent"].as_str().unwrap().to_owned();
    let (late_rig, early_rig) = if late == "a/witness" { ("a", "b") } else { ("b", "a") };
    let early = format!("{early_rig}/witness");
    town.wait_state(&early, "running");
    let refused = town.call_fails("witness.start", json!({"rig": late_rig}));
    assert_eq!((refused.code, refused.kind.as_str()), (1019, "throttled"), "{refused:?}");
    assert_eq!(
        (&refused.data["resource"], &refused.data["limit"], &refused.data["value"]),
        (&json!("agents"), &json!(1), &json!(1))
    );
    // What runs is restarted all the same: it is one of those that may.
    let before = instance(&town.agent(&early));
    town.call("witness.restart", json!({"rig": early_rig}));
    town.wait_new_instance(&early, &before);
    // Room, and the other one takes it at its next look.
    town.call("witness.stop", json!({"rig": early_rig}));
    let agent =
        town.wait_agent(&late, Duration::from_secs(30), "running", |agent| agent["state"] == "running");
    assert!(agent["reason"].is_null(), "{agent:#}");
}

#[test]
fn a_machine_without_enough_memory_or_disk_starts_nothing_and_says_what_it_lacks() {
    for (key, resource) in [("min_free_memory", "memory"), ("min_free_disk", "disk")] {
        let town =
            Setup::new().rigs(&["a"]).no_refineries().toml(&format!("[start]\n{key} = \"900000GiB\"")).make();
        town.start();
        let agent = town.wait_state("a/witness", "throttled");
        assert!(
            agent["next_attempt"].is_string() && agent["reason"].as_str().unwrap().contains("free"),
            "{agent:#}"
        );
        let refused = town.call_fails("witness.start", json!({"rig": "a"}));
        assert_eq!((refused.code, &refused.data["resource"]), (1019, &json!(resource)), "{refused:?}");
        assert!(refused.data["value"].as_u64().is_some_and(|value| value > 0), "{refused:?}");
        assert!(town.starts("a/witness").is_empty());
        let run = town.gtctl(&["witness", "start", "a"]);
        assert_eq!(run.code, 1, "{run:?}");
    }
}

#[test]
fn instant_ends_with_code_0_are_quarantined_like_failures() {
    let town = Setup::new()
        .rigs(&["a"])
        .no_refineries()
        .toml("[restart]\nbase = \"50ms\"\nburst = 4\n[mass_death]\nthreshold = 0")
        .script(&["exit:0"])
        .make();
    town.start();
    let agent = town.wait_agent("a/witness", Duration::from_secs(30), "quarantined", |agent| {
        agent["state"] == "quarantined"
    });
    assert!(agent["reason"].as_str().unwrap().contains("4 times"), "{agent:#}");
    assert_eq!(town.starts("a/witness").len(), 4);
}

#[test]
fn deaths_without_progress_are_quarantined_however_slow_and_reports_of_finished_turns_prevent_it() {
    let town = Setup::new()
        .rigs(&["a"])
        .no_refineries()
        .toml("[restart]\nbase = \"10ms\"\nmax = \"10ms\"\nmin_uptime = \"0s\"\nburst = 50\nchurn_deaths = 3\n[mass_death]\nthreshold = 0")
        .script(&["obey"])
        .up();
    let end = |code: &str| {
        let before = instance(&town.agent("a/witness"));
        std::fs::write(town.journal_dir().join("exit-a-witness"), code).unwrap();
        wait_for(CHANGE, "its end", || {
            let agent = town.agent("a/witness");
            let again = agent["state"] == "running" && instance(&agent) != before;
            (again || agent["state"] == "quarantined").then_some(agent)
        })
    };
    let turn = || {
        let instance = instance(&town.agent("a/witness"));
        for state in ["working", "idle"] {
            town.call("agent.report", json!({"instance": instance, "state": state}));
        }
    };
    for code in ["0", "1", "0", "1", "0"] {
        turn();
        assert_eq!(end(code)["state"], "running", "a finished turn between");
    }
    // The last of these was the first without anything after it.
    assert_eq!(end("0")["state"], "running");
    let agent = end("1");
    assert_eq!(agent["state"], "quarantined", "{agent:#}");
    assert!(agent["reason"].as_str().unwrap().contains("without getting anywhere"), "{agent:#}");
}

#[test]
fn a_program_that_settings_name_rightly_at_last_is_started_without_waiting_for_a_heartbeat() {
    let town = Setup::new()
        .rigs(&["a"])
        .no_refineries()
        .command("gone", json!({"provider": "script", "command": "{T}/no/such/program", "args": []}))
        .role("witness", "gone")
        .make();
    town.start();
    let broken = town.wait_state("a/witness", "quarantined");
    assert!(broken["next_attempt"].is_null(), "{broken:#}");
    let beats = wait_for(CHANGE, "the first heartbeat to be over", || {
        let heartbeat = town.call("daemon.status", json!({}))["heartbeat"].clone();
        heartbeat["last"].is_string().then(|| heartbeat["number"].clone())
    });
    let text = std::fs::read_to_string(town.path("settings/config.json")).unwrap();
    town.replace("settings/config.json", &text.replace("\"witness\": \"gone\"", "\"witness\": \"fake\""));
    town.wait_state("a/witness", "running");
    assert_eq!(
        town.call("daemon.status", json!({}))["heartbeat"]["number"],
        beats,
        "no heartbeat came between"
    );
}

#[test]
fn twenty_kibibytes_of_prompt_and_of_environment_arrive_whole_and_in_no_argv_of_tmux() {
    let prompt = format!("print:{}", "Lorem ipsum; 'quoted' \"twice\" #{pane_id} \\n ".repeat(470));
    assert!(prompt.len() > 20 << 10);
    let secret = "s3cr3t".repeat(3_500);
    let town = Setup::new().rigs(&["a"]).no_refineries().script(&["env", &prompt, "idle"]).make();
    town.start();
    town.wait_all_running();
    let started = town.call("witness.restart", json!({"rig": "a", "env": {"BIG": secret}}));
    assert_eq!(started["state"], "running", "{started:#}");
    let environment = town.process("a/witness").environment();
    assert_eq!(environment.get("BIG"), Some(&secret), "whole");
    let line = town.process("a/witness").command_line();
    assert!(
        line.contains("Lorem ipsum; 'quoted' \"twice\" #{pane_id}") && line.len() > 20 << 10,
        "{}",
        line.len()
    );
    let server = town.tmux().server();
    let commands = town.tmux().run(&["list-panes", "-a", "-F", "#{pane_start_command}"]);
    for words in [server.command_line(), commands] {
        assert!(!words.contains("Lorem") && !words.contains("s3cr3t"), "{words}");
    }
    let shown = town.tmux().run(&["show-environment", "-g"]);
    assert!(!shown.contains("s3cr3t"));
    // More than the kernel takes is refused with the call that failed, and leaves nothing behind.
    let huge = "x".repeat(300 << 10);
    let refused = town.call_fails("witness.restart", json!({"rig": "a", "env": {"BIG": huge}}));
    assert_eq!(refused.code, 1006, "{}", refused.message);
    assert_eq!(refused.data["exec_error"]["errno"], "E2BIG", "{}", refused.message);
}
