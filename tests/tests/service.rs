//! The daemon as somebody's service: what it tells its manager, and that every signal at any moment is bounded.

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::{Duration, Instant};

use gtd_tests::{CHANGE, Setup, Town, chaos_delay, procs, wait_for};
use rustix::process::Signal;
use serde_json::{Value, json};

/// A service manager that only listens.
struct Manager(UnixDatagram);

impl Manager {
    fn listen(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        Self(socket)
    }

    fn word(&self) -> Option<String> {
        let mut bytes = [0; 2_048];
        let count = self.0.recv(&mut bytes).ok()?;
        Some(String::from_utf8(bytes[..count].to_vec()).unwrap())
    }

    #[track_caller]
    fn wait(&self, what: &str, fits: impl Fn(&str) -> bool) {
        wait_for(CHANGE, what, || self.word().filter(|word| fits(word)).map(drop));
    }

    fn hears(&self, limit: Duration, word: &str) -> bool {
        let until = Instant::now() + limit;
        while Instant::now() < until {
            if self.word().is_some_and(|heard| heard.trim() == word) {
                return true;
            }
        }
        false
    }
}

#[test]
fn a_service_manager_hears_of_everything_and_children_never_speak_for_us() {
    let town = Setup::new().rigs(&["a"]).no_refineries().script(&["env", "idle"]).make();
    let path = town.base().join("notify");
    let manager = Manager::listen(&path);
    let town = town
        .with_env("NOTIFY_SOCKET", path.to_str().unwrap())
        .with_env("WATCHDOG_USEC", "200000")
        .with_env("INVOCATION_ID", "0123");
    let daemon = town.start_unwatched();
    manager.wait("READY", |word| word.trim() == "READY=1");
    town.call("daemon.hello", json!({"client": "t", "protocol": 1}));
    manager.wait("the watchdog is fed", |word| word.trim() == "WATCHDOG=1");
    town.wait_all_running();
    manager.wait("how it goes", |word| word.starts_with("STATUS=") && word.contains("1 running"));
    // A daemon that does not turn does not say that it lives.
    daemon.signal(Signal::STOP);
    wait_for(CHANGE, "it stands", || daemon.stopped().then_some(()));
    while manager.word().is_some() {}
    assert!(!manager.hears(Duration::from_millis(600), "WATCHDOG=1"));
    daemon.signal(Signal::CONT);
    assert!(manager.hears(CHANGE, "WATCHDOG=1"));
    daemon.signal(Signal::HUP);
    manager.wait("RELOADING", |word| word.starts_with("RELOADING=1\nMONOTONIC_USEC="));
    manager.wait("READY again", |word| word.trim() == "READY=1");
    let environment = town.process("a/witness").environment();
    for name in ["NOTIFY_SOCKET", "WATCHDOG_USEC", "INVOCATION_ID"] {
        assert!(!environment.contains_key(name), "{name}");
    }
    daemon.signal(Signal::TERM);
    manager.wait("STOPPING", |word| word.trim() == "STOPPING=1");
    assert_eq!(town.wait_daemon(CHANGE).unwrap().code(), Some(0));
}

/// Processes of ours that must not outlive the daemon: itself, and the clients of tmux that it keeps.
fn of_the_daemon(town: &Town) -> Vec<String> {
    let all = procs::marked(&town.base().display().to_string());
    let ours = |line: &String| line.contains("gtd --town") || line.contains(" -C ");
    all.into_iter().map(procs::Process::command_line).filter(ours).collect()
}

/// What must hold after a daemon that was told to go: it is gone soon, with all of its own, and the next one finds
/// everything as it should be.
#[track_caller]
fn ends_in_order(town: &Town, moment: &str) {
    let asked = Instant::now();
    let status = town.wait_daemon(Duration::from_secs(15)).unwrap();
    assert!(asked.elapsed() < Duration::from_secs(12), "{moment}: it took {:?}", asked.elapsed());
    wait_for(CHANGE, &format!("{moment}: nothing of it is left"), || {
        of_the_daemon(town).is_empty().then_some(())
    });
    town.start();
    town.wait_all_running();
    let daemon = town.call("daemon.status", json!({}));
    assert_eq!(daemon["degraded"], false, "{moment} ({status}): {daemon:#}");
    town.assert_never_two();
}

#[test]
fn term_and_a_second_term_at_any_moment_of_a_start_end_in_order() {
    let town = Setup::new().rigs(&["a"]).toml("[restart]\nburst = 0").make();
    for step in 0..16 {
        let daemon = town.start_unwatched();
        chaos_delay(Duration::from_millis(step * 15));
        daemon.signal(Signal::TERM);
        if step % 2 == 1 {
            chaos_delay(Duration::from_millis(step % 5));
            daemon.signal(Signal::TERM);
        }
        ends_in_order(&town, &format!("start, {} ms", step * 15));
        town.stop_daemon();
    }
    assert_eq!(town.starts("a/witness").len(), 1, "agents stay, whatever happens to their daemon");
}

#[test]
fn term_twice_during_a_stop_a_restart_a_heartbeat_and_an_add_ends_in_order() {
    let town = Setup::new()
        .rigs(&["a"])
        .toml("[restart]\nburst = 0\n[stop]\ngrace = \"3s\"")
        .agent("slow", &["ignore:TERM,HUP,INT", "idle"])
        .role("witness", "slow")
        .up();
    let source = town.base().join("source");
    let git = |args: &[&str]| {
        let mut command = gtd_tests::programs::bare("git", &town.home());
        let output =
            command.args(["-c", "user.name=t", "-c", "user.email=t@example.org"]).args(args).output();
        assert!(output.unwrap().status.success());
    };
    git(&["init", "-q", "-b", "main", source.to_str().unwrap()]);
    git(&["-C", source.to_str().unwrap(), "commit", "-q", "--allow-empty", "-m", "first"]);
    let doings: [(&str, &str, Value); 4] = [
        ("stop", "witness.stop", json!({"rig": "a", "wait_ms": 0})),
        ("restart", "refinery.restart", json!({"rig": "a", "wait_ms": 0})),
        ("heartbeat", "daemon.heartbeat", json!({})),
        ("add", "rig.add", json!({"name": "new", "source": source})),
    ];
    for (name, method, params) in doings {
        for (second, delay) in [(false, 0), (true, 0), (true, 40)] {
            let daemon = town.daemon().unwrap();
            std::thread::scope(|scope| {
                let town = &town;
                let asking = scope.spawn({
                    let params = params.clone();
                    move || town.try_call(method, params)
                });
                chaos_delay(Duration::from_millis(10 + delay));
                daemon.signal(Signal::TERM);
                if second {
                    chaos_delay(Duration::from_millis(delay));
                    daemon.signal(Signal::TERM);
                }
                drop(asking.join().unwrap());
            });
            ends_in_order(&town, &format!("{name}, second: {second}, {delay} ms"));
        }
        if name == "stop" {
            town.wait_state("a/witness", "stopped");
            town.call("witness.start", json!({"rig": "a"}));
        }
    }
}

#[test]
fn a_storm_of_hups_changes_nothing_and_the_log_stays_within_its_size() {
    let town = Setup::new()
        .rigs(&["a"])
        .toml("[daemon]\nlog_max_bytes = \"64KiB\"\nlog_files = 2\n[restart]\nburst = 0")
        .up();
    let daemon = town.daemon().unwrap();
    let before = town.running();
    for round in 0..40 {
        for _ in 0..50 {
            daemon.signal(Signal::HUP);
            chaos_delay(Duration::from_micros(200));
        }
        if round % 10 == 0 {
            town.call("town.status", json!({}));
        }
    }
    assert!(daemon.alive());
    assert_eq!(town.running(), before);
    let instance = town.agent("a/witness")["instance"].as_str().unwrap().to_owned();
    for _ in 0..50 {
        daemon.signal(Signal::HUP);
    }
    town.process("a/witness").kill();
    town.wait_new_instance("a/witness", &instance);
    let logs: Vec<(String, u64)> = std::fs::read_dir(town.path("daemon"))
        .unwrap()
        .flatten()
        .map(|entry| (entry.file_name().into_string().unwrap(), entry.metadata().unwrap().len()))
        .filter(|(name, _)| name.starts_with("gtd.log"))
        .collect();
    assert!(logs.len() <= 2 && logs.iter().all(|(_, bytes)| *bytes <= 64 << 10), "{logs:?}");
    daemon.signal(Signal::HUP);
    daemon.signal(Signal::TERM);
    assert_eq!(town.wait_daemon(CHANGE).unwrap().code(), Some(0));
}
