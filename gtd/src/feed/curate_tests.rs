//! The rules, on what the incumbent wrote and on what nobody should.

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn line(second: i64, kind: &str, actor: &str, payload: &Value) -> String {
    let ts = Timestamp::from_second(1_790_000_000 + second).unwrap();
    let ts = ts.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    json!({"ts": ts, "source": "gt", "type": kind, "actor": actor, "payload": payload, "visibility": "feed"})
        .to_string()
}

fn told(memory: &mut Memory, line: &str) -> Result<Value, Dropped> {
    curate(memory, line.as_bytes(), "1").map(|line| serde_json::from_str(&line).unwrap())
}

#[test]
fn what_the_incumbent_wrote_becomes_what_it_would_have_told() {
    let recorded = r#"{"ts":"2026-11-21T12:16:14Z","source":"gt","type":"spawn","actor":"gt","payload":{"polecat":"obsidian","rig":"proj"},"visibility":"feed"}
{"ts":"2026-11-21T12:16:18Z","source":"gt","type":"sling","actor":"unknown","payload":{"bead":"pj-8od","target":"proj/polecats/obsidian"},"visibility":"feed"}
{"ts":"2026-11-21T12:18:21Z","source":"gt","type":"sling","actor":"unknown","payload":{"bead":"pj-8od","target":"proj/polecats/quartz"},"visibility":"feed"}
{"ts":"2026-11-21T12:25:08Z","source":"gt","type":"mail","actor":"overseer","payload":{"subject":"LIFECYCLE: proj/witness requesting cycle","to":"deacon/"},"visibility":"feed"}
{"ts":"2026-11-21T09:41:38Z","source":"gt","type":"mass_death","actor":"daemon","payload":{"count":3,"sessions":["gt-alpha-max","gt-alpha-nux","gt-alpha-nux2"],"window":"30s"},"visibility":"feed"}"#;
    let mut memory = Memory::default();
    let lines: Vec<String> =
        recorded.lines().map(|line| curate(&mut memory, line.as_bytes(), "2-0-ff").unwrap()).collect();
    let expected = r#"{"ts":"2026-11-21T12:16:14Z","source":"gt","type":"spawn","actor":"gt","summary":"gt: spawn","payload":{"polecat":"obsidian","rig":"proj"},"id":"2-0-ff"}
{"ts":"2026-11-21T12:16:18Z","source":"gt","type":"sling","actor":"unknown","summary":"unknown assigned pj-8od to proj/polecats/obsidian","payload":{"bead":"pj-8od","target":"proj/polecats/obsidian"},"id":"2-0-ff"}
{"ts":"2026-11-21T12:18:21Z","source":"gt","type":"sling","actor":"unknown","summary":"unknown assigned pj-8od to proj/polecats/quartz","payload":{"bead":"pj-8od","target":"proj/polecats/quartz"},"id":"2-0-ff"}
{"ts":"2026-11-21T12:25:08Z","source":"gt","type":"mail","actor":"overseer","summary":"overseer → deacon/: LIFECYCLE: proj/witness requesting cycle","payload":{"subject":"LIFECYCLE: proj/witness requesting cycle","to":"deacon/"},"id":"2-0-ff"}
{"ts":"2026-11-21T09:41:38Z","source":"gt","type":"mass_death","actor":"daemon","summary":"MASS DEATH: 3 sessions died simultaneously","payload":{"count":3,"sessions":["gt-alpha-max","gt-alpha-nux","gt-alpha-nux2"],"window":"30s"},"id":"2-0-ff"}"#;
    assert_eq!(lines, expected.lines().collect::<Vec<_>>());
}

#[test]
fn every_type_has_its_words() {
    for (kind, payload, summary) in [
        ("sling", json!({"bead": "a-1", "target": "a/polecats/nux"}), "who assigned a-1 to a/polecats/nux"),
        ("sling", json!({"bead": "a-1"}), "who dispatched work"),
        ("sling", json!({"bead": 5, "target": []}), "who dispatched work"),
        ("done", json!({"bead": "a-1", "branch": "b"}), "who completed work on a-1"),
        ("done", json!(null), "who signaled done"),
        ("handoff", json!({"to_session": "x"}), "who handed off to fresh session"),
        ("mail", json!({"to": "mayor/", "subject": "hello"}), "who → mayor/: hello"),
        ("mail", json!({"to": "mayor/"}), "who → mayor/"),
        ("mail", json!({}), "who: mail"),
        ("patrol_started", json!({"rig": "a", "polecat_count": 2}), "who patrol started for a"),
        ("patrol_complete", json!({"message": "all is well"}), "all is well"),
        ("patrol_complete", json!({"message": ""}), "who: patrol_complete"),
        ("merged", json!({"worker": "nux", "mr": "m"}), "Merged work from nux"),
        ("merge_failed", json!({"reason": "conflict"}), "Merge failed: conflict"),
        (
            "session_death",
            json!({"session": "gt-a-nux", "reason": "crash"}),
            "Session gt-a-nux terminated: crash",
        ),
        ("mass_death", json!({"count": 4, "possible_cause": "oom"}), "MASS DEATH: 4 sessions died - oom"),
        (
            "mass_death",
            json!({"count": 4.0, "possible_cause": "unknown"}),
            "MASS DEATH: 4 sessions died simultaneously",
        ),
        ("mass_death", json!({"count": "x"}), "who: mass_death"),
        ("boot", json!({"rig": "a", "agents": []}), "who: boot"),
        ("no such type", json!({}), "who: no such type"),
    ] {
        let line = line(0, kind, "who", &payload);
        assert_eq!(told(&mut Memory::default(), &line).unwrap()["summary"], summary, "{line}");
    }
}

#[test]
fn what_is_no_event_of_the_feed_is_dropped() {
    let good = line(0, "boot", "a", &json!({}));
    let mut memory = Memory::default();
    for (text, why) in [
        ("", Dropped::Empty),
        (" \t\r", Dropped::Empty),
        ("{", Dropped::Unreadable),
        ("[]", Dropped::Unreadable),
        (r#"["2026-11-21T12:16:14Z","gt","boot","a",{},"feed"]"#, Dropped::Unreadable),
        ("null", Dropped::Unreadable),
        (r#"{"ts": 5, "visibility": "feed"}"#, Dropped::Unreadable),
        (r#"{"payload": [], "visibility": "feed"}"#, Dropped::Unreadable),
        (&format!("{good}{good}"), Dropped::Unreadable),
        (r#"{"type": "boot"}"#, Dropped::Audit),
        (r#"{"type": "boot", "visibility": "audit"}"#, Dropped::Audit),
    ] {
        assert_eq!(told(&mut memory, text), Err(why), "{text}");
    }
    assert_eq!(
        curate(&mut memory, b"{\"actor\":\"\xff\",\"visibility\":\"feed\"}", "1"),
        Err(Dropped::Unreadable)
    );
    for good in [good.replace("\"feed\"", "\"both\""), format!("  {good}\r"), good] {
        assert!(told(&mut memory, &good).is_ok(), "{good}");
    }
}

#[test]
fn the_same_work_is_done_once_in_ten_seconds_and_other_work_is_other_work() {
    let mut memory = Memory::default();
    let mut done = |second, actor: &str, bead: &str| {
        told(&mut memory, &line(second, "done", actor, &json!({"bead": bead}))).is_ok()
    };
    assert!(done(0, "a", "x"));
    assert!(!done(0, "a", "x") && !done(10, "a", "x"));
    // What is not told does not make the time longer.
    assert!(done(11, "a", "x"));
    assert!(done(11, "a", "y"), "other work");
    assert!(done(11, "b", "x"), "another agent");
    assert!(!done(5, "a", "x"), "written late");
    assert!(done(1_000, "a", "x") && done(0, "a", "x"));
}

#[test]
fn three_slings_in_half_a_minute_are_told_as_a_number() {
    let mut memory = Memory::default();
    let mut sling = |second, actor: &str| {
        let line = line(second, "sling", actor, &json!({"bead": "x", "target": "t"}));
        told(&mut memory, &line).unwrap()
    };
    for (second, actor, count) in [
        (0, "a", None),
        (1, "a", None),
        (1, "b", None),
        (2, "a", Some(3)),
        (2, "a", Some(4)),
        (31, "a", Some(4)),
        (32, "a", Some(4)),
        (33, "a", None),
        (1, "b", None),
        (200, "a", None),
        (0, "a", None),
    ]
    .into_iter()
    .take(7)
    {
        let line = sling(second, actor);
        assert_eq!(line["count"].as_u64(), count, "{second} {actor}: {line}");
        if let Some(count) = count {
            assert_eq!(line["summary"], format!("{actor} dispatching work to {count} agents"));
        }
    }
    // Far away in time, either way, is another burst.
    assert!(sling(1_000, "a").get("count").is_none());
    assert!(sling(500, "a").get("count").is_none());
}

proptest! {
    #[test]
    fn any_bytes_are_a_line_or_none_and_what_is_remembered_is_bounded(
        bytes in prop::collection::vec(any::<u8>(), 0..300)
    ) {
        if let Ok(line) = curate(&mut Memory::default(), &bytes, "1") {
            let value: Value = serde_json::from_str(&line).unwrap();
            prop_assert!(value["summary"].is_string() && !line.contains('\n'));
        }
    }

    /// Slings are never lost, only told otherwise; a memory that was written down and read goes on as before.
    #[test]
    fn a_memory_is_bounded_and_outlives_a_restart(
        steps in prop::collection::vec((-100i64..100, 0usize..400, prop::bool::ANY), 1..500)
    ) {
        let mut memory = Memory::default();
        let mut kept = Memory::default();
        for (second, actor, sling) in steps {
            let kind = if sling { "sling" } else { "done" };
            let line = line(second, kind, &format!("a{actor}"), &json!({"bead": "x\"\n", "target": "t"}));
            let here = told(&mut memory, &line);
            prop_assert!(!sling || here.is_ok());
            prop_assert_eq!(&here, &told(&mut kept, &line));
            kept = serde_json::from_str(&serde_json::to_string(&kept).unwrap()).unwrap();
            prop_assert!(memory.slings.len() <= REMEMBERED && memory.done.len() <= REMEMBERED);
            prop_assert!(memory.slings.values().all(|seconds| seconds.len() <= 61));
        }
    }
}
