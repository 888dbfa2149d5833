//! Bad days with a real tmux.

use super::*;
use crate::tmux::{ServerState, TmuxError};

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_is_noticed_at_once_and_replaced() {
    let place = Place::new();
    let (mut rig, mut server) = Rig::up(&place, place.config()).await;
    let mut made = rig.driver.new_session(sleeper("x")).await.unwrap();
    for round in 0..5 {
        let before = Instant::now();
        signal(&server.process, Signal::KILL);
        let at = rig
            .event(|e| match e {
                TmuxEvent::ServerDied { server: s, at } if s == server => Some(at),
                _ => None,
            })
            .await;
        println!("noticed after {:?}", at - before);
        assert_eq!(rig.driver.state(), ServerState::Down);
        assert!(matches!(
            rig.driver.kill_session(&server, &made.session).await,
            Err(TmuxError::NoServer { .. })
        ));
        let next = rig.driver.ensure_server().await.unwrap();
        place.track(&next);
        assert_ne!(next, server);
        // Its ids begin again, and the old ones mean nothing.
        let same_ids = rig.driver.new_session(sleeper("y")).await.unwrap();
        assert_eq!((same_ids.session, same_ids.pane), (made.session, made.pane), "round {round}");
        for refused in [
            rig.driver.kill_session(&server, &made.session).await.map(drop),
            rig.driver.kill_pane(&server, &made.pane).await.map(drop),
            rig.driver.capture(&server, &made.pane, 5).await.map(drop),
        ] {
            assert!(matches!(refused, Err(TmuxError::WrongServer { .. })));
        }
        assert_eq!(rig.driver.list().await.unwrap().panes.len(), 1);
        (server, made) = (next, same_ids);
    }
    rig.driver.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ensure_right_after_the_kill_does_not_use_the_dead() {
    let place = Place::new();
    let (rig, mut server) = Rig::up(&place, place.config()).await;
    for _ in 0..10 {
        signal(&server.process, Signal::KILL);
        eventually("dead", || async { observe(&server.process).is_dead() }).await;
        let next = rig.driver.ensure_server().await.unwrap();
        place.track(&next);
        assert_ne!(next, server);
        server = next;
    }
    // And when it is asked to go while it is wanted.
    place.tmux(&["kill-server"]);
    let next = rig.driver.ensure_server().await.unwrap();
    place.track(&next);
    eventually("a server that works", || async {
        match rig.driver.ensure_server().await {
            Ok(server) => {
                place.track(&server);
                rig.driver.list().await.is_ok_and(|listing| listing.server == server)
            }
            Err(_) => false,
        }
    })
    .await;
    rig.driver.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_server_is_unresponsive_and_recovers() {
    let place = Place::new();
    let config = DriverConfig { command_timeout: Duration::from_millis(300), ..place.config() };
    let (mut rig, server) = Rig::up(&place, config).await;
    let made = rig.driver.new_session(sleeper("x")).await.unwrap();
    let process = proof(made.pane_pid);
    signal(&server.process, Signal::STOP);
    let before = Instant::now();
    let late = rig.driver.list().await;
    assert!(matches!(late, Err(TmuxError::Unresponsive { .. })), "{late:?}");
    println!("a listing gave up after {:?}", before.elapsed());
    rig.event(|e| matches!(e, TmuxEvent::Unresponsive { server: Some(s), .. } if s == server).then_some(()))
        .await;
    assert!(matches!(rig.driver.state(), ServerState::Unresponsive { server: Some(s), .. } if s == server));
    // From now on nobody waits.
    let before = Instant::now();
    assert!(matches!(rig.driver.list().await, Err(TmuxError::Unresponsive { .. })));
    assert!(matches!(rig.driver.ensure_server().await, Err(TmuxError::Unresponsive { .. })));
    assert!(matches!(rig.driver.new_session(sleeper("y")).await, Err(TmuxError::Unresponsive { .. })));
    assert!(before.elapsed() < Duration::from_millis(250));
    signal(&server.process, Signal::CONT);
    let before = Instant::now();
    rig.event(|e| (e == TmuxEvent::Recovered(server.clone())).then_some(())).await;
    println!("recovered after {:?}", before.elapsed());
    eventually("commands work again", || async {
        rig.driver.list().await.is_ok_and(|l| l.panes.len() == 1) && rig.driver.is_connected()
    })
    .await;
    assert!(observe(&process).is_alive());
    assert!(rig.driver.kill_session(&server, &made.session).await.unwrap());
    rig.driver.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_server_that_is_killed_is_dead() {
    let place = Place::new();
    let config = DriverConfig { command_timeout: Duration::from_millis(200), ..place.config() };
    let (mut rig, server) = Rig::up(&place, config).await;
    signal(&server.process, Signal::STOP);
    assert!(rig.driver.clients().await.is_err());
    rig.event(|e| matches!(e, TmuxEvent::Unresponsive { .. }).then_some(())).await;
    signal(&server.process, Signal::KILL);
    rig.event(|e| matches!(e, TmuxEvent::ServerDied { .. }).then_some(())).await;
    let next = rig.driver.ensure_server().await.unwrap();
    place.track(&next);
    assert_ne!(next, server);
    rig.driver.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn found_frozen_at_the_start() {
    let place = Place::new();
    let config = DriverConfig { command_timeout: Duration::from_millis(200), ..place.config() };
    let (first, server) = Rig::up(&place, config.clone()).await;
    first.driver.close().await;
    signal(&server.process, Signal::STOP);
    let mut rig = Rig::open(config, Some(server.clone())).await;
    assert!(matches!(rig.driver.state(), ServerState::Unresponsive { server: Some(s), .. } if s == server));
    assert!(rig.driver.ensure_server().await.is_err());
    signal(&server.process, Signal::CONT);
    rig.event(|e| (e == TmuxEvent::Recovered(server.clone())).then_some(())).await;
    assert_eq!(rig.driver.ensure_server().await.unwrap(), server);
    rig.driver.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_control_client_work_goes_on() {
    let place = Place::new();
    let (rig, server) = Rig::up(&place, place.config()).await;
    let made = rig.driver.new_session(sleeper("x")).await.unwrap();
    for _ in 0..3 {
        let client = rig.driver.clients().await.unwrap().into_iter().find(|c| c.control_mode).unwrap();
        let client = proof(client.pid.unwrap());
        signal(&client, Signal::KILL);
        // By whatever way: commands work throughout.
        for _ in 0..20 {
            assert_eq!(rig.driver.list().await.unwrap().panes.len(), 1);
        }
        eventually("a new connection", || async {
            rig.driver.is_connected()
                && rig
                    .driver
                    .clients()
                    .await
                    .unwrap()
                    .iter()
                    .any(|c| c.pid.is_some_and(|pid| pid != client.pid))
        })
        .await;
    }
    assert_eq!(rig.driver.state(), ServerState::Up(server.clone()));
    // Frozen it may be: the server itself holds its pipes.
    let client = rig.driver.clients().await.unwrap().into_iter().find(|c| c.control_mode).unwrap();
    assert_eq!(rig.driver.capture(&server, &made.pane, 3).await.unwrap(), Vec::<String>::new());
    signal(&proof(client.pid.unwrap()), Signal::STOP);
    assert_eq!(rig.driver.list().await.unwrap().panes.len(), 1);
    rig.driver.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn births_while_connections_break_are_single() {
    let place = Place::new();
    let (rig, _) = Rig::up(&place, place.config()).await;
    let mut births = tokio::task::JoinSet::new();
    for n in 0..40 {
        let driver = rig.driver.clone();
        births.spawn(async move { driver.new_session(sleeper(&format!("s{n}"))).await });
        if n % 8 == 0 {
            let control = rig.driver.inner.state.lock().control.clone();
            if let Some(control) = control {
                control.abort();
            }
        }
    }
    let made = births.join_all().await;
    let panes = rig.driver.list().await.unwrap().panes;
    assert_eq!(panes.len(), 40);
    for one in made {
        let one = one.unwrap();
        let ours: Vec<_> = panes.iter().filter(|p| p.session_name == one.name).collect();
        assert_eq!(ours.len(), 1);
        assert_eq!((ours[0].pane, ours[0].pane_pid), (one.pane, Some(one.pane_pid)));
    }
    rig.driver.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn restarts_while_connections_break_are_single() {
    let place = Place::new();
    let (rig, server) = Rig::up(&place, place.config()).await;
    let mut made = vec![];
    for n in 0..12 {
        made.push(
            rig.driver.new_session(session(&format!("s{n}"), "/", &["sh", "-c", "exit 1"])).await.unwrap(),
        );
    }
    eventually("all are dead", || async {
        rig.driver.list().await.unwrap().panes.iter().all(|pane| pane.dead)
    })
    .await;
    let mut restarts = tokio::task::JoinSet::new();
    for (n, one) in made.into_iter().enumerate() {
        let (driver, server) = (rig.driver.clone(), server.clone());
        restarts.spawn(async move {
            let argv: Vec<OsString> = vec!["sleep".into(), "1000".into()];
            let options = [("@gt_instance".to_owned(), format!("again {n}"))];
            let pid = driver.respawn_pane(&server, &one.pane, Path::new("/"), &argv, &options).await.unwrap();
            (one, pid, format!("again {n}"))
        });
        if n % 4 == 1 {
            let control = rig.driver.inner.state.lock().control.clone();
            if let Some(control) = control {
                tokio::task::yield_now().await;
                control.abort();
            }
        }
    }
    let restarted = restarts.join_all().await;
    let panes = rig.driver.list().await.unwrap().panes;
    for (one, pid, option) in restarted {
        let pane = panes.iter().find(|pane| pane.pane == one.pane).unwrap();
        assert_eq!((pane.dead, pane.pane_pid, &pane.options["@gt_instance"]), (false, Some(pid), &option));
    }
    rig.driver.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_birth_that_a_frozen_server_was_asked_for_is_found_later() {
    let place = Place::new();
    let config = DriverConfig { command_timeout: Duration::from_millis(200), ..place.config() };
    let (mut rig, server) = Rig::up(&place, config).await;
    signal(&server.process, Signal::STOP);
    let late = rig.driver.new_session(sleeper("x")).await;
    assert!(matches!(late, Err(TmuxError::Unresponsive { .. })), "{late:?}");
    rig.event(|e| matches!(e, TmuxEvent::Unresponsive { .. }).then_some(())).await;
    signal(&server.process, Signal::CONT);
    rig.event(|e| (e == TmuxEvent::Recovered(server.clone())).then_some(())).await;
    // It came to be or not; asked again, there is exactly one.
    match rig.driver.new_session(sleeper("x")).await {
        Ok(_) | Err(TmuxError::NameTaken { .. }) => {}
        Err(error) => panic!("{error}"),
    }
    assert_eq!(rig.driver.list().await.unwrap().panes.len(), 1);
    rig.driver.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_recorded_server_is_told_even_if_tmux_cannot_be_run() {
    let place = Place::new();
    let (first, server) = Rig::up(&place, place.config()).await;
    first.driver.close().await;
    let config = DriverConfig { tmux: place.path("missing"), ..place.config() };
    let mut rig = Rig::open(config, Some(server.clone())).await;
    assert!(matches!(rig.driver.state(), ServerState::Unavailable { .. }));
    signal(&server.process, Signal::KILL);
    rig.event(|e| matches!(e, TmuxEvent::ServerDied { server: s, .. } if s == server).then_some(())).await;
    assert!(matches!(rig.driver.state(), ServerState::Unavailable { .. }));
    rig.driver.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_change_while_connections_are_made() {
    let place = Place::new();
    let (rig, server) = Rig::up(&place, place.config()).await;
    let mut lives = tokio::task::JoinSet::new();
    for n in 0..4 {
        let (driver, server) = (rig.driver.clone(), server.clone());
        lives.spawn(async move {
            for round in 0..15 {
                let made = driver.new_session(sleeper(&format!("s{n}-{round}"))).await.unwrap();
                assert!(driver.kill_session(&server, &made.session).await.unwrap());
            }
        });
    }
    // The keeper makes a new connection after each of these.
    while !lives.is_empty() {
        let control = rig.driver.inner.state.lock().control.clone();
        if let Some(control) = control {
            control.abort();
        }
        let _ = tokio::time::timeout(Duration::from_millis(30), lives.join_next()).await;
        assert!(observe(&server.process).is_alive(), "the server crashed");
    }
    assert_eq!(rig.driver.state(), ServerState::Up(server));
    rig.driver.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_that_is_killed_is_made_again() {
    let place = Place::new();
    let (rig, server) = Rig::up(&place, place.config()).await;
    rig.driver.new_session(sleeper("x")).await.unwrap();
    place.tmux(&["kill-session", "-t", "=_gtd-0190-town"]);
    eventually("it is back", || async {
        rig.driver.is_connected()
            && place.tmux(&["list-sessions", "-F", "#{session_name}"]).contains("_gtd-0190-town")
    })
    .await;
    assert_eq!(rig.driver.list().await.unwrap().panes.len(), 1);
    // Its process ended by a key: the session stays. A key that comes before the new process has its terminal
    // reaches nobody.
    eventually("the holder's pane is dead", || async {
        place.tmux(&["send-keys", "-t", "=_gtd-0190-town:", "C-c"]);
        place.tmux(&["list-panes", "-t", "=_gtd-0190-town:", "-F", "#{pane_dead}"]) == "1"
    })
    .await;
    assert!(rig.driver.is_connected());
    assert_eq!(rig.driver.list().await.unwrap().panes.len(), 1);
    assert_eq!(rig.driver.state(), ServerState::Up(server));
    rig.driver.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_socket_is_restored_and_no_second_server_started() {
    let place = Place::new();
    let (first, server) = Rig::up(&place, place.config()).await;
    let made = first.driver.new_session(sleeper("x")).await.unwrap();
    std::fs::remove_file(place.socket()).unwrap();
    // The open connection does not need it.
    assert_eq!(first.driver.list().await.unwrap().panes.len(), 1);
    first.driver.close().await;
    let mut rig = Rig::open(place.config(), Some(server.clone())).await;
    assert_eq!(rig.driver.ensure_server().await.unwrap(), server);
    assert_eq!(rig.driver.list().await.unwrap().panes[0].pane_pid, Some(made.pane_pid));
    rig.event(|e| matches!(e, TmuxEvent::Degraded(text) if text.contains("restored")).then_some(())).await;
    // While we work: the connection breaks, and a new one needs the socket.
    std::fs::remove_file(place.socket()).unwrap();
    let control = rig.driver.inner.state.lock().control.clone().unwrap();
    control.abort();
    control.ended().await;
    eventually("connected again", || async { rig.driver.is_connected() && rig.driver.list().await.is_ok() })
        .await;
    assert_eq!(rig.driver.state(), ServerState::Up(server));
    rig.driver.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_usurper_on_the_socket_is_not_worked_with() {
    let place = Place::new();
    let (first, server) = Rig::up(&place, place.config()).await;
    let made = first.driver.new_session(sleeper("x")).await.unwrap();
    first.driver.close().await;
    std::fs::remove_file(place.socket()).unwrap();
    place.tmux(&["new-session", "-d", "-s", "other", "sleep", "1000"]);
    let usurper = place.track_any();
    let mut rig = Rig::open(place.config(), Some(server.clone())).await;
    assert!(matches!(rig.driver.ensure_server().await, Err(TmuxError::WrongServer { .. })));
    assert!(rig.driver.list().await.is_err());
    assert!(rig.driver.kill_session(&server, &made.session).await.is_err());
    rig.event(|e| {
        matches!(e, TmuxEvent::Degraded(text) if text.contains("another tmux server")).then_some(())
    })
    .await;
    assert!(observe(&server.process).is_alive() && observe(&usurper).is_alive());
    assert!(observe(&proof(made.pane_pid)).is_alive());
    // When the old one ends, the new one is taken.
    signal(&server.process, Signal::KILL);
    eventually("the old one is dead", || async { observe(&server.process).is_dead() }).await;
    assert_eq!(rig.driver.ensure_server().await.unwrap().process, usurper);
    rig.driver.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_command_does_not_reach_a_usurper() {
    let place = Place::new();
    let (rig, server) = Rig::up(&place, place.config()).await;
    let known = rig.driver.meant(&server).unwrap();
    std::fs::remove_file(place.socket()).unwrap();
    place.tmux(&["new-session", "-d", "-s", "other", "sleep", "1000"]);
    place.track_any();
    let list = crate::tmux::quote::CommandList::new(["kill-session", "-t", "$0"]);
    let refused = rig.driver.inner.run_plain(&known, &list).await;
    assert!(matches!(refused, Err(TmuxError::WrongServer { .. })), "{refused:?}");
    assert_eq!(place.tmux(&["list-sessions", "-F", "#{session_name}"]), "other");
    rig.driver.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_session_of_the_holders_name() {
    let place = Place::new();
    place.tmux(&["new-session", "-d", "-s", "_gtd-0190-town", "sleep", "1000"]);
    place.track_any();
    let mut rig = Rig::open(place.config(), None).await;
    let server = rig.driver.ensure_server().await.unwrap();
    rig.event(|e| matches!(e, TmuxEvent::Degraded(text) if text.contains("not ours")).then_some(())).await;
    assert!(!rig.driver.is_connected());
    // By processes, then.
    let made = rig.driver.new_session(sleeper("x")).await.unwrap();
    assert_eq!(rig.driver.list().await.unwrap().panes.len(), 2);
    assert!(rig.driver.kill_session(&server, &made.session).await.unwrap());
    assert!(!rig.driver.kill_server_if_empty(&server).await.unwrap());
    rig.driver.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_ours_is_left_when_the_driver_closes() {
    let place = Place::new();
    let (rig, server) = Rig::up(&place, place.config()).await;
    let client = rig.driver.clients().await.unwrap().remove(0);
    let client = proof(client.pid.unwrap());
    let last = rig.driver.clone();
    rig.driver.close().await;
    assert!(!observe(&client).is_alive());
    assert!(observe(&server.process).is_alive());
    assert!(last.list().await.is_ok(), "by processes it still works");
    let left: Vec<_> = std::fs::read_dir(place.dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| name == "s" || name == "tmux.conf"), "{left:?}");
}
