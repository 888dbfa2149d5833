//! gtctl, verb by verb, against a real town.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use gtd_tests::{CHANGE, QUICK, Setup, Town, run, tmux::Tmux, wait_for, wait_until};
use serde_json::{Value, json};

/// The envelope's result, after a look at the envelope.
#[track_caller]
fn result(output: &gtd_tests::Output, kind: &str) -> Value {
    let envelope = output.json();
    assert_eq!((&envelope["schema_version"], &envelope["kind"]), (&json!(1), &json!(kind)), "{output:?}");
    envelope["result"].clone()
}

/// A failure by its exit code and its words on stderr.
#[track_caller]
fn fails(output: &gtd_tests::Output, code: i32, words: &[&str]) {
    assert_eq!(output.code, code, "{output:?}");
    let first = output.err.lines().find(|line| line.starts_with("error: ")).unwrap_or_default();
    assert!(!first.is_empty() && !first.ends_with('.'), "{output:?}");
    for word in words {
        assert!(output.err.contains(word), "{word:?} is missing: {output:?}");
    }
}

#[test]
fn status_shows_town_and_agents_as_a_table_and_as_an_envelope() {
    let town = Setup::new().rigs(&["alpha", "beta"]).up();
    let shown = town.gtctl(&["status"]).ok();
    for word in ["AGENT", "STATE", "alpha/witness", "beta/refinery", "running"] {
        assert!(shown.out.contains(word), "{word}: {}", shown.out);
    }
    assert!(!shown.out.contains('\u{1b}'), "no colour into a pipe");
    assert!(shown.err.is_empty(), "{shown:?}");
    let plain = town.gtctl(&[]).ok();
    assert!(plain.out.contains("alpha/witness"), "without a verb: status");
    let json = result(&town.gtctl(&["status", "--json"]).ok(), "town.status");
    assert_eq!(json["rigs"][0]["witness"]["agent"], "alpha/witness", "{json:#}");
    // The same result reads as the protocol's own type.
    let _: gtd_proto::town::TownStatus = serde_json::from_value(json).unwrap();
    let one_rig = town.gtctl(&["status", "alpha"]).ok();
    assert!(one_rig.out.contains("alpha/refinery") && !one_rig.out.contains("beta/"), "{}", one_rig.out);
    fails(&town.gtctl(&["status", "gamma"]), 4, &["gamma"]);
    assert_eq!(town.gtctl(&["status", "--check"]).code, 0);
    town.call("witness.stop", json!({"rig": "alpha"}));
    assert_eq!(town.gtctl(&["status", "alpha/witness", "--check"]).code, 3);
    assert_eq!(town.gtctl(&["status", "alpha/witness"]).code, 0, "plain status is 0 when it could report");
}

#[test]
fn the_card_and_explain_tell_what_why_and_what_to_do() {
    let town = Setup::new().rigs(&["alpha"]).no_refineries().script(&["print:on the screen", "idle"]).up();
    let before = town.agent("alpha/witness")["instance"].as_str().unwrap().to_owned();
    town.process("alpha/witness").kill();
    let agent = town.wait_new_instance("alpha/witness", &before);
    let card = town.gtctl(&["status", "alpha/witness"]).ok();
    for word in ["alpha/witness", "running", &agent["pid"].to_string()] {
        assert!(card.out.contains(word), "{word}: {}", card.out);
    }
    let why = town.gtctl(&["explain", "alpha/witness"]).ok();
    assert!(why.out.contains("running") && why.out.contains("alpha/witness"), "{}", why.out);
    let why = result(&town.gtctl(&["explain", "alpha/witness", "--json"]).ok(), "agent.explain");
    assert!(!why["observations"].as_array().unwrap().is_empty(), "{why:#}");
    assert!(!why["decisions"].as_array().unwrap().is_empty(), "{why:#}");
    assert!(why["verdict"].as_str().is_some_and(|verdict| verdict.contains("runs")), "{why:#}");
    let _: gtd_proto::explain::Explanation = serde_json::from_value(why).unwrap();
    let exits = town.gtctl(&["exits", "alpha/witness"]).ok();
    assert!(exits.out.contains('9') || exits.out.contains("KILL"), "{}", exits.out);
    let exits = result(&town.gtctl(&["exits", "alpha/witness", "--json"]).ok(), "agent.exits");
    assert_eq!(exits["items"][0]["signal"], 9, "{exits:#}");
    wait_for(QUICK, "the screen", || {
        let peek = town.gtctl(&["peek", "alpha/witness", "-n", "20"]).ok();
        peek.out.contains("on the screen").then_some(())
    });
    fails(&town.gtctl(&["explain", "alpha/nobody"]), 4, &["alpha/nobody"]);
    fails(&town.gtctl(&["peek", "nowhere/witness"]), 4, &["nowhere"]);
}

#[test]
fn witness_verbs_start_stop_restart_and_say_so() {
    let town = Setup::new().rigs(&["alpha"]).up();
    let stopped = town.gtctl(&["witness", "stop", "alpha"]).ok();
    assert!(stopped.out.contains("stopped") || stopped.err.contains("stopped"), "{stopped:?}");
    assert_eq!(town.agent("alpha/witness")["state"], "stopped");
    let again = town.gtctl(&["witness", "stop", "alpha"]).ok();
    assert!(format!("{}{}", again.out, again.err).contains("already"), "{again:?}");
    let started =
        result(&town.gtctl(&["witness", "start", "alpha", "--env", "A=b", "--json"]).ok(), "witness.start");
    assert_eq!(started["state"], "running", "{started:#}");
    assert_eq!(town.process("alpha/witness").environment().get("A").map(String::as_str), Some("b"));
    let again = town.gtctl(&["witness", "start", "alpha"]).ok();
    assert!(format!("{}{}", again.out, again.err).contains("already"), "{again:?}");
    let restarted = result(&town.gtctl(&["refinery", "restart", "alpha", "--json"]).ok(), "refinery.restart");
    assert_eq!(restarted["state"], "running");
    assert_eq!(town.starts("alpha/refinery").len(), 2);
    let status = result(&town.gtctl(&["witness", "status", "alpha", "--json"]).ok(), "witness.status");
    assert_eq!((&status["running"], &status["rig_name"]), (&json!(true), &json!("alpha")), "{status:#}");
    assert_eq!(status["monitored_polecats"], json!([]), "{status:#}");
    assert!(status["session"].is_string());
    let foreground = town.gtctl(&["witness", "start", "alpha", "--foreground"]).ok();
    assert!(format!("{}{}", foreground.out, foreground.err).contains("foreground"), "{foreground:?}");
    fails(&town.gtctl(&["witness", "start", "gamma"]), 4, &["gamma", "hint: "]);
    assert_eq!(town.gtctl(&["witness", "start"]).code, 2);
    let planned = town.gtctl(&["witness", "stop", "alpha", "--dry-run"]).ok();
    assert!(!planned.out.is_empty(), "{planned:?}");
    assert_eq!(town.agent("alpha/witness")["state"], "running", "a plan does nothing");
    let error = town.gtctl(&["witness", "start", "gamma", "--json"]);
    let envelope = error.json();
    assert_eq!(
        (error.code, &envelope["kind"], &envelope["error"]["kind"]),
        (4, &json!("error"), &json!("rig_not_found")),
        "{envelope:#}"
    );
}

#[test]
fn events_are_listed_and_followed() {
    let town = Setup::new().rigs(&["alpha"]).no_refineries().up();
    let listed = town.gtctl(&["events"]).ok();
    assert!(listed.out.contains("agent.ready") && listed.out.contains("alpha/witness"), "{}", listed.out);
    let lines = town.gtctl(&["events", "--json", "--kind", "agent.*"]).ok();
    for line in lines.out.lines() {
        let event: Value = serde_json::from_str(line).expect("a bare event a line");
        assert!(event["kind"].as_str().unwrap().starts_with("agent."), "{event:#}");
    }
    assert!(lines.out.lines().count() >= 2);

    let mut command = town.command("gtctl");
    command.arg("--town").arg(town.root()).args(["events", "-f", "--json", "--agent", "alpha"]);
    let file = town.base().join("followed");
    let mut child = command
        .stdin(Stdio::null())
        .stdout(std::fs::File::create(&file).unwrap())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_for(QUICK, "the subscription stands", || {
        (town.call("daemon.status", json!({}))["subscribers"].as_u64() >= Some(1)).then_some(())
    });
    town.process("alpha/witness").kill();
    wait_for(CHANGE, "the death is told", || {
        std::fs::read_to_string(&file)
            .ok()
            .filter(|text| text.contains("agent.exited") && text.contains("agent.ready"))
    });
    let mut pid = gtd_tests::Process::of(i32::try_from(child.id()).unwrap());
    pid.take().unwrap().signal(rustix::process::Signal::INT);
    let status = wait_for(QUICK, "it ends on Ctrl-C", || child.try_wait().ok().flatten());
    assert_eq!(status.code(), Some(130));
}

#[test]
fn down_leaves_nothing_and_up_brings_everything_back() {
    let town = Setup::new().rigs(&["alpha", "beta"]).script(&["fork:setsid", "idle"]).up();
    let processes: Vec<_> = town.running().iter().map(|(agent, ..)| town.process(agent)).collect();
    town.call("refinery.stop", json!({"rig": "beta"}));
    fails(&town.gtctl(&["down"]), 2, &["--yes"]);
    let plan = town.gtctl(&["down", "--dry-run"]).ok();
    assert!(plan.out.contains("alpha/witness"), "{plan:?}");
    assert!(processes[0].alive());
    let down = result(&town.gtctl(&["down", "--yes", "--json"]).ok(), "town.stop");
    let census = if down["census"].is_object() { &down["census"] } else { &down };
    for list in ["sessions", "processes", "files"] {
        assert_eq!(census[list], json!([]), "{down:#}");
    }
    town.wait_daemon(CHANGE);
    assert!(processes.iter().all(|process| !process.alive()));
    let left = town.left_besides(|_| false);
    assert!(left.is_empty(), "{left:#?}");
    fails(&town.gtctl(&["status"]), 69, &["gtctl up"]);
    // The hold stays: the daemon alone starts nothing, and says why.
    town.gtctl(&["daemon", "start"]).ok();
    town.call("daemon.heartbeat", json!({}));
    assert!(town.running().is_empty());
    let error = town.call_fails("witness.start", json!({"rig": "alpha"}));
    assert_eq!((error.code, &error.data["reason"]), (1005, &json!("town is down")), "{error:?}");
    assert!(error.data["hint"].as_str().is_some_and(|hint| hint.contains("gtctl up")), "{error:?}");
    town.gtctl(&["up"]).ok();
    town.wait_all_running();
    assert_eq!(town.agent("beta/refinery")["state"], "stopped", "what was stopped one by one stays stopped");
    assert_eq!(town.running().len(), 3);
    town.assert_never_two();
    town.gtctl(&["down", "--yes"]).ok();
}

#[test]
fn daemon_verbs_start_stop_restart_and_show_the_reason_of_a_failure() {
    let town = Setup::new().rigs(&["alpha"]).no_refineries().make();
    fails(&town.gtctl(&["daemon", "status"]), 69, &[]);
    let started = town.gtctl(&["daemon", "start"]).ok();
    // It waited for the handshake: the next call needs no patience.
    let status = result(&town.gtctl(&["daemon", "status", "--json"]).ok(), "daemon.status");
    let first = gtd_tests::Process::of(i32::try_from(status["pid"].as_i64().unwrap()).unwrap()).unwrap();
    assert!(started.took < Duration::from_secs(10), "{started:?}");
    town.wait_all_running();
    let before = town.running();
    let again = town.gtctl(&["daemon", "start"]).ok();
    assert!(format!("{}{}", again.out, again.err).contains("already"), "{again:?}");
    assert!(first.alive());
    town.gtctl(&["daemon", "restart"]).ok();
    assert!(!first.alive());
    town.wait_all_running();
    assert_eq!(town.running(), before, "agents go on");
    let second = result(&town.gtctl(&["daemon", "status", "--json"]).ok(), "daemon.status");
    assert_ne!(second["pid"], status["pid"]);
    town.gtctl(&["daemon", "stop"]).ok();
    assert!(town.try_call("daemon.status", json!({})).is_err());
    let _ = town.gtctl(&["daemon", "stop"]);
    fails(&town.gtctl(&["witness", "stop", "alpha"]), 69, &["gtctl up"]);
    // A daemon that cannot start: the reason is shown.
    let bare = Setup::new().toml("[nonsense]\nkey = 1").make();
    let failed = bare.gtctl(&["daemon", "start"]);
    assert_ne!(failed.code, 0);
    assert!(failed.err.contains("nonsense"), "{failed:?}");
    // Stop what a daemon of its own session started.
    town.gtctl(&["up"]).ok();
    town.gtctl(&["down", "--yes"]).ok();
}

/// A small repository with one commit.
fn repository(town: &Town, name: &str) -> String {
    let dir = town.base().join(name);
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("README"), "hello\n").unwrap();
    for args in [
        vec!["init", "-q", "-b", "trunk"],
        vec!["add", "."],
        vec!["-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-q", "-m", "first"],
    ] {
        let mut git = gtd_tests::programs::bare("git", &town.home());
        git.arg("-C").arg(&dir).args(args);
        run::run(git, CHANGE).ok();
    }
    dir.display().to_string()
}

/// Makes everybody's agent the scripted one.
fn with_scripts(town: &Town) {
    let program = gtd_tests::programs::program("scripted-agent");
    town.replace(
        "settings/config.json",
        &json!({"type": "town-settings", "version": 1, "default_agent": "fake", "agents": {"fake": {
            "provider": "script", "command": program, "args": [town.journal_dir(), "idle"]
        }}})
        .to_string(),
    );
}

#[test]
fn init_and_rig_add_make_a_town_from_a_real_repository() {
    let town = Setup::new().empty().make();
    let source = repository(&town, "source");
    let root = town.root().display().to_string();
    town.gtctl_bare(&["init", &root, "--name", "made"]).ok();
    let marker: Value =
        serde_json::from_str(&std::fs::read_to_string(town.path("mayor/town.json")).unwrap()).unwrap();
    assert_eq!((&marker["type"], &marker["name"]), (&json!("town"), &json!("made")), "{marker:#}");
    let again = town.gtctl_bare(&["init", &root]);
    assert!(again.code != 0 || !again.out.contains("make "), "a town is not made twice: {again:?}");
    let same: Value =
        serde_json::from_str(&std::fs::read_to_string(town.path("mayor/town.json")).unwrap()).unwrap();
    assert_eq!(same, marker);
    with_scripts(&town);
    fails(&town.gtctl(&["rig", "add", "alpha", &source]), 69, &["gtctl up"]);
    town.gtctl(&["up"]).ok();
    let added = result(&town.gtctl(&["rig", "add", "alpha", &source, "--json"]).ok(), "rig.add");
    assert_eq!((&added["name"], &added["default_branch"]), (&json!("alpha"), &json!("trunk")), "{added:#}");
    town.make_rig("alpha");
    town.wait_all_running();
    // A bare clone, and the refinery's worktree on the default branch.
    let mut git = gtd_tests::programs::bare("git", &town.home());
    git.arg("-C").arg(town.path("alpha/refinery/rig")).args(["rev-parse", "--abbrev-ref", "HEAD"]);
    assert_eq!(run::run(git, CHANGE).ok().out.trim(), "trunk");
    assert!(town.path("alpha/.repo.git").is_dir());
    assert!(town.path("alpha/refinery/rig/README").is_file());
    let list = result(&town.gtctl(&["rig", "list", "--json"]).ok(), "rig.list");
    assert_eq!(list["items"][0]["name"], "alpha", "{list:#}");
    let one = town.gtctl(&["rig", "status", "alpha"]).ok();
    assert!(one.out.contains("alpha/witness"), "{one:?}");
    // What cannot be a rig leaves nothing behind.
    fails(&town.gtctl(&["rig", "add", "alpha", &source]), 2, &["alpha"]);
    fails(&town.gtctl(&["rig", "add", "witness", &source]), 2, &["witness"]);
    let missing = town.base().join("no-such-repository").display().to_string();
    let failed = town.gtctl(&["rig", "add", "beta", &missing]);
    assert_eq!(failed.code, 1, "{failed:?}");
    assert!(!town.path("beta").exists(), "a failed clone leaves no directory");
    assert!(!std::fs::read_to_string(town.path("mayor/rigs.json")).unwrap().contains("beta"));
    town.gtctl(&["down", "--yes"]).ok();
}

/// A terminal for a person: a tmux server of their own, with no trace of another around it.
fn terminal(town: &Town) -> Tmux {
    Tmux::new(town.base().join("person.sock"), &town.home())
}

#[test]
fn attach_hands_the_terminal_to_the_agents_session() {
    let town =
        Setup::new().rigs(&["alpha"]).no_refineries().script(&["print:hello from the agent", "echo"]).up();
    let person = terminal(&town);
    let gtctl = gtd_tests::programs::program("gtctl");
    let line = format!(
        "env -u TMUX TERM=xterm {} --town {} attach alpha/witness",
        gtctl.display(),
        town.root().display()
    );
    person.run(&["-f", "/dev/null", "new-session", "-d", "-x", "120", "-y", "40", &line]);
    wait_for(CHANGE, "the agent's screen in the person's terminal", || {
        person.try_run(&["capture-pane", "-p"]).ok().filter(|screen| screen.contains("hello from the agent"))
    });
    let clients = town.tmux().run(&["list-clients", "-F", "#{session_name} #{client_control_mode}"]);
    let name = town.agent("alpha/witness")["session_name"].as_str().unwrap().to_owned();
    assert!(clients.lines().any(|line| line == format!("{name} 0")), "{clients}");
    // What is typed reaches the agent.
    person.run(&["send-keys", "good morning", "Enter"]);
    wait_for(CHANGE, "the agent hears it", || {
        person.try_run(&["capture-pane", "-p"]).ok().filter(|screen| screen.contains("heard good morning"))
    });
    town.call("daemon.heartbeat", json!({}));
    town.wait_agent("alpha/witness", QUICK, "attached", |agent| agent["attached"] == true);
    let _ = person.try_run(&["kill-server"]);
    // The person goes; the agent stays.
    wait_for(CHANGE, "nobody is attached", || {
        let _ = town.try_call("daemon.heartbeat", json!({}));
        (town.agent("alpha/witness")["attached"] == false).then_some(())
    });
    assert_eq!(town.starts("alpha/witness").len(), 1);
}

#[test]
fn attach_of_a_stopped_witness_starts_it_and_agent_attach_gives_the_argv() {
    let town =
        Setup::new().rigs(&["alpha"]).no_refineries().script(&["print:hello from the agent", "idle"]).up();
    let argv = town.call("agent.attach", json!({"agent": "alpha/witness"}));
    let words: Vec<&str> = argv["argv"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert!(words.contains(&"-S") && words.contains(&argv["server"].as_str().unwrap()), "{argv:#}");
    town.call("witness.stop", json!({"rig": "alpha"}));
    let error = town.call_fails("agent.attach", json!({"agent": "alpha/witness"}));
    assert_eq!((error.code, error.kind.as_str()), (1004, "not_running"), "{error:?}");
    fails(&town.gtctl(&["attach", "alpha/witness"]), 3, &["alpha/witness"]);
    let person = terminal(&town);
    let gtctl = gtd_tests::programs::program("gtctl");
    // The rig from the current directory.
    let line = format!(
        "cd {} && env -u TMUX TERM=xterm {} witness attach 2>{}",
        town.path("alpha/witness").display(),
        gtctl.display(),
        town.base().join("said").display()
    );
    person.run(&["-f", "/dev/null", "new-session", "-d", "-x", "120", "-y", "40", &line]);
    wait_for(CHANGE, "the agent's screen in the person's terminal", || {
        person.try_run(&["capture-pane", "-p"]).ok().filter(|screen| screen.contains("hello from the agent"))
    });
    let said = std::fs::read_to_string(town.base().join("said")).unwrap();
    assert!(said.contains("Started witness session for alpha"), "{said}");
    assert_eq!(town.agent("alpha/witness")["state"], "running");
    let _ = person.try_run(&["kill-server"]);
}

#[test]
fn rpc_prints_the_bare_result_and_socket_the_path() {
    let town = Setup::new().rigs(&["alpha"]).no_refineries().up();
    let bare = town.gtctl(&["rpc", "rig.status", r#"{"rig":"alpha"}"#]).ok().json();
    assert_eq!(bare["name"], "alpha", "{bare:#}");
    let socket = town.gtctl(&["socket"]).ok();
    assert_eq!(socket.out.trim(), town.socket().unwrap().display().to_string());
    let failed = town.gtctl(&["rpc", "rig.status", r#"{"rig":"gamma"}"#]);
    assert_eq!(failed.code, 4, "{failed:?}");
    let failed = town.gtctl(&["rpc", "rig.status", r#"{"rig":5}"#]);
    assert_eq!(failed.code, 2, "{failed:?}");
    let failed = town.gtctl(&["rpc", "no.such"]);
    assert_ne!(failed.code, 0, "{failed:?}");
    let version = town.gtctl(&["version"]).ok();
    assert!(version.out.contains(env!("CARGO_PKG_VERSION")), "{version:?}");
}

#[test]
fn the_town_is_found_and_the_wrong_one_is_refused() {
    let town = Setup::new().rigs(&["alpha"]).no_refineries().up();
    let other = Setup::new().make();
    other.start();
    let mut walking = town.command("gtctl");
    walking.arg("rig").arg("list").current_dir(town.path("alpha/witness"));
    assert!(run::run(walking, QUICK).ok().out.contains("alpha"));
    let mut named = town.command("gtctl");
    named.arg("rig").arg("list").env("GT_ROOT", town.root());
    assert!(run::run(named, QUICK).ok().out.contains("alpha"));
    let mut nowhere = town.command("gtctl");
    nowhere.arg("status");
    assert_eq!(run::run(nowhere, QUICK).code, 2, "no town around the home directory");
    // A socket of another town than the one that is named.
    let socket = other.socket().unwrap().display().to_string();
    fails(&town.gtctl(&["--socket", &socket, "rig", "list"]), 76, &[]);
}

#[test]
fn output_into_a_closed_pipe_and_no_terminal_are_no_disaster() {
    let town = Setup::new().rigs(&["alpha"]).no_refineries().up();
    let mut shell = Command::new("sh");
    shell.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).env("HOME", town.home());
    shell.arg("-c").arg(format!(
        "{} --town {} rpc rpc.discover | head -c 10 >/dev/null; exit 0",
        gtd_tests::programs::program("gtctl").display(),
        town.root().display()
    ));
    let output = run::run(shell, QUICK).ok();
    assert!(!output.err.contains("panic"), "{output:?}");
    let mut typed = town.command("gtctl");
    typed.arg("--town").arg(town.root()).args(["rpc", "rig.status", "-"]);
    let mut child =
        typed.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(br#"{"rig":"alpha"}"#).unwrap();
    assert!(wait_until(QUICK, || child.try_wait().ok().flatten().is_some()));
    let output = child.wait_with_output().unwrap();
    assert!(
        output.status.success() && String::from_utf8_lossy(&output.stdout).contains("alpha"),
        "{output:?}"
    );
}

#[test]
fn a_second_hand_on_the_same_agent_joins_or_is_told() {
    let town = Setup::new().rigs(&["alpha"]).no_refineries().up();
    town.call("witness.stop", json!({"rig": "alpha"}));
    let threads: Vec<_> = (0..8)
        .map(|n| {
            let mut client = town.client();
            std::thread::spawn(move || {
                let method = if n % 2 == 0 { "witness.start" } else { "witness.restart" };
                client.call(method, json!({"rig": "alpha"}))
            })
        })
        .collect();
    for thread in threads {
        match thread.join().unwrap() {
            Ok(agent) => assert_eq!(agent["agent"], "alpha/witness"),
            Err(error) => assert!([1011, 1013].contains(&error.code), "{error:?}"),
        }
    }
    town.wait_state("alpha/witness", "running");
    town.assert_never_two();
}
