//! Programs that are called tmux and are not.

use super::*;
use crate::tmux::{ServerState, TmuxError};

fn with(place: &Place, tmux: PathBuf) -> DriverConfig {
    DriverConfig { tmux, command_timeout: Duration::from_millis(300), ..place.config() }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_tmux_or_none_to_use() {
    let place = Place::new();
    let plain_file = place.path("plain");
    std::fs::write(&plain_file, "x").unwrap();
    let table = [
        (place.path("missing"), "there is no program"),
        (plain_file, "may not be executed"),
        (place.pretender("old", "echo tmux 3.1c"), "version 3.1c, which is too old"),
        (place.pretender("junk", "echo hello"), "\"hello\", which is no version"),
        (place.pretender("mute", "exit 0"), "no version"),
        (place.pretender("fails", "echo broken library >&2; exit 127"), "failed: broken library"),
        (place.pretender("binary", "printf '\\377\\000\\n'"), "no version"),
    ];
    for (tmux, expected) in table {
        let mut rig = Rig::open(with(&place, tmux.clone()), None).await;
        let ServerState::Unavailable { why } = rig.driver.state() else {
            panic!("{}: {:?}", tmux.display(), rig.driver.state())
        };
        assert!(why.contains(expected) && why.contains("install tmux 3.2 or newer"), "{why}");
        for result in [rig.driver.ensure_server().await.map(drop), rig.driver.list().await.map(drop)] {
            assert!(matches!(result, Err(TmuxError::Unavailable { .. })), "{result:?}");
        }
        rig.event(|e| matches!(e, TmuxEvent::Degraded(text) if text.contains(expected)).then_some(())).await;
        rig.driver.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tmux_that_is_installed_later_is_found() {
    let place = Place::new();
    let tmux = place.path("tmux");
    let rig = Rig::open(DriverConfig { tmux: tmux.clone(), ..place.config() }, None).await;
    assert!(matches!(rig.driver.state(), ServerState::Unavailable { .. }));
    place.pretender("tmux", &format!("exec {} \"$@\"", real_tmux().display()));
    eventually("it is used", || async { rig.driver.ensure_server().await.is_ok() }).await;
    place.track_any();
    assert!(rig.driver.is_connected() && rig.driver.version().is_some());
    rig.driver.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_sleeps_is_killed_with_its_children() {
    let place = Place::new();
    let body = format!("echo $$ >> {0}; sleep 998 & echo $! >> {0}; wait", place.path("pids").display());
    let before = Instant::now();
    let rig = Rig::open(with(&place, place.pretender("sleeps", &body)), None).await;
    assert!(before.elapsed() < Duration::from_secs(5));
    let ServerState::Unresponsive { server: None, why, .. } = rig.driver.state() else {
        panic!("{:?}", rig.driver.state())
    };
    assert!(why.contains("tmux -V"), "{why}");
    let before = Instant::now();
    assert!(matches!(rig.driver.ensure_server().await, Err(TmuxError::Unresponsive { .. })));
    assert!(matches!(rig.driver.list().await, Err(TmuxError::Unresponsive { .. })));
    assert!(before.elapsed() < Duration::from_millis(250));
    rig.driver.close().await;
    let pids = std::fs::read_to_string(place.path("pids")).unwrap();
    assert!(pids.lines().count() >= 2);
    for pid in pids.lines() {
        let pid = Pid::new(pid.parse().unwrap()).unwrap();
        eventually("gone", || async { !identify(pid).is_alive() }).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_version_and_then_nonsense() {
    let place = Place::new();
    let table = [
        ("junk", "echo junk; exit 0"),
        ("silent", "exit 0"),
        ("fails", "echo something broke >&2; exit 1"),
        ("floods", "yes junk"),
        ("lies", "echo 4194304 5"),
        ("one", "echo 1 5"),
    ];
    // Somebody listens, so each of them is asked who it is.
    let _listener = std::os::unix::net::UnixListener::bind(place.socket()).unwrap();
    for (name, body) in table {
        let body = format!("[ \"$1\" = -V ] && {{ echo tmux 3.3a; exit 0; }}\n{body}");
        let rig = Rig::open(with(&place, place.pretender(name, &body)), None).await;
        let state = rig.driver.state();
        assert!(!matches!(state, ServerState::Up(_)), "{name}: {state:?}");
        for result in [rig.driver.ensure_server().await.map(drop), rig.driver.list().await.map(drop)] {
            println!("{name}: {result:?}");
            assert!(result.is_err());
        }
        rig.driver.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn control_connections_that_talk_nonsense_are_given_up() {
    let place = Place::new();
    let real = real_tmux();
    let table = [
        ("junk", "echo junk; sleep 1000"),
        ("mute", "exec sleep 1000"),
        ("ends", "exit 0"),
        ("greets", "printf '%%begin 1 1 0\\n%%end 1 1 0\\n'; exec sleep 1000"),
        (
            "lies",
            "printf '%%begin 1 1 0\\n%%end 1 1 0\\n%%begin 1 2 1\\n5 6 town\\n%%end 1 2 1\\n'; exec sleep 1000",
        ),
        ("babbles", "printf '%%begin 1 1 0\\n%%end 1 1 0\\n'; read x; printf 'what?\\n'; exec sleep 1000"),
    ];
    let (first, server) = Rig::up(&place, place.config()).await;
    let made = first.driver.new_session(sleeper("x")).await.unwrap();
    first.driver.close().await;
    for (name, body) in table {
        let script = format!(
            "for a in \"$@\"; do [ \"$a\" = -C ] && {{ {body}; }}; done\nexec {} \"$@\"",
            real.display()
        );
        let rig = Rig::open(with(&place, place.pretender(name, &script)), Some(server.clone())).await;
        // Plain processes are fine, and so is the work.
        assert_eq!(rig.driver.state(), ServerState::Up(server.clone()), "{name}");
        let panes = rig.driver.list().await.unwrap().panes;
        assert!(panes.len() == 1 && panes[0].pane == made.pane, "{name}");
        assert!(!rig.driver.is_connected(), "{name}");
        rig.driver.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_with_junk_in_it_is_an_error() {
    let place = Place::new();
    let (first, server) = Rig::up(&place, place.config()).await;
    first.driver.new_session(sleeper("x")).await.unwrap();
    first.driver.close().await;
    // No control connection, and a line too much or too little in listings.
    for (name, filter) in [("more", "cat; echo junk"), ("fewer", "head -c 40"), ("none", "cat >/dev/null")] {
        let body = format!(
            "for a in \"$@\"; do [ \"$a\" = -C ] && exit 1; done\ncase \"$*\" in *list-panes*) {real} \"$@\" | {{ {filter}; }};; *) exec {real} \"$@\";; esac",
            real = real_tmux().display()
        );
        let config = DriverConfig { tmux: place.pretender(name, &body), ..place.config() };
        let rig = Rig::open(config, Some(server.clone())).await;
        let listing = rig.driver.list().await;
        assert!(matches!(listing, Err(TmuxError::Junk(_))), "{name}: {listing:?}");
        assert!(rig.driver.kill_server_if_empty(&server).await.is_err());
        rig.driver.close().await;
    }
    assert!(observe(&server.process).is_alive());
}

#[tokio::test(flavor = "multi_thread")]
async fn sockets_that_are_none() {
    let place = Place::new();
    std::fs::write(place.socket(), "a file").unwrap();
    let rig = Rig::open(place.config(), None).await;
    let _ = rig.driver.state();
    rig.driver.close().await;
    let deep = place.path(&"x".repeat(120));
    let config = DriverConfig { server: ServerChoice::Private(deep), ..place.config() };
    let rig = Rig::open(config, None).await;
    assert!(matches!(rig.driver.ensure_server().await, Err(TmuxError::Refused(_))));
    rig.driver.close().await;
}
