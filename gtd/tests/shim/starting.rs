//! What the agent finds, and what happens when it cannot be started.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;

use gtd::process::BootId;
use gtd::process::record::By;
use rustix::io::Errno;

use crate::support::{Case, assert_dead, until};

#[test]
fn an_exit_code_is_passed_on_and_recorded() {
    let case = Case::sh("exit 7");
    let shim = case.start();
    let (status, record) = shim.finish();
    assert_eq!(status.code(), Some(7));
    assert_eq!((record.code, record.signal, record.by), (Some(7), None, By::Agent));
    assert_eq!(record.instance, case.launch.instance);
    assert!(record.ended_at.unwrap() >= record.started_at);
    assert!(record.usage.max_rss_bytes > 0);
    assert!(record.survivors.is_empty() && record.spared.is_empty() && record.exec_error.is_none());
    assert!(!case.path("launch").exists(), "the launch file is deleted");
    let names: Vec<_> = fs::read_dir(case.dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names.len(), 3, "record, stdout and stderr only: {names:?}");
    assert_eq!(fs::metadata(case.path("record")).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_signal_is_passed_on_and_recorded() {
    let case = Case::sh("kill -SEGV $$");
    let (status, record) = case.start().finish();
    assert_eq!((status.code(), status.signal()), (Some(128 + 11), None));
    assert_eq!((record.code, record.signal, record.by), (None, Some(11), By::Agent));
}

#[test]
fn the_agent_starts_clean() {
    let mut case = Case::sh(
        "grep -E '^Sig(Blk|Ign)' /proc/self/status | cut -f2 | tr '\\n' ' ' > $D/signals; \
         echo /proc/$$/fd/* > $D/fds; \
         cut -d' ' -f5 /proc/$$/stat > $D/group; echo $$ > $D/pid; pwd > $D/cwd; \
         cat /proc/$$/oom_score_adj > $D/oom; env | cut -d= -f1 | sort | tr '\\n' ' ' > $D/env; \
         echo > $D/done; exec sleep 60",
    );
    case.launch.oom_score_adj = Some(321);
    case.launch.env.insert("X".into(), "1".into());
    let shim = case.start();
    case.line("done");
    let read = |name: &str| fs::read_to_string(case.path(name)).unwrap().trim().to_owned();
    assert_eq!(read("signals"), "0000000000000000 0000000000000000");
    let fds = ["0", "1", "2"].map(|fd| format!("/proc/{}/fd/{fd}", read("pid"))).join(" ");
    assert!(read("fds").starts_with(&fds), "{}", read("fds"));
    assert_eq!(read("group"), read("pid"), "a group of its own");
    assert_eq!(read("pid"), shim.agent().pid.to_string());
    assert_eq!(read("cwd"), case.dir.path().to_str().unwrap());
    assert_eq!(read("oom"), "321");
    // PWD, OLDPWD, SHLVL and _ are the shell's own.
    let env = read("env");
    let own = ["PWD", "OLDPWD", "SHLVL", "_", "TERM"];
    let env: Vec<_> = env.split(' ').filter(|name| !own.contains(name)).collect();
    assert_eq!(env, ["D", "GT_INSTANCE", "GT_TOWN_ID", "PATH", "X"]);
}

#[test]
fn what_cannot_be_started_is_recorded_with_its_reason() {
    let case = Case::sh("");
    let text = case.script("noexec", "#!/bin/sh\n");
    fs::set_permissions(&text, fs::Permissions::from_mode(0o644)).unwrap();
    let bad = case.script("bad", "#!/no/such/interpreter\n");
    let plain = case.script("plain", "neither binary nor script");
    let dir = case.dir.path().to_str().unwrap();
    let not_dir = format!("{}/x", text.display());
    for (argv, cwd, op, errno, code) in [
        (&["/no/such/program"][..], dir, "exec", Errno::NOENT, 127),
        (&["no-such-program-anywhere"], dir, "exec", Errno::NOENT, 127),
        (&[], dir, "exec", Errno::NOENT, 127),
        (&[text.to_str().unwrap()], dir, "exec", Errno::ACCESS, 126),
        (&[dir], dir, "exec", Errno::ACCESS, 126),
        (&[not_dir.as_str()], dir, "exec", Errno::NOTDIR, 127),
        (&[bad.to_str().unwrap()], dir, "exec", Errno::NOENT, 127),
        (&[plain.to_str().unwrap()], dir, "exec", Errno::NOEXEC, 126),
        (&["/bin/sh"], "/no/such/directory", "chdir", Errno::NOENT, 127),
        (&["/bin/sh"], text.to_str().unwrap(), "chdir", Errno::NOTDIR, 127),
        (&["nul\0inside"], dir, "exec", Errno::INVAL, 126),
        (&["/bin/sh", "nul\0inside"], dir, "exec", Errno::INVAL, 126),
    ] {
        let mut case = Case::new(argv);
        case.launch.cwd = cwd.into();
        let (status, record) = case.start().finish();
        let error = record.exec_error.unwrap();
        assert_eq!((error.op.as_str(), error.errno), (op, errno.raw_os_error()), "{argv:?} in {cwd}");
        assert_eq!((status.code(), record.code), (Some(code), Some(code)), "{argv:?} in {cwd}");
        assert!(record.agent.is_none() && record.ended_at.is_some());
        assert!(!case.path("launch").exists());
        let said = fs::read_to_string(case.path("stderr")).unwrap();
        assert!(said.contains("cannot "), "{said}");
    }
}

#[test]
fn a_launch_file_of_an_earlier_boot_is_void() {
    let mut case = Case::sh("echo ran > $D/ran");
    case.launch.boot_id = BootId::new("an earlier one");
    let (status, record) = case.start().finish();
    assert_eq!(status.code(), Some(126));
    assert_eq!(record.exec_error.unwrap().op, "boot_id");
    assert!(!case.path("ran").exists());
}

#[test]
fn no_launch_file_or_a_damaged_one_is_an_error() {
    let case = Case::sh("");
    for text in [None, Some("{"), Some(r#"{"v":99}"#)] {
        let mut shim = std::process::Command::new(env!("CARGO_BIN_EXE_gtd-shim"));
        if let Some(text) = text {
            fs::write(case.path("launch"), text).unwrap();
        }
        let output = shim.arg(case.path("launch")).output().unwrap();
        assert_eq!(output.status.code(), Some(125));
        assert!(!output.stderr.is_empty());
        assert!(!case.path("launch").exists());
    }
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_gtd-shim")).output().unwrap();
    assert_eq!(output.status.code(), Some(125));
}

#[test]
fn an_unwritable_record_does_not_stop_the_agent() {
    let mut case = Case::sh("echo ran > $D/ran; exit 3");
    case.launch.record = "/no/such/directory/record".into();
    assert_eq!(case.start().wait().code(), Some(3));
    assert!(case.path("ran").exists());
}

#[test]
fn the_agent_dies_with_a_killed_shim() {
    let case = Case::sh("trap '' HUP TERM; echo $$ > $D/agent; while :; do sleep 1; done");
    let mut shim = case.start();
    let agent = case.process("agent");
    assert_eq!(shim.agent(), agent);
    shim.child.kill().unwrap();
    let status = shim.wait();
    assert_eq!(status.signal(), Some(9));
    assert_dead(&agent);
    // The record tells how far it had come, and who to look for.
    let record = case.record().unwrap();
    assert_eq!(record.agent_id(), Some(agent));
    until("what it left is gone", || case.marked().is_empty().then_some(()));
}
