//! `gtctl agent report` as a hook calls it: bounded in time, silent, and never a failure of the agent's.

use std::io::{Seek, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use gtd_proto::{ErrorKind, RpcError};
use serde_json::{Value, json};

use crate::common::fake::{Fake, Reply};
use crate::common::{Run, Town};

const INSTANCE: &str = "01958b3e-7a3c-7b1e-8b1a-0123456789ab";
/// What a report may cost on a machine that is busy with other tests; alone it is a tenth of that.
const SOON: Duration = Duration::from_millis(1_500);

fn town() -> Town {
    let town = Town::with_endpoint();
    std::fs::DirBuilder::new().mode(0o700).create(town.root().join("daemon/run")).unwrap();
    town
}

/// A report within an agent.
fn report(town: &Town, args: &[&str]) -> Command {
    let mut command = town.command(&["agent", "report"]);
    command.args(args).env("GT_INSTANCE", INSTANCE).env("GT_SOCKET", town.socket());
    command.env("GT_ROLE", "polecat").env("GT_RIG", "a").env("GT_POLECAT", "nux");
    command
}

/// Runs it with this on stdin, all of which is there from the start: on a busy machine a writer may be late.
fn fed(town: &Town, mut command: Command, stdin: &[u8]) -> Run {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(stdin).unwrap();
    file.rewind().unwrap();
    Run::of(command.stdin(file).output().unwrap(), &town.root())
}

fn spool(town: &Town) -> PathBuf {
    town.root().join("daemon/run/reports")
}

fn left(town: &Town) -> Vec<Value> {
    let entries = std::fs::read_dir(spool(town)).into_iter().flatten().map(|entry| entry.unwrap().path());
    let files = entries.filter(|path| path.extension().is_some_and(|end| end == "json"));
    files.map(|path| serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()).collect()
}

fn log(town: &Town) -> String {
    std::fs::read_to_string(spool(town).join("errors.log")).unwrap_or_default()
}

fn silent(run: Run) {
    let run = run.expect(0);
    assert_eq!((run.out.as_str(), run.err.as_str()), ("", ""));
}

fn taken() -> Reply {
    Reply::Result(json!({ "already": true }))
}

#[test]
fn an_event_of_a_hook_becomes_a_report_and_nothing_is_printed() {
    let town = town();
    let fake = Fake::start(&town.socket(), |_, _| taken());
    let event = json!({ "session_id": "c-1", "hook_event_name": "Notification", "message": "may\nI?" });
    silent(fed(&town, report(&town, &["waiting"]), event.to_string().as_bytes()));
    let mut sent = fake.params("agent.report");
    assert!(sent["at"].take().is_string());
    let expected = json!({
        "agent": "a/polecats/nux", "instance": INSTANCE, "state": "waiting", "conversation": "c-1", "detail": "may I?",
        "at": null,
    });
    assert_eq!(sent, expected);
    // An event that says nothing of what it does is none.
    let calls = fake.calls().len();
    let compact = br#"{"hook_event_name":"SessionStart","source":"compact"}"#;
    silent(fed(&town, report(&town, &["started"]), compact));
    assert_eq!(fake.calls().len(), calls);
    assert!(left(&town).is_empty());
}

#[test]
fn junk_and_floods_on_stdin_are_read_as_far_as_they_go() {
    let town = town();
    let fake = Fake::start(&town.socket(), |_, _| taken());
    let long = format!(r#"{{"session_id":"c-2","hook_event_name":"Stop","x":"{}"#, "y".repeat(3 << 20));
    for (stdin, conversation) in [
        (&b""[..], None),
        (b"\xff\xfe\x00", None),
        (b"hello", None),
        (b"[]", None),
        (br#"{"session_id":"--help","hook_event_name":"Stop"}"#, None),
        (br#"{"session_id":"c-1","hook_event_name":"Stop"}"#, Some("c-1")),
        (long.as_bytes(), Some("c-2")),
    ] {
        let run = fed(&town, report(&town, &["idle"]), stdin).expect(0);
        assert_eq!(run.out, "");
        let sent = fake.params("agent.report");
        assert_eq!((sent["state"].as_str(), sent["conversation"].as_str()), (Some("idle"), conversation));
    }
}

#[test]
fn an_open_pipe_and_a_daemon_that_is_silent_are_not_waited_for() {
    let town = town();
    let fake = Fake::start(&town.socket(), |_, _| Reply::Silence);
    for event in ["", r#"{"hook_event_name":"Stop""#, r#"{"session_id":"c-1","hook_event_name":"Stop"}"#] {
        let mut command = report(&town, &["idle"]);
        let began = Instant::now();
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(event.as_bytes()).unwrap();
        // `wait_with_output` would close it; it stays open until the end.
        let status = child.wait().unwrap();
        assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
        assert_eq!(status.code(), Some(0));
        drop(stdin);
    }
    assert_eq!(left(&town).len(), 3);
    drop(fake);
}

#[test]
fn what_the_daemon_cannot_take_is_left_and_what_it_refuses_is_written_down() {
    let town = town();
    let event = br#"{"session_id":"c-1","hook_event_name":"Stop"}"#;
    silent(fed(&town, report(&town, &["idle"]), event));
    assert_eq!(left(&town).len(), 1, "nobody listens");
    assert_eq!(left(&town)[0]["conversation"], "c-1");
    let fake = Fake::start(&town.socket(), |_, params| match params["state"].as_str() {
        Some("idle") => Reply::Error(RpcError::new(ErrorKind::ShuttingDown, "going down")),
        Some("working") => Reply::HangUp,
        Some("waiting") => Reply::Raw("what?\n".to_owned()),
        _ => Reply::Error(RpcError::new(ErrorKind::Forbidden, "you may not")),
    });
    for (state, expected) in [("idle", 2), ("working", 3), ("waiting", 4), ("ended", 4)] {
        silent(fed(&town, report(&town, &[state]), event));
        assert_eq!(left(&town).len(), expected, "{state}");
    }
    assert!(log(&town).contains("ended was refused: you may not"), "{}", log(&town));
    drop(fake);
}

#[test]
fn whatever_is_wrong_with_the_call_within_an_agent_ends_well() {
    let town = town();
    let event = br#"{"hook_event_name":"Stop"}"#;
    for args in
        [&["dancing"][..], &[], &["idle", "--fly"], &["idle", "more"], &["idle", "--next-due", "soon"]]
    {
        let run = fed(&town, report(&town, args), event).expect(0);
        assert_eq!(run.out, "", "{args:?}");
    }
    assert_eq!(log(&town).lines().count(), 5, "{}", log(&town));
    assert!(left(&town).is_empty());
    // With nowhere to leave it, it is lost, and the turn goes on.
    let mut homeless = report(&town, &["idle"]);
    homeless.env("GT_SOCKET", "/nowhere/gtd.sock");
    silent(fed(&town, homeless, event));
}

#[test]
fn outside_of_an_agent_a_hook_is_silent_and_a_person_is_told() {
    let town = town();
    let bare = || town.command(&["agent", "report", "idle"]);
    silent(fed(&town, bare(), br#"{"session_id":"c","hook_event_name":"Stop"}"#));
    let told = fed(&town, bare(), b"").expect(2);
    assert!(told.err.contains("GT_INSTANCE is not set"), "{}", told.err);
    let planned = fed(&town, report(&town, &["idle", "--detail", "x", "--dry-run"]), b"").expect(0).json();
    assert_eq!((&planned["state"], &planned["detail"]), (&json!("idle"), &json!("x")));
    assert!(left(&town).is_empty());
    // A model that types it learns what became of it.
    let typed = fed(&town, report(&town, &["idle"]), b"").expect(0);
    assert!(typed.out.is_empty() && typed.err.contains("will hear of it later"), "{}", typed.err);
}
