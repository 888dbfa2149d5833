//! Measures what the issue promises, and prints it beside the promise. Never fails on a time.
//!
//! `cargo build --release --workspace --bins && target/release/bench [DEATHS [POLECATS]]`, or `bench attribution` for
//! the looks at all processes alone.
//!
//! One town of 10 rigs, 20 scripted agents. The benchmark kills on purpose, so back-off, quarantine, churn and
//! the mass-death breaker are switched off, and each agent's row of failures is cleared after each death: what
//! is measured is the immediate first restart. Then the same
//! with workers that have work, a hundred in one rig. Then, with the numbers as they are by default: a mass death, a
//! hundred agents started by `up`, and the end of their tmux server.

#[path = "bench/attribution.rs"]
mod attribution;
#[path = "bench/spawns.rs"]
mod spawns;

use std::process::Stdio;
use std::time::{Duration, Instant};

use gtd_tests::{CHANGE, Follower, Process, Setup, Town, chaos_delay, journal, programs, wait_for};
use serde_json::{Value, json};

const RIGS: [&str; 10] = ["r0", "r1", "r2", "r3", "r4", "r5", "r6", "r7", "r8", "r9"];
const OFF: &str =
    "[restart]\ninitial = \"0s\"\nbase = \"10ms\"\nmax = \"10ms\"\nburst = 0\nchurn_deaths = 0\n";
const OFF_TOO: &str = "[mass_death]\nthreshold = 0\n";

fn main() {
    if std::env::args().nth(1).is_some_and(|word| word == "attribution") {
        return attribution::run();
    }
    let deaths = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(100);
    let build =
        if cfg!(debug_assertions) { "debug build: the promises are for release" } else { "release build" };
    println!("{deaths} deaths one at a time, 20 agents in 10 rigs, {build}");
    println!(
        "switched off: back-off, quarantine, churn (burst = 0, churn_deaths = 0), mass death (threshold = 0)"
    );
    println!();
    println!("{:<58} {:>9} {:>9} {:>9} {:>9} {:>5}", "MILLISECONDS", "PROMISED", "MEDIAN", "P99", "MAX", "N");
    for settle in ["20ms", "0s"] {
        let town = Setup::new().rigs(&RIGS).toml(&format!("{OFF}settle = \"{settle}\"\n{OFF_TOO}")).up();
        restarts(&town, deaths, settle);
        if settle == "20ms" {
            questions(&town);
        }
        let status = town.call("daemon.status", json!({}));
        println!(
            "   the daemon then: {} KiB resident, {} programs started",
            status["rss_bytes"].as_u64().unwrap_or_default() / 1024,
            status["forks"]
        );
        town.assert_never_two();
    }
    println!();
    let many = std::env::args().nth(2).and_then(|text| text.parse().ok()).unwrap_or(100);
    println!(
        "{many} polecats with work in one rig, {deaths} crashes one at a time (promised: p99 120 and 40):"
    );
    workers(deaths, many);
    println!();
    println!("a worker is made, one after the other (promised: 300 and git's own time):");
    for (what, times) in spawns::measure() {
        row(what, if what.contains("rest") { "300" } else { "" }, times);
    }
    println!();
    println!("default numbers, nothing switched off:");
    mass_death();
    hundred();
    attribution::run();
}

/// Workers with work that crash, with so many of them up, and what the daemon itself forks for it.
fn workers(deaths: usize, many: usize) {
    let names: Vec<String> = (0..many).map(|n| format!("p{n:03}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    for settle in ["20ms", "0s"] {
        let patrols = "[witness]\nmode = \"off\"\n[refinery]\nmode = \"off\"\n";
        let toml = format!("{OFF}settle = \"{settle}\"\n{OFF_TOO}{patrols}");
        let town = Setup::new().rigs(&["w"]).toml(&toml).make();
        town.make_workers("w", &names);
        town.start();
        for name in &names {
            let agent = format!("w/polecats/{name}");
            town.wait_agent(&agent, CHANGE, "known", |_| true);
            let work = town.make_work("w", name);
            town.start_worker(&agent, &work);
        }
        let forks = |town: &Town| town.call("daemon.status", json!({}))["forks"].as_u64().unwrap_or_default();
        let before = forks(&town);
        restarts(&town, deaths, settle);
        println!("   programs started by the daemon for {deaths} restarts: {}", forks(&town) - before);
        town.assert_never_two();
    }
}

/// Three of twenty killed within a second, three times over.
fn mass_death() {
    let town = Setup::new().rigs(&RIGS).up();
    let (mut back, mut closed) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        let follower: Follower =
            town.follow(json!({"kinds": ["agent.ready", "incident.opened", "incident.closed"]}));
        let victims: Vec<String> = town.running().into_iter().take(3).map(|(agent, ..)| agent).collect();
        let processes: Vec<Process> = victims.iter().map(|agent| town.process(agent)).collect();
        let began = Instant::now();
        processes.into_iter().for_each(Process::kill);
        let mut waiting = victims.clone();
        let mut over = false;
        while !waiting.is_empty() || !over {
            let (at, event) = follower.wait(2 * CHANGE, "the return", |event| {
                let ready = event["kind"] == "agent.ready" && waiting.iter().any(|a| event["agent"] == **a);
                ready || event["kind"] == "incident.closed"
            });
            if event["kind"] == "incident.closed" {
                closed.push(at.duration_since(began));
                over = true;
                continue;
            }
            waiting.retain(|agent| event["agent"] != **agent);
            if waiting.is_empty() {
                back.push(at.duration_since(began));
            }
        }
        for agent in victims {
            town.call("agent.reset", json!({"agent": agent}));
        }
    }
    row("3 of 20 killed within a second → all three ready again", "13000", back);
    row("   the same → incident.closed", "", closed);
    let list = town.call("deaths.incidents", json!({}));
    println!("   incidents: {} (one each time)", list["items"].as_array().map_or(0, Vec::len));
    town.assert_never_two();
}

/// A hundred agents started by `up`, then again after the end of their tmux server; the daemon is asked all the
/// time.
fn hundred() {
    let rigs: Vec<String> = (0..50).map(|n| format!("h{n:02}")).collect();
    let town = Setup::new().rigs(&rigs.iter().map(String::as_str).collect::<Vec<_>>()).make();
    let began = Instant::now();
    let mut up = town.command("gtctl");
    up.arg("--town")
        .arg(town.root())
        .arg("up")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let Ok(mut up) = up.spawn() else { return println!("   gtctl up could not be started") };
    let client = wait_for(CHANGE, "the daemon", || {
        town.socket().and_then(|socket| gtd_tests::Client::connect(&socket).ok())
    });
    let (took, asked) = ask_until_all_run(client, began, |_| true);
    let code = up.wait().ok().and_then(|status| status.code());
    row("100 agents started by `up` → all ready", "15000", vec![took]);
    row("   town.status meanwhile, round trip", "5", asked);
    println!("   gtctl up ended with {code:?} after {:.0} ms", began.elapsed().as_secs_f64() * 1000.0);

    let before: std::collections::BTreeSet<String> =
        town.running().into_iter().map(|(_, instance, _)| instance).collect();
    let client = town.client();
    let server = town.tmux().server();
    let began = Instant::now();
    server.kill();
    let (took, asked) = ask_until_all_run(client, began, |instance| !before.contains(instance));
    row("tmux server of 100 agents killed → all ready again", "2000", vec![took]);
    row("   town.status meanwhile, round trip", "5", asked);
    town.assert_never_two();
}

/// Asks for the town's status until a hundred agents run, each as an instance that fits; how long that took, and
/// each answer.
fn ask_until_all_run(
    mut client: gtd_tests::Client,
    began: Instant,
    fits: impl Fn(&str) -> bool,
) -> (Duration, Vec<Duration>) {
    let mut asked = Vec::new();
    while began.elapsed() < Duration::from_secs(60) {
        let at = Instant::now();
        let line = b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"town.status\"}\n";
        let answer = client.send_raw(line).ok().and_then(|()| client.read_line());
        // Until the answer is there: what is made of it is the client's affair.
        asked.push(at.elapsed());
        let Some(answer) = answer.and_then(|line| serde_json::from_str::<Value>(&line).ok()) else { break };
        let agents = answer["result"]["rigs"].as_array().into_iter().flatten();
        let run = agents
            .flat_map(|rig| [&rig["witness"], &rig["refinery"]])
            .filter(|agent| agent["state"] == "running" && agent["running"] == true)
            .filter(|agent| agent["instance"].as_str().is_some_and(&fits))
            .count();
        if run == 100 {
            break;
        }
        // Often enough to catch a slow answer, and not so often that asking is what makes it slow.
        chaos_delay(Duration::from_millis(5));
    }
    (began.elapsed(), asked)
}

/// Kills one agent after the other.
fn restarts(town: &Town, deaths: usize, settle: &str) {
    let follower: Follower = town.follow(json!({"kinds": ["agent.exited", "agent.ready"]}));
    let mut agents: Vec<(String, Process)> = town
        .agents()
        .iter()
        .filter_map(|agent| {
            let pid = i32::try_from(agent["pid"].as_i64()?).ok()?;
            Some((agent["agent"].as_str()?.to_owned(), Process::of(pid)?))
        })
        .collect();
    let (mut told, mut back, mut exec) = (Vec::new(), Vec::new(), Vec::new());
    let many = agents.len();
    for n in 0..deaths {
        let Some((agent, process)) = agents.get_mut(n % many) else { continue };
        let (died, died_ns) = (Instant::now(), journal::now_ns());
        process.kill();
        let (at, _) =
            follower.wait(CHANGE, "the death", |e| e["kind"] == "agent.exited" && e["agent"] == **agent);
        told.push(at.duration_since(died));
        let (_, ready) =
            follower.wait(CHANGE, "the return", |e| e["kind"] == "agent.ready" && e["agent"] == **agent);
        let new = ready["instance"].as_str().unwrap_or_default();
        // The new agent's own first words: the latest of the instants that could be called "running".
        if let Some(start) = town.journal().iter().rev().find(|entry| entry.instance == new) {
            back.push(since(died_ns, start.at_ns));
        }
        // When its shim saw the program executed.
        let started: Option<gtd_proto::Timestamp> =
            ready["data"]["started_at"].as_str().and_then(|text| text.parse().ok());
        if let Some(started) = started.and_then(|at| u128::try_from(at.as_nanosecond()).ok()) {
            exec.push(since(died_ns, started));
        }
        if let Some(pid) = ready["data"]["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok())
            && let Some(new) = Process::of(pid)
        {
            *process = new;
        }
        town.call("agent.reset", json!({"agent": agent}));
    }
    let promised = if settle == "0s" { "20" } else { "60" };
    row(&format!("death → agent.exited at a subscriber, settle {settle}"), "5", told);
    row(&format!("death → new program executed (its shim's record), settle {settle}"), promised, exec);
    row(&format!("death → new agent's own first words, settle {settle}"), promised, back);
}

/// Quick questions, on an open connection and by the client program.
fn questions(town: &Town) {
    let mut client = town.client();
    let _ = client.call("town.status", json!({}));
    let asked = (0..1000)
        .map(|_| {
            let began = Instant::now();
            let _ = client.call("town.status", json!({}));
            began.elapsed()
        })
        .collect();
    row("town.status, round trip on an open connection", "0.5", asked);
    let run = |args: &[&str]| {
        let mut command = town.command("gtctl");
        command.arg("--town").arg(town.root()).args(args).stdin(Stdio::null());
        let began = Instant::now();
        let output = command.output();
        let took = began.elapsed();
        if !output.is_ok_and(|output| output.status.success()) {
            println!("   gtctl {args:?} failed");
        }
        took
    };
    run(&["status"]);
    row("gtctl status, wall, 10 rigs", "10", (0..100).map(|_| run(&["status"])).collect());
    // What any program costs here, to tell the client's share.
    let nothing = || {
        let began = Instant::now();
        let _ = programs::bare("true", &town.home()).status();
        began.elapsed()
    };
    row("   for comparison: `true`, wall", "", (0..100).map(|_| nothing()).collect());
}

fn since(before: u128, after: u128) -> Duration {
    Duration::from_nanos(u64::try_from(after.saturating_sub(before)).unwrap_or(u64::MAX))
}

fn row(what: &str, promised: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |share: f64| {
        let last = times.len().saturating_sub(1);
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a rank"
        )]
        let rank = (last as f64 * share).round() as usize;
        times.get(rank).map_or_else(|| "-".to_owned(), |time| format!("{:.2}", time.as_secs_f64() * 1000.0))
    };
    let promised = if promised.is_empty() { String::new() } else { format!("< {promised}") };
    println!("{what:<58} {promised:>9} {:>9} {:>9} {:>9} {:>5}", at(0.5), at(0.99), at(1.0), times.len());
}
