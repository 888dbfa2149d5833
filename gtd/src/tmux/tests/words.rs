//! What people and paths may hold arrives as it is.

use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::*;
use crate::tmux::TmuxError;
use crate::tmux::quote::{CommandList, sanitise_name};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

const NASTY: [&str; 13] = [
    "plain",
    "two words",
    "semi;",
    ";",
    "a\\;",
    "quo'te\"s",
    "#{pid} #S ##",
    "#[fg=red] ##[x ###y #",
    "$HOME ~ %1 {x}",
    "line\nbreak\ttab",
    "größe 漢字 \u{1f980}",
    "-t",
    "%end 1 2 1\n%exit",
];

#[tokio::test(flavor = "multi_thread")]
async fn options_of_any_bytes_come_back() {
    let place = Place::new();
    let (rig, server) = Rig::up(&place, place.config()).await;
    let known = rig.driver.meant(&server).unwrap();
    let handle = tokio::runtime::Handle::current();
    let (driver, known) = (&rig.driver, &known);
    let round = |value: &[u8]| {
        let value = OsString::from_vec(value.to_vec());
        let list = CommandList::new(
            ["set-option", "-g", "--", "@gt_any"].map(OsString::from).iter().chain([&value]),
        )
        .then(["display-message", "-p", "#{@gt_any}"]);
        let (over, plain) = tokio::task::block_in_place(|| {
            handle.block_on(async {
                (driver.run(known, &list).await.unwrap(), driver.inner.run_plain(known, &list).await.unwrap())
            })
        });
        let mut expected = value.into_vec();
        expected.push(b'\n');
        (expected, over, plain)
    };
    for value in NASTY {
        let (expected, over, plain) = round(value.as_bytes());
        assert_eq!((&over, &plain), (&expected, &expected), "{value:?}");
    }
    let mut runner =
        TestRunner::new(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() });
    let strategy = prop_oneof![
        "[ -~\n\t]{1,40}".prop_map(String::into_bytes),
        // Newer versions show other control characters escaped; that they arrive is shown below.
        "\\PC{1,20}".prop_map(String::into_bytes),
    ];
    runner
        .run(&strategy, |value| {
            let (expected, over, plain) = round(&value);
            prop_assert_eq!(&over, &expected);
            prop_assert_eq!(&plain, &expected);
            Ok(())
        })
        .unwrap();
    rig.driver.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn arguments_of_any_bytes_reach_the_process() {
    let place = Place::new();
    let (rig, server) = Rig::up(&place, place.config()).await;
    let known = rig.driver.meant(&server).unwrap();
    let mut argv: Vec<OsString> = vec!["sh".into(), "-c".into(), "sleep 1000 # $0".into()];
    argv.extend(NASTY.map(OsString::from));
    argv.push(OsString::from_vec((1..=255).collect()));
    argv.push(OsString::new());
    let mut wanted = session("over", "/", &[]);
    wanted.argv = argv.clone();
    let over = rig.driver.new_session(wanted).await.unwrap().pane_pid;
    let list = CommandList::new(
        ["new-session", "-d", "-s", "plain", "-P", "-F", "#{pane_pid}", "--"]
            .map(OsString::from)
            .iter()
            .chain(&argv),
    );
    let plain = rig.driver.inner.run_plain(&known, &list).await.unwrap();
    let plain = String::from_utf8(plain).unwrap().trim().parse::<i32>().unwrap();
    // Without the guard, as at the start of a server.
    let mut direct = list.argv().unwrap();
    direct[3] = "direct".into();
    let direct = rig.driver.inner.runner.run(&direct, "x", LIMIT).await.unwrap();
    let direct = String::from_utf8(direct.stdout).unwrap().trim().parse::<i32>().unwrap();
    let mut expected: Vec<u8> = vec![];
    for word in &argv {
        expected.extend(word.as_bytes());
        expected.push(0);
    }
    for pid in [over.get(), plain, direct] {
        eventually("the process has its words", || async {
            std::fs::read(format!("/proc/{pid}/cmdline")).unwrap() == expected
        })
        .await;
    }
    rig.driver.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn directories_and_names() {
    let place = Place::new();
    let (rig, server) = Rig::up(&place, place.config()).await;
    for (n, word) in NASTY.into_iter().enumerate() {
        let cwd = place.path(&format!("d/{word}"));
        std::fs::create_dir_all(&cwd).unwrap();
        let name = format!("{n} {word}");
        let made = rig.driver.new_session(session(&name, &cwd, &["sleep", "1000"])).await.unwrap();
        assert_eq!(made.name, sanitise_name(&name));
        // tmux answers before its child has changed its directory.
        eventually("it is where it should be", || async {
            std::fs::read_link(format!("/proc/{}/cwd", made.pane_pid)).unwrap() == cwd
        })
        .await;
        let seen = || async {
            rig.driver.list().await.unwrap().panes.into_iter().find(|p| p.session == made.session).unwrap()
        };
        eventually("it is seen to be there", || async { seen().await.current_path == cwd }).await;
        let pane = seen().await;
        assert_eq!(pane.session_name, made.name);
        assert_eq!(pane.options["@gt_instance"], format!("i-{name}"));
        signal(&proof(made.pane_pid), Signal::KILL);
        eventually("dead", || async {
            rig.driver.list().await.unwrap().panes.iter().any(|p| p.pane == made.pane && p.dead)
        })
        .await;
        let argv: Vec<OsString> = vec!["sleep".into(), "1000".into()];
        let pid = rig.driver.respawn_pane(&server, &made.pane, &cwd, &argv, &[]).await.unwrap();
        eventually("it is there again", || async {
            std::fs::read_link(format!("/proc/{pid}/cwd")).unwrap() == cwd
        })
        .await;
    }
    rig.driver.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clean_names_are_kept_by_tmux() {
    let place = Place::new();
    let (rig, server) = Rig::up(&place, place.config()).await;
    let handle = tokio::runtime::Handle::current();
    let mut runner =
        TestRunner::new(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() });
    runner
        .run(&"[ -~]{0,30}|[a-zäöüßéñ漢字 .:$=#%@{}-]{1,20}", |name| {
            let made = tokio::task::block_in_place(|| {
                handle.block_on(async {
                    let made = rig.driver.new_session(sleeper(&name)).await.unwrap();
                    assert!(rig.driver.kill_session(&server, &made.session).await.unwrap());
                    made
                })
            });
            prop_assert_eq!(made.name, sanitise_name(&name));
            Ok(())
        })
        .unwrap();
    rig.driver.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_said_is_refused_before_tmux_sees_it() {
    let place = Place::new();
    let (rig, _) = Rig::up(&place, place.config()).await;
    let mut bad = vec![session("one-word", "/", &["sleep"]), session("empty", "/", &["", "x"])];
    bad.push(session("nul", "/", &["sleep", "a\0b"]));
    bad.push(session("long", "/", &["sleep", &"x".repeat(20_000)]));
    let mut option = sleeper("option");
    option.options.push(("status-right".into(), "x".into()));
    bad.push(option);
    for wanted in bad {
        let name = wanted.name.clone();
        let refused = rig.driver.new_session(wanted).await;
        assert!(matches!(refused, Err(TmuxError::Refused(_))), "{name}: {refused:?}");
    }
    assert_eq!(rig.driver.list().await.unwrap().panes, []);
    // Just under the limit works both ways.
    let long = "x".repeat(15_000);
    let made =
        rig.driver.new_session(session("fits", "/", &["sh", "-c", "sleep 1000", &long])).await.unwrap();
    let known = rig.driver.meant(&made.server).unwrap();
    let list = CommandList::new(["display-message", "-p", &long]);
    assert_eq!(rig.driver.inner.run_plain(&known, &list).await.unwrap().len(), 15_001);
    rig.driver.close().await;
}
