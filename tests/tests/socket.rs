//! The socket with nothing but `socat` and `jq`: the lines of the specification, run as they stand.

use gtd_tests::{CHANGE, Output, Setup, Town, programs, run, skipped};

fn shell(town: &Town, script: &str) -> Output {
    let mut command = programs::bare("bash", town.root());
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{}:{path}", programs::directory().display()));
    command.args(["-euo", "pipefail", "-c", script]).current_dir(town.root());
    run::run(command, CHANGE)
}

/// The tools, or a word about why not.
fn tools(test: &str) -> bool {
    for tool in ["bash", "socat", "jq"] {
        if programs::system(tool).is_none() {
            skipped(test, &format!("{tool} is not installed"));
            return false;
        }
    }
    true
}

#[test]
fn town_status_with_socat_and_jq() {
    if !tools("town_status_with_socat_and_jq") {
        return;
    }
    let town = Setup::new().rigs(&["alpha", "beta"]).no_refineries().up();
    let output = shell(
        &town,
        r#"S=$(gtctl socket)
           echo '{"jsonrpc":"2.0","id":1,"method":"town.status"}' | socat -t30 - UNIX-CONNECT:$S | jq '.result.rigs[].name'"#,
    )
    .ok();
    assert_eq!(output.out, "\"alpha\"\n\"beta\"\n");
}

#[test]
fn witness_start_with_socat_and_jq() {
    if !tools("witness_start_with_socat_and_jq") {
        return;
    }
    let town = Setup::new().rigs(&["alpha"]).no_refineries().up();
    town.call("witness.stop", serde_json::json!({"rig": "alpha"}));
    let output = shell(
        &town,
        r#"S=$(gtctl socket)
           echo '{"jsonrpc":"2.0","id":2,"method":"witness.start","params":{"rig":"alpha"}}' | socat -t30 - UNIX-CONNECT:$S | jq"#,
    )
    .ok();
    let answer = output.json();
    assert_eq!(
        (answer["id"].as_i64(), answer["result"]["state"].as_str()),
        (Some(2), Some("running")),
        "{answer:#}"
    );
}

#[test]
fn events_subscribe_with_socat() {
    if !tools("events_subscribe_with_socat") {
        return;
    }
    let town = Setup::new().rigs(&["alpha"]).no_refineries().up();
    let output = shell(
        &town,
        r#"S=$(gtctl socket); set +e +o pipefail
           echo '{"jsonrpc":"2.0","id":3,"method":"events.subscribe","params":{"since":0}}' |
             timeout 2 socat STDIO,ignoreeof UNIX-CONNECT:$S | head -n 3 | jq -c '.method // .id'"#,
    )
    .ok();
    assert_eq!(output.out, "3\n\"events.event\"\n\"events.event\"\n");
    // With a patient socat, the half-closed side still gets what it is owed.
    let output = shell(
        &town,
        r#"S=$(gtctl socket); set +e +o pipefail
           echo '{"jsonrpc":"2.0","id":3,"method":"events.subscribe","params":{"since":0}}' |
             timeout 2 socat -t600 - UNIX-CONNECT:$S | head -n 3 | jq -c '.method // .id'"#,
    )
    .ok();
    assert_eq!(output.out, "3\n\"events.event\"\n\"events.event\"\n");
}

#[test]
fn gtctl_events_through_jq() {
    if !tools("gtctl_events_through_jq") {
        return;
    }
    let town = Setup::new().rigs(&["alpha"]).no_refineries().up();
    let output = shell(&town, "gtctl events --json | jq -r .kind | sort -u").ok();
    assert!(output.out.lines().any(|line| line == "agent.ready"), "{output:?}");
}
