//! The verbs of the town's own agents: deacon, mayor, boot.

use serde_json::json;

use crate::common::Town;
use crate::common::fake::Fake;
use crate::common::values::canned;

fn fake(town: &Town) -> Fake {
    Fake::start(&town.socket(), canned(town))
}

fn golden(args: &[&str]) -> String {
    let town = Town::with_endpoint();
    let _fake = fake(&town);
    format!("$ gtctl {}\n{}", args.join(" "), town.gtctl(args).golden())
}

#[test]
fn what_people_read_of_deacon_mayor_and_boot() {
    let lines: Vec<String> = [
        &["deacon", "status"][..],
        &["deacon", "start"],
        &["deacon", "stop", "--now"],
        &["deacon", "restart"],
        &["mayor", "status"],
        &["mayor", "start"],
        &["mayor", "stop"],
        &["boot", "triage"],
        &["boot", "triage", "--dry-run"],
        &["boot", "status"],
    ]
    .iter()
    .map(|args| golden(args))
    .collect();
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn their_json_is_the_result_in_the_envelope() {
    let town = Town::with_endpoint();
    let fake = fake(&town);
    let cases: [(&[&str], &str); 10] = [
        (&["deacon", "status"], "deacon.status"),
        (&["deacon", "start"], "deacon.start"),
        (&["deacon", "stop"], "deacon.stop"),
        (&["deacon", "restart"], "deacon.restart"),
        (&["mayor", "status"], "mayor.status"),
        (&["mayor", "start"], "mayor.start"),
        (&["mayor", "stop"], "mayor.stop"),
        (&["mayor", "restart"], "mayor.restart"),
        (&["boot", "triage"], "boot.triage"),
        (&["boot", "status"], "boot.status"),
    ];
    for (args, kind) in cases {
        let value = town.gtctl(&[args, &["--json"]].concat()).expect(0).json();
        assert_eq!((&value["kind"], &value["result"]["seq"]), (&json!(kind), &json!(42)), "{args:?}");
    }
    let args = "mayor start --agent claude --account work --env A=1 --timeout 90s --reason because";
    town.gtctl(&args.split(' ').collect::<Vec<_>>()).expect(0);
    let expected = json!({
        "agent": "claude", "account": "work", "env": {"A": "1"}, "reset_overrides": false, "dry_run": false,
        "wait_ms": 90_000, "reason": "because",
    });
    assert_eq!(fake.params("mayor.start"), expected);
    // Ending without a grace asks first.
    assert_eq!(town.gtctl(&["deacon", "stop", "--force"]).code, Some(2));
}
