//! `--dry-run`: the daemon says what would be done, to whom and why, and does none of it.

use gtd_tests::{Setup, Town};
use serde_json::{Value, json};

#[track_caller]
fn steps(town: &Town, method: &str, params: Value) -> Vec<(String, String, String)> {
    let mut params = params;
    params["dry_run"] = json!(true);
    let answer = town.call(method, params);
    assert_eq!(answer["dry_run"], true, "{answer:#}");
    let text = |step: &Value, field: &str| step[field].as_str().unwrap_or_default().to_owned();
    let plan = answer["plan"].as_array().cloned().unwrap_or_default();
    plan.iter().map(|step| (text(step, "action"), text(step, "target"), text(step, "why"))).collect()
}

fn names(steps: &[(String, String, String)]) -> Vec<(&str, &str)> {
    steps.iter().map(|(action, target, _)| (action.as_str(), target.as_str())).collect()
}

#[test]
fn plans_tell_what_would_be_done_and_nothing_is() {
    let town = Setup::new().rigs(&["alpha", "beta"]).no_refineries().up();
    let before = town.running();
    let alpha = json!({"rig": "alpha"});
    let w = "alpha/witness";
    assert!(steps(&town, "witness.start", alpha.clone()).is_empty(), "it runs already");
    assert_eq!(names(&steps(&town, "witness.stop", alpha.clone())), [("stop", w)]);
    assert_eq!(names(&steps(&town, "witness.restart", alpha.clone())), [("stop", w), ("start", w)]);
    assert_eq!(names(&steps(&town, "agent.reset", json!({"agent": w}))), [("reset", w)]);
    let polite = steps(&town, "witness.stop", alpha.clone());
    let forced = steps(&town, "witness.stop", json!({"rig": "alpha", "force": true}));
    assert!(polite[0].2.contains("TERM") && forced[0].2.contains("KILL at once"), "{polite:?} {forced:?}");
    // One that says that it works has its turn.
    let instance = town.agent(w)["instance"].clone();
    town.call("agent.report", json!({"instance": instance, "state": "working"}));
    let patient = steps(&town, "witness.stop", alpha.clone());
    assert!(patient[0].2.contains("turn"), "{patient:?}");
    let down = steps(&town, "town.stop", json!({}));
    assert_eq!(names(&down)[..2], [("stop", w), ("stop", "beta/witness")], "{down:?}");
    assert!(down.iter().any(|(action, ..)| action == "end tmux server"), "{down:?}");
    let end = steps(&town, "daemon.shutdown", json!({}));
    assert_eq!(end.len(), 1, "{end:?}");
    assert!(steps(&town, "town.start", json!({})).is_empty(), "all runs");
    assert_eq!(town.running(), before);
    assert!(town.daemon().is_some());
    // What a person stopped is not in the plan of the town's start.
    town.call("witness.stop", json!({"rig": "beta"}));
    assert!(steps(&town, "town.start", json!({})).is_empty());
    assert_eq!(names(&steps(&town, "witness.start", json!({"rig": "beta"}))), [("start", "beta/witness")]);
    assert!(steps(&town, "witness.stop", json!({"rig": "beta"})).is_empty());
    // What would be refused is refused in the plan, in the same words for scripts.
    for method in ["witness.start", "witness.stop", "witness.restart"] {
        let error = town.call_fails(method, json!({"rig": "gamma", "dry_run": true}));
        assert_eq!(error.code, 1001, "{method}: {error:?}");
    }
    assert_eq!(
        town.call_fails("agent.reset", json!({"agent": "alpha/polecats/x", "dry_run": true})).code,
        1002
    );
    town.call("town.stop", json!({"now": true}));
    for dry_run in [true, false] {
        let error = town.call_fails("witness.start", json!({"rig": "beta", "dry_run": dry_run}));
        assert_eq!((error.code, &error.data["reason"]), (1005, &json!("town is down")), "{error:?}");
    }
    let up = steps(&town, "town.start", json!({}));
    assert_eq!(names(&up), [("lift the hold", "test"), ("start", w)], "{up:?}");
    let shown = town.gtctl(&["up", "--dry-run"]).ok();
    assert!(shown.out.contains("WOULD") && shown.out.contains("lift the hold"), "{shown:?}");
}

#[test]
fn a_key_is_for_doing_and_not_for_planning() {
    let town = Setup::new().rigs(&["alpha"]).no_refineries().up();
    let key = json!({"rig": "alpha", "idempotency_key": "one"});
    let mut plan = key.clone();
    plan["dry_run"] = json!(true);
    town.call("witness.restart", plan.clone());
    let first = town.call("witness.restart", key.clone());
    assert_eq!(town.call("witness.restart", key)["instance"], first["instance"]);
    town.call("witness.restart", plan);
    assert_eq!(town.starts("alpha/witness").len(), 2);
}
