//! Texts for an agent with an input line: sent, waited for, and read back from its journal.

use serde_json::{Value, json};

use crate::programs;
use crate::setup::Setup;
use crate::town::Town;
use crate::typist::heard as heard_by;
use crate::wait::{CHANGE, wait_until};

/// Who it is.
pub const WHO: &str = "alpha/witness";

/// A witness with an input line; its settings say how that begins.
pub fn typist(steps: &[&str]) -> Setup {
    let mut args = vec!["{J}".to_owned()];
    args.extend(steps.iter().map(|step| (*step).to_owned()));
    let entry = json!({
        "provider": "script", "command": programs::program("scripted-agent"), "args": args,
        "tmux": {"ready_prompt_prefix": "> "},
    });
    Setup::new().rigs(&["alpha"]).no_refineries().command("typist", entry).role("witness", "typist")
}

/// What its input line took, text by text.
pub fn heard(town: &Town) -> Vec<Vec<u8>> {
    heard_by(&town.journal_dir(), WHO)
}

/// The same as text.
pub fn texts(town: &Town) -> Vec<String> {
    heard(town).into_iter().map(|text| String::from_utf8(text).expect("as it should be")).collect()
}

/// Its pane.
pub fn pane(town: &Town) -> String {
    town.agent(WHO)["pane"].as_str().expect("as it should be").to_owned()
}

/// Waits until the pane shows an empty input line.
pub fn wait_prompt(town: &Town) {
    let (tmux, pane) = (town.tmux(), pane(town));
    let shown = wait_until(CHANGE, || {
        let screen = tmux.try_run(&["capture-pane", "-p", "-t", &pane]).unwrap_or_default();
        screen.lines().rev().find(|line| !line.is_empty()).is_some_and(|line| line.trim_end() == ">")
    });
    assert!(shown, "no prompt");
}

/// It reports a state.
pub fn says(town: &Town, state: &str) {
    let instance = town.agent(WHO)["instance"].clone();
    town.call("agent.report", json!({"instance": instance, "state": state}));
}

/// Sends a text and waits as long as that takes by default.
pub fn send(town: &Town, message: &str) -> Value {
    town.call("nudge.send", json!({"agent": WHO, "message": message}))
}

/// Sends a text and does not wait.
pub fn queue(town: &Town, message: &str) -> Value {
    town.call("nudge.send", json!({"agent": WHO, "message": message, "wait_ms": 0}))
}

/// A text as it stands now; null when there is none.
pub fn nudge(town: &Town, id: &Value) -> Value {
    let all = town.call("nudge.list", json!({"all": true}));
    all["items"]
        .as_array()
        .expect("as it should be")
        .iter()
        .find(|nudge| nudge["id"] == *id)
        .cloned()
        .unwrap_or(Value::Null)
}

/// Waits until a text is as wanted.
#[track_caller]
pub fn wait_nudge(town: &Town, id: &Value, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
    let mut last = Value::Null;
    let found = wait_until(CHANGE, || {
        last = nudge(town, id);
        fits(&last)
    });
    assert!(found, "not {what}: {last:#}");
    last
}

/// The reason for which a text waits.
#[track_caller]
pub fn wait_why(town: &Town, id: &Value, why: &str) {
    wait_nudge(town, id, why, |nudge| {
        nudge["state"] == "queued" && nudge["why"].as_str().is_some_and(|text| text.contains(why))
    });
}

/// Everything that was sent has arrived, once and in order.
#[track_caller]
pub fn wait_heard(town: &Town, expected: &[&str]) {
    let all = wait_until(CHANGE, || heard(town).len() >= expected.len());
    assert!(all, "{:?}", texts(town));
    assert_eq!(texts(town), expected);
}
