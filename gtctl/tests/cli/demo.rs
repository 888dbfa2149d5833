//! The demo, with a stand-in for gtd: real repositories, real processes, a real kill.

use std::path::Path;
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::common::until;
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
    for word in
        ["SIGKILL", "agent.exited", "agent.restarting", "new process", "agent.ready", "nothing is left"]
    {
        assert!(run.out.contains(word), "{word} in:\n{}", run.out);
    }
    for step in 1..=7 {
        assert!(run.err.contains(&format!("[{step}/7] ")), "{}", run.err);
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

#[test]
fn ctrl_c_cleans_up_too() {
    let home = Home::new("");
    let child = home
        .town
        .command_of(&home.gtctl, &["demo"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    until("the demo's daemon", || {
        std::fs::read_dir(home.town.home())
            .unwrap()
            .flatten()
            .any(|entry| entry.path().join("town/daemon/endpoint.json").exists())
    });
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGINT).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{said}");
    assert!(said.contains("nothing is left"), "{said}");
    assert_eq!(demos(home.town.home()), 0);
}
