//! The demo, with a stand-in for gtd: real repositories, real processes, a real kill.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::daemon::Home;

fn demos(home: &Path) -> usize {
    let entries = std::fs::read_dir(home).unwrap().flatten();
    entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("gtd-demo-")).count()
}

#[test]
fn it_kills_recovers_explains_and_leaves_nothing() {
    let home = Home::new("");
    // Variables of another town must not matter.
    let run = home
        .run_with(&["demo"], &[("GT_TOWN_ROOT", "/nowhere"), ("GT_SOCKET", "/nowhere"), ("GT_INSTANCE", "x")])
        .expect(0);
    for word in [
        "SIGKILL",
        "agent.exited",
        "agent.restarting",
        "new process",
        "agent.ready",
        "incident.closed",
        "nothing is left",
    ] {
        assert!(run.out.contains(word), "{word} in:\n{}", run.out);
    }
    for step in 1..=9 {
        assert!(run.err.contains(&format!("[{step}/9] ")), "{}", run.err);
    }
    assert_eq!(demos(home.town.home()), 0);
}

#[test]
fn in_json_there_is_one_object() {
    let home = Home::new("");
    let run = home.run(&["demo", "--json"]).expect(0);
    let value = run.json();
    assert_eq!(value["kind"], "demo");
    assert_eq!(value["result"]["recovery"][0]["what"], "SIGKILL");
    assert_eq!(value["result"]["incident"].as_array().unwrap().last().unwrap()["what"], "incident.closed");
    assert_eq!(value["result"]["work"].as_object().unwrap().len(), 3);
    assert_eq!(value["result"]["census"]["processes"], serde_json::json!([]));
}

#[test]
fn a_failure_keeps_the_directory_and_says_where() {
    let home = Home::new("");
    std::fs::remove_file(home.gtctl.with_file_name("gtd")).unwrap();
    let run = home.run(&["demo"]).expect(1);
    assert!(
        run.err.contains("the demo's directory is kept: ") && run.err.contains("no gtd beside"),
        "{}",
        run.err
    );
    assert_eq!(demos(home.town.home()), 1);
}

/// Processes with a word in the environment that they were started with.
fn started_with(word: &str) -> usize {
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    all.filter_map(|entry| std::fs::read(entry.path().join("environ")).ok())
        .filter(|environ| String::from_utf8_lossy(environ).contains(word))
        .count()
}

/// Interrupts a demo when it announces a step, and looks for what is left.
fn interrupt_at(step: &str) {
    let home = Home::new("");
    let mut child = home
        .town
        .command_of(&home.gtctl, &["demo"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert!(said.any(|line| line.starts_with(step)), "no step {step}");
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGINT).unwrap();
    let rest: Vec<String> = said.collect();
    let code = child.wait().unwrap().code();
    // It may have ended by itself before the signal came.
    if code != Some(0) || !step.starts_with("[9/9]") {
        assert_eq!(code, Some(130), "{rest:?}");
        assert!(rest.iter().any(|line| line == "hint: nothing is left"), "{rest:?}");
    }
    assert_eq!(demos(home.town.home()), 0);
    let mark = format!("{}/gtd-demo-", home.town.home().canonicalize().unwrap().display());
    assert_eq!(started_with(&mark), 0, "{rest:?}");
}

#[test]
fn ctrl_c_before_there_is_a_town() {
    interrupt_at("[1/9]");
}

#[test]
fn ctrl_c_while_the_daemon_comes_up() {
    interrupt_at("[2/9]");
}

#[test]
fn ctrl_c_while_rigs_are_added() {
    interrupt_at("[3/9]");
}

#[test]
fn ctrl_c_after_the_kill() {
    interrupt_at("[5/9]");
}

#[test]
fn ctrl_c_while_workers_are_made() {
    interrupt_at("[4/9]");
}

#[test]
fn ctrl_c_after_all_were_killed() {
    interrupt_at("[7/9]");
}

#[test]
fn ctrl_c_while_it_cleans_up() {
    interrupt_at("[9/9]");
}
