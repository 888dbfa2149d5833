//! `gtctl demo`: shows itself, and leaves nothing.

use std::time::Duration;

use gtd_tests::{Setup, procs, programs, run};

/// The demo with a temporary directory of its own, whose name is the mark of everything it starts.
#[track_caller]
fn demo(args: &[&str]) -> (gtd_tests::Output, Vec<String>, Vec<String>) {
    let town = Setup::new().empty().make();
    let tmp = town.base().join("tmp");
    std::fs::create_dir_all(&tmp).unwrap();
    let mut command = programs::bare(programs::program("gtctl"), &town.home());
    command.env("TMPDIR", &tmp).env("XDG_RUNTIME_DIR", town.runtime_dir());
    // It ignores whatever town is around.
    command.env("GT_ROOT", "/nowhere").env("GT_SOCKET", "/nowhere").arg("demo").args(args);
    let output = run::run(command, Duration::from_secs(60));
    let mark = town.base().display().to_string();
    let processes = procs::marked(&mark).iter().map(|process| process.command_line()).collect();
    let mut files = Vec::new();
    for dir in [&tmp, &town.runtime_dir()] {
        files.extend(
            std::fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path().display().to_string()),
        );
    }
    (output, processes, files)
}

#[test]
fn demo_succeeds_in_under_fifteen_seconds_and_leaves_nothing() {
    let (output, processes, files) = demo(&[]);
    assert_eq!(output.code, 0, "{output:?}");
    assert!(output.took < Duration::from_secs(15), "{:?}", output.took);
    let all = format!("{}{}", output.out, output.err);
    for word in ["witness", "polecats", "running", "SIGKILL", "incident.opened", "incident.closed", "ms"] {
        assert!(all.contains(word), "{word} is missing: {all}");
    }
    assert!(processes.is_empty(), "{processes:#?}");
    assert!(files.is_empty(), "{files:#?}");
}

#[test]
fn demo_as_json_is_one_envelope_with_an_empty_census() {
    let (output, processes, _) = demo(&["--json"]);
    assert_eq!(output.code, 0, "{output:?}");
    let envelope = output.json();
    assert_eq!(
        (&envelope["schema_version"], envelope["kind"].as_str()),
        (&serde_json::json!(1), Some("demo")),
        "{envelope:#}"
    );
    let incident = envelope["result"]["incident"].as_array().unwrap();
    let times = |what: &str| incident.iter().filter(|row| row["what"] == what).count();
    assert_eq!((times("incident.opened"), times("incident.closed")), (1, 1), "{envelope:#}");
    assert_eq!(envelope["result"]["work"].as_object().unwrap().len(), 3, "{envelope:#}");
    let census = &envelope["result"]["census"];
    for list in ["sessions", "processes", "files"] {
        assert_eq!(census[list], serde_json::json!([]), "{envelope:#}");
    }
    assert!(processes.is_empty(), "{processes:#?}");
}

#[test]
fn demo_that_is_interrupted_cleans_up() {
    use std::os::unix::process::CommandExt;
    let town = Setup::new().empty().make();
    let tmp = town.base().join("tmp");
    std::fs::create_dir_all(&tmp).unwrap();
    let mark = town.base().display().to_string();
    let mut command = programs::bare(programs::program("gtctl"), &town.home());
    command.env("TMPDIR", &tmp).env("XDG_RUNTIME_DIR", town.runtime_dir()).arg("demo").process_group(0);
    command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    let mut child = command.spawn().unwrap();
    let own = gtd_tests::Process::of(i32::try_from(child.id()).unwrap()).unwrap();
    // Once agents run there is something to clean up.
    gtd_tests::wait_for(Duration::from_secs(20), "the demo's agents", || {
        let shims = procs::marked(&mark).iter().filter(|p| p.command_line().contains("gtd-shim")).count();
        (shims >= 2).then_some(())
    });
    own.signal(rustix::process::Signal::INT);
    let status =
        gtd_tests::wait_for(Duration::from_secs(30), "the demo ends", || child.try_wait().ok().flatten());
    assert_eq!(status.code(), Some(130));
    let left: Vec<String> = procs::marked(&mark).iter().map(|process| process.command_line()).collect();
    assert!(left.is_empty(), "{left:#?}");
}
