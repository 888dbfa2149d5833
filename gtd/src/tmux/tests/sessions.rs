//! Good days.

use super::*;
use crate::host::unit::Launcher;
use crate::tmux::{ServerState, TmuxError};

#[tokio::test(flavor = "multi_thread")]
async fn a_session_from_birth_to_death() {
    let place = Place::new();
    let (mut rig, server) = Rig::up(&place, place.config()).await;
    rig.event(|e| (e == TmuxEvent::ServerStarted(server.clone())).then_some(())).await;
    assert_eq!(rig.driver.state(), ServerState::Up(server.clone()));
    assert!(rig.driver.is_connected());
    assert_eq!(rig.driver.list().await.unwrap().panes, []);

    let mut wanted = sleeper("gt-alpha-witness");
    wanted.options.push(("@gt_agent".into(), "alpha/witness".into()));
    let made = rig.driver.new_session(wanted).await.unwrap();
    assert_eq!((made.name.as_str(), &made.server), ("gt-alpha-witness", &server));
    rig.event(|e| (e == TmuxEvent::Changed).then_some(())).await;
    let listing = rig.driver.list().await.unwrap();
    assert_eq!(listing.server, server);
    let [pane] = &listing.panes[..] else { panic!("{listing:?}") };
    assert_eq!((pane.session, pane.pane, pane.pane_pid), (made.session, made.pane, Some(made.pane_pid)));
    assert_eq!(pane.options.get("@gt_agent").map(String::as_str), Some("alpha/witness"));
    assert_eq!(pane.options.get("@gt_instance").map(String::as_str), Some("i-gt-alpha-witness"));
    assert!(!pane.dead && !pane.in_mode && pane.session_attached == 0 && pane.session_windows == 1);
    assert!(pane.session_created > 1_600_000_000 && pane.session_activity >= pane.session_created);
    assert_eq!(
        place.tmux(&["display", "-p", "-t", "gt-alpha-witness", "#{window_width}x#{window_height}"]),
        "200x50"
    );
    // Started directly, without a shell.
    eventually("it runs", || async {
        std::fs::read(format!("/proc/{}/cmdline", made.pane_pid)).unwrap() == b"sleep\x001000\0"
    })
    .await;

    assert!(matches!(
        rig.driver.new_session(sleeper("gt-alpha-witness")).await,
        Err(TmuxError::NameTaken { name }) if name == "gt-alpha-witness"
    ));
    assert!(rig.driver.kill_session(&server, &made.session).await.unwrap());
    assert!(!rig.driver.kill_session(&server, &made.session).await.unwrap());
    assert!(!rig.driver.kill_pane(&server, &made.pane).await.unwrap());
    assert_eq!(rig.driver.list().await.unwrap().panes, []);
    rig.driver.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn instant_exits_leave_a_pane_that_can_be_started_again() {
    let place = Place::new();
    let (rig, server) = Rig::up(&place, place.config()).await;
    for round in 0..10 {
        // tmux itself may lose the output of a process that ends in the same instant.
        let script = match round {
            0 => "printf 'last words\\n\\n'; sleep 0.1; exit 3",
            _ => "exit 3",
        };
        let made =
            rig.driver.new_session(session(&format!("r{round}"), "/", &["sh", "-c", script])).await.unwrap();
        let dead = || async {
            let panes = rig.driver.list().await.unwrap().panes;
            panes.iter().find(|p| p.pane == made.pane).unwrap().dead
        };
        eventually("the pane is dead", dead).await;
        let screen = rig.driver.capture(&server, &made.pane, 5).await.unwrap();
        assert_eq!(screen, ["last words"][..usize::from(round == 0)]);
        let argv: Vec<OsString> = vec!["sleep".into(), "1000".into()];
        let options = [("@gt_instance".to_owned(), format!("again {round}"))];
        let pid =
            rig.driver.respawn_pane(&server, &made.pane, Path::new("/tmp"), &argv, &options).await.unwrap();
        let panes = rig.driver.list().await.unwrap().panes;
        let pane = panes.iter().find(|p| p.pane == made.pane).unwrap();
        assert_eq!((pane.dead, pane.pane_pid, pane.session), (false, Some(pid), made.session));
        eventually("it is where it should be", || async {
            std::fs::read_link(format!("/proc/{pid}/cwd")).unwrap() == Path::new("/tmp")
        })
        .await;
        assert_eq!(pane.options["@gt_instance"], format!("again {round}"));
        // A live pane is left alone.
        let again = rig.driver.respawn_pane(&server, &made.pane, Path::new("/"), &argv, &[]).await;
        assert!(matches!(again, Err(TmuxError::Refused(_))), "{again:?}");
        assert!(observe(&proof(pid)).is_alive());
    }
    rig.driver.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn neighbours_with_like_names_are_not_touched() {
    let place = Place::new();
    let (rig, server) = Rig::up(&place, place.config()).await;
    let mut made = vec![];
    for name in ["a-b", "a", "a-witness", "a-b-c"] {
        made.push(rig.driver.new_session(sleeper(name)).await.unwrap());
    }
    let a = &made[1];
    assert!(rig.driver.kill_session(&server, &a.session).await.unwrap());
    // With the name free again and longer ones around, the id still means nobody else.
    assert!(!rig.driver.kill_session(&server, &a.session).await.unwrap());
    let mut names: Vec<_> =
        rig.driver.list().await.unwrap().panes.into_iter().map(|p| p.session_name).collect();
    names.sort();
    assert_eq!(names, ["a-b", "a-b-c", "a-witness"]);
    rig.driver.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pane_that_a_user_splits_off_is_the_users() {
    let place = Place::new();
    let (rig, server) = Rig::up(&place, place.config()).await;
    let made = rig.driver.new_session(sleeper("agent")).await.unwrap();
    place.tmux(&["split-window", "-d", "-t", &made.pane.to_string(), "sleep", "2000"]);
    let panes = rig.driver.list().await.unwrap().panes;
    assert_eq!(panes.len(), 2);
    let users = panes.iter().find(|p| p.pane != made.pane).unwrap();
    let users_process = proof(users.pane_pid.unwrap());
    // No variable of ours, and it closes as panes do.
    let environment = std::fs::read(format!("/proc/{}/environ", users_process.pid)).unwrap();
    assert!(!String::from_utf8_lossy(&environment).contains("GT_"));
    assert_eq!(place.tmux(&["show-options", "-pv", "-t", &users.pane.to_string(), "remain-on-exit"]), "");
    // The agent's pane dies and is started again beside it.
    signal(&proof(made.pane_pid), Signal::KILL);
    eventually("the pane is dead", || async {
        rig.driver.list().await.unwrap().panes.iter().any(|p| p.pane == made.pane && p.dead)
    })
    .await;
    let argv: Vec<OsString> = vec!["sleep".into(), "1000".into()];
    rig.driver.respawn_pane(&server, &made.pane, Path::new("/"), &argv, &[]).await.unwrap();
    assert!(observe(&users_process).is_alive());
    // Ending our pane leaves the session to the user.
    assert!(rig.driver.kill_pane(&server, &made.pane).await.unwrap());
    let panes = rig.driver.list().await.unwrap().panes;
    assert_eq!(panes.iter().map(|p| p.pane).collect::<Vec<_>>(), [users.pane]);
    assert!(observe(&users_process).is_alive());
    rig.driver.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pane_in_which_somebody_started_something_else_is_not_closed() {
    let place = Place::new();
    let (rig, server) = Rig::up(&place, place.config()).await;
    let made = rig.driver.new_session(sleeper("agent")).await.unwrap();
    // Between the look that found the agent dead and the closing.
    place.tmux(&["respawn-pane", "-k", "-t", &made.pane.to_string(), "exec sleep 2000"]);
    let panes = rig.driver.list().await.unwrap().panes;
    let users = panes[0].pane_pid.unwrap();
    assert_ne!(users, made.pane_pid);
    rig.driver.close_pane_of(&server, &made.pane, made.pane_pid).await.unwrap();
    rig.driver.close_dead_pane(&server, &made.pane).await.unwrap();
    assert!(identify(users).is_alive());
    assert_eq!(rig.driver.list().await.unwrap().panes.len(), 1);
    rig.driver.close_pane_of(&server, &made.pane, users).await.unwrap();
    assert!(rig.driver.list().await.unwrap().panes.is_empty());
    rig.driver.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_born_clean() {
    let place = Place::new();
    let (rig, server) = Rig::up(&place, place.config()).await;
    let made = rig.driver.new_session(sleeper("x")).await.unwrap();
    let allowed = ["PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "TZ", "TMPDIR", "XDG_RUNTIME_DIR"];
    let by_tmux =
        ["TERM", "TMUX", "TMUX_PANE", "TERM_PROGRAM", "TERM_PROGRAM_VERSION", "COLORTERM", "PWD", "SHLVL"];
    for (pid, extra) in [(server.process.pid, &[][..]), (made.pane_pid, &by_tmux[..])] {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap();
        for variable in String::from_utf8(environment).unwrap().split('\0').filter(|v| !v.is_empty()) {
            let name = variable.split('=').next().unwrap();
            let known = allowed.contains(&name) || extra.contains(&name) || name.starts_with("LC_");
            assert!(known, "{name} in process {pid}");
        }
    }
    assert_eq!(place.tmux(&["show-environment", "-t", "x"]), "");
    // Its own session, the root directory, nothing of our descriptors.
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", server.process.pid)).unwrap();
    assert_eq!(stat.split(' ').nth(5).unwrap(), server.process.pid.to_string());
    assert_eq!(std::fs::read_link(format!("/proc/{}/cwd", server.process.pid)).unwrap(), Path::new("/"));
    // Our configuration was read without complaint.
    assert_eq!(place.tmux(&["show-options", "-gv", "history-limit"]), "2000");
    assert_eq!(place.tmux(&["show-options", "-gv", "default-size"]), "200x50");
    assert_eq!(place.tmux(&["show-options", "-sv", "exit-empty"]), "on");
    assert_eq!(place.tmux(&["list-panes", "-a", "-F", "#{pane_mode}"]).trim(), "");
    rig.driver.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_launcher_stands_in_front() {
    let place = Place::new();
    let launcher = |word: &str| Launcher::plain(vec!["env".into(), word.into()]);
    let config = DriverConfig { launchers: vec![launcher("IN_A_SCOPE=yes")], ..place.config() };
    let (rig, server) = Rig::up(&place, config).await;
    let environment = std::fs::read(format!("/proc/{}/environ", server.process.pid)).unwrap();
    assert!(String::from_utf8(environment).unwrap().contains("IN_A_SCOPE=yes"));
    assert_eq!(rig.driver.not_launched(), None);
    rig.driver.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_launcher_that_fails_gives_way_to_the_next_and_in_the_end_to_none() {
    let words = |words: &[&str]| Launcher::plain(words.iter().map(Into::into).collect());
    let broken = [words(&["false"]), words(&["/nowhere/systemd-run"])];
    let second = [words(&["false"]), words(&["env", "SECOND=yes"])];
    for (launchers, launched) in [(broken, false), (second, true)] {
        let place = Place::new();
        let config = DriverConfig { launchers: launchers.into(), ..place.config() };
        let (rig, server) = Rig::up(&place, config).await;
        let environment = std::fs::read(format!("/proc/{}/environ", server.process.pid)).unwrap();
        assert_eq!(String::from_utf8(environment).unwrap().contains("SECOND=yes"), launched);
        assert_eq!(rig.driver.not_launched().is_some(), !launched);
        rig.driver.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_launcher_that_hangs_is_given_up_and_its_group_killed() {
    let place = Place::new();
    let hanging = Launcher::plain(["sh", "-c", "sleep 4711 & wait; :"].map(Into::into).into());
    let config = DriverConfig {
        launchers: vec![hanging.clone(), hanging],
        command_timeout: Duration::from_secs(2),
        ..place.config()
    };
    let began = Instant::now();
    let (rig, server) = Rig::up(&place, config).await;
    assert!(began.elapsed() < Duration::from_secs(4), "only one was waited for: {:?}", began.elapsed());
    let stat = std::fs::read_to_string(format!("/proc/{}/cmdline", server.process.pid)).unwrap();
    assert!(stat.starts_with(real_tmux().to_str().unwrap()), "{stat}");
    assert!(rig.driver.not_launched().unwrap().contains("did not answer"), "{:?}", rig.driver.not_launched());
    rig.driver.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_and_command_lines_to_become_one() {
    let place = Place::new();
    let (rig, server) = Rig::up(&place, place.config()).await;
    let made = rig.driver.new_session(sleeper("x")).await.unwrap();
    let clients = rig.driver.clients().await.unwrap();
    assert_eq!(clients.len(), 1, "{clients:?}");
    assert!(clients[0].control_mode && clients[0].session != made.session);
    // A person attaches, as far as that goes without a terminal.
    let argv = rig.driver.attach_argv(&made.session, false);
    let mut person = Command::new(&argv[0])
        .arg("-C")
        .args(&argv[1..])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    eventually("the person is seen", || async {
        rig.driver.clients().await.unwrap().iter().any(|c| c.session == made.session && c.activity > 0)
    })
    .await;
    assert_eq!(rig.driver.list().await.unwrap().panes[0].session_attached, 1);
    drop(person.stdin.take());
    person.wait().unwrap();
    let inside = rig.driver.attach_argv(&made.session, true);
    assert_eq!(
        inside[1..],
        ["-S", place.socket().to_str().unwrap(), "switch-client", "-t", &made.session.to_string()]
    );
    // Nothing of this was done to another session.
    assert_eq!(rig.driver.state(), ServerState::Up(server));
    rig.driver.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_at_once() {
    let place = Place::new();
    let (rig, _) = Rig::up(&place, place.config()).await;
    let forks = rig.driver.forks();
    let mut births = tokio::task::JoinSet::new();
    for n in 0..20 {
        let driver = rig.driver.clone();
        births.spawn(async move { driver.new_session(sleeper(&format!("s{n}"))).await.unwrap() });
    }
    let made = births.join_all().await;
    let panes = rig.driver.list().await.unwrap().panes;
    assert_eq!(panes.len(), 20);
    for one in &made {
        let pane = panes.iter().find(|p| p.pane == one.pane).unwrap();
        assert_eq!((&pane.session_name, pane.session), (&one.name, one.session));
        assert_eq!(pane.options["@gt_instance"], format!("i-{}", one.name));
    }
    // Replies find their requests.
    let mut asks = tokio::task::JoinSet::new();
    for n in 0..200 {
        let (driver, one) = (rig.driver.clone(), made[n % 20].clone());
        asks.spawn(async move {
            if n % 3 == 0 {
                assert_eq!(driver.list().await.unwrap().panes.len(), 20);
            } else {
                let known = driver.meant(&one.server).unwrap();
                let ask =
                    ["display-message", "-p", "-t", &one.pane.to_string(), "#{session_name} #{pane_pid}"];
                let answer = driver.run(&known, &crate::tmux::quote::CommandList::new(ask)).await.unwrap();
                assert_eq!(String::from_utf8(answer).unwrap(), format!("{} {}\n", one.name, one.pane_pid));
            }
        });
    }
    asks.join_all().await;
    assert_eq!(rig.driver.forks(), forks, "nothing of this needed a process");
    rig.driver.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_driver_adopts() {
    let place = Place::new();
    let (first, server) = Rig::up(&place, place.config()).await;
    let made = first.driver.new_session(sleeper("x")).await.unwrap();
    let second = Rig::open(place.config(), Some(server.clone())).await;
    assert_eq!(second.driver.state(), ServerState::Up(server.clone()));
    assert_eq!(second.driver.ensure_server().await.unwrap(), server);
    assert_eq!(second.driver.list().await.unwrap().panes[0].pane_pid, Some(made.pane_pid));
    first.driver.close().await;
    assert!(second.driver.kill_session(&server, &made.session).await.unwrap());
    second.driver.close().await;
    assert!(observe(&server.process).is_alive());
    // And one that comes later, without a record.
    let third = Rig::open(place.config(), None).await;
    assert_eq!(third.driver.ensure_server().await.unwrap(), server);
    third.driver.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_who_want_a_server_get_one() {
    let place = Place::new();
    let rig = Rig::open(place.config(), None).await;
    assert_eq!(rig.driver.state(), ServerState::Down);
    assert!(matches!(rig.driver.list().await, Err(TmuxError::NoServer { .. })));
    let mut wishes = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let driver = rig.driver.clone();
        wishes.spawn(async move { driver.ensure_server().await.unwrap() });
    }
    let servers = wishes.join_all().await;
    servers.iter().for_each(|server| place.track(server));
    assert!(servers.iter().all(|server| *server == servers[0]));
    rig.driver.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_an_empty_server_is_ended() {
    let place = Place::new();
    let (mut rig, server) = Rig::up(&place, place.config()).await;
    place.tmux(&["new-session", "-d", "-s", "foreign", "sleep", "1000"]);
    assert!(!rig.driver.kill_server_if_empty(&server).await.unwrap());
    place.tmux(&["kill-session", "-t", "=foreign"]);
    // A pane that somebody opened in the holder is foreign too.
    place.tmux(&["split-window", "-d", "-t", "=_gtd-0190-town:", "sleep", "1000"]);
    assert!(!rig.driver.kill_server_if_empty(&server).await.unwrap());
    place.tmux(&["kill-pane", "-t", "=_gtd-0190-town:.1"]);
    assert!(rig.driver.kill_server_if_empty(&server).await.unwrap());
    assert!(observe(&server.process).is_dead());
    rig.event(|e| matches!(e, TmuxEvent::ServerDied { server: s, .. } if s == server).then_some(())).await;
    assert_eq!(rig.driver.state(), ServerState::Down);
    // It comes back when it is wanted.
    let next = rig.driver.ensure_server().await.unwrap();
    place.track(&next);
    assert!(next != server && rig.driver.is_connected());
    assert!(matches!(rig.driver.kill_server_if_empty(&server).await, Err(TmuxError::WrongServer { .. })));
    rig.driver.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_users_server_is_used_as_it_is() {
    let place = Place::new();
    place.tmux(&["new-session", "-d", "-s", "mine", "sleep", "1000"]);
    let process = place.track_any();
    place.tmux(&["set-option", "-g", "history-limit", "77"]);
    let before = place.tmux(&["show-options", "-g"]);
    let config = DriverConfig { server: ServerChoice::Socket(place.socket()), ..place.config() };
    let rig = Rig::open(config, None).await;
    let server = rig.driver.ensure_server().await.unwrap();
    assert_eq!(server.process, process);
    let made = rig.driver.new_session(sleeper("ours")).await.unwrap();
    assert_eq!(rig.driver.list().await.unwrap().panes.len(), 2);
    assert!(rig.driver.kill_session(&server, &made.session).await.unwrap());
    assert!(!rig.driver.kill_server_if_empty(&server).await.unwrap());
    assert_eq!(place.tmux(&["show-options", "-g"]), before);
    assert!(!place.path("tmux.conf").exists());
    rig.driver.close().await;
    assert!(observe(&process).is_alive());
}
