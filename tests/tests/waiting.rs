//! Waiting for an agent, and asking twice.

use std::time::{Duration, Instant};

use gtd_tests::{CHANGE, Client, QUICK, Setup, Town, wait_for};
use serde_json::{Value, json};

/// An agent that takes its time to end.
const STUBBORN: &[&str] = &["ignore:TERM", "idle"];

fn wait(town: &Town, agent: &str, wanted: &str, ms: u64) -> Result<Value, gtd_tests::Failure> {
    town.try_call("agent.wait", json!({"agent": agent, "for": wanted, "timeout_ms": ms}))
}

#[test]
fn what_is_so_is_answered_at_once_and_what_is_not_when_it_comes() {
    let town = Setup::new().rigs(&["alpha"]).no_refineries().up();
    for wanted in ["ready", "running"] {
        let began = Instant::now();
        let waited = wait(&town, "alpha/witness", wanted, 60_000).unwrap();
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
        assert_eq!(
            (&waited["reached"], &waited["agent"]["agent"]),
            (&json!(wanted), &json!("alpha/witness"))
        );
        assert!(waited["seq"].is_u64(), "{waited:#}");
    }
    // What comes while somebody waits, also what lasts for a moment only.
    for (wanted, method) in [
        ("gone", "witness.stop"),
        ("starting", "witness.start"),
        ("stopping", "witness.stop"),
        ("ready", "witness.start"),
        ("stopped", "witness.stop"),
        ("running", "witness.start"),
    ] {
        let mut client = begun(&town, wanted);
        town.call(method, json!({"rig": "alpha"}));
        assert_eq!(client.read().unwrap()["result"]["reached"], wanted);
    }
    let instance = town.agent("alpha/witness")["instance"].clone();
    let mut client = begun(&town, "idle");
    town.call("agent.report", json!({"instance": instance, "state": "idle"}));
    assert_eq!(client.read().unwrap()["result"]["agent"]["activity"], "idle");
}

/// A wait that is known to be under way.
fn begun(town: &Town, wanted: &str) -> Client {
    let mut client = town.client();
    let params = json!({"agent": "alpha/witness", "for": wanted, "timeout_ms": 60_000});
    let line = json!({"jsonrpc": "2.0", "id": "wait", "method": "agent.wait", "params": params});
    client.send_raw(format!("{line}\n").as_bytes()).unwrap();
    // Lines of one connection are begun in their order.
    client.call("daemon.hello", json!({"client": "tests", "protocol": 1})).unwrap();
    client
}

#[test]
fn a_wait_that_is_over_says_how_far_it_got() {
    let town = Setup::new().rigs(&["alpha"]).no_refineries().up();
    let began = Instant::now();
    let error = wait(&town, "alpha/witness", "gone", 300).unwrap_err();
    assert!(began.elapsed() >= Duration::from_millis(300));
    assert_eq!((error.code, error.kind.as_str()), (1013, "timeout"), "{error:?}");
    assert_eq!(error.data["reached"], "running", "{error:?}");
    let error = wait(&town, "alpha/witness", "gone", 0).unwrap_err();
    assert_eq!(error.code, 1013, "{error:?}");
    assert_eq!(wait(&town, "alpha/refinery", "running", 10).unwrap_err().code, 1013);
    assert_eq!(wait(&town, "alpha/polecats/nobody", "running", 10).unwrap_err().code, 1002);
    assert_eq!(wait(&town, "gamma/witness", "running", 10).unwrap_err().code, 1001);
    let error = wait(&town, "alpha/witness", "up", 10).unwrap_err();
    assert_eq!((error.code, &error.data["path"]), (-32602, &json!("/for")), "{error:?}");

    let ok = town.gtctl(&["wait", "alpha/witness", "--for", "running"]).ok();
    assert!(ok.out.contains("alpha/witness is running"), "{ok:?}");
    let late = town.gtctl(&["wait", "alpha/witness", "--for", "gone", "--timeout", "200ms"]);
    assert!(late.code == 6 && late.err.contains("it is running") && late.err.contains("hint: "), "{late:?}");
    assert_eq!(town.gtctl(&["wait", "alpha/nobody"]).code, 4);
    assert_eq!(town.gtctl(&["wait", "alpha/witness", "--for", "up"]).code, 2);
    let one = town.gtctl(&["wait", "witness", "--json"]).ok().json();
    assert_eq!((&one["kind"], &one["result"]["reached"]), (&json!("agent.wait"), &json!("ready")), "{one:#}");
}

/// As many waits as a connection runs at once.
fn crowd(town: &Town, connections: usize) -> Vec<Client> {
    let waits: String = (0..64)
        .map(|id| {
            let params = json!({"agent": "alpha/witness", "for": "gone"});
            format!("{}\n", json!({"jsonrpc": "2.0", "id": id, "method": "agent.wait", "params": params}))
        })
        .collect();
    (0..connections)
        .map(|_| {
            let mut client = town.client();
            client.send_raw(waits.as_bytes()).unwrap();
            client
        })
        .collect()
}

#[test]
fn many_wait_and_who_hangs_up_waits_no_more() {
    let town = Setup::new().rigs(&["alpha"]).no_refineries().up();
    let full = |town: &Town| match wait(town, "alpha/witness", "gone", 1) {
        Err(error) if error.kind == "too_busy" => true,
        Err(error) if error.kind == "timeout" => false,
        other => panic!("{other:?}"),
    };
    assert!(!full(&town));
    let waiting = crowd(&town, 16);
    wait_for(QUICK, "1,024 wait", || full(&town).then_some(()));
    let mut times: Vec<Duration> = (0..50)
        .map(|_| {
            let began = Instant::now();
            town.call("town.status", json!({}));
            began.elapsed()
        })
        .collect();
    times.sort_unstable();
    println!("town.status beside 1,024 waits: median {:?}", times[25]);
    assert!(times[25] < Duration::from_millis(100), "{times:?}");
    drop(waiting);
    wait_for(QUICK, "they have left", || (!full(&town)).then_some(()));
    wait_for(QUICK, "all of them", || {
        (town.call("daemon.status", json!({}))["connections"].as_u64()? < 4).then_some(())
    });
    // Those who stay are all told.
    let mut waiting = crowd(&town, 8);
    town.call("witness.stop", json!({"rig": "alpha"}));
    for client in &mut waiting {
        for _ in 0..64 {
            let answer = client.read().unwrap();
            assert_eq!(answer["result"]["reached"], "gone", "{answer:#}");
        }
    }
}

#[test]
fn a_key_begins_nothing_twice_when_time_ran_out() {
    let town =
        Setup::new().rigs(&["alpha"]).no_refineries().script(STUBBORN).toml("[stop]\ngrace = \"2s\"").up();
    let restart = |wait_ms: Option<u64>| {
        let mut params = json!({"rig": "alpha", "now": true, "idempotency_key": "k-1"});
        if let Some(ms) = wait_ms {
            params["wait_ms"] = json!(ms);
        }
        town.try_call("witness.restart", params)
    };
    let error = restart(Some(100)).unwrap_err();
    assert_eq!((error.code, error.kind.as_str()), (1013, "timeout"), "{error:?}");
    assert!(error.data["reached"].is_string(), "{error:?}");
    // Again while it is under way, twice at once, and without patience.
    assert_eq!(restart(Some(1)).unwrap_err().code, 1013);
    let done = restart(None).unwrap();
    assert_eq!(done["state"], "running", "{done:#}");
    assert_eq!(restart(None).unwrap()["instance"], done["instance"]);
    assert_eq!(town.starts("alpha/witness").len(), 2, "one start, one restart");

    // Over the death of the daemon too: what was begun is in its ledger.
    let before = done["instance"].as_str().unwrap().to_owned();
    let params = json!({"rig": "alpha", "now": true, "wait_ms": 100, "idempotency_key": "k-2"});
    assert_eq!(town.call_fails("witness.restart", params.clone()).code, 1013);
    town.kill_daemon();
    town.start();
    let anew = town.wait_new_instance("alpha/witness", &before);
    let mut patient = params;
    patient.as_object_mut().unwrap().remove("wait_ms");
    assert_eq!(town.call("witness.restart", patient.clone())["instance"], anew["instance"]);
    assert_eq!(town.starts("alpha/witness").len(), 3);
    // A key belongs to its method.
    let error = town.call_fails("witness.stop", json!({"rig": "alpha", "idempotency_key": "k-2"}));
    assert_eq!((error.code, &error.data["path"]), (-32602, &json!("/idempotency_key")), "{error:?}");
    town.assert_never_two();
}

#[test]
fn a_stop_that_ran_out_of_time_is_not_done_again_after_a_start() {
    let town =
        Setup::new().rigs(&["alpha"]).no_refineries().script(STUBBORN).toml("[stop]\ngrace = \"1s\"").up();
    let stop = json!({"wait_ms": 50, "now": true, "idempotency_key": "down"});
    assert_eq!(town.call_fails("town.stop", stop.clone()).code, 1013);
    town.wait_state("alpha/witness", "stopped");
    town.call("town.start", json!({}));
    town.wait_all_running();
    // The request that was repeated late is the one from before.
    town.call("town.stop", stop);
    assert_eq!(town.agent("alpha/witness")["state"], "running");
}

#[test]
fn a_daemon_is_ended_once_by_one_key() {
    let town = Setup::new().rigs(&["alpha"]).no_refineries().up();
    let before = town.running();
    let plan = town.call("daemon.shutdown", json!({"stop_agents": true, "dry_run": true}));
    let targets: Vec<&str> =
        plan["plan"].as_array().unwrap().iter().filter_map(|step| step["target"].as_str()).collect();
    assert!(targets.contains(&"alpha/witness") && plan["dry_run"] == true, "{plan:#}");
    assert_eq!(town.running(), before, "a plan does nothing");
    let once = json!({"idempotency_key": "bye"});
    let said = town.call("daemon.shutdown", once.clone());
    assert_eq!(town.wait_daemon(CHANGE).and_then(|status| status.code()), Some(0));
    let next = town.start();
    let again = town.call("daemon.shutdown", once);
    assert_eq!(again["pid"], said["pid"], "the answer of the one that heard it first");
    town.call("daemon.status", json!({}));
    assert!(next.alive());
    town.wait_all_running();
    assert_eq!(town.running(), before);
}
