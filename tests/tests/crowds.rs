//! The socket's bad days: many who do nothing, one who never reads, ten thousand at once, and the end in the
//! middle of it.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use gtd_tests::{Client, QUICK, Setup, Town, skipped, wait_for, wait_until};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde_json::{Value, json};

/// Resident memory of the daemon, in bytes.
fn memory(town: &Town) -> u64 {
    let pid = town.daemon().expect("the daemon lives").pid;
    let text = std::fs::read_to_string(format!("/proc/{pid}/statm")).unwrap();
    text.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

/// How long calls on one connection take: median and slowest.
fn times(client: &mut Client, method: &str, calls: usize) -> (Duration, Duration) {
    let mut times: Vec<Duration> = (0..calls)
        .map(|_| {
            let began = Instant::now();
            client.call(method, json!({})).unwrap();
            began.elapsed()
        })
        .collect();
    times.sort_unstable();
    (times[calls / 2], times[calls - 1])
}

fn many_files() -> bool {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    hard >= 2_048 && setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok()
}

fn stream(town: &Town) -> UnixStream {
    let stream = UnixStream::connect(town.socket().unwrap()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(60))).unwrap();
    stream
}

#[test]
fn five_hundred_who_do_nothing_slow_nobody_down() {
    if !many_files() {
        return skipped("five_hundred_who_do_nothing…", "this process may not open as many files");
    }
    let town = Setup::new().rigs(&["alpha"]).no_refineries().up();
    let mut client = town.client();
    let alone = times(&mut client, "town.status", 200);
    let before = memory(&town);
    // Some have asked something, some hang in the middle of a line, some have said nothing at all.
    let idle: Vec<Client> = (0..500)
        .map(|n| {
            let mut idle = town.client();
            match n % 3 {
                0 => drop(idle.call("daemon.hello", json!({"client": "idle", "protocol": 1})).unwrap()),
                1 => idle.send_raw(b"{\"jsonrpc\":\"2.0\",\"id\":1,").unwrap(),
                _ => {}
            }
            idle
        })
        .collect();
    wait_for(QUICK, "all are there", || {
        (client.call("daemon.status", json!({})).ok()?["connections"].as_u64()? > 500).then_some(())
    });
    let beside = times(&mut client, "town.status", 200);
    let grown = memory(&town).saturating_sub(before);
    println!("town.status alone {alone:?}, beside 500 idle {beside:?}; memory +{} KiB", grown >> 10);
    assert!(beside.0 < Duration::from_millis(20) + 3 * alone.0, "{alone:?} {beside:?}");
    assert!(grown < 32 << 20, "{grown} bytes for 500 connections");
    drop(idle);
    wait_for(QUICK, "all are gone", || {
        (client.call("daemon.status", json!({})).ok()?["connections"].as_u64()? < 5).then_some(())
    });
}

#[test]
fn one_who_never_reads_is_cut_and_costs_little() {
    let town = Setup::new().rigs(&["alpha"]).no_refineries().up();
    let mut other = town.client();
    other.call("town.status", json!({})).unwrap();
    let before = memory(&town);
    let mut deaf = stream(&town);
    deaf.set_nonblocking(true).unwrap();
    let line = "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"rpc.discover\"}\n".repeat(64);
    let (began, mut most, mut sent, mut slowest) = (Instant::now(), 0, 0_u64, Duration::ZERO);
    // It asks as long as it is let, and never takes an answer. After ten seconds it is cut.
    let cut = wait_until(Duration::from_secs(40), || {
        most = most.max(memory(&town));
        let asked = Instant::now();
        other.call("town.status", json!({})).unwrap();
        slowest = slowest.max(asked.elapsed());
        match deaf.write(line.as_bytes()) {
            Ok(n) => {
                sent += n as u64;
                false
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => false,
            Err(_) => true,
        }
    });
    let took = began.elapsed();
    let grown = most.saturating_sub(before);
    println!(
        "cut after {took:?}; {sent} bytes asked, memory +{} KiB, others waited {slowest:?}",
        grown >> 10
    );
    assert!(cut, "it is still served after {took:?}");
    assert!(took >= Duration::from_secs(9), "an honest reader has its ten seconds: {took:?}");
    assert!(grown < 48 << 20, "{grown} bytes for one that does not read");
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    // So too where the events of a subscription are not taken.
    assert!(town.daemon().is_some());
}

#[test]
fn ten_thousand_requests_at_once_are_all_answered() {
    const MANY: usize = 10_000;
    let town = Setup::new().rigs(&["alpha"]).no_refineries().up();
    let before = memory(&town);
    let began = Instant::now();
    let mut writer = stream(&town);
    let reader = writer.try_clone().unwrap();
    let answers = std::thread::spawn(move || {
        let mut seen = BTreeSet::new();
        for line in std::io::BufRead::lines(std::io::BufReader::new(reader)) {
            let answer: Value = serde_json::from_str(&line.unwrap()).unwrap();
            assert!(
                answer["result"]["pid"].is_i64()
                    || answer["result"]["agent"].is_object()
                    || answer["result"]["items"].is_array(),
                "{answer}"
            );
            assert!(seen.insert(answer["id"].as_u64().unwrap()), "{answer} came twice");
        }
        seen.len()
    });
    // Quick ones, and every hundredth one that has to wait: order is nobody's promise.
    for id in 0..MANY {
        let (method, params) = match id % 100 {
            0 => ("agent.wait", json!({"agent": "alpha/witness", "for": "running"})),
            50 => ("agent.exits", json!({})),
            _ => ("daemon.hello", json!({"client": "crowd", "protocol": 1})),
        };
        let line = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
        writer.write_all(format!("{line}\n").as_bytes()).unwrap();
    }
    writer.shutdown(Shutdown::Write).unwrap();
    let most = memory(&town);
    assert_eq!(answers.join().unwrap(), MANY);
    let grown = most.max(memory(&town)).saturating_sub(before);
    println!("10,000 requests in {:?}, memory +{} KiB", began.elapsed(), grown >> 10);
    assert!(grown < 48 << 20, "{grown} bytes");
    town.call("town.status", json!({}));
}

#[test]
fn ten_thousand_are_answered_also_to_who_reads_only_afterwards() {
    let town = Setup::new().rigs(&["alpha"]).no_refineries().up();
    let mut stream = stream(&town);
    let mut text = String::new();
    for id in 0..10_000 {
        text.push_str(&format!(
            "{{\"jsonrpc\":\"2.0\",\"id\":{id},\"method\":\"rig.status\",\"params\":[\"alph\"]}}\n"
        ));
    }
    stream.write_all(text.as_bytes()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut all = String::new();
    stream.read_to_string(&mut all).unwrap();
    assert_eq!(all.lines().count(), 10_000);
    assert!(all.lines().all(|line| line.contains("rig_not_found")));
}

#[test]
fn a_batch_of_a_thousand_is_answered_whole() {
    let town = Setup::new().rigs(&["alpha"]).no_refineries().up();
    let batch = |many: usize| {
        let list: Vec<Value> = (0..many)
            .map(|id| {
                let method = if id % 10 == 0 { "agent.exits" } else { "rig.status" };
                let params = if id % 10 == 0 { json!({}) } else { json!({"rig": "alpha"}) };
                json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})
            })
            .collect();
        Value::from(list).to_string()
    };
    let mut client = town.client();
    let answer = client.line(&batch(1_000));
    let answers = answer.as_array().unwrap();
    let ids: BTreeSet<u64> = answers.iter().filter_map(|answer| answer["id"].as_u64()).collect();
    assert_eq!((answers.len(), ids.len()), (1_000, 1_000));
    assert!(answers.iter().all(|answer| answer["result"].is_object()), "{}", answers[0]);
    let refused = client.line(&batch(1_001));
    assert_eq!(refused["error"]["code"], -32600, "{refused}");
    // Restarts within a batch are restarts: in order, one after the other, and each is judged by itself.
    let mixed = json!([
        {"jsonrpc": "2.0", "id": "a", "method": "witness.stop", "params": {"rig": "alpha"}},
        {"jsonrpc": "2.0", "id": "b", "method": "witness.stop", "params": {"rig": "gamma"}},
    ]);
    let answer = client.line(&mixed.to_string());
    assert_eq!(answer[0]["result"]["state"], "stopped", "{answer:#}");
    assert_eq!(answer[1]["error"]["code"], 1001, "{answer:#}");
}

#[test]
fn the_end_comes_while_much_is_under_way() {
    let town = Setup::new()
        .rigs(&["alpha", "beta"])
        .no_refineries()
        .script(&["ignore:TERM", "idle"])
        .toml("[stop]\ngrace = \"30s\"")
        .up();
    let before = town.running();
    // Stops that take half a minute, waits without end, quick ones in between, and a subscription.
    let mut slow: Vec<Client> = (0..20)
        .map(|n| {
            let mut client = town.client();
            let rig = if n % 2 == 0 { "alpha" } else { "beta" };
            let line = match n % 3 {
                0 => json!({"jsonrpc": "2.0", "id": n, "method": "witness.stop", "params": {"rig": rig, "now": true}}),
                1 => json!({"jsonrpc": "2.0", "id": n, "method": "agent.wait", "params": {"agent": format!("{rig}/witness"), "for": "quarantined"}}),
                _ => json!([
                    {"jsonrpc": "2.0", "id": n, "method": "agent.wait", "params": {"agent": format!("{rig}/witness"), "for": "held"}},
                    {"jsonrpc": "2.0", "id": n + 100, "method": "daemon.hello", "params": {"client": "x", "protocol": 1}},
                ]),
            };
            client.send_raw(format!("{line}\n").as_bytes()).unwrap();
            client
        })
        .collect();
    let mut reader = town.client();
    reader.call("events.subscribe", json!({})).unwrap();
    town.wait_state("alpha/witness", "stopping");
    town.wait_state("beta/witness", "stopping");
    let began = Instant::now();
    let status = town.stop_daemon().expect("it ends");
    let took = began.elapsed();
    assert_eq!(status.code(), Some(0), "{status:?}");
    assert!(took < Duration::from_secs(10), "{took:?}");
    for client in &mut slow {
        let answer = client.read().expect("everybody is told");
        let one = if answer.is_array() { &answer[0] } else { &answer };
        let kind = one["error"]["data"]["kind"].as_str().unwrap_or_default();
        assert_eq!(kind, "shutting_down", "{answer:#}");
        assert!(client.read_line().is_none(), "then the connection ends");
    }
    assert!(!town.path("daemon/gtd.sock").exists());
    println!("ended in {took:?} with {} requests under way", slow.len());
    // What was begun is recorded: the shims end their agents without us, and nobody starts them again.
    town.start();
    for rig in ["alpha", "beta"] {
        let address = format!("{rig}/witness");
        assert_eq!(town.agent(&address)["intent"], "stopped", "{address}");
        town.try_call("witness.stop", json!({"rig": rig, "force": true, "wait_ms": 20_000})).unwrap();
        assert_eq!(town.agent(&address)["state"], "stopped");
    }
    assert_eq!(before.len(), 2);
    town.assert_never_two();
}
