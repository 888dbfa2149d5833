//! What is on an agent's screen is the present instance's; what has scrolled away of an earlier one stays there for
//! people.

use gtd_tests::{CHANGE, Setup, wait_for};
use serde_json::{Value, json};

fn lines(value: &Value) -> Vec<String> {
    value.as_array().unwrap().iter().map(|line| line.as_str().unwrap().to_owned()).collect()
}

#[test]
fn peek_and_the_last_words_begin_with_the_present_instance() {
    let town = Setup::new()
        .rigs(&["a"])
        .no_refineries()
        .toml("[restart]\nbase = \"10ms\"\nmax = \"10ms\"\nburst = 0\nchurn_deaths = 0\n[mass_death]\nthreshold = 0")
        .script(&["flood:120", "print:the last word", "idle"])
        .up();
    for _ in 0..2 {
        let before = town.agent("a/witness")["instance"].as_str().unwrap().to_owned();
        let shown =
            || lines(&town.call("agent.capture", json!({"agent": "a/witness", "lines": 1000}))["lines"]);
        let begins = |lines: &[String], instance: &str| {
            let starts: Vec<&String> = lines.iter().filter(|line| line.contains("scripted agent")).collect();
            starts.len() == 1 && starts[0].ends_with(instance) && lines[0] == *starts[0]
        };
        wait_for(CHANGE, "its screen, and nothing before", || {
            let lines = shown();
            (begins(&lines, &before) && lines.last()? == "the last word").then_some(())
        });
        let tmux = town.tmux();
        let pane = town.agent("a/witness")["pane"].as_str().unwrap().to_owned();
        town.process("a/witness").kill();
        town.wait_new_instance("a/witness", &before);
        let exits = town.call("agent.exits", json!({"agent": "a/witness"}));
        let last = lines(&exits["items"][0]["output"]);
        assert_eq!(last.last().map(String::as_str), Some("the last word"), "{last:#?}");
        // Nothing of the dead one's was thrown away.
        let all = tmux.run(&["capture-pane", "-p", "-t", &pane, "-S", "-"]);
        assert!(all.contains(&before), "its history is still there");
    }
    town.assert_never_two();
}
