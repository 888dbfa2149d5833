//! Measures what the issue promises, and prints it beside the promise. Never fails on a time.
//!
//! `cargo build --release --workspace --bins && target/release/bench [DEATHS]`
//!
//! One town of 10 rigs, 20 scripted agents. The benchmark kills on purpose, so back-off, quarantine, churn and
//! the mass-death breaker are switched off, and each agent's row of failures is cleared after each death: what
//! is measured is the immediate first restart.

use std::process::Stdio;
use std::time::{Duration, Instant};

use gtd_tests::{CHANGE, Follower, Process, Setup, Town, journal, programs};
use serde_json::json;

const RIGS: [&str; 10] = ["r0", "r1", "r2", "r3", "r4", "r5", "r6", "r7", "r8", "r9"];
const OFF: &str =
    "[restart]\ninitial = \"0s\"\nbase = \"10ms\"\nmax = \"10ms\"\nburst = 0\nchurn_deaths = 0\n";
const OFF_TOO: &str = "[mass_death]\nthreshold = 0\n";

fn main() {
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
